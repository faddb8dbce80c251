package tiered

import (
	"context"
	"errors"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// Hooks are called when something has happened that a program may want to know
// of. Any may be nil. There is none for a hit in memory, which costs nothing
// but a count; see [Cache.Stats] for those.
//
// They are called one after another by one goroutine of the store, in the
// order in which things happened, and after them: no caller of the cache ever
// waits for a hook. At most 1,024 events wait; what comes while they do is
// dropped and counted (Stats.HooksDropped), so a hook that blocks loses events
// and nothing else. A panic is logged and counted (Stats.HookPanics). A hook
// may call the cache, but not [Store.Close], which waits for it.
//
// Close delivers what waits before it returns, for as long as its context lets
// it; then the rest is dropped, and a hook that is running is left to itself.
type Hooks struct {
	OnLoad       func(LoadEvent)       // a loader has returned a value or ErrNotFound
	OnLoadError  func(LoadEvent)       // a loader has failed or panicked
	OnStale      func(StaleEvent)      // FailSafe serves what is past its TTL
	OnEvict      func(EvictEvent)      // memory gave an entry up for others
	OnInvalidate func(InvalidateEvent) // a key, tag, prefix or namespace was invalidated, here or elsewhere
	OnCorrupt    func(CorruptEvent)    // an entry in Redis is of no use
	OnBreaker    func(BreakerEvent)    // the breaker changed its state
	OnGap        func(GapEvent)        // invalidations of other processes may be missed, or arrive again
	OnRecovered  func(RecoveredEvent)  // Redis was told what it had missed
}

// LoadEvent is the end of a loader's call.
type LoadEvent struct {
	Namespace string
	Key       string        // its text, as in Redis
	Duration  time.Duration // of the loader alone
	Err       error         // nil, ErrNotFound, or what the loader failed with
}

// StaleEvent is a value that is served past its TTL.
type StaleEvent struct {
	Namespace string
	Key       string
	Version   uint64        // µs, a hybrid logical clock
	Over      time.Duration // since the TTL ended
}

// EvictEvent is an entry that memory has given up before its time. Redis may
// have it still.
type EvictEvent struct {
	Namespace string
	Key       string
	Version   uint64
	Bytes     int64 // as counted against WithL1
}

// InvalidateEvent says what was invalidated: a Key or a Prefix of a Namespace,
// a whole Namespace if both are empty, or else a Tag.
type InvalidateEvent struct {
	Namespace string
	Key       string
	Prefix    string
	Tag       string
	Version   uint64 // what is older is gone; 0 if the version is not known here
	Remote    bool   // another process did it
}

// CorruptEvent is an entry in Redis that is taken for a miss.
type CorruptEvent struct {
	Namespace string
	Key       string
	Version   uint64 // as far as it can be read
	Reason    CorruptReason
}

// BreakerEvent is a change of the breaker: "closed", "half-open" or "open".
type BreakerEvent struct{ From, To string }

// GapEvent begins when invalidations of other processes may be missed, and
// ends when they arrive again.
type GapEvent struct {
	Open     bool
	Duration time.Duration // of the gap, when it ends; from the opening of the store for the first
}

// RecoveredEvent is the end of a replay of writes that Redis had missed.
type RecoveredEvent struct {
	Told     int // writes that it knows now
	Left     int // writes that it does not know yet
	Duration time.Duration
}

// WithHooks sets functions to be called when something has happened.
func WithHooks(h Hooks) Option { return func(o *config) { o.hooks = h } }

// hookQueue is how many events may wait for slow hooks.
const hookQueue = 1024

// courier calls the hooks. Its zero value, and nil, have nobody to tell.
type courier struct {
	Hooks
	log     *slog.Logger
	queue   chan func()
	dropped atomic.Uint64
	panics  atomic.Uint64
	mu      sync.RWMutex // guards closed, and that nobody sends to a queue that is
	closed  bool
	give    atomic.Bool // what waits is dropped
	done    chan struct{}
}

func newCourier(h Hooks, log *slog.Logger) *courier {
	c := &courier{Hooks: h, log: log}
	none := h.OnLoad == nil && h.OnLoadError == nil && h.OnStale == nil && h.OnEvict == nil && h.OnInvalidate == nil &&
		h.OnCorrupt == nil && h.OnBreaker == nil && h.OnGap == nil && h.OnRecovered == nil
	if none {
		return c
	}
	c.queue, c.done = make(chan func(), hookQueue), make(chan struct{})
	go func() {
		defer close(c.done)
		for call := range c.queue {
			if c.give.Load() {
				c.dropped.Add(1)
				continue
			}
			c.call(call)
		}
	}()
	return c
}

// tell queues an event for its hook. It neither blocks nor calls anybody, so
// that it may be used under any lock.
func tell[E any](c *courier, hook func(E), event E) {
	if hook == nil {
		return
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		c.dropped.Add(1)
		return
	}
	select {
	case c.queue <- func() { hook(event) }:
	default:
		c.dropped.Add(1)
	}
}

func (c *courier) call(f func()) {
	ended := false
	defer func() {
		if p := recover(); p != nil || !ended {
			c.panics.Add(1)
			c.log.Error("cache hook panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	f()
	ended = true
}

// close delivers what waits, until ctx ends.
func (c *courier) close(ctx context.Context) {
	if c.queue == nil {
		return
	}
	c.mu.Lock()
	c.closed = true
	close(c.queue)
	c.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
		c.give.Store(true)
	}
}

// breakerChanged is called under gobreaker's lock.
func (s *Store) breakerChanged(from, to gobreaker.State) {
	if to == gobreaker.StateOpen {
		s.metrics.opened.Add(1)
	}
	tell(s.hooks, s.hooks.OnBreaker, BreakerEvent{From: from.String(), To: to.String()})
	s.lost.wake() // does not block
}

// served counts a value that is served past its TTL.
func (c *Cache[K, V]) served(key K, r *record) {
	c.m.stale.Add(1)
	if f := c.s.hooks.OnStale; f != nil {
		over := time.Duration(max(c.s.time.nanos()-r.soft, 0))
		tell(c.s.hooks, f, StaleEvent{Namespace: c.name, Key: keyString(key), Version: r.version, Over: over})
	}
}

// refuse counts an entry of Redis that is of no use.
func (c *Cache[K, V]) refuse(skey string, version uint64, why CorruptReason) {
	c.m.corrupt[why.index()].Add(1)
	tell(c.s.hooks, c.s.hooks.OnCorrupt, CorruptEvent{Namespace: c.name, Key: skey, Version: version, Reason: why})
}

// evicted is called by ristretto when it has given a cell up.
func (s *Store) evicted(r *record) {
	if r == nil || r.ns.cell.owner == nil {
		return
	}
	m := r.ns.cell.owner
	m.evicted.Add(1)
	if s.hooks.OnEvict != nil {
		tell(s.hooks, s.hooks.OnEvict, EvictEvent{Namespace: m.name, Key: m.keyOf(r), Version: r.version, Bytes: r.cost()})
	}
}

// deleted counts a Delete.
func (c *Cache[K, V]) deleted(key K, version uint64) {
	c.m.invalidations.Add(1)
	if f := c.s.hooks.OnInvalidate; f != nil {
		tell(c.s.hooks, f, InvalidateEvent{Namespace: c.name, Key: keyString(key), Version: version})
	}
}

// invalidated counts the invalidation of a tag or namespace.
func (s *Store) invalidated(cell *tagCell, remote bool) {
	e := InvalidateEvent{Version: cell.version.Load(), Remote: remote}
	switch {
	case cell.owner != nil:
		e.Namespace = cell.owner.name
		if !remote {
			cell.owner.invalidations.Add(1)
		}
	default:
		e.Tag = cell.key[len(tagKey(s.prefix, "")):]
		if !remote {
			s.metrics.tagInvalidations.Add(1)
		}
	}
	tell(s.hooks, s.hooks.OnInvalidate, e)
}

// gapChanged is called by the one goroutine that listens.
func (s *Store) gapChanged(open bool) {
	now := time.Now()
	e := GapEvent{Open: open}
	if open {
		s.gapSince = now
	} else {
		e.Duration = now.Sub(s.gapSince)
	}
	tell(s.hooks, s.hooks.OnGap, e)
}

// recovered is the end of a replay that began when before writes had been told.
func (s *Store) recovered(began time.Time, before uint64) {
	if told := s.metrics.replayed.Load() - before; told > 0 {
		tell(s.hooks, s.hooks.OnRecovered, RecoveredEvent{
			Told: int(told), Left: int(s.lost.size.Load()), Duration: time.Since(began)})
	}
}

// loaded counts the end of a loader's call.
func (c *Cache[K, V]) loaded(ctx context.Context, key K, took time.Duration, err error) {
	c.loadedMany(ctx, []K{key}, took, err)
}

// loadedMany counts one call for many keys, and tells of each.
func (c *Cache[K, V]) loadedMany(ctx context.Context, keys []K, took time.Duration, err error) {
	failed := err != nil && !errors.Is(err, ErrNotFound)
	if failed {
		c.m.loadErrors.Add(1)
	}
	c.m.loadNanos.Add(uint64(took))
	c.s.metrics.loadTook(ctx, c.m, took, err)
	h := c.s.hooks
	f := h.OnLoad
	if failed {
		f = h.OnLoadError
	}
	if f == nil {
		return
	}
	for _, key := range keys {
		tell(h, f, LoadEvent{Namespace: c.name, Key: keyString(key), Duration: took, Err: err})
	}
}
