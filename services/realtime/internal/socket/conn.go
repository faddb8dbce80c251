package socket

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gobwas/ws"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

// errForbidden ends a subscription that is not allowed.
var errForbidden = errors.New("forbidden")

// conn is one client.
type conn struct {
	s      *Server
	id     string
	user   string // never changes; see identity
	nc     net.Conn
	raw    syscall.RawConn // nil where writing cannot be tried
	in     io.Reader       // nc, after what came with the handshake
	ctx    context.Context //nolint:containedctx // the life of the connection
	cancel context.CancelFunc
	stream *stream // nil: it is a WebSocket
	give   func()  // gives its place among the connections back
	born   time.Time
	oldest time.Time // when it is closed for its age

	joins  bucket // subscriptions asked for; of the reading goroutine
	absent func() // says that the user is no longer here by this connection; nil: never was

	mu sync.Mutex
	outbox
	identity Identity
	code     int // why it was closed
	channels map[string]*subscription
	watched  []*watched
	heard    time.Time // when the client last said anything
	pinged   time.Time // when it was last asked to; zero when it has answered
	nextPing time.Time
	leaveAt  time.Time // when a draining server ends it; zero: not yet
	due      int       // slot of the wheel
}

// subscription is a channel that a client follows, or is about to.
type subscription struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when joining has ended
	joined bool          // conn.mu
}

// serve reads until the connection ends.
func (c *conn) serve() {
	defer c.end()
	defer c.survive()
	// It may have ended after it was looked up, and before Ended found it.
	c.s.closeEnded(c.ctx, c)
	if c.stream != nil {
		// A client has nothing to say here: this waits for it to leave.
		_, _ = io.CopyN(io.Discard, c.in, int64(c.s.c.MessageBytes))
		return
	}
	if code := c.listen(); code != 0 {
		c.close(code)
		c.drainInput()
	}
}

// listen handles what the client sends. It returns the code to close with, or
// 0 if the connection is over.
func (c *conn) listen() int {
	limit := newBucket(c.s.c.PerSecond, c.s.c.PerSecond, c.born)
	in := frames{in: c.in, most: c.s.c.MessageBytes}
	for {
		op, payload, err := in.next()
		if code, ok := errors.AsType[refused](err); ok {
			return int(code)
		}
		if err != nil {
			return 0
		}
		now := time.Now()
		c.alive(now)
		if op == ws.OpClose {
			c.close(closeNormal)
			return 0
		}
		if !limit.take(now) {
			return closeRateLimited
		}
		switch op {
		case ws.OpPing:
			c.tell(queued{raw: frame(0xA, payload)}, closeSlow)
		case ws.OpText:
			if code := c.receive(payload); code != 0 {
				return code
			}
		}
	}
}

// drainInput reads on for a moment after a close frame was sent: closing with
// unread input would reset the connection, and the client might not see why.
func (c *conn) drainInput() {
	_, _ = io.CopyN(io.Discard, c.in, 1<<20) // close has set a deadline
}

func (c *conn) alive(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.pinged = now, time.Time{}
}

// receive handles a message; the result is the code to close with, or 0.
func (c *conn) receive(b []byte) int {
	in, err := parseInbound(b)
	if err != nil {
		return closeBadRequest
	}
	switch in.Type {
	case "subscribe":
		c.subscribeAll(in.ID, in.Channels)
	case "unsubscribe":
		for _, ref := range in.Channels[:min(len(in.Channels), c.s.c.Channels)] {
			c.leave(ref.Ch)
			c.send(encode(unsubscribedMessage{Type: "unsubscribed", ID: in.ID, Ch: clip(ref.Ch)}))
		}
	case "ping":
		c.send(pongMessage)
	case "presence":
		c.tellPresence(in.ID, in.Channels)
	case "refresh":
		return c.refresh(in.ID, in.Ticket)
	case "pong", "ack":
	default:
		c.send(encode(errorMessage{Type: "error", ID: in.ID, Code: codeUnknownType}))
	}
	return 0
}

var pongMessage = encode(struct {
	Type string `json:"type"`
}{"pong"})

// subscribeAll begins to follow channels. Each is a question to the database:
// a client may ask for as many as it can follow twice over, and go on with one
// for each message that it may send.
func (c *conn) subscribeAll(id json.RawMessage, refs []channelRef) {
	for i, ref := range refs {
		if i == c.s.c.Channels {
			c.refuse(id, ref.Ch, codeTooMany, 0) // once for all the rest
			return
		}
		if !c.joins.take(time.Now()) {
			c.refuse(id, ref.Ch, codeUnavailable, time.Second+rand.N(2*time.Second))
			continue
		}
		c.subscribe(id, ref)
	}
}

func (c *conn) refuse(id json.RawMessage, channel, code string, retry time.Duration) {
	c.send(encode(errorMessage{Type: "error", ID: id, Ch: clip(channel), Code: code, RetryAfter: retry.Milliseconds()}))
}

// subscribe begins to follow a channel; what comes of it is told by message.
func (c *conn) subscribe(id json.RawMessage, ref channelRef) {
	refuse := func(code string, retry time.Duration) { c.refuse(id, ref.Ch, code, retry) }
	if !event.ValidChannel(ref.Ch) {
		refuse(codeBadChannel, 0)
		return
	}
	c.mu.Lock()
	if c.closing || c.closed {
		c.mu.Unlock()
		return
	}
	if _, ok := c.channels[ref.Ch]; !ok && len(c.channels) >= c.s.c.Channels {
		c.mu.Unlock()
		refuse(codeTooMany, 0)
		return
	}
	ctx, cancel := context.WithCancel(c.ctx)
	sub := &subscription{cancel: cancel, done: make(chan struct{})}
	before := c.channels[ref.Ch]
	c.channels[ref.Ch] = sub
	c.mu.Unlock()
	c.spawn(func() {
		defer close(sub.done)
		if before != nil {
			before.cancel() // of no effect once it has joined
			<-before.done
		}
		err := c.join(ctx, id, ref, sub)
		if err == nil || ctx.Err() != nil {
			return
		}
		c.leave(ref.Ch)
		if errors.Is(err, errForbidden) {
			c.s.metrics.denied("channel")
			refuse(codeForbidden, 0)
			return
		}
		c.s.c.Log.Warn("subscription failed", slog.String("channel", event.Template(ref.Ch)), slog.Any("error", err))
		refuse(codeUnavailable, time.Second+rand.N(2*time.Second))
	})
}

func (c *conn) join(ctx context.Context, id json.RawMessage, ref channelRef, sub *subscription) error {
	allow := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		ok, err := c.s.c.Auth.Allowed(ctx, c.user, ref.Ch)
		if err == nil && !ok {
			return errForbidden
		}
		return err
	}
	// Once now, so that strangers cause no subscriptions; and once more when
	// the channel is subscribed, from when on a removal would be heard of.
	if err := allow(ctx); err != nil {
		return err
	}
	return c.s.c.Hub.Follow(ctx, c, ref.Ch, since(ref.Since), allow, func(j hub.Joined) {
		c.mu.Lock()
		sub.joined = true
		c.mu.Unlock()
		c.s.metrics.joined(ref.Since != "", j)
		body := encode(subscribedMessage{
			Type: "subscribed", ID: id, Ch: ref.Ch, Offset: j.At.String(), Epoch: j.At.Epoch,
			Recovered: j.Recovered, Replayed: j.Replayed,
		})
		c.tell(queued{body: body, channel: ref.Ch, at: j.At}, closeSlow)
		c.watchTeam(ref.Ch)
	})
}

// leave stops following a channel, also one that is only about to be.
func (c *conn) leave(channel string) {
	c.mu.Lock()
	sub := c.channels[channel]
	delete(c.channels, channel)
	c.mu.Unlock()
	if sub == nil {
		return
	}
	sub.cancel()
	c.s.c.Hub.Unfollow(c, channel)
	c.unwatchTeam(channel)
}

// following returns the channels with a prefix; with pending also those that
// are only about to be followed.
func (c *conn) following(prefix string, pending bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for ch, sub := range c.channels {
		if strings.HasPrefix(ch, prefix) && (pending || sub.joined) {
			list = append(list, ch)
		}
	}
	return list
}

// revoke takes channels away, with what waits of them.
func (c *conn) revoke(prefix string) {
	defer c.survive()
	for _, ch := range c.following(prefix, true) {
		c.leave(ch)
		c.purge(ch)
		c.s.metrics.denied("revoked")
		c.send(encode(errorMessage{Type: "error", Ch: ch, Code: codeForbidden}))
	}
}

// end cleans up after the reading goroutine.
func (c *conn) end() {
	c.cancel()
	c.mu.Lock()
	c.fail()
	code := c.code
	c.mu.Unlock()
	for _, ch := range c.following("", true) {
		c.leave(ch)
	}
	c.s.remove(c, code)
}

// tick does what is due for a connection, and returns when to look again.
func (c *conn) tick(now time.Time) (next time.Time) {
	defer c.survive()
	c.mu.Lock()
	defer c.mu.Unlock()
	cf := &c.s.c
	switch {
	case c.closing || c.closed:
		return now.Add(time.Hour) // about to be removed
	case now.After(c.oldest):
		c.abort(closeMaxAge)
	case !c.leaveAt.IsZero() && !now.Before(c.leaveAt):
		c.abort(closeDrain)
	case c.draining:
		// It cannot see a ping, let alone answer. How long it may go on like
		// that is the business of who drains.
		c.pinged = time.Time{}
		c.nextPing = now.Add(cf.Tick)
	case !c.pinged.IsZero() && now.Sub(c.pinged) >= cf.PongWithin:
		c.abort(closeNoPong)
	case c.stream != nil && !now.Before(c.nextPing):
		c.nextPing = now.Add(cf.Comment)
		c.writeOrDrain(queued{raw: comment})
	case !now.Before(c.nextPing):
		c.pinged = now
		c.nextPing = now.Add(cf.PingEvery*9/10 + rand.N(cf.PingEvery/5+1))
		c.writeOrDrain(queued{body: pingMessage})
	}
	if next = c.nextPing; !c.pinged.IsZero() {
		next = c.pinged.Add(cf.PongWithin)
	}
	if !c.leaveAt.IsZero() && c.leaveAt.Before(next) {
		next = c.leaveAt
	}
	return next
}

// clip bounds what is sent back of a client's input.
func clip(s string) string {
	if len(s) > 200 {
		return s[:200]
	}
	return s
}
