package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
)

// Item is what a [Sink] is to write of one key: its newest value, or the fields
// of all partial writes since the last one, merged.
type Item[K Key, V any] struct {
	Key     K
	Value   V
	Partial bool // Value holds only the fields that change; see WriteBehindOptions.Merge

	// Version grows with every write of a key, in whichever process. A sink
	// keeps it with what it writes, and leaves alone what has the same or a
	// higher one: it has that write already, or a newer one.
	//
	// It is 0 for a partial that went past the queue, because Redis was away. A
	// sink writes its fields whatever the version there, and does not change it:
	// older writes that are still in the queue have other fields to bring.
	Version uint64
}

// Sink writes items, each of another key, where they are to stay. If it
// returns an error all of them are given to it again, some time, perhaps with
// others or by another process; so it may get an item twice, and Version tells.
// An error that wraps [ErrRejected] says that trying again is of no use.
//
// Its ctx ends when SinkTimeout is over or when another process may have taken
// the work over. A sink is called concurrently, for different keys.
type Sink[K Key, V any] func(ctx context.Context, items []Item[K, V]) error

// WriteBehindOptions configure a [WriteBehind]. Zero values stand for the
// defaults.
type WriteBehindOptions[V any] struct {
	// Merge returns old with the fields of partial put over it. Old may be a
	// whole value or an earlier partial; the result is of the same kind. It
	// must change neither, and merging the same partial again must change
	// nothing. Without it there are no partial writes.
	Merge func(old, partial V) V

	Batch       int           // writes flushed together; 100, at most 1000
	Interval    time.Duration // a write is flushed at the latest after; 5s
	MaxQueued   int           // writes in the queue, then Put waits for the sink; 100,000
	Partitions  int           // flushed in parallel; 8. The same in all processes
	Attempts    int           // to write a batch before it is split; 5
	Backoff     time.Duration // before the second attempt, then doubled, with jitter; 100ms
	MaxBackoff  time.Duration // 30s
	SinkTimeout time.Duration // of a call of the sink; 30s
	Lease       time.Duration // after which a dead process's work is taken over; 10s
	Replicas    int           // that must have a write before it counts as queued (WAIT); 0
}

func (o WriteBehindOptions[V]) withDefaults() WriteBehindOptions[V] {
	set := func(n *int, d int) {
		if *n == 0 {
			*n = d
		}
	}
	wait := func(n *time.Duration, d time.Duration) {
		if *n == 0 {
			*n = d
		}
	}
	set(&o.Batch, 100)
	set(&o.MaxQueued, 100_000)
	set(&o.Partitions, 8)
	set(&o.Attempts, 5)
	wait(&o.Interval, 5*time.Second)
	wait(&o.Backoff, 100*time.Millisecond)
	wait(&o.MaxBackoff, max(30*time.Second, o.Backoff))
	wait(&o.SinkTimeout, 30*time.Second)
	wait(&o.Lease, 10*time.Second)
	return o
}

func (o WriteBehindOptions[V]) validate() error {
	switch {
	case o.Batch < 1 || o.Batch > 1000:
		return fmt.Errorf("batch of %d: want 1 to 1000", o.Batch)
	case o.Partitions < 1 || o.Partitions > 1024:
		return fmt.Errorf("%d partitions: want 1 to 1024", o.Partitions)
	case o.MaxQueued < o.Partitions:
		return fmt.Errorf("at most %d queued: want at least one for each of %d partitions", o.MaxQueued, o.Partitions)
	case o.Attempts < 1 || o.Replicas < 0:
		return fmt.Errorf("%d attempts, %d replicas: want at least 1 and 0", o.Attempts, o.Replicas)
	case o.Interval < time.Millisecond || o.SinkTimeout < time.Millisecond || o.Lease < 10*time.Millisecond:
		return fmt.Errorf("interval %v, sink timeout %v, lease %v: want at least 1ms, 1ms and 10ms", o.Interval, o.SinkTimeout, o.Lease)
	case o.Backoff < 0 || o.MaxBackoff < o.Backoff:
		return fmt.Errorf("back-off from %v to %v: want 0 or more, and not less at the end", o.Backoff, o.MaxBackoff)
	}
	return nil
}

var (
	// ErrRejected is what a sink wraps when an item cannot be written at all: it
	// is not tried again, but parked among the dead letters.
	ErrRejected = errors.New("tiered: rejected by the sink")

	// ErrQueueFull reports that the queue has MaxQueued writes and that the sink
	// does not take any. The write was not accepted.
	ErrQueueFull = errors.New("tiered: write-behind queue is full")
)

// WriteBehind caches writes at once and gives them to a [Sink] later, merged by
// key: for what changes often and is read from the cache, such as the time
// somebody was last seen. It is safe for concurrent use.
//
// With Redis a write is accepted when it is in a stream there, and leaves it
// when the sink has it; any process with a WriteBehind of the same namespace
// may flush it. Without Redis, or while Redis is away, full, or does not answer,
// the sink is called before Put returns: slower, and nothing lost.
//
// See the package documentation for what is guaranteed.
type WriteBehind[K Key, V any] struct {
	c    *Cache[K, V]
	sink Sink[K, V]
	o    WriteBehindOptions[V]
	q    *queue // nil without Redis

	clock   atomic.Uint64 // highest version known here
	opened  atomic.Bool   // the queue may be used
	parts   []partition
	keys    [64]chan struct{} // held while a key is written past the queue
	debts   debts[K, V]
	n       writeBehindCounts
	taken   atomic.Uint64 // calls that the sink has taken
	metrics metric.Registration

	mu      sync.Mutex
	closed  bool
	calls   sync.WaitGroup // Add under mu while not closed
	workers sync.WaitGroup
	stop    context.CancelFunc
}

// partition is this process's side of one.
type partition struct {
	turn   chan struct{} // held while this process flushes it
	kick   chan struct{}
	length atomic.Int64 // of the stream as last heard
	widen  bool         // turn's: see flush
}

// NewWriteBehind starts to flush the cache's namespace to sink, also what other
// processes have queued. A namespace has at most one in each process. ctx bounds
// the start alone; without Redis it does not fail unless the store requires it.
// Close it before the store.
func NewWriteBehind[K Key, V any](ctx context.Context, c *Cache[K, V], sink Sink[K, V], o WriteBehindOptions[V]) (*WriteBehind[K, V], error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("make write-behind %s: %w", c.name, err)
	}
	if sink == nil {
		return nil, fmt.Errorf("make write-behind %s: want a sink", c.name)
	}
	if c.s.isClosed() {
		return nil, fmt.Errorf("make write-behind %s: %w", c.name, ErrClosed)
	}
	w := &WriteBehind[K, V]{c: c, sink: sink, o: o}
	w.debts.of = make(map[K]V)
	for i := range w.keys {
		w.keys[i] = make(chan struct{}, 1)
	}
	run := context.WithoutCancel(ctx)
	run, w.stop = context.WithCancel(run)
	if c.s.l2 != nil {
		w.q = &queue{r: c.s.l2, ns: c.name, parts: o.Partitions, max: max(o.MaxQueued/o.Partitions, 1), batch: o.Batch,
			lease: o.Lease, replicas: o.Replicas, token: randomID()}
		w.parts = make([]partition, o.Partitions)
		for p := range w.parts {
			w.parts[p].turn, w.parts[p].kick = make(chan struct{}, 1), make(chan struct{}, 1)
		}
		if err := w.open(ctx); err != nil && (errors.Is(err, errQueue) || c.s.required) {
			w.stop()
			return nil, fmt.Errorf("make write-behind %s: %w", c.name, err)
		}
		for p := range w.parts {
			w.workers.Go(func() { w.work(run, p) })
		}
	}
	if err := w.register(c.s.meter); err != nil {
		c.s.log.WarnContext(ctx, "write-behind metrics are off", slog.Any("error", err))
	}
	return w, nil
}

// open makes sure that the queue may be used, once.
func (w *WriteBehind[K, V]) open(ctx context.Context) error {
	if w.opened.Load() {
		return nil
	}
	if err := w.q.open(ctx); err != nil {
		return err
	}
	w.opened.Store(true)
	return nil
}

// Put writes a value: it is in the cache, and accepted, when Put returns nil.
// After an error it may still be written, like anything whose answer was lost.
// The options are those of Set.
func (w *WriteBehind[K, V]) Put(ctx context.Context, key K, value V, opts ...EntryOption) error {
	if err := w.write(ctx, key, value, false, opts); err != nil {
		return fmt.Errorf("put %s: %w", w.c.name, err)
	}
	return nil
}

// Merge writes the fields that partial holds, as WriteBehindOptions.Merge
// understands it, and leaves the others as they are. The cached value, if there
// is one, gets them too.
func (w *WriteBehind[K, V]) Merge(ctx context.Context, key K, partial V, opts ...EntryOption) error {
	if w.o.Merge == nil {
		return fmt.Errorf("merge %s: write-behind was made without WriteBehindOptions.Merge", w.c.name)
	}
	if err := w.write(ctx, key, partial, true, opts); err != nil {
		return fmt.Errorf("merge %s: %w", w.c.name, err)
	}
	return nil
}

// Loader makes of a loader that reads the sink's store one that also sees what
// is still queued. Load through it, or what was written is missing from a value
// that has left the cache before it was flushed.
//
// A partial of something that the loader does not find shows when the sink has
// made it.
func (w *WriteBehind[K, V]) Loader(load Loader[K, V]) Loader[K, V] {
	return func(ctx context.Context, key K, l *Load[V]) (V, error) {
		// Before the source is asked: what leaves the queue meanwhile is in both.
		var entries []queued
		if w.q != nil && w.opened.Load() {
			entries, _ = w.q.pending(ctx, keyString(key)) // Redis away: the source alone
		}
		value, err := load(ctx, key, l)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return value, err
		}
		for i := range entries {
			v, derr := w.decode(&entries[i])
			switch {
			case derr != nil:
			case !entries[i].partial:
				value, err = v, nil
			case err == nil && w.o.Merge != nil:
				value = w.o.Merge(value, v)
			}
		}
		if debt, ok := w.debts.get(key); ok && err == nil {
			value = w.o.Merge(value, debt)
		}
		return value, err
	}
}

// begin counts a call in, unless w is closed.
func (w *WriteBehind[K, V]) begin() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return false
	}
	w.calls.Add(1)
	return true
}

// Close accepts no more writes and flushes what is queued until ctx ends. What
// is left then stays in the stream for other processes and the next one, and
// the error says so. It is given back at once, so that nobody waits for a lease.
func (w *WriteBehind[K, V]) Close(ctx context.Context) error {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return nil
	}
	w.closed = true
	w.mu.Unlock()

	ended := make(chan struct{})
	called := make(chan struct{})
	go func() {
		defer close(ended)
		w.calls.Wait()
		close(called)
		w.workers.Wait()
	}()
	select {
	case <-called:
	case <-ctx.Done():
	}
	err := w.flushAll(ctx)
	w.stop()
	grace := time.NewTimer(time.Second) // to see that its context has ended
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		select {
		case <-ended:
		case <-ctx.Done():
			err = errors.Join(err, errors.New("the sink goes on although its context has ended"))
		}
	}
	if w.metrics != nil {
		_ = w.metrics.Unregister() // the meter is going away with its provider
	}
	if err != nil {
		return fmt.Errorf("close write-behind %s: what is left stays queued: %w", w.c.name, err)
	}
	return nil
}
