package tiered

import (
	"context"
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// flights are the reads and loads under way in one stripe. The stripe's lock
// guards them.
type flights[K Key, V any] struct {
	reads, loads map[K]*flight[K, V]
	next, now    map[K]*flight[K, V] // refreshes: which may be joined, and which load
	marks        map[K][]*mark
}

func (f *flights[K, V]) of(loads bool) *map[K]*flight[K, V] {
	if loads {
		return &f.loads
	}
	return &f.reads
}

// flight is one read of Redis, or one load, and those who wait for it.
type flight[K Key, V any] struct {
	done    chan struct{}      // closed when it and err are set
	cancel  context.CancelFunc // nil if it has a group: see quit
	waiters int                // stripe's lock
	spoilt  uint64             // stripe's lock: if not 0 nobody joins, and what is older is not stored
	tagGen  uint64
	refs    atomic.Pointer[placement] // once taken
	lease   uint64                    // the token, while it is to be given back; flight's goroutine only
	stale   atomic.Pointer[record]    // what may be served instead, once confirmed
	began   time.Time
	unsure  bool        // set before done: see join
	shut    bool        // stripe's lock: nobody joins
	landed  bool        // stripe's lock
	doubted bool        // stripe's lock: somebody, perhaps this process, has changed the key in Redis
	filled  bool        // Redis has stored what it brings; flight's goroutine only
	early   bool        // it renews what is fresh still; flight's goroutine only
	onward  bool        // stripe's lock: goes on without waiters, until reaper
	urgent  bool        // stripe's lock: see hurry
	left    atomic.Bool // its group
	prior   *record     // what the load replaces; flight's goroutine only
	reaper  *time.Timer // stripe's lock
	group   *group      // of flights that a bulk call started together; else nil
	urge    func()      // stripe's lock
	it      *item[K, V]
	err     error
}

func (f *flight[K, V]) hasLanded() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// always spoils a flight whatever it brings.
const always = ^uint64(0)

// spoil makes the flights of a key useless for later callers: a version was
// written that they may not have seen.
func (f *flights[K, V]) spoil(key K, version uint64) {
	for _, m := range []map[K]*flight[K, V]{f.reads, f.loads} {
		if fl := m[key]; fl != nil {
			fl.spoilt = version
			delete(m, key)
		}
	}
	for _, m := range f.marks[key] {
		m.spoilt = true
	}
}

// joinable reports whether a caller of now may have the flight's result. It
// may not if a tag was invalidated since the flight began.
func (f *flight[K, V]) joinable(s *Store) bool {
	if f.spoilt != 0 || f.shut {
		return false
	}
	if f.tagGen == s.tagGen.Load() {
		return true
	}
	p := f.refs.Load()
	return p != nil && p.ns.valid() && allValid(p.tags)
}

// join waits for the key's flight, which it starts if there is none. Without a
// loader the flight only reads Redis.
//
// A flight that began before a write on another node may be joined after it,
// while the message is on its way. Redis tells: if it refuses to store what was
// loaded, only the one who started the flight takes the result, for he asked
// before; the others ask again. Without a memory tier they always do, and find
// it in Redis, or, if Redis could not be asked, in one more load. Whatever began
// after a call may be joined by it without a doubt, so that however many call,
// two loads are enough.
func (c *Cache[K, V]) join(ctx context.Context, h uint64, key K, o *entryConfig, suspect *record, load Loader[K, V]) (V, error) {
	var zero V
	asked := time.Now()
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return zero, err
		}
		f, joined, err := c.board(ctx, h, key, o, suspect, load, try < maxJoins)
		if err != nil {
			return zero, err
		}
		it, left, err := c.await(ctx, h, key, f, o, load != nil)
		switch {
		case err != nil:
			return zero, err
		case left:
			return c.open(it)
		case joined && f.unsure && !f.began.After(asked):
			suspect = nil
		case f.err != nil:
			return zero, f.err
		default:
			return c.open(f.it)
		}
	}
}

// await waits for a flight as long as ctx and the options let it. If it left
// before the end, then with a stale item or with an error.
func (c *Cache[K, V]) await(ctx context.Context, h uint64, key K, f *flight[K, V], o *entryConfig, loads bool) (it *item[K, V], left bool, err error) {
	var soft, hard <-chan time.Time
	if loads && o.softTimeout > 0 && o.failSafe > 0 {
		t := time.NewTimer(o.softTimeout - time.Since(f.began))
		defer t.Stop()
		soft = t.C
	}
	if loads && o.hardTimeout > 0 {
		t := time.NewTimer(o.hardTimeout)
		defer t.Stop()
		hard = t.C
	}
	for {
		late := false
		select {
		case <-f.done:
			return nil, false, nil
		case <-ctx.Done():
			c.leave(h, key, f, loads)
			return nil, true, ctx.Err()
		case <-soft:
			soft = nil
		case <-hard:
			late = true
		}
		r := f.stale.Load()
		if c.confirm(ctx, h, f, key, r, o) {
			c.served(key, r)
			c.depart(h, key, f, o)
			return c.itemOf(r), true, nil
		}
		if late {
			c.m.timeouts.Add(1)
			c.depart(h, key, f, o)
			return nil, true, ErrTimeout
		}
	}
}

// maxJoins bounds how often a caller joins in vain before it flies alone.
const maxJoins = 3

// board joins the key's flight or starts one.
func (c *Cache[K, V]) board(ctx context.Context, h uint64, key K, o *entryConfig, suspect *record, load Loader[K, V], share bool) (f *flight[K, V], joined bool, err error) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	m := c.flights[h%stripeCount].of(load != nil)
	if share {
		if f = (*m)[key]; f != nil && f.joinable(c.s) {
			f.waiters++
			f.hurry(ctx)
			c.m.coalesced.Add(1)
			return f, true, nil
		}
	}
	if f = (*m)[key]; f != nil {
		if !f.shut {
			f.spoilt = always
		}
		delete(*m, key)
	}
	if !c.s.begin() {
		return nil, false, ErrClosed
	}
	own := *o
	f = c.start(ctx, h, key, load != nil, func(ctx context.Context, f *flight[K, V]) (*item[K, V], error) {
		if load != nil {
			return c.load(ctx, h, f, key, &own, suspect, load)
		}
		it, _, err := c.read(ctx, h, f, key, &own, suspect)
		if it == nil && (err == nil || errors.Is(err, ErrUnavailable)) {
			err = ErrMiss
		}
		return it, err
	})
	f.waiters = 1
	if *m == nil {
		*m = make(map[K]*flight[K, V])
	}
	(*m)[key] = f
	return f, false, nil
}

// leave ends a flight if the last of those who wait for it leaves.
func (c *Cache[K, V]) leave(h uint64, key K, f *flight[K, V], loads bool) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	if f.waiters--; f.waiters > 0 || f.onward {
		return
	}
	c.abandon(h, key, f, loads)
}

// abandon ends a flight that is of no use to anybody. It needs the stripe's lock.
func (c *Cache[K, V]) abandon(h uint64, key K, f *flight[K, V], loads bool) {
	// Nobody wants it any more, and from here on nobody could tell it of a
	// write: it must not store anything either.
	f.spoilt = always
	if m := *c.flights[h%stripeCount].of(loads); m[key] == f {
		delete(m, key)
	}
	f.quit()
}

// quit ends the work on a flight, or this flight's part in its group's.
func (f *flight[K, V]) quit() {
	if f.group == nil {
		f.cancel()
	} else if !f.left.Swap(true) {
		f.group.leave()
	}
}

// start begins a flight in a goroutine of its own, so that nobody's leaving
// ends it for the others. The caller has the stripe's lock, and puts the flight
// into its map.
func (c *Cache[K, V]) start(ctx context.Context, h uint64, key K, loads bool, run func(context.Context, *flight[K, V]) (*item[K, V], error)) *flight[K, V] {
	fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := c.s.onEnd(cancel)
	f := c.newFlight(cancel)
	go func() {
		growStack(0)
		defer c.s.loads.Done()
		defer cancel()
		defer unhook()
		defer c.land(h, key, f, loads)
		defer func() {
			// Not used: others need not wait for it to run out, and whoever
			// waits for this load may begin the next as soon as it has landed.
			if f.lease != 0 {
				c.s.l2.release(context.WithoutCancel(fctx), c.name, keyString(key), f.lease)
			}
		}()
		f.it, f.err = run(fctx, f)
	}()
	return f
}

// growStack has a new goroutine's stack grow at once to what a round trip needs,
// rather than be copied three times on the way there.
//
//go:noinline
func growStack(at uint8) byte {
	var room [10 << 10]byte
	return room[at]
}

func (c *Cache[K, V]) newFlight(cancel context.CancelFunc) *flight[K, V] {
	return &flight[K, V]{done: make(chan struct{}), cancel: cancel, tagGen: c.s.tagGen.Load(), began: time.Now()}
}

// land ends a flight. It is deferred, so that a loader's panic or Goexit, or a
// codec's, ends here and reaches those who wait as an error.
func (c *Cache[K, V]) land(h uint64, key K, f *flight[K, V], loads bool) {
	if f.it == nil && f.err == nil {
		f.err = &PanicError{Value: recover(), Stack: debug.Stack()}
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	c.unlist(h, key, f, loads)
	st.mu.Unlock()
	close(f.done)
}

// unlist takes a flight that has its result off the list. It needs the
// stripe's lock.
func (c *Cache[K, V]) unlist(h uint64, key K, f *flight[K, V], loads bool) {
	if m := *c.flights[h%stripeCount].of(loads); m[key] == f {
		delete(m, key)
	}
	f.landed = true
	if f.reaper != nil {
		f.reaper.Stop()
	}
}

// keep puts a flight's result into memory unless something newer was written
// since the flight began. A spoilt flight is told of no further writes, so
// what it brings must be as new as anything that the stripe has heard of, by
// the clock that made those versions: Redis's.
func (c *Cache[K, V]) keep(h uint64, f *flight[K, V], r *record, o *entryConfig) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	c.keepLocked(h, f, r, o)
}

func (c *Cache[K, V]) keepLocked(h uint64, f *flight[K, V], r *record, o *entryConfig) {
	st := c.s.stripes.of(h)
	switch {
	case f.spoilt != 0 && (!r.inL2() || r.version < max(f.spoilt, st.newest)):
		c.m.fenced.Add(1)
	case c.s.l1 != nil && !o.skipL1:
		if c.s.tracker != nil && !f.filled && (f.doubted || f.spoilt != 0) {
			r.epoch.Store(0) // what is spoilt is not told any more
		}
		c.s.l1.put(h, r)
		if f.filled {
			c.verify(h, r) // the report of the fill is there already, or is to come
		}
	}
}
