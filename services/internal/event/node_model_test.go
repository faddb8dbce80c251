package event_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// TestANodeLosesNothingSilentlyHoweverLateTheAnswersCome plays all that Redis
// and the network do to one node that follows a channel: messages are lost and
// late, reads are answered when much has happened since, answers are lost,
// connections are made anew, history is trimmed, fails over to a replica that
// lags and restarts empty, the relay publishes again. Subscribers come and go.
//
// What is claimed of each subscriber: no event twice, none out of order, and
// in the end every event that the server still has and that was published
// after the subscriber's position was delivered or lies before a reset. Where
// no message was lost since a subscription was confirmed, that is so without
// another event or connection. And never are two reads under way.
func TestANodeLosesNothingSilentlyHoweverLateTheAnswersCome(t *testing.T) {
	rapid.Check(t, func(trial *rapid.T) {
		var failure any // that rapid sees it, and makes it small
		synctest.Test(t, func(t *testing.T) {
			defer func() { failure = recover() }()
			newTale(t.Context(), trial).tell()
		})
		switch {
		case failure == nil:
		case fmt.Sprintf("%T", failure) == "rapid.invalidData":
			panic(failure) // no failure of the claim: on a line of its own, by which rapid tells them apart
		default:
			panic(failure)
		}
	})
}

// tale is one trial.
type tale struct {
	t               *rapid.T
	keep, n         int
	frozen          bool
	calm            bool // the server is not lost
	whole           bool // no message was lost since the position was read
	clock           int64
	random          *rand.Rand
	master, replica *event.Ledger
	node            *event.Node
	wire, old       []event.Wire
	confirm         []event.Position // of a subscription, on its way
	connected       bool             // a confirmation has been or will be given
	listeners       []*listener
	recent          []sent                 // by the relay
	numbers         map[event.Position]int // the event at a position
}

type sent struct {
	n     int
	epoch string
}

func newTale(ctx context.Context, t *rapid.T) *tale {
	w := &tale{
		t: t, keep: rapid.IntRange(2, 12).Draw(t, "keep"), frozen: rapid.Bool().Draw(t, "frozen clocks"),
		random: rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0)),
		master: event.NewLedger(), node: event.NewNode(ctx, rapid.IntRange(1, 5).Draw(t, "room")),
		numbers: map[event.Position]int{}, calm: rapid.Bool().Draw(t, "calm"),
	}
	w.replica = w.master.Clone()
	return w
}

func (w *tale) tell() {
	defer func() { w.node.End(); synctest.Wait() }()
	act := func(f func(t *rapid.T)) func(*rapid.T) {
		return func(t *rapid.T) { f(t); w.rest() }
	}
	w.t.Repeat(map[string]func(*rapid.T){
		"publish":       act(func(t *rapid.T) { w.publish(t, true) }),
		"publish more":  act(func(t *rapid.T) { w.publish(t, true); w.publish(t, true); w.publish(t, true) }),
		"publish, lost": act(func(t *rapid.T) { w.publish(t, false) }),
		"flash":         act(func(*rapid.T) { w.wire = append(w.wire, w.master.Flash("f")) }),
		"deliver":       act(func(*rapid.T) { w.deliver(1) }),
		"deliver all":   act(func(*rapid.T) { w.deliver(len(w.wire)) }),
		"repeat": act(func(t *rapid.T) {
			if len(w.old) > 0 {
				w.node.Hear(rapid.SampledFrom(w.old).Draw(t, "again"))
			}
		}),
		"serve":     act(func(*rapid.T) { w.serve() }),
		"reply":     act(func(*rapid.T) { w.node.Reply() }),
		"serve now": act(func(*rapid.T) { w.serve(); w.node.Reply() }),
		"fail":      act(func(*rapid.T) { w.fail() }),
		"reconnect": act(func(*rapid.T) { w.wire, w.confirm, w.connected, w.whole = nil, nil, false, false }),
		"read position": act(func(*rapid.T) {
			if !w.connected {
				w.confirm, w.connected, w.whole = append(w.confirm, w.master.Head()), true, true
			}
		}),
		"confirm":   act(func(*rapid.T) { w.confirmed() }),
		"replicate": act(func(*rapid.T) { w.replica = w.master.Clone() }),
		"fail over": act(func(t *rapid.T) { w.outage(w.replica.Clone(), rapid.IntRange(0, 3).Draw(t, "published again")) }),
		"restart empty": act(func(t *rapid.T) {
			w.outage(w.master.Empty(), rapid.IntRange(0, 3).Draw(t, "published again"))
			w.replica = w.master.Clone()
		}),
		"join": act(func(*rapid.T) { w.join() }),
		"leave": act(func(*rapid.T) {
			if len(w.listeners) > 1 {
				w.listeners[0].stop()
				w.listeners = w.listeners[1:]
			}
		}),
	})
	w.end()
}

// rest lets the node do what it can.
func (w *tale) rest() {
	synctest.Wait()
	if !w.node.Poll() {
		w.t.Fatalf("two reads are under way")
	}
	for _, l := range w.listeners {
		if l.wrong != "" {
			w.t.Fatalf("%s", l.wrong)
		}
	}
}

// end brings everything to rest, and looks.
func (w *tale) end() {
	if !w.calm || !w.whole {
		w.wire, w.confirm = nil, append(w.confirm, w.master.Head())
	}
	for n := 0; len(w.confirm) > 0 || !w.node.Quiet(w.master.Head()); n++ {
		if n > 1000 {
			w.t.Fatalf("the node never comes to rest")
		}
		if n%100 == 99 && !w.calm {
			w.confirm = append(w.confirm, w.master.Head()) // it stands on a lost branch until it looks again
		}
		w.confirmed()
		w.rest()
		w.serve()
		w.node.Reply()
		w.rest()
		w.deliver(len(w.wire))
		w.rest()
	}
	for _, id := range w.master.Entries() {
		n, _ := strconv.Atoi(id[1:])
		for i, l := range w.listeners {
			if l.seen[n] == 0 && n >= l.from {
				w.t.Fatalf("listener %d silently missed e%d: it has %v, and has been told to load what is before e%d", i, n, l.seen, l.from)
			}
		}
	}
}

func (w *tale) publish(t *rapid.T, arrives bool) {
	if !w.frozen {
		w.clock += rapid.Int64Range(-3, 3).Draw(t, "clock")
	}
	w.put(w.n, arrives)
	w.n++
}

func (w *tale) put(n int, arrives bool) {
	id := "e" + strconv.Itoa(n)
	known := w.master.Has(id)
	m := w.master.Put(id, time.UnixMilli(1_000+w.clock), w.random.Uint64N(1<<20), w.keep)
	at, _ := m.Link()
	w.recent = append(w.recent, sent{n, at.Epoch})
	if w.numbers[at] == 0 {
		w.numbers[at] = n + 1
	}
	switch {
	case known:
	case arrives:
		w.wire = append(w.wire, m)
	default:
		w.whole = false
	}
}

// outage follows the loss of a server: the relay publishes the events that it
// sent last again, before anything new, unless the channel went on meanwhile.
func (w *tale) outage(master *event.Ledger, again int) {
	if w.calm {
		return
	}
	w.master = master
	recent := w.recent[max(0, len(w.recent)-again):]
	w.recent = nil
	for _, r := range recent {
		if r.epoch != recent[0].epoch {
			return
		}
	}
	for _, r := range recent {
		w.put(r.n, true)
	}
}

func (w *tale) deliver(n int) {
	for ; n > 0 && len(w.wire) > 0; n-- {
		m := w.wire[0]
		w.wire = w.wire[1:]
		if _, kept := m.Link(); kept {
			w.old = append(w.old, m)
		}
		w.node.Hear(m)
	}
}

func (w *tale) serve() {
	if m, sent := w.node.Serve(w.master); sent {
		w.numbers[w.master.Head()] = w.n // a new epoch at the same place
		w.wire = append(w.wire, m)
	}
}

func (w *tale) fail() {
	if w.node.Fail() {
		pass(time.Second) // it tries again
	}
}

func (w *tale) confirmed() {
	if len(w.confirm) > 0 {
		w.node.Confirm(w.confirm[0])
		w.confirm = w.confirm[1:]
	}
}

func (w *tale) join() {
	l := &listener{tale: w, last: -1, seen: map[int]int{}}
	at, stop, ok := w.node.Join(l)
	if ok {
		l.from, l.stop = w.numbers[at], stop
		w.listeners = append(w.listeners, l)
	}
}

// listener is a subscriber that remembers.
type listener struct {
	tale  *tale
	stop  func()
	from  int // the first event that it must be told of
	last  int
	seen  map[int]int
	wrong string
}

func (l *listener) Deliver(m event.Message) {
	if m.Envelope.ID == "f" {
		return
	}
	n, _ := strconv.Atoi(m.Envelope.ID[1:])
	if l.seen[n]++; l.seen[n] > 1 {
		l.wrong = "e" + strconv.Itoa(n) + " was delivered twice"
	}
	if n <= l.last {
		l.wrong = "e" + strconv.Itoa(n) + " was delivered after e" + strconv.Itoa(l.last)
	}
	l.last = n
}

func (l *listener) Reset(_ string, at event.Position) {
	l.last = -1
	if n := l.tale.numbers[at]; n > 0 {
		l.from = n
	}
}
