package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// crowd is many clients of one server, in this process.
type crowd struct {
	clients []*client
	got     atomic.Int64 // events, by all
	wg      sync.WaitGroup

	mu   sync.Mutex
	open []net.Conn // also of those that connected later
}

// client is one connection. It reads everything, and answers pings.
type client struct {
	crowd *crowd
	nc    net.Conn
	id    int
	sse   bool
	hear  func(c *client, message []byte) // of every message, if not nil
	ready chan struct{}                   // closed when everything asked for is followed
	want  int                             // channels not yet followed
	stall atomic.Pointer[chan struct{}]   // not nil: reads on when that is closed
	err   error                           // why reading ended
}

// wish is what a client of a crowd is to be.
type wish struct {
	addr     string
	token    string   // "" for a server without sign-in
	channels []string // to follow
	since    string   // where the first of them is resumed; "" for from now on
	sse      bool
	small    bool // the kernel keeps little of what is not read
	hear     func(c *client, message []byte)
}

// gather connects n clients, in parallel.
func gather(ctx context.Context, n int, each func(i int) wish) (*crowd, error) {
	c := &crowd{clients: make([]*client, n)}
	var next atomic.Int64
	var wg sync.WaitGroup
	var failed error
	var once sync.Once
	for range min(n, 32) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				cl, err := c.connect(ctx, i, each(i))
				if err != nil {
					once.Do(func() { failed = fmt.Errorf("connect client %d: %w", i, err) })
					return
				}
				c.clients[i] = cl
			}
		})
	}
	wg.Wait()
	if failed != nil {
		c.leave()
		return nil, failed
	}
	return c, nil
}

func (c *crowd) connect(ctx context.Context, i int, w wish) (*client, error) {
	// Several addresses, so that there are ports enough.
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%8))}}
	nc, err := d.DialContext(ctx, "tcp4", w.addr)
	if err != nil {
		return nil, err
	}
	if w.small {
		_ = nc.(*net.TCPConn).SetReadBuffer(16 << 10)
	}
	cl := &client{crowd: c, nc: nc, id: i, sse: w.sse, hear: w.hear, want: len(w.channels), ready: make(chan struct{})}
	early, err := cl.shake(w)
	if err != nil {
		_ = nc.Close()
		return nil, err
	}
	if cl.want == 0 {
		close(cl.ready)
	}
	c.mu.Lock()
	c.open = append(c.open, nc)
	c.mu.Unlock()
	c.wg.Go(func() { cl.read(early) })
	select {
	case <-cl.ready:
	case <-ctx.Done():
		return cl, ctx.Err()
	}
	return cl, nil
}

// shake makes the handshake and returns what came behind it.
func (cl *client) shake(w wish) (early []byte, err error) {
	_ = cl.nc.SetDeadline(time.Now().Add(30 * time.Second))
	path, status := "/rt/v1/ws", "101"
	head := "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	if w.sse {
		path, head, status = "/rt/v1/events?channels="+strings.Join(w.channels, ","), "", "200"
	}
	if w.token != "" {
		head += "Cookie: crewbeat.sid=" + w.token + "\r\n"
	}
	_, err = fmt.Fprintf(cl.nc, "GET %s HTTP/1.1\r\nHost: %s\r\nOrigin: http://%s\r\n%s\r\n", path, w.addr, w.addr, head)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 4096)
	for {
		n, err := cl.nc.Read(b[len(b):cap(b)])
		if err != nil {
			return nil, err
		}
		b = b[:len(b)+n]
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			if !bytes.HasPrefix(b, []byte("HTTP/1.1 "+status)) {
				return nil, fmt.Errorf("answer: %q", b)
			}
			early = b[i+4:]
			break
		}
		if len(b) == cap(b) {
			return nil, errors.New("the answer has no end")
		}
	}
	_ = cl.nc.SetDeadline(time.Time{})
	if len(w.channels) > 0 && !w.sse {
		if w.since != "" {
			return early, cl.say(`{"type":"subscribe","channels":[{"ch":"` + w.channels[0] + `","since":"` + w.since + `"}]}`)
		}
		err = cl.say(`{"type":"subscribe","channels":["` + strings.Join(w.channels, `","`) + `"]}`)
	}
	return early, err
}

// say sends a short text message.
func (cl *client) say(v string) error {
	b := append(make([]byte, 0, len(v)+8), 0x81)
	if len(v) < 126 {
		b = append(b, 0x80|byte(len(v)))
	} else {
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(len(v)))
	}
	b = append(b, 0, 0, 0, 0) // a mask that changes nothing
	_, err := cl.nc.Write(append(b, v...))
	return err
}

var buffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// read takes messages apart until the connection ends. Between messages it
// holds no buffer of its own.
func (cl *client) read(early []byte) {
	rest := bytes.Clone(early)
	for {
		if rest = cl.take(rest); len(rest) > 0 {
			rest = bytes.Clone(rest)
		}
		if c := cl.stall.Load(); c != nil {
			<-*c
		}
		var one [1]byte // waits without a buffer
		if _, err := io.ReadFull(cl.nc, one[:]); err != nil {
			cl.err = err
			return
		}
		buf := buffers.Get().(*[]byte) // only these are put
		b := append(append((*buf)[:0], rest...), one[0])
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := cl.nc.Read(b[len(b):cap(b)])
		rest = cl.take(b[:len(b)+n])
		rest = append(make([]byte, 0, len(rest)), rest...)
		buffers.Put(buf)
		if err != nil {
			cl.err = err
			return
		}
	}
}

// take handles the whole messages in b and returns what is left.
func (cl *client) take(b []byte) []byte {
	if cl.sse {
		for {
			m, rest, ok := bytes.Cut(b, []byte("\n\n"))
			if !ok {
				return b
			}
			if _, data, ok := bytes.Cut(m, []byte("data: ")); ok {
				cl.message(data)
			}
			b = rest
		}
	}
	for len(b) >= 2 {
		n, head := int(b[1]&0x7f), 2
		switch {
		case n == 126 && len(b) < 4 || n == 127 && len(b) < 10:
			return b
		case n == 126:
			n, head = int(binary.BigEndian.Uint16(b[2:])), 4
		case n == 127:
			n, head = int(binary.BigEndian.Uint64(b[2:])), 10
		}
		if len(b) < head+n {
			return b
		}
		if b[0]&0xf == 1 {
			cl.message(b[head : head+n])
		}
		b = b[head+n:]
	}
	return b
}

func (cl *client) message(m []byte) {
	switch {
	case !bytes.HasPrefix(m, []byte(`{"type"`)):
		cl.crowd.got.Add(1)
	case bytes.HasPrefix(m, []byte(`{"type":"ping"`)):
		_ = cl.say(`{"type":"pong"}`)
	case bytes.HasPrefix(m, []byte(`{"type":"subscribed"`)):
		if cl.want--; cl.want == 0 {
			close(cl.ready)
		}
	}
	if cl.hear != nil {
		cl.hear(cl, m)
	}
}

// await waits until all together have got n events.
func (c *crowd) await(ctx context.Context, n int64) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for c.got.Load() < n {
		select {
		case <-ctx.Done():
			return fmt.Errorf("got %d of %d events: %w", c.got.Load(), n, ctx.Err())
		case <-t.C:
		}
	}
	if got := c.got.Load(); got > n {
		return fmt.Errorf("got %d events, not %d", got, n)
	}
	return nil
}

// leave closes all connections.
func (c *crowd) leave() {
	c.mu.Lock()
	for _, nc := range c.open {
		_ = nc.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// settle waits until a server has n connections.
func settle(ctx context.Context, c *child, n int) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		v, err := c.ask("count")
		if err != nil || v == strconv.Itoa(n) {
			return err
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("%s has %s connections, not %d: %w", c.name, v, n, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
