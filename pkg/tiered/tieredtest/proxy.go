package tieredtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// Proxy is a network between clients and servers that does what networks do:
// it is slow, swallows bytes, breaks connections, and refuses new ones. It is
// TCP on loopback, so that clients see real errors of a real socket.
//
// It reads what clients send as Redis commands, so that a fault can be had by
// some connections only, and a command or its reply can be held. Of a
// connection that is not in plain RESP, such as TLS, it only passes bytes on.
//
// A Proxy is safe for concurrent use and ends with its test.
type Proxy struct {
	addr string // of StartProxy's upstream; "" if there is none

	mu        sync.Mutex
	listeners map[string]net.Listener // by upstream
	links     map[*link]struct{}
	faults    map[*fault]struct{}
	holds     map[*Hold]struct{}
	refusing  bool
	closed    bool
	changed   chan struct{} // closed and replaced by every change of the above
	pumps     sync.WaitGroup
}

// Direction is which way bytes flow.
type Direction uint8

// The directions.
const (
	Up   Direction = 1 << iota // client to server: commands
	Down                       // server to client: replies and messages
	Both = Up | Down
)

// Fault is what happens to the bytes of a connection. A field that is zero
// does nothing; those that are set add up, also with those of other faults.
type Fault struct {
	// Only restricts the fault to connections that have sent a command that
	// matches, before the fault or after. Nil means all connections.
	Only Match

	Latency   time.Duration // delays bytes by this,
	Jitter    time.Duration // and by up to this more or less; order is kept
	Bandwidth int           // bytes a second
	Slice     int           // at most so many bytes at a time
	Pause     time.Duration // between slices

	// Freeze keeps bytes until the fault is healed and delivers them then, as
	// TCP does when a network that lost packets is well again.
	Freeze bool
	// Swallow makes bytes vanish, and nobody is told: a blackhole, and if only
	// in one direction, a half-open connection. When it is healed, connections
	// that have lost bytes are reset, for no network ever delivers what comes
	// after a hole.
	Swallow bool
}

type fault struct {
	Fault
	dir Direction
}

// Match reports whether a command, name and arguments, is meant.
type Match func(command []string) bool

// Command matches commands by name, in any case, that have all of the words
// among their arguments.
func Command(name string, words ...string) Match {
	return func(command []string) bool {
		if len(command) == 0 || !strings.EqualFold(command[0], name) {
			return false
		}
		for _, w := range words {
			found := false
			for _, arg := range command[1:] {
				found = found || arg == w
			}
			if !found {
				return false
			}
		}
		return true
	}
}

// AnyOf matches what any of the matches do.
func AnyOf(matches ...Match) Match {
	return func(command []string) bool {
		for _, m := range matches {
			if m(command) {
				return true
			}
		}
		return false
	}
}

// Subscribers matches the connections that pub/sub messages arrive on.
var Subscribers = AnyOf(Command("SUBSCRIBE"), Command("PSUBSCRIBE"), Command("SSUBSCRIBE"))

// StartProxy starts a proxy whose Addr leads to upstream, "host:port". It fails
// the test if it cannot listen. Upstream need not be there yet.
func StartProxy(t testing.TB, upstream string) *Proxy {
	t.Helper()
	p := StartNetwork(t)
	addr, err := p.listen(upstream)
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	p.addr = addr
	return p
}

// StartNetwork starts a proxy without an address: it leads wherever its
// DialContext is told to go, which suits clients of many servers (Redis
// Cluster, Sentinel). All of it has the same faults.
func StartNetwork(t testing.TB) *Proxy {
	t.Helper()
	p := &Proxy{
		listeners: make(map[string]net.Listener),
		links:     make(map[*link]struct{}),
		faults:    make(map[*fault]struct{}),
		holds:     make(map[*Hold]struct{}),
		changed:   make(chan struct{}),
	}
	t.Cleanup(p.close)
	return p
}

// Addr is where clients connect to: "127.0.0.1:port".
func (p *Proxy) Addr() string { return p.addr }

// DialContext connects to addr through the proxy. It fits the Dialer of
// go-redis's options.
func (p *Proxy) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	to, err := p.listen(addr)
	if err != nil {
		return nil, err
	}
	return new(net.Dialer).DialContext(ctx, network, to)
}

// Inject makes the fault happen from now on, to connections that are open and
// to those that will be, until heal is called or Heal.
func (p *Proxy) Inject(d Direction, f Fault) (heal func()) {
	one := &fault{Fault: f, dir: d}
	p.change(func() { p.faults[one] = struct{}{} })
	return func() {
		p.change(func() { delete(p.faults, one) })
		p.resetHoles()
	}
}

// Blackhole swallows what flows in a direction: Both is a network that is gone,
// Down a half-open connection, on which commands arrive whose replies never
// come back. With only, it is for connections that have sent such a command.
func (p *Proxy) Blackhole(d Direction, only ...Match) (heal func()) {
	f := Fault{Swallow: true}
	if len(only) > 0 {
		f.Only = AnyOf(only...)
	}
	return p.Inject(d, f)
}

// Slow delays each direction by latency, give or take jitter.
func (p *Proxy) Slow(latency, jitter time.Duration) (heal func()) {
	return p.Inject(Both, Fault{Latency: latency, Jitter: jitter})
}

// Reset breaks the open connections with a TCP reset. With only, those that
// have sent such a command.
func (p *Proxy) Reset(only ...Match) { p.end(true, only) }

// Cut closes the open connections as a server that goes down in order. With
// only, those that have sent such a command.
func (p *Proxy) Cut(only ...Match) { p.end(false, only) }

func (p *Proxy) end(reset bool, only []Match) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if len(only) == 0 || l.hasSent(AnyOf(only...)) {
			l.end(reset)
		}
	}
}

// Refuse resets new connections as soon as they are made, until Heal. Those
// that are open stay; for a server that is gone, follow it with Reset.
func (p *Proxy) Refuse() { p.change(func() { p.refusing = true }) }

// Heal ends all faults, accepts connections and releases whatever is held.
func (p *Proxy) Heal() {
	p.change(func() {
		clear(p.faults)
		p.refusing = false
		for h := range p.holds {
			h.off = true
		}
		clear(p.holds)
	})
	p.resetHoles()
}

// Connections is how many are open.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Lost reports whether a connection that is open still has lost bytes.
func (p *Proxy) Lost() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		for _, lost := range l.lost {
			if lost {
				return true
			}
		}
	}
	return false
}

// Hold keeps commands, or their replies, that match.
type Hold struct {
	p       *Proxy
	match   Match
	reply   bool
	off     bool // p.mu: nothing is held any more
	reset   bool // p.mu: what is held is not delivered, but its connection reset
	caught  chan struct{}
	catches int // p.mu
}

// HoldReply lets commands that match through to the server, but keeps what the
// server says on their connections from then on, until the hold is released:
// it has been done, and the client does not know.
func (p *Proxy) HoldReply(m Match) *Hold { return p.hold(m, true) }

// HoldCommand keeps commands that match, and all that is sent after them on
// their connections, from reaching the server until the hold is released.
func (p *Proxy) HoldCommand(m Match) *Hold { return p.hold(m, false) }

func (p *Proxy) hold(m Match, reply bool) *Hold {
	h := &Hold{p: p, match: m, reply: reply, caught: make(chan struct{})}
	p.change(func() { p.holds[h] = struct{}{} })
	return h
}

// Caught is closed when the first command has been held, or let through to
// have its reply held.
func (h *Hold) Caught() <-chan struct{} { return h.caught }

// Await waits until something is held, for at most 20 seconds, after which it
// fails the test.
func (h *Hold) Await(t testing.TB) {
	t.Helper()
	patience := time.NewTimer(20 * time.Second)
	defer patience.Stop()
	select {
	case <-h.caught:
	case <-patience.C:
		t.Fatal("not within 20 s: a command that the hold matches")
	}
}

// Release delivers what is held and holds nothing any more.
func (h *Hold) Release() { h.end(false) }

// Drop resets the connections that are held instead: the command or its reply
// is lost, and the client learns only that something is.
func (h *Hold) Drop() { h.end(true) }

func (h *Hold) end(reset bool) {
	h.p.change(func() {
		if !h.off {
			h.off, h.reset = true, reset
			delete(h.p.holds, h)
		}
	})
}

// change applies f and lets everybody who waits look again.
func (p *Proxy) change(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
	close(p.changed)
	p.changed = make(chan struct{})
}

// resetHoles resets what has lost bytes and does not lose them any more.
func (p *Proxy) resetHoles() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		for d, lost := range l.lost {
			if lost && !p.effect(l, d).Swallow {
				l.end(true)
			}
		}
	}
}

// effect sums up the faults of a link in a direction. It needs mu.
func (p *Proxy) effect(l *link, d Direction) (sum Fault) {
	for f := range p.faults {
		if f.dir&d == 0 || f.Only != nil && !l.hasSent(f.Only) {
			continue
		}
		sum.Latency += f.Latency
		sum.Jitter += f.Jitter
		sum.Bandwidth = least(sum.Bandwidth, f.Bandwidth)
		sum.Slice = least(sum.Slice, f.Slice)
		sum.Pause += f.Pause
		sum.Freeze = sum.Freeze || f.Freeze
		sum.Swallow = sum.Swallow || f.Swallow
	}
	return sum
}

// least is the smaller one of those that are set.
func least(a, b int) int {
	if a <= 0 || b > 0 && b < a {
		return b
	}
	return a
}

// listen returns the address that leads to upstream.
func (p *Proxy) listen(upstream string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return "", errors.New("proxy is closed")
	}
	l := p.listeners[upstream]
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", fmt.Errorf("listen for %s: %w", upstream, err)
		}
		p.listeners[upstream] = l
		p.pumps.Go(func() { p.accept(l, upstream) })
	}
	return l.Addr().String(), nil
}

func (p *Proxy) accept(l net.Listener, upstream string) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return // closed
		}
		client := conn.(*net.TCPConn)
		link := &link{p: p, client: client, gone: make(chan struct{}),
			sent: make(map[string][]string), lost: make(map[Direction]bool), lot: rand.Float64}
		p.mu.Lock()
		if p.refusing || p.closed {
			link.end(true)
		} else {
			p.links[link] = struct{}{}
			p.pumps.Go(func() { p.connect(link, upstream) })
		}
		p.mu.Unlock()
	}
}

func (p *Proxy) connect(l *link, upstream string) {
	conn, err := net.DialTimeout("tcp", upstream, 5*time.Second)
	switch {
	case err != nil:
		l.end(true)
	case l.reached(conn.(*net.TCPConn)):
		l.run()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

func (p *Proxy) close() {
	p.mu.Lock()
	p.closed = true
	for _, l := range p.listeners {
		_ = l.Close()
	}
	for l := range p.links {
		l.end(true)
	}
	p.mu.Unlock()
	p.pumps.Wait()
}
