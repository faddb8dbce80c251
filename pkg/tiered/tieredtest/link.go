package tieredtest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"
)

// link is one connection through a proxy.
type link struct {
	p      *Proxy
	client *net.TCPConn
	lot    func() float64 // in [0, 1)

	mu     sync.Mutex    // guards the two below; locked after the proxy's
	server *net.TCPConn  // nil until reached
	gone   chan struct{} // closed by end

	// Guarded by the proxy's mu.
	sent map[string][]string // the last command of each name
	lost map[Direction]bool  // bytes were swallowed
	held []*Hold             // that keep what the server says
}

// chunk is what was read at once, or, with no bytes, that the sender has ended:
// an end takes its time, freezes and vanishes as bytes do.
type chunk struct {
	b     []byte
	at    time.Time
	lot   float64 // decides about its jitter
	reset bool    // the end was not in order
}

// hasSent reports whether the client has sent a command that matches. It needs
// the proxy's mu.
func (l *link) hasSent(m Match) bool {
	for _, command := range l.sent {
		if m(command) {
			return true
		}
	}
	return false
}

// end closes both sides, with a reset or in order.
func (l *link) end(reset bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended() {
		return
	}
	for _, c := range []*net.TCPConn{l.client, l.server} {
		if c == nil {
			continue
		}
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
	}
	close(l.gone)
}

// reached completes the link, unless it has ended before.
func (l *link) reached(server *net.TCPConn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended() {
		_ = server.Close()
		return false
	}
	l.server = server
	return true
}

// run pumps both ways until either side has ended and what it said before is
// delivered.
func (l *link) run() {
	var wg sync.WaitGroup
	pump := func(from, to *net.TCPConn, d Direction) {
		q := make(chan chunk, 256)
		wg.Go(func() {
			defer close(q)
			l.read(from, q)
		})
		wg.Go(func() { l.end(l.write(to, d, q)) })
	}
	pump(l.client, l.server, Up)
	pump(l.server, l.client, Down)
	wg.Wait()
}

func (l *link) read(from *net.TCPConn, q chan<- chunk) {
	for {
		b := make([]byte, 16<<10)
		n, err := from.Read(b)
		if n > 0 || err != nil {
			select {
			case q <- chunk{b: b[:n], at: time.Now(), lot: l.lot(), reset: err != nil && !errors.Is(err, io.EOF)}:
			case <-l.gone:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write delivers what was read until the link ends, and reports whether it
// does so with a reset. Upwards it goes command by command, so that each can be
// held before any of it has gone.
func (l *link) write(to *net.TCPConn, d Direction, q <-chan chunk) (reset bool) {
	var parser commands
	for c := range q {
		if !l.due(c, d) || d == Down && !l.pass() {
			return false
		}
		if len(c.b) == 0 {
			l.swallowed(d)
			return c.reset
		}
		if d == Down {
			if !l.deliver(to, d, c.b) {
				return false
			}
			continue
		}
		parser.add(c.b)
		for {
			raw, command := parser.next()
			if raw == nil {
				break
			}
			if command != nil && !l.note(command) || !l.deliver(to, d, raw) {
				return false
			}
		}
	}
	return false
}

// swallowed waits while the news that the sender has ended are swallowed.
func (l *link) swallowed(d Direction) {
	for {
		l.p.mu.Lock()
		f, changed := l.p.effect(l, d), l.p.changed
		l.lost[d] = l.lost[d] || f.Swallow
		l.p.mu.Unlock()
		if !f.Swallow {
			return
		}
		select {
		case <-changed:
		case <-l.gone:
			return
		}
	}
}

// due waits until latency lets a chunk go, and while it is frozen. It is false
// if the link has ended.
func (l *link) due(c chunk, d Direction) bool {
	for {
		l.p.mu.Lock()
		f, changed := l.p.effect(l, d), l.p.changed
		l.p.mu.Unlock()
		var timer *time.Timer
		var passed <-chan time.Time
		if !f.Freeze {
			delay := f.Latency + time.Duration((2*c.lot-1)*float64(f.Jitter))
			left := time.Until(c.at.Add(delay))
			if left <= 0 || f.Swallow {
				return !l.ended()
			}
			timer = time.NewTimer(left)
			passed = timer.C
		}
		select {
		case <-passed:
		case <-changed:
		case <-l.gone:
		}
		if timer != nil {
			timer.Stop()
		}
		if l.ended() {
			return false
		}
	}
}

// note remembers a command and waits while it is held. It is false if the link
// has ended.
func (l *link) note(command []string) bool {
	l.p.mu.Lock()
	l.sent[strings.ToUpper(command[0])] = command
	var before []*Hold
	for h := range l.p.holds {
		if !h.match(command) {
			continue
		}
		if h.reply {
			l.held = append(l.held, h)
		} else {
			before = append(before, h)
		}
		if h.catches++; h.catches == 1 {
			close(h.caught)
		}
	}
	l.p.mu.Unlock()
	return l.wait(func() []*Hold { return before })
}

// pass waits while what the server says is held.
func (l *link) pass() bool {
	return l.wait(func() []*Hold { return l.held })
}

// wait waits until all holds are off. It is false if the link has ended, or
// does because one of them was dropped. holds is called with the proxy's mu.
func (l *link) wait(holds func() []*Hold) bool {
	for {
		l.p.mu.Lock()
		changed, waiting := l.p.changed, false
		for _, h := range holds() {
			if h.off && h.reset {
				l.end(true)
			}
			waiting = waiting || !h.off
		}
		l.p.mu.Unlock()
		if l.ended() {
			return false
		}
		if !waiting {
			return true
		}
		select {
		case <-changed:
		case <-l.gone:
		}
	}
}

func (l *link) ended() bool {
	select {
	case <-l.gone:
		return true
	default:
		return false
	}
}

// deliver writes bytes as fast as it may. It is false if the link has ended.
func (l *link) deliver(to *net.TCPConn, d Direction, b []byte) bool {
	for len(b) > 0 {
		l.p.mu.Lock()
		f, changed := l.p.effect(l, d), l.p.changed
		if f.Swallow {
			l.lost[d] = true
		}
		l.p.mu.Unlock()
		if f.Swallow {
			return !l.ended()
		}
		part := b
		if f.Slice > 0 && len(part) > f.Slice {
			part = part[:f.Slice]
		}
		var pause time.Duration
		if f.Bandwidth > 0 {
			part = part[:min(len(part), max(f.Bandwidth/100, 1))] // a hundred times a second
			pause = time.Duration(len(part)) * time.Second / time.Duration(f.Bandwidth)
		}
		if _, err := to.Write(part); err != nil {
			return false
		}
		if b = b[len(part):]; len(b) > 0 {
			pause += f.Pause
		}
		if pause > 0 && !l.rest(pause, changed) {
			return false
		}
	}
	return true
}

// rest waits for a pause to end, or the faults to change.
func (l *link) rest(pause time.Duration, changed <-chan struct{}) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-changed:
	case <-l.gone:
		return false
	}
	return true
}

// commands splits what a client sends into commands: RESP arrays of bulk
// strings. What is anything else is passed on as it comes, from then on.
type commands struct {
	buf    []byte
	opaque bool
}

func (c *commands) add(b []byte) { c.buf = append(c.buf, b...) }

// next returns the bytes of a whole command, and its words, or nil if there is
// none yet. Words are nil for what is not understood.
func (c *commands) next() (raw []byte, words []string) {
	if len(c.buf) == 0 {
		return nil, nil
	}
	n, words, ok := 0, []string(nil), true
	if !c.opaque {
		n, words, ok = parseCommand(c.buf)
	}
	if !ok || c.opaque {
		c.opaque = true
		n, words = len(c.buf), nil
	}
	if n == 0 {
		return nil, nil
	}
	raw = c.buf[:n:n]
	c.buf = c.buf[n:]
	return raw, words
}

// parseCommand returns the length of the first command and its words; 0 if it
// is not whole yet, and not ok if it is none.
func parseCommand(b []byte) (n int, words []string, ok bool) {
	count, at, ok := parseLine(b, 0, '*')
	if !ok || at == 0 {
		return 0, nil, ok
	}
	if count < 1 {
		return 0, nil, false
	}
	for range count {
		size, after, ok := parseLine(b, at, '$')
		if !ok || after == 0 {
			return 0, nil, ok
		}
		if size < 0 {
			return 0, nil, false
		}
		if len(b) < after+size+2 {
			return 0, nil, true
		}
		words = append(words, string(b[after:after+size]))
		at = after + size + 2
	}
	return at, words, true
}

// parseLine reads a line of a kind and its number, and returns where the next
// begins; 0 if it is not whole yet.
func parseLine(b []byte, at int, kind byte) (number, next int, ok bool) {
	if at >= len(b) {
		return 0, 0, true
	}
	if b[at] != kind {
		return 0, 0, false
	}
	end := bytes.Index(b[at:], []byte("\r\n"))
	if end < 0 {
		return 0, 0, len(b)-at < 32
	}
	number, err := strconv.Atoi(string(b[at+1 : at+end]))
	return number, at + end + 2, err == nil
}
