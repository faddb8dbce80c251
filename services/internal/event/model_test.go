package event_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// TestEverySurvivingEventIsDeliveredOnceOrCoveredByAReset plays a server that
// trims, fails over to a replica that lags, restarts empty, and publishers
// whose clocks disagree; a connection that loses, repeats and delays messages;
// and a node and a client that follow it by the rules of this package.
func TestEverySurvivingEventIsDeliveredOnceOrCoveredByAReset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		keep := rapid.IntRange(2, 12).Draw(t, "keep")
		w := &world{t: t, keep: keep, master: event.NewLedger(), tight: rapid.Bool().Draw(t, "frozen clocks")}
		// Not drawn by rapid, which loves small numbers: that two are equal is
		// what must be unlikely.
		w.random = rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		w.replica = w.master.Clone()
		w.node = event.NewCursor(w.master.Head())
		w.client = w.master.Head()
		t.Repeat(map[string]func(*rapid.T){
			"publish":        func(t *rapid.T) { w.publish(t, true) },
			"publish, lost":  func(t *rapid.T) { w.publish(t, false) },
			"deliver":        func(*rapid.T) { w.deliver(1) },
			"deliver all":    func(*rapid.T) { w.deliver(len(w.wire)) },
			"repeat":         func(t *rapid.T) { w.repeat(t) },
			"replicate":      func(*rapid.T) { w.replica = w.master.Clone() },
			"fail over":      func(*rapid.T) { w.master = w.replica.Clone() },
			"restart empty":  func(*rapid.T) { w.master = w.master.Empty(); w.replica = w.master.Clone() },
			"reconnect":      func(*rapid.T) { w.reconnect() },
			"client resumes": func(t *rapid.T) { w.resume(rapid.IntRange(1, 4).Draw(t, "page")) },
		})
		w.reconnect()
		w.resume(3)
		w.verdict()
	})
}

type world struct {
	t               *rapid.T
	keep, n         int
	tight           bool
	random          *rand.Rand
	clock           int64
	master, replica *event.Ledger
	wire, old       []event.Wire
	node            *event.Cursor
	client          event.Position

	atNode, atClient reader
}

// reader is what somebody has received, or was told to load again.
type reader struct {
	seen    map[string]int
	covered int // events published before this are covered by a reset
	last    int // the newest event delivered in this epoch of knowledge
}

func (r *reader) take(t *rapid.T, who string, ids, resets []string, published int) {
	if r.seen == nil {
		r.seen, r.last = map[string]int{}, -1
	}
	if len(resets) > 0 {
		r.covered, r.last = published, -1
	}
	for _, id := range ids {
		if r.seen[id]++; r.seen[id] > 1 {
			t.Fatalf("%s got %s twice", who, id)
		}
		n, _ := strconv.Atoi(id[1:])
		if n <= r.last {
			t.Fatalf("%s got %s after e%d", who, id, r.last)
		}
		r.last = n
	}
}

func (w *world) publish(t *rapid.T, arrives bool) {
	if !w.tight {
		w.clock += rapid.Int64Range(-3, 3).Draw(t, "clock")
	}
	id := "e" + strconv.Itoa(w.n)
	w.n++
	msg := w.master.Put(id, time.UnixMilli(1_000+w.clock), w.random.Uint64N(1<<20), w.keep)
	if arrives {
		w.wire = append(w.wire, msg)
	}
}

func (w *world) deliver(n int) {
	for ; n > 0 && len(w.wire) > 0; n-- {
		msg := w.wire[0]
		w.wire = w.wire[1:]
		w.old = append(w.old, msg)
		w.hear(msg)
	}
}

func (w *world) hear(msg event.Wire) {
	got, read := w.node.Live(msg)
	w.atNode.take(w.t, "node", got, nil, w.n)
	if read {
		got, resets := w.node.Read(w.master, 3)
		w.atNode.take(w.t, "node", got, resets, w.n)
	}
}

func (w *world) repeat(t *rapid.T) {
	if len(w.old) > 0 {
		w.hear(rapid.SampledFrom(w.old).Draw(t, "again"))
	}
}

// reconnect loses what was on its way; then the node compares positions.
func (w *world) reconnect() {
	w.wire = nil
	if w.node.Pos() != w.master.Head() {
		got, resets := w.node.Read(w.master, 3)
		w.atNode.take(w.t, "node", got, resets, w.n)
	}
}

func (w *world) resume(page int) {
	for {
		ids, last, reset := w.master.Resume(w.client, page)
		var resets []string
		if reset != "" {
			resets = []string{reset}
		}
		w.atClient.take(w.t, "client", ids, resets, w.n)
		w.client = last
		if last == w.master.Head() {
			return
		}
	}
}

// verdict: whatever the server still has, both readers have or were told
// about.
func (w *world) verdict() {
	for _, id := range w.master.Entries() {
		n, _ := strconv.Atoi(id[1:])
		for who, r := range map[string]*reader{"node": &w.atNode, "client": &w.atClient} {
			if r.seen[id] == 0 && n >= r.covered {
				w.t.Fatalf("%s silently missed %s; it has %v, covered before e%d", who, id, fmt.Sprint(r.seen), r.covered)
			}
		}
	}
}

func TestOnlyWhatWasDeliveredIsADuplicate(t *testing.T) {
	l := event.NewLedger()
	c := event.NewCursor(l.Head())
	var heard []event.Wire
	for n := range 3 {
		w := l.Put("e"+strconv.Itoa(n), time.UnixMilli(int64(1000+10*n)), 1, 10)
		heard = append(heard, w)
		if got, read := c.Live(w); len(got) != 1 || read {
			t.Fatalf("e%d: delivered %v, read %t", n, got, read)
		}
	}
	for n, w := range heard {
		if got, read := c.Live(w); len(got) != 0 || read {
			t.Errorf("e%d again: delivered %v, read %t; want neither", n, got, read)
		}
	}
	other := event.NewLedger().Put("x", time.UnixMilli(1005), 2, 10)
	if got, read := c.Live(heard[1].As(other)); len(got) != 0 || !read {
		t.Errorf("an id that lies behind and was never delivered: delivered %v, read %t; want a read", got, read)
	}
}
