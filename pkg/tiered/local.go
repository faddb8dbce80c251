package tiered

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"
)

// local is the memory tier. Ristretto decides what is kept, by its admission
// and eviction policies; the values are in an index of our own, because
// ristretto's Set and Del take effect late, in another order, or never:
//
//   - its Set is queued, so what was set is in the index at once, and pending
//     until ristretto has been seen to hold it. What it refused is offered once
//     more, for a full queue drops without a word, and then removed;
//   - a second Set of a queued key is rejected with the old value kept, and a
//     deleted value can rise again from the queue: neither matters to an index;
//   - Get, Set and Wait beside Close race and panic, so they are gated here.
//
// Ristretto's Get counts an access, and costs more than the rest of a hit: a
// pool, a lock, a map, and a queue to the policy. The policy's counters end at
// 15, so the accesses of a record that has been counted that often since they
// were last halved are sampled (see touch), and while there is room to spare
// all are.
//
// Writes to one key are serialised by a stripe's lock, which also guards the
// flights of that key (see Cache). Reads take no lock.
type local struct {
	rc       *ristretto.Cache[uint64, struct{}]
	max      int64
	now      func() int64
	index    index
	counters uint64 // accesses after which ristretto halves what it has counted

	tight    atomic.Bool   // there is not much room left
	window   atomic.Uint32 // see touch
	recorded atomic.Uint64 // accesses, in steps
	gates    [gateCount]gate

	closed atomic.Bool
	ending sync.Once
	kick   chan struct{} // cap 1: there is something pending
	swept  int           // the shard to sweep next; run's
	gone   func(*record) // told what ristretto took out; it must not block
	done   chan struct{}
	stop   chan struct{}
}

const (
	stripeCount = 256
	gateCount   = 32
	// flushDelay lets writes gather, so that a flush serves many.
	flushDelay = 2 * time.Millisecond
	// sweepStep apart, a sixth of the shards are looked at for what has expired.
	sweepStep = 5 * time.Second
	// recordCost is what a record and its places in the index and in ristretto's
	// two maps take beside the value: bench's memory table says 282 bytes of heap
	// for an entry of 100,000, of which 24 are a []byte itself. The maps may be
	// up to twice as full or as empty.
	recordCost = 260
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

// gate counts those in and out who use ristretto's Get, apart from each other,
// so that Close can await the last one without anybody taking a lock.
type gate struct {
	in, out atomic.Uint64
	_       [48]byte
}

// record says whether a value in memory may be served; the value is behind it:
// see holding. It does not change, but for the epoch in which it was last found
// current. What a hit reads comes last, next to the value. With an int and a
// []byte it fills a size class of the allocator, and with two ints the one below.
type record struct {
	soft    int64 // nanos at which its TTL ends: at or after expires
	expires int64 // nanos of the store's clock
	version uint64
	ns      tagRef
	refresh atomic.Int64           // nanos from which a hit may renew it: at or before expires
	epoch   atomic.Uint64          // of the store, when it was last found current
	extras  atomic.Pointer[extras] // nil if it has none
	packed  atomic.Uint64          // see pack
}

// extras are what few records have.
type extras struct {
	tags  []tagRef     // but the namespace's
	hard  int64        // nanos until which it may be served stale: at or after soft
	retry atomic.Int64 // nanos until which nobody loads, for the last one failed
}

// A record's cost, whether Redis had this version, so that it can be asked about
// it, but perhaps with what another has loaded at the same time (alone), and its
// heat (see touch) are in one word. Only heat changes once others see the record.
const (
	heatBits  = 20
	heatMask  = 1<<heatBits - 1
	inL2Bit   = 1 << heatBits
	aloneBit  = inL2Bit << 1
	costShift = heatBits + 2
	costMax   = 1<<(64-costShift) - 1 // 4 TiB: what costs more is taken for this
)

// pack sets the cost, with recordCost, of a new record that has no heat.
func (r *record) pack(cost int64, inL2 bool) {
	word := uint64(min(max(cost, 0), costMax)) << costShift
	if inL2 {
		word |= inL2Bit
	}
	r.packed.Store(word)
}

func (r *record) cost() int64  { return int64(r.packed.Load() >> costShift) } // it is of 42 bits
func (r *record) inL2() bool   { return r.packed.Load()&inL2Bit != 0 }
func (r *record) alone() bool  { return r.packed.Load()&aloneBit != 0 }
func (r *record) heat() uint32 { return uint32(r.packed.Load() & heatMask) }

// setAlone is of a record that nobody has seen.
func (r *record) setAlone(alone bool) {
	word := r.packed.Load() &^ aloneBit
	if alone {
		word |= aloneBit
	}
	r.packed.Store(word)
}

func (r *record) setHeat(heat uint32) {
	r.packed.Store(r.packed.Load()&^heatMask | uint64(heat)&heatMask)
}

func (r *record) tags() []tagRef {
	if more := r.extras.Load(); more != nil {
		return more.tags
	}
	return nil
}

// hard is until when it may be served stale, in nanos: at or after soft.
func (r *record) hard() int64 {
	if more := r.extras.Load(); more != nil {
		return more.hard
	}
	return r.soft
}

// ends is when a record is of no use any more.
func (r *record) ends() int64 { return max(r.expires, r.hard()) }

func newLocal(maxBytes int64, now func() int64, evicted func(*record)) (*local, error) {
	l := &local{
		max:  maxBytes,
		now:  now,
		gone: evicted,
		// Seven for each entry that fits if entries are of 1 KiB. Ten, as ristretto
		// advises, remember too long what is popular no more: see bench/NOTES.md.
		counters: uint64(min(max(maxBytes/150, 1<<12), 1<<24)),
		kick:     make(chan struct{}, 1),
		stop:     make(chan struct{}),
		done:     make(chan struct{}),
	}
	rc, err := ristretto.NewCache(&ristretto.Config[uint64, struct{}]{
		NumCounters:        int64(l.counters),
		MaxCost:            maxBytes,
		BufferItems:        64,
		IgnoreInternalCost: true, // recordCost is closer
		KeyToHash:          func(k uint64) (uint64, uint64) { return k, 0 },
		OnEvict:            func(i *ristretto.Item[struct{}]) { l.evict(i.Key) },
	})
	if err != nil {
		return nil, fmt.Errorf("make memory tier of %d bytes: %w", maxBytes, err)
	}
	l.rc = rc
	go l.run()
	return l, nil
}

// evict is called by ristretto, so it must not take a lock that is held while
// ristretto is waited for. What was written meanwhile is settled by the flush.
func (l *local) evict(hash uint64) {
	// While closing, ristretto calls this with the lock that holds takes.
	if l.closed.Load() {
		return
	}
	s := l.index.of(hash)
	var r *record
	s.mu.Lock()
	if !s.pending(hash) {
		r = s.get(hash)
		s.remove(hash)
	}
	s.mu.Unlock()
	if r != nil {
		l.gone(r)
	}
}

// holds reports whether ristretto has taken the hash, without counting it as
// an access.
func (l *local) holds(hash uint64) bool {
	_, ok := l.rc.GetTTL(hash)
	return ok
}

// get returns the record of hash, or nil. The caller checks that it may be
// served.
func (l *local) get(hash uint64) *record { return l.index.get(hash) }

const (
	heatStep = 32 // of a window
	heatFull = 16 // accesses after which ristretto's counter cannot rise: it has four bits, and a bloom filter before
	// sampleBits: one in 2^sampleBits of the accesses beyond is counted.
	sampleBits = 4
)

// touch tells ristretto of a hit; nth is any number that differs between hits.
// Its counters have four bits and are halved now and then: what was counted
// heatFull times since cannot rise, and is sampled.
//
// Nobody is evicted before the room is taken, and until there is only a quarter
// left what is popular is learnt well enough from samples.
func (l *local) touch(hash uint64, r *record, nth uint64) {
	sampled := (nth^hash)*0x9E3779B97F4A7C15>>(64-sampleBits) == 0
	if !sampled {
		if !l.tight.Load() {
			return
		}
		window := l.window.Load()
		switch ahead := (r.heat() - window) & heatMask; {
		case ahead > heatFull: // it is of an earlier window
			r.setHeat(window + 1)
		case ahead < heatFull:
			r.setHeat(window + ahead + 1) // one that is lost is counted later
		default:
			return
		}
	}
	l.count(hash)
}

// count tells ristretto of an access. It is where a miss counts, too: what is
// asked for often is admitted.
func (l *local) count(hash uint64) {
	g := &l.gates[hash%gateCount]
	n := g.in.Add(1)
	if !l.closed.Load() {
		l.rc.Get(hash)
	}
	g.out.Add(1)
	const step = 64
	if n%step == 0 && l.recorded.Add(step)%l.counters < step {
		l.window.Add(heatStep) // about when ristretto halves
	}
}

// put makes r the record of hash, unless a newer version is there. It needs
// the stripe's lock.
func (l *local) put(hash uint64, r *record) {
	if r.cost() > l.max {
		// Ristretto would keep an update beyond its bound.
		l.removeNow(hash)
		return
	}
	s := l.index.of(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	have := s.get(hash)
	if have != nil {
		if have.version > r.version && have.ns.cell == r.ns.cell {
			return
		}
		r.setHeat(have.heat())
	}
	s.set(hash, r)
	s.earliest = min(s.earliest, r.ends())
	if have != nil && have.cost() == r.cost() && !s.pending(hash) {
		return // ristretto has it. If it is giving it up just now, this goes as well
	}
	if s.mark(hash) {
		l.wake()
	}
	l.rc.Set(hash, struct{}{}, r.cost()) // under the lock: what a flush takes has been offered
}

// drop removes the record of hash if it is older than version. It needs the
// stripe's lock.
func (l *local) drop(hash, version uint64) {
	r := l.index.get(hash)
	if r == nil || r.inL2() && r.version >= version {
		return // a version made here is not compared: the clocks differ
	}
	l.removeNow(hash)
}

// removeNow removes the record of hash. The flush then tells ristretto: its Del
// may block, and its order with the next Set is not ours to know. It needs the
// stripe's lock.
func (l *local) removeNow(hash uint64) {
	s := l.index.of(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.remove(hash)
	if s.mark(hash) {
		l.wake()
	}
}

func (l *local) wake() {
	select {
	case l.kick <- struct{}{}:
	default:
	}
}

// run flushes while there is something pending, and sweeps what expired.
func (l *local) run() {
	defer close(l.done)
	sweep := time.NewTicker(sweepStep)
	defer sweep.Stop()
	delay := time.NewTimer(flushDelay)
	defer delay.Stop()
	armed := true
	for {
		select {
		case <-l.kick:
			if !armed {
				delay.Reset(flushDelay)
				armed = true
			}
		case <-delay.C:
			armed = false
			l.flush()
		case <-sweep.C:
			l.sweep()
		case <-l.stop:
			return
		}
	}
}

// flush makes index and ristretto agree on what was pending when it began.
func (l *local) flush() {
	for i := range l.index.shards {
		s := &l.index.shards[i]
		s.mu.Lock()
		s.flushing, s.fresh = s.fresh, nil
		s.mu.Unlock()
	}
	l.rc.Wait()
	l.tight.Store(l.rc.RemainingCost() < l.max/4)
	offered := 0
	for i := range l.index.shards {
		for hash, r := range l.unsettled(&l.index.shards[i]) {
			if r == nil {
				l.rc.Del(hash)
				continue
			}
			// Dropped from the full queue, or refused, or evicted meanwhile.
			l.offer(hash)
			if offered++; offered%1024 == 0 {
				l.rc.Wait()
			}
		}
	}
	if offered == 0 {
		return
	}
	l.rc.Wait()
	for i := range l.index.shards {
		s := &l.index.shards[i]
		for hash := range l.unsettled(s) {
			var r *record
			s.mu.Lock()
			if _, again := s.fresh[hash]; !again && !l.holds(hash) {
				r = s.get(hash)
				s.remove(hash)
			}
			delete(s.flushing, hash)
			s.mu.Unlock()
			if r != nil {
				l.gone(r)
			}
		}
	}
}

// offer gives ristretto what the index has by now.
func (l *local) offer(hash uint64) {
	s := l.index.of(hash)
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.get(hash); r != nil {
		l.rc.Set(hash, struct{}{}, r.cost())
	}
}

// unsettled returns what is in flush and either in the index or in ristretto
// but not in both, with its record, and settles the rest.
func (l *local) unsettled(s *shard) map[uint64]*record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var left map[uint64]*record
	for hash := range s.flushing {
		r, held := s.get(hash), l.holds(hash)
		// From here on an eviction finds it settled and removes it.
		if (r != nil) == held || r == nil {
			delete(s.flushing, hash)
		}
		if (r != nil) == held {
			continue
		}
		if left == nil {
			left = make(map[uint64]*record)
		}
		left[hash] = r
	}
	return left
}

// sweep takes records out that have expired or were invalidated by a tag, to
// give their memory back. Nothing depends on it: readers check for themselves.
func (l *local) sweep() {
	now := l.now()
	for range (shardCount + 5) / 6 {
		s := &l.index.shards[l.swept%shardCount]
		l.swept++
		s.mu.Lock()
		if s.earliest <= now {
			s.earliest = 1<<63 - 1
			for hash, r := range s.table.Load().all() {
				if r.ends() <= now || !r.ns.valid() || !allValid(r.tags()) {
					s.remove(hash)
					s.mark(hash)
				} else {
					s.earliest = min(s.earliest, r.ends())
				}
			}
		}
		due := len(s.fresh) > 0
		s.mu.Unlock()
		if due {
			l.wake()
		}
	}
}

// close awaits those who use ristretto, and ends it.
func (l *local) close() { l.ending.Do(l.end) }

func (l *local) end() {
	l.closed.Store(true)
	for i := range l.index.shards { // nobody is between the index and Set after this
		s := &l.index.shards[i]
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
	}
	close(l.stop)
	<-l.done
	for i := range l.gates {
		g := &l.gates[i]
		for {
			out := g.out.Load() // first: it only grows towards in
			if g.in.Load() == out {
				break
			}
			runtime.Gosched() // somebody is between two instructions
		}
	}
	l.rc.Close()
	for i := range l.index.shards {
		s := &l.index.shards[i]
		s.mu.Lock()
		s.table.Store(nil)
		s.mu.Unlock()
	}
}

func (l *local) bytes() int64 {
	g := &l.gates[0]
	g.in.Add(1)
	defer g.out.Add(1)
	if l.closed.Load() {
		return 0
	}
	return l.max - l.rc.RemainingCost()
}
