package tiered_test

import (
	"cmp"
	"fmt"
	"hash/maphash"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// The model of one key is a cache that may forget at any time, and that may hold
//
//   - what was Set or left by an Update, until it is written over or forgotten,
//   - what a load has read from the source, from that moment on until anything
//     is written or forgotten.
//
// So a read that returns a value is legal if, at some time while it ran, the
// cache may have held the value. A miss is always legal. It follows that what
// was overwritten, deleted or invalidated before a read began is not returned
// by it. What the model does not promise: that loads which run beside one
// another, or beside a change of the source that the cache has not been told of
// yet, agree.
type deed uint8

const (
	sourceGets deed = iota // a new value; the cache is not told by that
	sourceRead             // by a loader: from now on the cache may hold it
	cacheGets              // by Set
	cacheLoses             // by Delete, InvalidateTags, Clear
	found                  // by Get or GetOrLoad
	updated                // by Update, from one value to another
)

// step is one thing done to a key, with its outcome.
type step struct {
	deed deed
	node int
	v    int // 0 is no value
	old  int // that Update found
	// async is a Set or Delete that has returned before Redis had it.
	async bool
}

func (s step) String() string {
	name := [...]string{"source =", "source ->", "set", "forget", "read ->", "update"}[s.deed]
	if s.async {
		name += " async"
	}
	if s.deed == updated {
		return fmt.Sprintf("node %d %s %d -> %d", s.node, name, s.old, s.v)
	}
	return fmt.Sprintf("node %d %s %d", s.node, name, s.v)
}

// writes reports whether it is a write of the cache.
func (s step) writes() bool { return s.deed == cacheGets || s.deed == cacheLoses || s.deed == updated }

// state is what the cache may hold if it holds anything: a sorted set, that no
// step changes.
type state []int

func (s state) next(o step) (state, bool) {
	switch o.deed {
	case sourceRead:
		return with(s, o.v), true
	case cacheLoses:
		return nil, true
	case cacheGets:
	case found: // by a load that is not stored, perhaps: what else is there stays
		return s, slices.Contains(s, o.v)
	case updated:
		if o.old != 0 && !slices.Contains(s, o.old) {
			return s, false
		}
	default:
		return s, true
	}
	return state{o.v}, true
}

// with returns the set and v in it, leaving the argument as it is.
func with(set state, v int) state {
	at, ok := slices.BinarySearch(set, v)
	if ok {
		return set
	}
	return slices.Insert(slices.Clone(set), at, v)
}

var stateSeed = maphash.MakeSeed()

var cacheModel = porcupine.Model{
	Init: func() any { return state(nil) },
	Step: func(s, in, _ any) (bool, any) {
		after, ok := s.(state).next(in.(step))
		return ok, after
	},
	Equal: func(a, b any) bool { return slices.Equal(a.(state), b.(state)) },
	Hash: func(s any) (h uint64) {
		for _, v := range s.(state) {
			h = h*31 + maphash.Comparable(stateSeed, v)
		}
		return h
	},
	DescribeOperation: func(in, _ any) string { return in.(step).String() },
}

// history is what happened to one key.
type history struct {
	mu  sync.Mutex
	ops []porcupine.Operation
}

// forever is when an operation ended whose caller does not know that it did.
const forever = math.MaxInt64

func (h *history) add(o step, call, ret int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: o.node, Input: o, Call: call, Return: ret})
}

// strict is the history as it was, less what makes no difference: values that
// nobody saw, and a forgetting that may not have happened, for it makes nothing
// legal that would not be without it.
func (h *history) strict() []porcupine.Operation {
	seen := make(map[int]bool)
	for _, op := range h.ops {
		switch o := op.Input.(step); o.deed { //nolint:exhaustive // the others have seen nothing
		case found:
			seen[o.v] = true
		case updated:
			seen[o.old] = true
		}
	}
	var ops []porcupine.Operation
	for _, op := range h.ops {
		switch o := op.Input.(step); o.deed {
		case sourceGets:
			continue
		case sourceRead:
			if !seen[o.v] {
				continue
			}
		default:
			if op.Return == forever && !seen[o.v] {
				continue
			}
		}
		ops = append(ops, op)
	}
	return ops
}

// late is the history if a read may return what was current up to bound before
// it began.
func (h *history) late(bound time.Duration) []porcupine.Operation {
	ops := h.strict()
	for i := range ops {
		if ops[i].Input.(step).deed == found {
			ops[i].Call -= int64(bound)
		}
	}
	return ops
}

// seenBy is the history as one node may see it: its own calls as they were,
// and the writes of others up to bound after they ended.
//
// An Async write of its own has been made when it returns, and once more when
// Redis gets it, which is as if it had been made there after a write of another
// node that came in between; not after its own node's next one of the key, nor
// after the bound. Where Redis goes away it may not get it at all, and nobody is
// told: for others such a write has no end.
func (h *history) seenBy(node int, bound time.Duration, away bool) []porcupine.Operation {
	var ops []porcupine.Operation
	late := func(ret int64, async bool) int64 {
		if ret == forever || async && away {
			return forever
		}
		return ret + int64(bound)
	}
	all := h.strict()
	for _, op := range all {
		if o := op.Input.(step); o.node == node && o.async {
			again := op
			again.Return = late(op.Return, true)
			for _, next := range all {
				if n := next.Input.(step); n.node == node && n.writes() && next.Call > op.Return {
					again.Return = min(again.Return, next.Return)
				}
			}
			ops = append(ops, again)
		}
		if o := op.Input.(step); o.node != node {
			switch o.deed {
			case sourceRead:
			case found:
				continue
			default:
				if o.deed == updated { // what it found is its node's claim
					o.deed = cacheGets
					op.Input = o
				}
				op.Return = late(op.Return, o.async)
			}
		}
		ops = append(ops, op)
	}
	return ops
}

// lossy is late for a Redis that may lose what it acknowledged: an Update, too,
// may have found what was current up to bound before it began.
func (h *history) lossy(bound time.Duration) []porcupine.Operation { return loses(h.strict(), bound) }

// lossyFor is the same as one node may see it, which has a memory. Redis may not
// get the Async writes of the others, or lose them; that all else of theirs is
// seen late is in the bound of the reads.
func (h *history) lossyFor(node int, bound time.Duration) []porcupine.Operation {
	return loses(h.seenBy(node, 0, true), bound)
}

func loses(ops []porcupine.Operation, bound time.Duration) []porcupine.Operation {
	for i, op := range ops {
		o := op.Input.(step)
		if o.deed == found {
			ops[i].Call -= int64(bound)
		}
		if o.deed != updated {
			continue
		}
		if o.old != 0 {
			read := op
			read.Call -= int64(bound)
			read.Input = step{deed: found, node: o.node, v: o.old}
			ops = append(ops, read)
		}
		ops[i].Input = step{deed: cacheGets, node: o.node, v: o.v}
	}
	return ops
}

func legal(ops []porcupine.Operation) bool {
	return porcupine.CheckOperationsTimeout(cacheModel, ops, time.Minute) == porcupine.Ok
}

// firstIllegal is what makes the operations illegal: the first one without
// which, and without all that ended later, they would not be.
func firstIllegal(ops []porcupine.Operation) (culprit porcupine.Operation) {
	byEnd := slices.Clone(ops)
	slices.SortFunc(byEnd, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	at, _ := slices.BinarySearchFunc(byEnd, true, func(last porcupine.Operation, _ bool) int {
		var known []porcupine.Operation
		for _, op := range ops {
			switch d := op.Input.(step).deed; {
			case op.Call > last.Return:
			case op.Return <= last.Return:
				known = append(known, op)
			case d != found:
				op.Return = forever
				known = append(known, op)
			}
		}
		if legal(known) {
			return -1
		}
		return 0
	})
	return byEnd[min(at, len(byEnd)-1)]
}

// String lists the operations in the order they began.
func (h *history) String() string { return list(h.ops) }

func list(ops []porcupine.Operation) string {
	var b strings.Builder
	ops = slices.Clone(ops)
	slices.SortFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	for _, op := range ops {
		end := "?"
		if op.Return != forever {
			end = fmt.Sprint(op.Return / 1000)
		}
		fmt.Fprintf(&b, "%9d to %9s µs: %v\n", op.Call/1000, end, op.Input)
	}
	return b.String()
}

// The model itself: what it accepts and what it does not.
func TestTheModelTellsStaleFromFresh(t *testing.T) {
	const second = int64(time.Second)
	type op struct {
		step
		call, ret int64
	}
	load := func(v int, at int64) op { return op{step{deed: sourceRead, v: v}, at, at} }
	read := func(v int, from, to int64) op { return op{step{deed: found, v: v}, from, to} }
	set := func(node, v int, from, to int64) op { return op{step{deed: cacheGets, node: node, v: v}, from, to} }
	lose := func(node int, from, to int64) op { return op{step{deed: cacheLoses, node: node}, from, to} }
	async := func(node, v int, from, to int64) op {
		return op{step{deed: cacheGets, node: node, v: v, async: true}, from, to}
	}
	update := func(old, v int, from, to int64) op { return op{step{deed: updated, v: v, old: old}, from, to} }
	for _, tt := range []struct {
		name                string
		ops                 []op
		strict, late, alone bool // legal: as it was, with 1 s of staleness, as node 0 may see it
	}{
		{"what was set is read", []op{set(0, 1, 0, 1), read(1, 2, 3)}, true, true, true},
		{"what was loaded is read", []op{load(1, 1), read(1, 2, 3)}, true, true, true},
		{"what was never there", []op{read(1, 2, 3)}, false, false, false},
		{"what comes later", []op{read(1, 2, 3), load(1, 4)}, false, false, false},
		{"beside a write either is found", []op{load(1, 1), lose(1, 4, 20), load(2, 5), read(2, 7, 8), read(1, 9, 10)}, true, true, true},
		{"what was deleted is not found by who asks later", []op{load(1, 1), read(1, 2, 3), lose(1, 4, 5), read(1, 8, 9)}, false, true, true},
		{"but by who asked before", []op{load(1, 1), lose(1, 4, 5), read(1, 3, 9)}, true, true, true},
		{"not much later with a bound either", []op{load(1, 1), lose(1, 4, 5), read(1, 8+second, 9+second)}, false, false, false},
		{"a node reads its own writes, bound or not", []op{load(1, 1), lose(0, 4, 5), read(1, 8, 9)}, false, true, false},
		{"a late load is not stored over a set", []op{load(1, 2), set(0, 5, 4, 5), read(5, 6, 7), read(1, 11, 12)}, false, true, false},
		{"a write of unknown end may come late", []op{set(0, 1, 0, 1), set(1, 2, 2, forever), read(1, 10, 11), read(2, 12, 13)}, true, true, true},
		{"but not come and go", []op{set(0, 1, 0, 1), set(1, 2, 2, forever), read(2, 10, 11), read(1, 12, 13)}, false, true, false},
		{"an update of what was changed", []op{set(0, 1, 0, 1), update(1, 2, 2, 3), update(1, 3, 4, 5)}, false, false, false},
		{"an async write is read here at once", []op{set(0, 1, 0, 1), async(0, 2, 2, 3), read(1, 4, 5)}, false, true, false},
		{"it may overwrite what another wrote since", []op{async(0, 1, 0, 1), set(1, 2, 2, 3), read(2, 4, 5), read(1, 6, 7)}, false, true, true},
		{"not what its own node wrote since", []op{async(0, 1, 0, 1), set(0, 2, 2, 3), read(2, 4, 5), read(1, 6, 7)}, false, true, false},
		{"a miss may be updated", []op{set(0, 1, 0, 1), update(0, 3, 4, 5), read(3, 6, 7)}, true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var h history
			for _, o := range tt.ops {
				h.add(o.step, o.call, o.ret)
			}
			for name, check := range map[string]struct{ got, want bool }{
				"strict":         {legal(h.strict()), tt.strict},
				"late":           {legal(h.late(time.Second)), tt.late},
				"seen by node 0": {legal(h.seenBy(0, time.Second, false)), tt.alone},
			} {
				if check.got != check.want {
					t.Errorf("%s: legal is %v, want %v, of\n%s", name, check.got, check.want, h.String())
				}
			}
		})
	}
}
