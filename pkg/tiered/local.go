package tiered

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// local is the memory tier. Ristretto decides what is kept; what is kept are
// cells, and a cell's record can change at once, which ristretto's own Set and
// Del cannot:
//
//   - its Set is queued, so a new cell is also in pending until it has been
//     taken, and one that was dropped from a full queue is offered again;
//   - a second Set of a queued key would be rejected with the old value kept,
//     so an update goes into the cell that is there;
//   - a deleted value can rise again from the queue, so a delete empties the
//     cell before anything else;
//   - Get, Set and Wait beside Close race and panic, so both are gated here.
//
// Writes to one key are serialised by a stripe's lock, which also guards the
// flights of that key (see Cache). Reads take none of these locks.
type local struct {
	rc      *ristretto.Cache[uint64, *cell]
	max     int64
	now     func() int64
	stripes *stripes

	life   sync.RWMutex // held shared around a write, exclusively to swap pending and to close
	closed atomic.Bool

	gen      atomic.Uint64
	cur, old atomic.Pointer[pending]
	kick     chan struct{} // cap 1: there is something pending
	expiry   wheel
	passes   atomic.Int64 // over all cells, under way; see census.go
	done     chan struct{}
	stop     chan struct{}
}

const (
	stripeCount = 256
	gateCount   = 32
	// flushDelay lets writes gather, so that a flush serves many.
	flushDelay = 2 * time.Millisecond
	// cellCost is what a cell, its record and their places in the maps take
	// beside the value.
	cellCost = 320
)

type stripes [stripeCount]stripe

func (s *stripes) of(hash uint64) *stripe { return &s[hash%stripeCount] }

// stripe serialises the writers of the keys that hash to it.
type stripe struct {
	mu     sync.Mutex
	floor  uint64 // newest version that was deleted, or written by others
	newest uint64 // newest version that was written by anybody
	_      [40]byte
}

// heard notes a version that this process did not set itself. It needs mu.
func (st *stripe) heard(version uint64) {
	st.floor = max(st.floor, version)
	st.newest = max(st.newest, version)
}

// gates count the readers of one cache.
type gates [gateCount]gate

func (g *gates) enter(hash uint64) *gate {
	one := &g[hash%gateCount]
	one.in.Add(1)
	return one
}

func (g *gates) empty() bool {
	for i := range g {
		left := g[i].hits.Load() + g[i].misses.Load() // first: it only grows towards in
		if g[i].in.Load() != left {
			return false
		}
	}
	return true
}

func (g *gates) counts() (hits, misses uint64) {
	for i := range g {
		hits += g[i].hits.Load()
		misses += g[i].misses.Load()
	}
	return hits, misses
}

// gate counts readers in and out, apart from each other, so that Close can
// await the last one without readers taking a lock. The counts of those who
// left are also the statistics.
type gate struct {
	in, hits, misses atomic.Uint64
	_                [40]byte
}

// cell is the place of one key. Its record is nil when there is no value.
type cell struct {
	rec atomic.Pointer[record]
	due int64 // the wheel's slot; guarded by the wheel
}

// record is a value in memory with all that decides whether it may be served.
// It does not change, but for the epoch in which it was last found current.
type record struct {
	item    any // *item[K, V] of the cache it belongs to
	version uint64
	expires int64        // nanos of the store's clock
	refresh atomic.Int64 // nanos from which a hit may renew it: at or before expires
	soft    int64        // nanos at which its TTL ends: at or after expires
	hard    int64        // nanos until which it may be served stale: at or after soft
	cost    int64        // of the cell too
	retry   atomic.Int64 // nanos until which nobody loads, for the last one failed
	epoch   atomic.Uint64
	inL2    bool // Redis had this version, so that it can be asked about it
	ns      tagRef
	tags    []tagRef
}

func newLocal(maxBytes int64, locks *stripes, now func() int64, evicted func(*record)) (*local, error) {
	l := &local{
		max:     maxBytes,
		now:     now,
		stripes: locks,
		kick:    make(chan struct{}, 1),
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	l.cur.Store(newPending())
	l.old.Store(newPending())
	l.expiry.slots = make(map[int64]map[uint64]*cell)
	gone := func(i *ristretto.Item[*cell]) {
		// While closing, ristretto calls this with the lock that holds takes.
		if i.Value != nil && !l.closed.Load() && !l.holds(i.Key, i.Value) {
			l.expiry.remove(i.Key, i.Value)
		}
	}
	rc, err := ristretto.NewCache(&ristretto.Config[uint64, *cell]{
		// Ten counters for each entry that fits if entries are of 1 KiB.
		NumCounters:        min(max(maxBytes/100, 1<<12), 1<<24),
		MaxCost:            maxBytes,
		BufferItems:        64,
		IgnoreInternalCost: true, // cellCost is closer
		KeyToHash:          func(k uint64) (uint64, uint64) { return k, 0 },
		OnEvict: func(i *ristretto.Item[*cell]) {
			if i.Value != nil {
				evicted(i.Value.rec.Load())
			}
			gone(i)
		},
		OnReject: gone,
	})
	if err != nil {
		return nil, fmt.Errorf("make memory tier of %d bytes: %w", maxBytes, err)
	}
	l.rc = rc
	go l.run()
	return l, nil
}

// holds is called by ristretto, so it must not lock anything that is held
// while ristretto is waited for.
func (l *local) holds(hash uint64, c *cell) bool {
	have, ok := l.rc.Get(hash)
	return ok && have == c
}

// get returns the record of hash, or nil. The caller has entered its gate, and
// checks that the record may be served.
func (l *local) get(hash uint64) *record {
	if l.closed.Load() {
		return nil
	}
	if c := l.find(hash); c != nil {
		return c.rec.Load()
	}
	return nil
}

// find looks in ristretto and then in pending. A cell that moves from pending
// to ristretto in between is found in the second round: the generation has
// changed by then.
func (l *local) find(hash uint64) *cell {
	for {
		gen := l.gen.Load()
		if c, ok := l.rc.Get(hash); ok {
			return c
		}
		if c := l.cur.Load().get(hash); c != nil {
			return c
		}
		if c := l.old.Load().get(hash); c != nil {
			return c
		}
		if l.gen.Load() == gen {
			return nil
		}
	}
}

// put makes r the record of hash, unless a newer version is there. It needs
// the stripe's lock.
func (l *local) put(hash uint64, r *record) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed.Load() {
		return
	}
	c := l.find(hash)
	if r.cost > l.max {
		// Ristretto would keep an update beyond its bound.
		if c != nil {
			c.rec.Store(nil)
		}
		return
	}
	if c == nil {
		c = &cell{}
	} else if have := c.rec.Load(); have != nil && have.version > r.version && have.ns.cell == r.ns.cell {
		return
	}
	c.rec.Store(r)
	l.expiry.schedule(hash, c, max(r.expires, r.hard))
	// Also an update is pending: an eviction may have taken the cell out since
	// it was found.
	first := l.cur.Load().put(hash, c)
	l.rc.Set(hash, c, r.cost)
	if first {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// drop empties the cell of hash if its record is older than version. It needs
// the stripe's lock.
func (l *local) drop(hash, version uint64) {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed.Load() {
		return
	}
	c := l.find(hash)
	if c == nil {
		return
	}
	r := c.rec.Load()
	if r == nil || r.inL2 && r.version >= version {
		return // a version made here is not compared: the clocks differ
	}
	c.rec.Store(nil)
	// The empty cell stays until ristretto needs the room or its slot in the
	// wheel comes up. Deleting it through ristretto's queue could only race
	// with the next Set of the key.
}

// run flushes pending while there is something in it, and sweeps what expired.
func (l *local) run() {
	defer close(l.done)
	sweep := time.NewTicker(wheelStep)
	defer sweep.Stop()
	delay := time.NewTimer(flushDelay)
	defer delay.Stop()
	for {
		select {
		case <-l.kick:
			delay.Reset(flushDelay)
		case <-delay.C:
			l.flush()
		case <-sweep.C:
			l.sweep()
		case <-l.stop:
			return
		}
	}
}

// flush waits until ristretto has taken or rejected everything that was
// pending when it began.
func (l *local) flush() {
	l.life.Lock() // no writer is between pending and Set now
	batch := l.cur.Load()
	l.old.Store(batch)
	l.cur.Store(newPending())
	l.life.Unlock()

	l.rc.Wait()
	// What was dropped from the full queue is in neither place: offer it again.
	queued := 0
	for hash, c := range batch.all() {
		r := c.rec.Load()
		if r == nil || l.holds(hash, c) {
			continue
		}
		s := l.stripes.of(hash)
		s.mu.Lock()
		if have, ok := l.rc.Get(hash); !ok || have == c {
			l.rc.Set(hash, c, r.cost)
		}
		s.mu.Unlock()
		if queued++; queued%1024 == 0 {
			l.rc.Wait()
		}
	}
	if queued > 0 {
		l.rc.Wait()
	}
	l.gen.Add(1)
	l.old.Store(newPending())
	if l.cur.Load().count.Load() > 0 {
		select {
		case l.kick <- struct{}{}:
		default:
		}
	}
}

// sweep takes cells out whose records have expired, to give their memory back.
// Nothing depends on it: readers check the expiry themselves.
func (l *local) sweep() {
	now := l.now()
	for hash, c := range l.expiry.take(now) {
		s := l.stripes.of(hash)
		s.mu.Lock()
		if r := c.rec.Load(); r != nil && max(r.expires, r.hard) > now {
			l.expiry.schedule(hash, c, max(r.expires, r.hard))
		} else {
			c.rec.Store(nil)
			// A Set of this cell that is still queued comes before the Del.
			if have, ok := l.rc.Get(hash); !ok || have == c {
				l.rc.Del(hash)
			}
		}
		s.mu.Unlock()
	}
}

// close awaits writers, and readers as told by drained, and ends ristretto.
func (l *local) close(drained func() bool) {
	l.life.Lock()
	already := l.closed.Swap(true)
	l.life.Unlock()
	if already {
		return
	}
	close(l.stop)
	<-l.done
	for !drained() || l.passes.Load() > 0 {
		runtime.Gosched() // a reader is between two instructions
	}
	l.rc.Close()
}

func (l *local) bytes() int64 {
	l.life.RLock()
	defer l.life.RUnlock()
	if l.closed.Load() {
		return 0
	}
	return l.max - l.rc.RemainingCost()
}

// pending holds cells that ristretto may not have taken yet.
type pending struct {
	count  atomic.Int64
	shards [16]struct {
		mu sync.RWMutex
		m  map[uint64]*cell
	}
}

func newPending() *pending { return &pending{} }

func (p *pending) get(hash uint64) *cell {
	if p.count.Load() == 0 {
		return nil
	}
	s := &p.shards[hash>>60]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.m[hash]
}

// put reports whether the cell is the first.
func (p *pending) put(hash uint64, c *cell) (first bool) {
	s := &p.shards[hash>>60]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m == nil {
		s.m = make(map[uint64]*cell)
	}
	if _, ok := s.m[hash]; !ok {
		first = p.count.Add(1) == 1
	}
	s.m[hash] = c
	return first
}

// all yields the cells of a map that nobody writes any more.
func (p *pending) all() func(yield func(uint64, *cell) bool) {
	return func(yield func(uint64, *cell) bool) {
		for i := range p.shards {
			for hash, c := range p.shards[i].m {
				if !yield(hash, c) {
					return
				}
			}
		}
	}
}

// wheel knows which cells to look at when. Each cell is in one slot at most:
// that of the expiry it had when it was put there, and moves on when the slot
// comes up and the cell has been written since.
type wheel struct {
	mu    sync.Mutex
	slots map[int64]map[uint64]*cell
}

const wheelStep = 5 * time.Second

func (w *wheel) schedule(hash uint64, c *cell, expires int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	due := expires/int64(wheelStep) + 1
	if c.due != 0 && c.due <= due {
		return
	}
	w.unlink(hash, c)
	if w.slots[due] == nil {
		w.slots[due] = make(map[uint64]*cell)
	}
	w.slots[due][hash], c.due = c, due
}

func (w *wheel) remove(hash uint64, c *cell) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unlink(hash, c)
}

// unlink needs mu.
func (w *wheel) unlink(hash uint64, c *cell) {
	if s := w.slots[c.due]; s[hash] == c {
		delete(s, hash)
		if len(s) == 0 {
			delete(w.slots, c.due)
		}
	}
	c.due = 0
}

// take removes and returns the cells of all slots that have passed.
func (w *wheel) take(now int64) map[uint64]*cell {
	w.mu.Lock()
	defer w.mu.Unlock()
	upTo := now / int64(wheelStep)
	var due map[uint64]*cell
	for slot, cells := range w.slots {
		if slot > upTo {
			continue
		}
		delete(w.slots, slot)
		for hash, c := range cells {
			c.due = 0
			if due == nil {
				due = make(map[uint64]*cell, len(cells))
			}
			due[hash] = c
		}
	}
	return due
}
