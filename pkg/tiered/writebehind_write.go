package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// write queues a write and then shows it in the cache: who dies in between has
// acknowledged nothing, and the flush mends the cache. If the queue does not
// take it, the sink does.
func (w *WriteBehind[K, V]) write(ctx context.Context, key K, value V, partial bool, opts []EntryOption) error {
	if !w.begin() {
		return ErrClosed
	}
	defer w.calls.Done()
	o := w.c.defaults.with(opts)
	if err := w.c.check(key, &o); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := w.c.sent(ctx, keyString(key)); err != nil {
		return err
	}
	if w.c.clone != nil {
		value = w.c.clone(value) // the caller may go on changing his
	}
	h, skey := w.c.hash(key), keyString(key)
	if w.q == nil {
		return w.direct(ctx, h, key, value, partial, 0, &o)
	}
	// The snapshot of the tags precedes the write.
	p := w.c.place(ctx, &o, o.effectiveTTL(false))
	queue, shown := value, value
	owing := w.debts.n.Load() > 0
	if owing {
		unlock, err := w.lock(ctx, h)
		if err != nil {
			return err
		}
		defer unlock()
		if debt, ok := w.debts.get(key); ok && partial {
			queue = w.o.Merge(debt, value)
			shown = queue
		}
	}
	version, after, err := w.enqueue(ctx, skey, queue, partial)
	switch {
	case err == nil:
		if owing {
			w.debts.pay(key) // this write has it, or is the newer whole
		}
	case errors.Is(err, errCaller), errors.Is(err, ErrQueueFull), errors.Is(err, ErrEncode), gaveUp(ctx) != nil:
		return err
	default:
		if owing {
			return w.directLocked(ctx, h, key, value, partial, after, &o)
		}
		return w.direct(ctx, h, key, value, partial, after, &o)
	}
	if partial {
		w.showPartial(ctx, h, key, skey, shown, version, &p, &o)
	} else {
		w.show(ctx, h, &item[K, V]{key: key, value: shown}, skey, version, 0, false, &p, &o)
	}
	return nil
}

// enqueue appends to the stream, waiting while it is full. After another error
// the write may be there all the same, with a version of at most after.
func (w *WriteBehind[K, V]) enqueue(ctx context.Context, skey string, value V, partial bool) (version, after uint64, err error) {
	payload, err := w.encode(skey, value)
	if err != nil {
		return 0, 0, err
	}
	if err := w.open(ctx); err != nil {
		return 0, 0, err
	}
	p := w.q.partition(skey)
	pt := &w.parts[p]
	var full time.Time // since when
	for late := 0; ; {
		deadline := max(uint64(max(w.q.r.now(), 0)), w.clock.Load()) + uint64(w.q.r.timeout.Microseconds())
		v, length, err := w.q.put(ctx, skey, partial, payload, deadline, w.clock.Load())
		switch {
		case err == nil:
			atomicMax(&w.clock, v)
			pt.length.Store(int64(length))
			w.n.queued.Add(1)
			if length >= w.o.Batch {
				pt.wake()
			}
			return v, 0, nil
		case errors.Is(err, errFull):
			pt.length.Store(int64(length))
			if full.IsZero() {
				full = time.Now()
				w.n.full.Add(1)
			}
			if time.Since(full) > w.o.SinkTimeout {
				return 0, 0, fmt.Errorf("%w: no room for %v", ErrQueueFull, w.o.SinkTimeout)
			}
			if err := w.makeRoom(ctx, p); err != nil {
				return 0, 0, err
			}
		case errors.Is(err, errLate) && late < 3:
			late++ // the clocks differ: the next deadline is by Redis's
			atomicMax(&w.clock, v)
		default:
			atomicMax(&w.clock, deadline)
			return 0, deadline, err
		}
	}
}

func (pt *partition) wake() {
	select {
	case pt.kick <- struct{}{}:
	default:
	}
}

// tick makes a version above after and all that are known here.
func (w *WriteBehind[K, V]) tick(after uint64) uint64 {
	now := w.c.s.time.micros()
	if w.q != nil {
		now = w.q.r.now()
	}
	for {
		last := w.clock.Load()
		v := max(uint64(max(now, 1)), last+1, after+1)
		if w.clock.CompareAndSwap(last, v) {
			return v
		}
	}
}

// show puts a write's value into both tiers, unless a newer one's is there. The
// write is accepted already: that it cannot be shown is no error. Readers then
// get it from the source or the queue.
func (w *WriteBehind[K, V]) show(ctx context.Context, h uint64, it *item[K, V], skey string, version, have uint64, partial bool, p *placement, o *entryConfig) {
	c := w.c
	if o.skipL2 {
		c.keepSet(h, it, p, c.s.tick(), false)
		return
	}
	raw, err := c.encode(it)
	v, late := uint64(0), false
	switch {
	case err != nil:
	case !p.known:
		err = ErrUnavailable
	default:
		v, late, err = w.q.show(ctx, skey, c.entry(skey, raw, false, p, 1), p.ttl+p.grace, version, have, partial)
	}
	switch {
	case err == nil && v > 0:
		_ = c.settle(h, it, p, skey, v, nil)
	case err == nil && late:
		c.forget(h, it.key, 0)
	case err == nil:
		w.hide(ctx, h, it.key, skey, version)
	case errors.Is(err, ErrUnavailable):
		_ = c.settle(h, it, p, skey, 0, err)
	default:
		v := c.s.tick()
		c.s.lose(c.name, skey, v)
		c.forget(h, it.key, v)
	}
}

// showPartial puts a partial over the cached value, or makes sure that none
// without it stays cached.
func (w *WriteBehind[K, V]) showPartial(ctx context.Context, h uint64, key K, skey string, partial V, version uint64, p *placement, o *entryConfig) {
	c := w.c
	full := c.s.l2.dataKey(c.name, skey)
	q := c.asking(skey)
	b, err := c.s.l2.get(ctx, full)
	if err == nil && !o.skipL2 {
		if it, r, _ := c.decode(ctx, full, skey, key, b, o, q); it != nil && !it.missing() {
			merged := &item[K, V]{key: key, value: w.o.Merge(it.value, partial)}
			p.ns, p.tags = r.ns, r.tags() // it is the same thing still
			w.show(ctx, h, merged, skey, version, peekVersion(b), true, p, o)
			return
		}
	}
	w.hide(ctx, h, key, skey, version)
}

// hide removes what is cached, and keeps loads under way from storing theirs.
func (w *WriteBehind[K, V]) hide(ctx context.Context, h uint64, key K, skey string, version uint64) {
	c := w.c
	c.forget(h, key, 0)
	hide := w.q.settleCall(skey, version, true)
	var v uint64
	err := w.q.r.do(ctx, "wb.hide", func(ctx context.Context) (err error) {
		v, err = hide.script.Run(ctx, w.q.r.c, hide.keys, hide.args...).Uint64()
		return err
	})
	if err != nil {
		v = c.s.tick()
		c.s.lose(c.name, skey, v)
	} else {
		atomicMax(&c.s.hlc, v)
		c.s.lost.told(c.name, skey, v)
	}
	c.forget(h, key, v)
}

// lock serialises what this process writes past the queue by key.
func (w *WriteBehind[K, V]) lock(ctx context.Context, h uint64) (unlock func(), err error) {
	l := w.keys[h%uint64(len(w.keys))]
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (w *WriteBehind[K, V]) direct(ctx context.Context, h uint64, key K, value V, partial bool, after uint64, o *entryConfig) error {
	unlock, err := w.lock(ctx, h)
	if err != nil {
		return err
	}
	defer unlock()
	return w.directLocked(ctx, h, key, value, partial, after, o)
}

// directLocked gives a write to the sink at once. Its version is above that of
// everything this process has queued and perhaps queued, so that what the queue
// brings later is known to be older.
//
// A partial has no version, see Item, and therefore an older one that is still
// queued would undo it. So it is remembered and queued as well when Redis is
// back: a debt.
func (w *WriteBehind[K, V]) directLocked(ctx context.Context, h uint64, key K, value V, partial bool, after uint64, o *entryConfig) error {
	it := Item[K, V]{Key: key, Value: value, Partial: partial}
	version := w.tick(after)
	if !partial {
		it.Version = version
	} else if w.q != nil && int(w.debts.n.Load()) >= w.o.MaxQueued {
		return fmt.Errorf("%w: redis is away and %d partial writes wait for it", ErrQueueFull, w.o.MaxQueued)
	}
	p := w.c.place(ctx, o, o.effectiveTTL(false))
	if err := w.call(ctx, []Item[K, V]{it}); err != nil {
		return err
	}
	w.n.direct.Add(1)
	switch {
	case w.q == nil && partial:
		_ = w.c.remove(ctx, key)
	case w.q == nil:
		w.c.keepSet(h, &item[K, V]{key: key, value: value}, &p, w.c.s.tick(), false)
	case partial:
		w.debts.add(key, value, w.o.Merge)
		w.hide(ctx, h, key, keyString(key), version)
	default:
		w.debts.pay(key)
		w.show(ctx, h, &item[K, V]{key: key, value: value}, keyString(key), version, 0, false, &p, o)
	}
	return nil
}

// call runs the sink within its time-out. It contains a panic and a Goexit.
func (w *WriteBehind[K, V]) call(ctx context.Context, items []Item[K, V]) (err error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.SinkTimeout)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		err := errors.New("sink ended its goroutine (runtime.Goexit)")
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("sink panicked: %v", r)
			}
			done <- err
		}()
		err = w.sink(ctx, items)
	}()
	// It is awaited also when its time is over: nothing else is to be written
	// for these keys while it may still write.
	if err = <-done; err != nil {
		return fmt.Errorf("write %d items: %w", len(items), err)
	}
	w.taken.Add(1)
	return nil
}

// debts are the partials that went past the queue, merged by key.
type debts[K Key, V any] struct {
	mu sync.Mutex
	of map[K]V
	n  atomic.Int64
}

func (d *debts[K, V]) add(key K, partial V, merge func(old, partial V) V) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if old, ok := d.of[key]; ok {
		partial = merge(old, partial)
	}
	d.of[key] = partial
	d.n.Store(int64(len(d.of)))
}

func (d *debts[K, V]) get(key K) (v V, ok bool) {
	if d.n.Load() == 0 {
		return v, false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	v, ok = d.of[key]
	return v, ok
}

func (d *debts[K, V]) pay(key K) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.of, key)
	d.n.Store(int64(len(d.of)))
}

// payDebts queues what went past the queue while Redis was away.
func (w *WriteBehind[K, V]) payDebts(ctx context.Context) error {
	if w.debts.n.Load() == 0 {
		return nil
	}
	w.debts.mu.Lock()
	keys := make([]K, 0, len(w.debts.of))
	for k := range w.debts.of {
		keys = append(keys, k)
	}
	w.debts.mu.Unlock()
	for _, key := range keys {
		if err := w.payDebt(ctx, key); err != nil {
			return fmt.Errorf("queue a write that redis has missed: %w", err)
		}
	}
	return nil
}

func (w *WriteBehind[K, V]) payDebt(ctx context.Context, key K) error {
	unlock, err := w.lock(ctx, w.c.hash(key))
	if err != nil {
		return err
	}
	defer unlock()
	debt, ok := w.debts.get(key)
	if !ok {
		return nil
	}
	if _, _, err := w.enqueue(ctx, keyString(key), debt, true); err != nil {
		return err
	}
	w.debts.pay(key)
	return nil
}

// makeRoom flushes a batch of a full partition, or waits for the process that
// does. The writer pays: what the sink cannot take in time is not accepted.
func (w *WriteBehind[K, V]) makeRoom(ctx context.Context, p int) error {
	_, err := w.drain(ctx, p, 0, 1, 0)
	if errors.Is(err, errHeld) {
		return linger(ctx, heldPause, ErrQueueFull)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrQueueFull, err)
	}
	return nil
}

// linger waits for about d.
func linger(ctx context.Context, d time.Duration, cause error) error {
	timer := time.NewTimer(jitter(d))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", cause, ctx.Err())
	}
}
