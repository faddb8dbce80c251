package socket

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

const (
	writeSize   = 32 << 10 // at most so much goes into one write of a backlog
	writeStep   = 5 * time.Second
	controlSize = 64 << 10 // control messages that may wait
	goodbye     = time.Second
)

var writeBuffers = sync.Pool{New: func() any { b := make([]byte, 0, writeSize); return &b }}

// queued is a message that waits for the reader: an event, a control message,
// or bytes of the transport itself.
type queued struct {
	frame *hub.Frame
	body  []byte   // of a control message, as JSON
	raw   []byte   // sent as it is
	note  *watched // the message is made when it is written

	// Of a control message that says where a channel stands.
	channel string
	at      event.Position
}

// size bounds what q takes in a queue.
func (q queued) size() int {
	n := len(q.body) + len(q.raw) + 16
	if q.note != nil {
		n += noteSize
	}
	if q.frame != nil {
		n += len(q.frame.Body)
	}
	return n
}

// outbox is what is on its way to a client. conn.mu guards it.
type outbox struct {
	*backlog // nil: there is none
	draining bool
	catching bool
	closing  bool // a close frame is the last thing sent
	closed   bool
}

// backlog is what a slow reader has not taken. There is one while draining.
type backlog struct {
	rest    []byte // of a message that the kernel took in part
	queue   []queued
	bytes   int                 // of queue
	control int                 // of these, control messages
	behind  map[string]struct{} // channels to catch up with once there is room
}

// late returns the backlog, which begins if there is none.
func (o *outbox) late() *backlog {
	if o.backlog == nil {
		o.backlog = &backlog{}
	}
	return o.backlog
}

// Offer implements [hub.Member].
func (c *conn) Offer(r *hub.Run) (lost *hub.Frame) {
	defer c.survive()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.closed {
		return nil
	}
	if !c.draining {
		c.writeRun(r)
		return nil
	}
	for _, f := range r.Frames {
		if lost := c.wait(f); lost != nil {
			return lost
		}
	}
	return nil
}

// wait puts f behind what waits already; c.mu is held.
func (c *conn) wait(f *hub.Frame) (lost *hub.Frame) {
	q := queued{frame: f}
	if !c.room(q.size()) {
		c.s.metrics.spilled(f)
		c.makeRoom(f)
		if !c.room(q.size()) {
			if !f.Stored() {
				return nil
			}
			return c.spill(f)
		}
	}
	c.enqueue(q)
	return nil
}

// send sends a control message. Clients that let these pile up are cut off.
func (c *conn) send(body []byte) { c.tell(queued{body: body}, closeSlow) }

// tell sends q, or closes with a code if too much waits already.
func (c *conn) tell(q queued, full int) {
	defer c.survive()
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing || c.closed:
	case !c.draining:
		c.writeOrDrain(q)
	case c.control+q.size() > controlSize:
		c.abort(full)
	default:
		c.enqueue(q)
	}
}

// writeOrDrain writes without waiting; what the kernel does not take is left
// to a goroutine. c.mu is held, and nothing is queued.
func (c *conn) writeOrDrain(q queued) {
	buf := writeBuffers.Get().(*[]byte) // only these are put
	defer writeBuffers.Put(buf)
	wire := c.render((*buf)[:0], q)
	if n, ok := c.try(wire); ok && n < len(wire) {
		c.startDraining(slices.Clone(wire[n:])) // the buffer is somebody else's soon
	}
}

// writeRun is writeOrDrain for events.
func (c *conn) writeRun(r *hub.Run) {
	if c.stream == nil {
		c.writeShared(r.Wire(appendText))
		return
	}
	buf := writeBuffers.Get().(*[]byte) // only these are put
	defer writeBuffers.Put(buf)
	wire, shared := c.stream.run((*buf)[:0], r)
	if shared {
		c.writeShared(wire)
	} else if n, ok := c.try(wire); ok && n < len(wire) {
		c.startDraining(slices.Clone(wire[n:]))
	}
}

// writeShared writes what others are written, too, and nobody changes.
func (c *conn) writeShared(wire []byte) {
	if n, ok := c.try(wire); ok && n < len(wire) {
		c.startDraining(wire[n:])
	}
}

// try writes what the kernel takes at once; it reports false if the
// connection has failed. c.mu is held.
func (c *conn) try(wire []byte) (n int, ok bool) {
	if c.at.none() {
		return 0, true
	}
	n, err := c.at.write(wire)
	if err != nil {
		c.fail()
		return 0, false
	}
	return n, true
}

// render appends q to b as it is sent. For a stream that moves its cursor: it
// is called in the order of sending, and once for each message. c.mu is held.
func (c *conn) render(b []byte, q queued) []byte {
	if q.note != nil {
		if q.body = c.presence(q.note); q.body == nil {
			return b
		}
	}
	switch {
	case c.stream != nil:
		return c.stream.render(b, q)
	case q.frame != nil:
		return appendText(b, q.frame.Body)
	case q.raw != nil:
		return append(b, q.raw...)
	}
	return appendFrame(b, 0x1, q.body)
}

func (c *conn) enqueue(q queued) {
	n := q.size()
	c.queue = append(c.queue, q)
	c.bytes += n
	if q.frame == nil {
		c.control += n
	}
	c.s.metrics.queueBytes(int64(n))
}

// forget removes queued frames; c.mu is held.
func (c *conn) forget(which func(f *hub.Frame) bool) (first *hub.Frame) {
	if c.backlog == nil {
		return nil
	}
	c.queue = slices.DeleteFunc(c.queue, func(q queued) bool {
		if q.frame == nil || !which(q.frame) {
			return false
		}
		if first == nil {
			first = q.frame
		}
		c.bytes -= q.size()
		c.s.metrics.queueBytes(-int64(q.size()))
		return true
	})
	return first
}

func (c *conn) room(n int) bool {
	return len(c.queue) < c.s.c.QueueLen && c.bytes+n <= c.s.c.QueueBytes
}

// makeRoom forgets what a slow reader need not see: of Latest events all but
// the newest of their kind in a channel, and Ephemeral ones. c.mu is held.
func (c *conn) makeRoom(incoming *hub.Frame) {
	type kind struct{ channel, event string }
	newest := map[kind]*hub.Frame{}
	for _, q := range c.queue {
		if q.frame != nil && q.frame.Class == event.Latest {
			newest[kind{q.frame.Channel, q.frame.Event}] = q.frame
		}
	}
	if incoming.Class == event.Latest {
		newest[kind{incoming.Channel, incoming.Event}] = incoming
	}
	c.forget(func(f *hub.Frame) bool {
		spared := false
		switch f.Class {
		case event.Ephemeral:
			spared = true
		case event.Latest:
			spared = newest[kind{f.Channel, f.Event}] != f
		case event.Durable: // each is owed to the reader
		}
		if spared {
			c.s.metrics.spare(f)
		}
		return spared
	})
}

// spill forgets what waits of f's channel, to be read again from its history.
// It returns where to begin. c.mu is held.
func (c *conn) spill(f *hub.Frame) *hub.Frame {
	first := c.forget(func(q *hub.Frame) bool { return q.Channel == f.Channel && q.Stored() })
	if first == nil {
		return f
	}
	return first
}

// purge forgets what waits of channels with a prefix.
func (c *conn) purge(prefix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(func(f *hub.Frame) bool { return strings.HasPrefix(f.Channel, prefix) })
}

// Behind implements [hub.Member].
func (c *conn) Behind(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing || c.closed {
		return
	}
	late := c.late()
	if late.behind == nil {
		late.behind = map[string]struct{}{}
	}
	late.behind[channel] = struct{}{}
	if !c.draining {
		c.startCatchingUp()
	}
}

// Reset implements [hub.Member].
func (c *conn) Reset(channel, reason string, at event.Position) {
	body := encode(resetMessage{Type: "reset", Ch: channel, Reason: reason, Offset: at.String()})
	c.tell(queued{body: body, channel: channel, at: at}, closeStateLost)
}

// startCatchingUp reads what was lost, in one goroutine; c.mu is held.
func (c *conn) startCatchingUp() {
	if c.catching || c.backlog == nil {
		return
	}
	if len(c.behind) == 0 {
		c.backlog = nil
		return
	}
	c.catching = true
	c.spawn(func() {
		life, leave := c.enter()
		defer leave()
		for {
			c.mu.Lock()
			channel := c.nextBehind()
			c.mu.Unlock()
			if channel == "" {
				return
			}
			if !c.mayRead(life, channel) {
				continue
			}
			// An error means that the connection has ended.
			_ = c.s.c.Hub.CatchUp(life, c, channel)
		}
	})
}

// nextBehind returns a channel to catch up with, or "" if that is over for now;
// c.mu is held.
func (c *conn) nextBehind() (channel string) {
	if c.backlog != nil && !c.draining && !c.closing && !c.closed {
		for channel = range c.behind {
			delete(c.behind, channel)
			return channel
		}
		c.backlog = nil
	}
	c.catching = false // whoever ends draining starts again
	return ""
}

// mayRead reports whether the client may read on in the history of a channel,
// which may be ahead of the event that takes the right to it. Where nobody can
// tell, it may: it did a moment ago.
func (c *conn) mayRead(ctx context.Context, channel string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	ok, err := c.s.c.Auth.Allowed(ctx, c.user, channel)
	if err != nil || ok {
		return true
	}
	c.revoke(channel)
	return false
}

// startDraining hands the writing side to a goroutine, which begins with rest,
// until nothing waits any more; c.mu is held.
func (c *conn) startDraining(rest []byte) {
	c.draining = true
	c.late().rest = rest
	c.s.wg.Go(c.drain)
}

func (c *conn) drain() {
	defer c.perish()
	buf := writeBuffers.Get().(*[]byte) // only these are put
	defer writeBuffers.Put(buf)
	progress := time.Now()
	for {
		b, last := c.next((*buf)[:0])
		if len(b) == 0 {
			return
		}
		for len(b) > 0 {
			c.deadline(writeStep)
			n, err := c.nc.Write(b)
			if b = b[n:]; n > 0 {
				progress = time.Now()
			}
			if err == nil {
				continue
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				c.mu.Lock()
				c.fail()
				c.mu.Unlock()
				return
			}
			if c.impatient(time.Since(progress)) {
				return
			}
		}
		if last {
			c.mu.Lock()
			c.linger()
			c.mu.Unlock()
			return
		}
	}
}

// next moves what waits into b, as much as one write takes; last reports that
// a close frame is at its end. When nothing waits, draining is over.
func (c *conn) next(b []byte) (_ []byte, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, false
	}
	b = append(b, c.rest...)
	c.rest = nil
	n := 0
	for _, q := range c.queue {
		if len(b) > 0 && len(b)+q.size() > writeSize {
			break
		}
		b = c.render(b, q)
		c.bytes -= q.size()
		c.s.metrics.queueBytes(-int64(q.size()))
		if q.frame == nil {
			c.control -= q.size()
		}
		n++
	}
	c.queue = slices.Delete(c.queue, 0, n)
	if len(b) > 0 {
		return b, c.closing && len(c.queue) == 0
	}
	c.queue, c.draining = nil, false
	_ = c.nc.SetWriteDeadline(time.Time{})
	c.settle()
	c.startCatchingUp()
	return nil, false
}

func (c *conn) deadline(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, once := c.nc.(*answer); once {
		d = c.s.c.SlowAfter // a write that has timed out cannot go on there
	}
	if c.closing {
		d = min(d, goodbye)
	}
	_ = c.nc.SetWriteDeadline(time.Now().Add(min(d, c.s.c.SlowAfter)))
}

// impatient gives up on a reader that has taken nothing for too long.
func (c *conn) impatient(quiet time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		c.fail()
		return true
	}
	if quiet < c.s.c.SlowAfter {
		return false
	}
	// The frame that it took half of makes a close frame unreadable: only the
	// end of the connection tells it.
	c.code = closeSlow
	c.fail()
	return true
}

// close sends a close frame after dropping what waits, since all of it can be
// read again on another connection.
func (c *conn) close(code int) {
	defer c.survive()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort(code)
}

// abort is close; c.mu is held.
func (c *conn) abort(code int) {
	if c.closing || c.closed {
		return
	}
	c.closing, c.code = true, int32(code) // at most 4999
	c.forget(func(*hub.Frame) bool { return true })
	c.dropQueue()
	last := queued{raw: closeFrame(code)}
	if c.stream != nil {
		last = queued{body: encode(closeMessage{Type: "close", Code: code, Reason: reasons[code], Reconnect: code < closeBadRequest})}
	}
	if c.draining {
		c.enqueue(last)
		_ = c.nc.SetWriteDeadline(time.Now().Add(goodbye)) // also of the write under way
		return
	}
	if c.writeOrDrain(last); !c.draining && !c.closed {
		c.linger()
	}
}

// plain reports whether the connection is one of TCP itself, and not wrapped.
func (c *conn) plain() bool {
	_, tcp := c.nc.(*net.TCPConn)
	return tcp || c.at.fd != 0
}

// dropQueue forgets all that waits; c.mu is held.
func (c *conn) dropQueue() {
	if c.backlog == nil {
		return
	}
	for _, q := range c.queue {
		c.s.metrics.queueBytes(-int64(q.size()))
	}
	c.queue, c.bytes, c.control = nil, 0, 0
}

// linger waits a moment for the client's answer to the close frame; c.mu is
// held.
func (c *conn) linger() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && c.plain() {
		_ = half.CloseWrite()
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(goodbye))
	c.wake()
}

// fail ends the connection at once; c.mu is held. The reading goroutine sees
// the end and cleans up.
func (c *conn) fail() {
	if c.closed {
		return
	}
	c.closed = true
	c.dropQueue()
	c.backlog = nil
	_ = c.nc.Close()
	c.wake()
}
