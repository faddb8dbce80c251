package socket

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

// errForbidden ends a subscription that is not allowed.
var errForbidden = errors.New("forbidden")

// conn is one client. There are thousands that do nothing: what only some need
// is behind a pointer.
type conn struct {
	s      *Server
	number uint64
	user   string // never changes; see who
	nc     net.Conn
	at     descriptor
	stream *stream // nil: it is a WebSocket
	places places
	oldest moment // when it is closed for its age

	// Of the reading goroutine.
	early *bytes.Reader // what came with the handshake; nil: it is read
	said  bucket        // messages
	joins bucket        // subscriptions asked for

	spoke spoke // Server.mu

	mu sync.Mutex
	outbox
	session  string
	token    Secret
	channels []*subscription
	watched  *watched // the first
	life     *life    // nil: nobody needs it
	pinged   moment   // when it was last asked to say something; zero when it has
	nextPing moment
	leaveAt  moment              // when a draining server ends it; zero: not yet
	code     int32               // why it was closed
	own      bool                // follows all that is its user's own
	refused  map[string]struct{} // of these, what there was no room for; nil: nothing
	over     bool                // life is
	reading  bool                // a goroutine does
	armed    bool                // the poller knows of it
}

// stand has the connection stand on a session. Its texts are parts of larger
// ones, of the request and of the database, that are not kept.
func (c *conn) stand(who Identity) {
	all := who.UserID + who.SessionID + string(who.Token)
	u, s := len(who.UserID), len(who.UserID)+len(who.SessionID)
	c.user, c.session, c.token = all[:u], all[u:s], Secret(all[s:])
}

// subscription is a channel that a client follows, or is about to. conn.mu
// guards it.
type subscription struct {
	channel string
	joining *joining // nil: that is over
	joined  bool
}

type joining struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when it is over
}

// begin has the connection read from. Nothing of it may be left to the caller
// should it panic.
func (c *conn) begin() {
	defer c.survive()
	defer func() {
		if !c.park() {
			c.s.wg.Go(c.serve)
		}
	}()
	// Its session may have ended after it was looked up, and before Ended would
	// have found it.
	c.s.closeEnded(c.s.ctx, c)
}

// serve reads until the connection ends, or there is nothing more to be read
// for now.
func (c *conn) serve() {
	parked := false
	defer func() {
		if !parked {
			c.end()
		}
	}()
	defer c.survive()
	if c.stream != nil {
		// A client has nothing to say here: this waits for it to leave.
		_, _ = io.CopyN(io.Discard, c.input(), int64(c.s.c.MessageBytes))
		return
	}
	var code int
	if code, parked = c.listen(); code != 0 {
		c.close(code)
		c.drainInput()
	}
}

// listen handles what the client sends, of which there is something, until it
// is parked or the connection is over; code is what to close with, or 0.
func (c *conn) listen() (code int, parked bool) {
	in := frames{in: c.input(), most: c.s.c.MessageBytes}
	for begun := false; ; begun = true {
		if begun && !in.open && c.park() {
			return 0, true
		}
		op, payload, err := in.next()
		if code, ok := errors.AsType[refused](err); ok {
			return int(code), false
		}
		if err != nil {
			return 0, false
		}
		now := time.Now()
		c.alive()
		if op == ws.OpClose {
			c.close(closeNormal)
			return 0, false
		}
		if !c.said.take(now, c.s.c.PerSecond, c.s.c.PerSecond) {
			return closeRateLimited, false
		}
		switch op { //nolint:exhaustive // a pong has done what it is for, and the rest does not come here
		case ws.OpPing:
			c.tell(queued{raw: frame(0xA, payload)}, closeSlow)
		case ws.OpText:
			if code := c.receive(payload); code != 0 {
				return code, false
			}
		}
	}
}

// drainInput reads on for a moment after a close frame was sent: closing with
// unread input would reset the connection, and the client might not see why.
func (c *conn) drainInput() {
	_, _ = io.CopyN(io.Discard, c.input(), 1<<20) // close has set a deadline
}

func (c *conn) alive() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pinged = 0
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
		if in.Own && c.joins.take(time.Now(), c.s.c.PerSecond, 2*c.s.c.Channels) {
			c.followOwn(in.ID, in.Channels)
		}
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
		if !c.joins.take(time.Now(), c.s.c.PerSecond, 2*c.s.c.Channels) {
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
	life, exit := c.enter()
	ctx, cancel := context.WithCancel(life)
	done := func() { cancel(); exit() }
	c.mu.Lock()
	if c.closing || c.closed {
		c.mu.Unlock()
		done()
		return
	}
	var before *joining
	i := c.place(ref.Ch)
	if i >= 0 && ref.unless {
		c.mu.Unlock()
		done()
		return
	}
	if i < 0 && len(c.channels) >= c.most() {
		c.mu.Unlock()
		done()
		refuse(codeTooMany, 0)
		return
	}
	j := &joining{cancel: cancel, done: make(chan struct{})}
	sub := &subscription{channel: ref.Ch, joining: j}
	if i < 0 {
		c.channels = append(c.channels, sub)
		if c.stream != nil {
			c.stream.stands(ref)
		}
	} else {
		before = c.channels[i].joining
		c.channels[i] = sub
	}
	c.mu.Unlock()
	c.spawn(func() {
		defer done()
		defer func() {
			close(j.done)
			c.mu.Lock()
			defer c.mu.Unlock()
			sub.joining = nil
		}()
		if before != nil {
			before.cancel()
			<-before.done
		}
		err := c.join(ctx, id, ref, sub)
		if err == nil || ctx.Err() != nil {
			return
		}
		if errors.Is(err, errForbidden) {
			c.leave(ref.Ch)
			c.s.metrics.denied("channel")
			refuse(codeForbidden, 0)
			return
		}
		if c.stream == nil { // a cursor goes on saying where its client stands
			c.leave(ref.Ch)
		}
		c.s.c.Log.Warn("subscription failed", slog.String("channel", event.Template(ref.Ch)), slog.Any("error", err))
		c.unavailable(id, ref.Ch, time.Second+rand.N(2*time.Second))
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
	i := c.place(channel)
	if i < 0 {
		c.mu.Unlock()
		return
	}
	j := c.channels[i].joining
	c.channels = slices.Delete(c.channels, i, i+1)
	if c.stream != nil {
		c.stream.cursor.drop(keyOf(channel))
	}
	c.mu.Unlock()
	if j != nil {
		j.cancel()
	}
	c.s.c.Hub.Unfollow(c, channel)
	c.unwatchTeam(channel)
}

// place returns where a channel is among those of the client, or -1; c.mu is
// held.
func (c *conn) place(channel string) int {
	return slices.IndexFunc(c.channels, func(s *subscription) bool { return s.channel == channel })
}

// following returns the channels with a prefix; with pending also those that
// are only about to be followed.
func (c *conn) following(prefix string, pending bool) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []string
	for _, sub := range c.channels {
		if strings.HasPrefix(sub.channel, prefix) && (pending || sub.joined) {
			list = append(list, sub.channel)
		}
	}
	return list
}

// joinedChannels returns how many channels the client follows.
func (c *conn) joinedChannels() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, sub := range c.channels {
		if sub.joined {
			n++
		}
	}
	return n
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
	c.mu.Lock()
	if c.over = true; c.life != nil {
		c.life.cancel()
	}
	c.fail()
	code := int(c.code)
	c.mu.Unlock()
	for _, ch := range c.following("", true) {
		c.leave(ch)
	}
	c.s.remove(c, code)
}

// tick does what is due for a connection, and returns when to look again.
func (c *conn) tick(now moment) (next moment) {
	defer c.survive()
	c.mu.Lock()
	defer c.mu.Unlock()
	cf := &c.s.c
	switch {
	case c.closing || c.closed:
		return now.add(time.Hour) // about to be removed
	case now > c.oldest:
		c.abort(closeMaxAge)
	case c.leaveAt != 0 && now >= c.leaveAt:
		c.abort(closeDrain)
	case c.draining:
		// It cannot see a ping, let alone answer. How long it may go on like
		// that is the business of who drains.
		c.pinged = 0
		c.nextPing = now.add(cf.Tick)
	case c.pinged != 0 && now.after(c.pinged) >= cf.PongWithin:
		c.abort(closeNoPong)
	case c.stream != nil && now >= c.nextPing:
		c.nextPing = now.add(cf.Comment)
		c.writeOrDrain(queued{raw: comment})
	case now >= c.nextPing:
		c.pinged = now
		c.nextPing = now.add(cf.PingEvery*9/10 + rand.N(cf.PingEvery/5+1))
		c.writeOrDrain(queued{body: pingMessage})
	}
	if next = c.nextPing; c.pinged != 0 {
		next = c.pinged.add(cf.PongWithin)
	}
	if c.leaveAt != 0 && c.leaveAt < next {
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
