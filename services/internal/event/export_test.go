package event

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// What the tests of the chain need to play Redis themselves.

type (
	Wire   = wire
	Cursor = cursor
	Ledger = ledger
)

// NewCursor stands at p.
func NewCursor(p Position) *Cursor {
	c := &cursor{}
	c.jump(p)
	return c
}

func (c *cursor) Pos() Position { return c.pos }

// Live takes a message, and reports what is delivered and whether a read is
// needed.
func (c *cursor) Live(w Wire) (delivered []string, needsRead bool) {
	switch c.judge(w) {
	case deliver:
		delivered = news(delivered, c.advance(w))
	case heal:
		return nil, true
	case ignore:
	}
	return delivered, false
}

// news appends what a subscriber from the beginning has not had.
func news(ids []string, ds ...delivery) []string {
	for _, d := range ds {
		if d.before == 0 {
			ids = append(ids, d.event)
		}
	}
	return ids
}

// Read heals from l as a channel does, page entries at a time.
func (c *cursor) Read(l *Ledger, page int) (delivered, resets []string) {
	for {
		st := c.absorb(l.read(c.pos.ID, page))
		if st.rewound {
			l.rewind(c.pos.Epoch, newEpoch())
			continue
		}
		if st.reset != "" {
			resets = append(resets, st.reset)
		}
		delivered = news(delivered, st.fresh...)
		if st.settled {
			return delivered, resets
		}
	}
}

func NewLedger() *Ledger { return &ledger{epoch: newEpoch()} }

// Put publishes and returns what subscribers would receive.
func (l *ledger) Put(event string, at time.Time, random uint64, keep int) Wire {
	w, _ := l.publish(stored, event, []byte(`{"id":"`+event+`"}`), at, random, Options{Keep: keep, Once: time.Hour})
	return w
}

// Clone is what a replica has.
func (l *ledger) Clone() *Ledger {
	c := *l
	c.entries = append([]wire(nil), l.entries...)
	c.once, c.order = maps.Clone(l.once), slices.Clone(l.order)
	return &c
}

// Empty is a server that lost everything.
func (l *ledger) Empty() *Ledger { return NewLedger() }

func (l *ledger) Head() Position { return l.head() }

// Entries returns the ids of the events that are still there.
func (l *ledger) Entries() []string {
	var ids []string
	for _, w := range l.entries {
		ids = append(ids, w.event)
	}
	return ids
}

// Resume answers a reader as Since does.
func (l *ledger) Resume(after Position, limit int) (ids []string, last Position, reset string) {
	s := l.read(after.ID, limit)
	h, err := s.history(after)
	if err != nil {
		panic(err)
	}
	last = h.Last
	for _, m := range h.Messages {
		ids, last = append(ids, m.Envelope.ID), m.At
	}
	return ids, last, h.Reset
}

var (
	StreamKey  = streamKey
	MetaKey    = metaKey
	OnceKey    = onceKey
	PubsubName = pubsubName
)

// Unheard returns the call that publishes an event without telling anybody.
func Unheard(channel, event string, body []byte) (s *redis.Script, keys []string, args []any) {
	return publishScript, []string{streamKey(channel), metaKey(channel), onceKey(channel, event)},
		[]any{"PUBLISH", "nobody", time.Now().UnixMilli(), "unused", 1024, 60000, 60000, "d", event, body, 5}
}

// Node is a channel as a process follows it, whose store the test plays. At
// most one request may be under way.
type Node struct {
	*channel
	asked chan *Request
	Asked *Request // the request under way, if any
}

// Request is a read, or a rewind if Epoch is set.
type Request struct {
	After  ID
	Limit  int
	Epoch  string
	served *snapshot
	reply  chan error
}

// NewNode follows a channel with room for that many early messages.
func NewNode(ctx context.Context, room int) *Node {
	b, err := NewRedis(ctx, nil, Options{Retry: 50 * time.Millisecond})
	if err != nil {
		panic(err)
	}
	n := &Node{channel: newChannel(b, "team:1:activity"), asked: make(chan *Request, 8)}
	n.room, b.store = room, n
	return n
}

func (n *Node) request(ctx context.Context, r *Request) (snapshot, error) {
	r.reply = make(chan error)
	n.asked <- r
	select {
	case err := <-r.reply:
		if err != nil || r.served == nil {
			return snapshot{}, err
		}
		return *r.served, nil
	case <-ctx.Done():
		return snapshot{}, ctx.Err()
	}
}

func (n *Node) read(ctx context.Context, _ string, after ID, limit int) (snapshot, error) {
	return n.request(ctx, &Request{After: after, Limit: min(limit, 3)})
}

func (n *Node) rewind(ctx context.Context, _, old string) error {
	_, err := n.request(ctx, &Request{Epoch: old})
	return err
}

// Poll finds the request under way, once all is quiet. It reports false if
// there are two.
func (n *Node) Poll() bool {
	for {
		select {
		case r := <-n.asked:
			if n.Asked != nil {
				return false
			}
			n.Asked = r
		default:
			return true
		}
	}
}

// Serve does in l what was asked for; its answer may take a while. It returns
// the message that a rewind sends.
func (n *Node) Serve(l *Ledger) (w Wire, sent bool) {
	r := n.Asked
	if r == nil || r.served != nil {
		return wire{}, false
	}
	r.served = new(l.read(r.After, r.Limit))
	if r.Epoch == "" || l.epoch != r.Epoch {
		return wire{}, false
	}
	l.rewind(r.Epoch, newEpoch())
	return wire{kind: rewind, epoch: l.epoch, prev: l.last, id: l.last}, true
}

// Reply hands over what was served; Fail loses it.
func (n *Node) Reply() bool {
	if n.Asked == nil || n.Asked.served == nil {
		return false
	}
	n.Asked.reply <- nil
	n.Asked = nil
	return true
}

func (n *Node) Fail() bool {
	if n.Asked == nil {
		return false
	}
	n.Asked.reply <- errors.New("the answer is lost")
	n.Asked = nil
	return true
}

// Hear takes a message from the connection, Confirm the position behind a
// confirmed subscription.
func (n *Node) Hear(w Wire)         { n.live(w) }
func (n *Node) Confirm(at Position) { n.stands(at) }

// Join adds a subscriber, if the position is known.
func (n *Node) Join(s Subscriber) (at Position, stop func(), ok bool) {
	select {
	case <-n.ready:
		at, stop = n.join(s)
		return at, stop, true
	default:
		return Position{}, nil, false
	}
}

// Quiet reports whether the node stands at p with nothing left to do.
func (n *Node) Quiet(p Position) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.known && !n.healing && n.cur.pos == p
}

func (n *Node) End() { _ = n.b.Close() }

// Flash is an ephemeral event.
func (l *ledger) Flash(event string) Wire {
	w, _ := l.publish(passing, event, []byte(`{"id":"`+event+`"}`), time.Time{}, 0, Options{})
	return w
}

// Link returns the position of w, and whether it is of the stream.
func (w wire) Link() (at Position, kept bool) {
	return Position{Epoch: w.epoch, ID: w.id}, w.kind == stored
}

// Has reports whether an event was published here.
func (l *ledger) Has(event string) bool { _, ok := l.once[event]; return ok }

// As returns w in the place of another event of another branch.
func (w wire) As(other Wire) Wire { w.id, w.prev = other.id, other.prev; return w }

// ParseMessage reads a live message as it comes from Redis.
func ParseMessage(b []byte) (Message, error) {
	w, err := parseWire(b)
	if err != nil {
		return Message{}, err
	}
	return w.message()
}

// Rewind is what a node does that has found the history of an epoch rewound.
func (b *Redis) Rewind(ctx context.Context, channel, old string) error {
	return b.rewind(ctx, channel, old)
}

// BodyOf is an event as it goes to Redis.
func BodyOf(e Event) []byte {
	body, err := json.Marshal(e.envelope())
	if err != nil {
		panic(err)
	}
	return body
}

// Scans reports whether a body is read in one pass.
func Scans(body []byte) bool { return new(Envelope).scan(body) }
