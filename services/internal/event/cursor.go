package event

import (
	"bytes"
	"errors"
	"slices"
)

// The kinds of wire messages.
const (
	stored  = 'd' // is in the stream
	passing = 'e' // is not: prev and id are the newest of the stream
	rewind  = 'r' // a consumer found the history rewound and began an epoch
)

// wire is one event as it travels between nodes.
type wire struct {
	kind     byte
	epoch    string
	prev, id ID
	event    string // the event's own id
	body     []byte // an Envelope without offset and epoch
}

// errWire reports bytes that no publisher of this version wrote.
var errWire = errors.New("not a message of this version")

// parseWire reads "1<kind> <epoch> <prev> <id> <event> <body>".
func parseWire(b []byte) (wire, error) {
	f := bytes.SplitN(b, []byte{' '}, 6)
	if len(f) != 6 || len(f[0]) != 2 || f[0][0] != '1' || !isEpoch(string(f[1])) {
		return wire{}, errWire
	}
	prev, err := ParseID(string(f[2]))
	if err != nil {
		return wire{}, errWire
	}
	id, err := ParseID(string(f[3]))
	if err != nil {
		return wire{}, errWire
	}
	return wire{kind: f[0][1], epoch: string(f[1]), prev: prev, id: id, event: string(f[4]), body: f[5]}, nil
}

// snapshot is what one atomic read of a channel shows.
type snapshot struct {
	epoch      string
	base, last ID     // the first position of the epoch, and the newest
	entries    []wire // after the id asked for, perhaps not all
}

// verdict says what to do with a live message.
type verdict int

const (
	deliver verdict = iota // it continues the chain
	ignore                 // it was delivered before
	heal                   // only a read of the stream can tell
)

// cursor follows the chain of a channel: it knows where it is and what it
// delivered last, so that it never mistakes another branch of history for its
// own. Everything that is not evidently in order is settled by one read.
type cursor struct {
	pos    Position
	ids    recent[ID]       // delivered, with the position it began at
	events recent[handover] // delivered: a relay may publish again after a loss
	era    uint64           // how often it has jumped; begins at 1
}

// handover is that an event was delivered in an era.
type handover struct {
	event string
	era   uint64
}

// delivery is an event to hand out. If it was handed out before, only those
// who came in a later era than that do not have it: where they began, it was
// still to come.
type delivery struct {
	wire
	before uint64 // the era of the last time, or 0
}

// judge compares a live message with the chain.
func (c *cursor) judge(w wire) verdict {
	switch {
	case w.epoch != c.pos.Epoch:
		return heal
	case w.kind == rewind:
		return ignore
	case w.kind == passing:
		switch w.id.Compare(c.pos.ID) {
		case 0:
			return deliver
		case 1:
			return heal
		}
		return ignore
	case !c.pos.ID.Before(w.id):
		if c.knows(w.id) {
			return ignore
		}
		return heal
	case w.prev == c.pos.ID:
		return deliver
	}
	return heal // missed something, or one of the two is on a lost branch
}

// advance moves behind w, and returns what to hand out.
func (c *cursor) advance(w wire) delivery {
	if w.kind == passing {
		return delivery{wire: w}
	}
	c.pos = Position{Epoch: w.epoch, ID: w.id}
	c.ids.add(w.id)
	d := delivery{wire: w}
	if h := c.events.find(func(h handover) bool { return h.event == w.event }); h != nil {
		d.before, h.era = h.era, c.era
	} else {
		c.events.add(handover{event: w.event, era: c.era})
	}
	return d
}

// knows reports whether c has been at id.
func (c *cursor) knows(id ID) bool {
	return c.ids.find(func(i ID) bool { return i == id }) != nil
}

// jump gives up continuity and goes on from p.
func (c *cursor) jump(p Position) {
	c.pos = p
	c.era++
	c.ids.clear()
	c.ids.add(p.ID)
}

// step is what a read of the stream led to.
type step struct {
	reset   string     // why continuity was lost, or empty
	rewound bool       // the cursor stands on a lost branch; nothing was changed
	fresh   []delivery // in order
	settled bool       // the cursor stands at the newest position
}

// absorb moves c along a snapshot read after its position.
func (c *cursor) absorb(s snapshot) step {
	if s.epoch != c.pos.Epoch {
		// All of the new epoch is news. Its entries were asked for by an id
		// of the old one, so the caller reads again from its base.
		c.jump(Position{Epoch: s.epoch, ID: s.base})
		return step{reset: ResetEpoch, settled: s.base == s.last}
	}
	switch s.last.Compare(c.pos.ID) {
	case 0:
		return step{settled: true}
	case -1:
		return step{rewound: true}
	}
	if len(s.entries) > 0 {
		first := s.entries[0]
		if first.prev != c.pos.ID && !c.knows(first.prev) && first.prev.Before(c.pos.ID) {
			return step{rewound: true}
		}
	}
	var st step
	for i, w := range s.entries {
		// The second: a failover lost events that were delivered here, and
		// nothing lies between w and what is left of them.
		linked := w.prev == c.pos.ID || i == 0 && c.knows(w.prev)
		if !linked {
			c.jump(Position{Epoch: s.epoch, ID: s.last})
			return step{reset: ResetTrimmed, settled: true}
		}
		st.fresh = append(st.fresh, c.advance(w))
	}
	if len(s.entries) == 0 {
		c.jump(Position{Epoch: s.epoch, ID: s.last})
		return step{reset: ResetTrimmed, settled: true}
	}
	st.settled = c.pos.ID == s.last
	return st
}

// history answers a reader who has seen everything up to after. Without the
// memory of a cursor, only an unbroken chain from there will do.
func (s snapshot) history(after Position) (History, error) {
	h := History{Last: Position{Epoch: s.epoch, ID: s.last}}
	if after.Epoch != s.epoch {
		h.Reset = ResetEpoch
		return h, nil
	}
	switch s.last.Compare(after.ID) {
	case 0:
		return h, nil
	case -1:
		h.Reset = ResetRewound
		return h, nil
	}
	prev := after.ID
	for i, w := range s.entries {
		if w.prev != prev {
			h.Messages, h.Reset = nil, ResetTrimmed
			if i == 0 && w.prev.Before(prev) {
				h.Reset = ResetRewound
			}
			return h, nil
		}
		m, err := w.message()
		if err != nil {
			return History{}, err
		}
		h.Messages = append(h.Messages, m)
		prev = w.id
	}
	if len(h.Messages) == 0 {
		h.Reset = ResetTrimmed
	}
	return h, nil
}

// remembered bounds what a cursor knows of its past. Less is safe: it only
// makes the cursor ask the stream more often.
const remembered = 256

// recent is the last values added, at most remembered. It grows as needed, so
// that the cursor of a quiet channel stays small.
type recent[T any] struct {
	ring []T
	next int
}

func (r *recent[T]) add(v T) {
	if len(r.ring) < remembered {
		r.ring = append(r.ring, v)
		return
	}
	r.ring[r.next] = v
	r.next = (r.next + 1) % remembered
}

// find returns the place of a value, until the next add.
func (r *recent[T]) find(is func(T) bool) *T {
	if i := slices.IndexFunc(r.ring, is); i >= 0 {
		return &r.ring[i]
	}
	return nil
}

func (r *recent[T]) clear() { r.ring, r.next = nil, 0 }
