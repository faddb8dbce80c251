package event

import (
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
		if c.advance(w) {
			delivered = append(delivered, w.event)
		}
	case heal:
		return nil, true
	case ignore:
	}
	return delivered, false
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
		for _, w := range st.fresh {
			delivered = append(delivered, w.event)
		}
		if st.settled {
			return delivered, resets
		}
	}
}

func NewLedger() *Ledger { return &ledger{epoch: newEpoch()} }

// Put publishes and returns what subscribers would receive.
func (l *ledger) Put(event string, at time.Time, random uint64, keep int) Wire {
	w, _ := l.publish(stored, event, nil, at, random, Options{Keep: keep, Once: time.Hour})
	return w
}

// Clone is what a replica has.
func (l *ledger) Clone() *Ledger {
	c := *l
	c.entries = append([]wire(nil), l.entries...)
	c.once, c.order = nil, nil
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
	for i := range s.entries {
		s.entries[i].body = []byte(`{"id":"` + s.entries[i].event + `"}`)
	}
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
