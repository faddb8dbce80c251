package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// heldPause is between looks at a partition that another process flushes.
const heldPause = 20 * time.Millisecond

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(max(d, 1)) }

// backoff is the pause after n failures, 0 first.
func (w *WriteBehind[K, V]) backoff(n int) time.Duration {
	d := w.o.Backoff << min(n, 20)
	if d > w.o.MaxBackoff || d < w.o.Backoff {
		d = w.o.MaxBackoff
	}
	return jitter(d)
}

// work flushes a partition when it has enough, or something old enough, until
// ctx ends. A write is flushed after half an interval at the earliest, unless
// there is a batch, and is looked for twice an interval.
func (w *WriteBehind[K, V]) work(ctx context.Context, p int) {
	pt := &w.parts[p]
	for fails := 0; ; {
		wait, kick := jitter(w.o.Interval/3), pt.kick
		if fails > 0 {
			wait, kick = max(w.backoff(fails-1), wait), nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
		err := w.open(ctx)
		if err == nil && p == 0 {
			err = w.payDebts(ctx)
		}
		if err == nil {
			_, err = w.drain(ctx, p, w.o.Interval/2, 0, 0)
		}
		switch {
		case err == nil, errors.Is(err, errHeld):
			fails = 0
			continue
		case ctx.Err() != nil:
			return
		}
		if fails++; fails == 1 && !errors.Is(err, ErrUnavailable) {
			w.c.s.log.WarnContext(ctx, "write-behind cannot flush, and goes on trying",
				slog.String("namespace", w.c.name), slog.Any("error", err))
		}
	}
}

// drain flushes batches of a partition while there is a whole one or something
// as old as age, at most limit of them if that is not 0, and nothing newer than
// until if that is not 0. It returns how many writes it has flushed, and errHeld
// if another process is at it.
func (w *WriteBehind[K, V]) drain(ctx context.Context, p int, age time.Duration, limit int, until uint64) (n int, err error) {
	pt := &w.parts[p]
	select {
	case pt.turn <- struct{}{}:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	defer func() { <-pt.turn }()
	for rounds := 1; ; rounds++ {
		batch, err := w.q.take(ctx, p, age, pt.widen)
		if err != nil || len(batch) == 0 {
			if err == nil && age == 0 {
				pt.length.Store(0)
			}
			return n, err
		}
		left, err := w.flush(ctx, p, batch)
		pt.widen = err != nil
		if err == nil {
			n += len(batch)
			pt.length.Store(int64(left))
		}
		last := batch[len(batch)-1].version()
		if err != nil || rounds == limit || until != 0 && last >= until || ctx.Err() != nil {
			w.release(ctx, p)
			return n, err
		}
	}
}

// release gives the lease back; if that fails it runs out.
func (w *WriteBehind[K, V]) release(ctx context.Context, p int) {
	_ = w.q.hold(context.WithoutCancel(ctx), p, 0)
}

// parcel is an item with the entries of the stream that it was made of.
type parcel[K Key, V any] struct {
	item     Item[K, V]
	entries  []queued
	attempts int
	err      error // of the last one
}

// fold merges entries by key, in their order.
func (w *WriteBehind[K, V]) fold(batch []queued) (parcels []*parcel[K, V]) {
	byKey := make(map[string]*parcel[K, V], len(batch))
	for _, e := range batch {
		value, err := w.decode(&e)
		key, ok := parseKey[K](e.key)
		switch {
		case err == nil && !ok:
			err = fmt.Errorf("key %.40q is not one of this cache: %w", e.key, ErrRejected)
		case err == nil && e.partial && w.o.Merge == nil:
			err = fmt.Errorf("a partial write, but write-behind was made without WriteBehindOptions.Merge: %w", ErrRejected)
		}
		if err != nil {
			parcels = append(parcels, &parcel[K, V]{entries: []queued{e}, attempts: e.deliveries, err: err})
			continue
		}
		pa := byKey[e.key]
		if pa == nil {
			pa = &parcel[K, V]{item: Item[K, V]{Key: key, Partial: true}}
			byKey[e.key] = pa
			parcels = append(parcels, pa)
		}
		switch {
		case !e.partial:
			pa.item.Value, pa.item.Partial = value, false
		case len(pa.entries) == 0:
			pa.item.Value = value
		default:
			pa.item.Value = w.o.Merge(pa.item.Value, value)
		}
		pa.item.Version = max(pa.item.Version, e.version())
		pa.attempts = max(pa.attempts, e.deliveries)
		pa.entries = append(pa.entries, e)
	}
	return parcels
}

// flush gives a batch to the sink and acknowledges it. It returns how much is
// left in the stream. After an error that is the sink's and not an item's, the
// next flush of the partition also takes new entries: if the sink takes those,
// it is the item that is bad.
func (w *WriteBehind[K, V]) flush(ctx context.Context, p int, batch []queued) (left int, err error) {
	for _, e := range batch {
		if e.deliveries > 0 {
			w.n.redelivered.Add(1)
		}
	}
	d := &delivery[K, V]{w: w, p: p, taken: w.taken.Load(), left: -1}
	kctx, release := w.keep(ctx, d)
	defer release()
	var good []*parcel[K, V]
	for _, pa := range w.fold(batch) {
		if pa.err != nil {
			d.failed = append(d.failed, pa)
			continue
		}
		good = append(good, pa)
		w.n.merged.Add(uint64(len(pa.entries) - 1))
	}
	if len(good) > 0 {
		if err := d.deliver(kctx, good); err != nil {
			return 0, err
		}
	}
	if err := d.park(kctx); err != nil {
		return 0, err
	}
	return max(d.left, 0), nil
}

// delivery is the work on one batch.
type delivery[K Key, V any] struct {
	w      *WriteBehind[K, V]
	p      int
	taken  uint64 // calls that the sink had taken before
	left   int
	failed []*parcel[K, V]
	called atomic.Int64 // Unix ns at which the sink was called; 0 while it is not
}

// keep renews the lease until release is called, and ends the context when it
// is lost or may have run out, or when the sink does not return in its time:
// then another process shall go on.
func (w *WriteBehind[K, V]) keep(ctx context.Context, d *delivery[K, V]) (_ context.Context, release func()) {
	ctx, cancel := context.WithCancel(ctx)
	var keeper sync.WaitGroup
	keeper.Go(func() {
		tick := time.NewTicker(w.o.Lease / 4)
		defer tick.Stop()
		defer cancel()
		held := time.Now()
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			asked := time.Now()
			if at := d.called.Load(); at != 0 && asked.UnixNano()-at > int64(w.o.SinkTimeout+w.o.Lease) {
				return
			}
			// Under a context of its own: renewing must not outlast the lease.
			rctx, done := context.WithDeadline(ctx, held.Add(w.o.Lease*3/4))
			err := w.q.hold(rctx, d.p, w.o.Lease)
			done()
			switch {
			case err == nil:
				held = asked
			case errors.Is(err, errHeld), time.Since(held) >= w.o.Lease*3/4:
				return
			}
		}
	})
	return ctx, func() {
		cancel()
		keeper.Wait()
	}
}

// deliver tries the whole, with back-off, and then in parts. What fails while
// other things are taken is left in failed; an error says that the sink fails.
func (d *delivery[K, V]) deliver(ctx context.Context, parcels []*parcel[K, V]) error {
	w := d.w
	var err error
	for try := range w.o.Attempts {
		if err = d.try(ctx, parcels); err == nil || ctx.Err() != nil || errors.Is(err, errAck) {
			return err
		}
		if errors.Is(err, ErrRejected) {
			break
		}
		if try < w.o.Attempts-1 {
			if perr := linger(ctx, w.backoff(try), err); perr != nil {
				return perr
			}
		}
	}
	if len(parcels) > 1 {
		err = d.split(ctx, parcels)
	} else {
		d.failed = append(d.failed, parcels...)
	}
	if err != nil && (ctx.Err() != nil || errors.Is(err, errAck)) {
		return err
	}
	// Has the sink taken anything since it refused these? Then it works, and they
	// get a last chance: it may have begun to work in between.
	works := w.taken.Load() > d.taken
	var bad []*parcel[K, V]
	var down error
	failed := d.failed
	d.failed = nil
	for _, pa := range failed {
		if works && !errors.Is(pa.err, ErrRejected) {
			err := d.try(ctx, []*parcel[K, V]{pa})
			if err == nil {
				continue
			}
			if ctx.Err() != nil || errors.Is(err, errAck) {
				return err // they come again
			}
		}
		if works || errors.Is(pa.err, ErrRejected) {
			bad = append(bad, pa)
		} else {
			down = pa.err
		}
	}
	d.failed = bad
	if down == nil {
		return nil
	}
	return errors.Join(down, d.park(ctx))
}

// split tries halves, down to single items.
func (d *delivery[K, V]) split(ctx context.Context, parcels []*parcel[K, V]) error {
	if len(parcels) == 1 {
		d.failed = append(d.failed, parcels...)
		return nil
	}
	half := len(parcels) / 2
	for _, part := range [][]*parcel[K, V]{parcels[:half], parcels[half:]} {
		err := d.try(ctx, part)
		if err == nil {
			continue
		}
		if ctx.Err() != nil || errors.Is(err, errAck) {
			return err
		}
		if err := d.split(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// errAck: the sink has it, but Redis could not be told. It comes again.
var errAck = errors.New("acknowledge a flush")

// try calls the sink once and, if it has taken the items, takes them from the
// stream. What is cached of them is mended first, in case that who wrote it died
// before it was shown.
func (d *delivery[K, V]) try(ctx context.Context, parcels []*parcel[K, V]) error {
	w := d.w
	items := make([]Item[K, V], len(parcels))
	for i, pa := range parcels {
		items[i] = pa.item
	}
	d.called.Store(time.Now().UnixNano())
	err := w.call(ctx, items)
	d.called.Store(0)
	if err != nil {
		w.n.failures.Add(1)
		for _, pa := range parcels {
			pa.err = err
			pa.attempts++
		}
		return err
	}
	var entries []queued
	var calls []*call
	for _, pa := range parcels {
		entries = append(entries, pa.entries...)
		calls = append(calls, w.q.settleCall(pa.entries[0].key, pa.item.Version, false))
	}
	ack := w.q.ackCall(d.p, entries)
	calls = append(calls, ack)
	// Also if ctx has ended: the sink has them.
	err = w.q.r.do(context.WithoutCancel(ctx), "wb.ack", func(ctx context.Context) error {
		return runAll(ctx, w.q.r.c, calls)
	})
	for i, pa := range parcels {
		if cmd := calls[i].cmd; cmd != nil {
			if v, verr := cmd.Uint64(); verr == nil && v > 0 {
				atomicMax(&w.c.s.hlc, v)
				w.c.forget(w.c.hash(pa.item.Key), pa.item.Key, v)
			}
		}
	}
	if ack.cmd == nil || ack.cmd.Err() != nil {
		if err == nil || errors.Is(err, redis.Nil) {
			err = ErrUnavailable
		}
		return fmt.Errorf("%w: %w", errAck, err)
	}
	d.left, _ = ack.cmd.Int()
	w.n.flushed.Add(uint64(len(items)))
	return nil
}

// park moves what failed to the dead letters. Its value is not in the source,
// so it is not to stay in the cache either.
func (d *delivery[K, V]) park(ctx context.Context) error {
	w := d.w
	for _, pa := range d.failed {
		for i := range pa.entries {
			if err := w.q.park(ctx, d.p, &pa.entries[i], pa.err.Error(), pa.attempts); err != nil {
				return fmt.Errorf("park a write: %w", err)
			}
			w.n.parked.Add(1)
		}
		if key, ok := parseKey[K](pa.entries[0].key); ok {
			w.hide(ctx, w.c.hash(key), key, pa.entries[0].key, pa.entries[len(pa.entries)-1].version())
		}
		w.c.s.log.ErrorContext(ctx, "a write was parked among the dead letters",
			slog.String("namespace", w.c.name), slog.Int("writes", len(pa.entries)), slog.Any("error", pa.err))
	}
	d.failed = nil
	return nil
}

// Flush gives everything that was queued before the call to the sink, here or,
// for the partitions that other processes are at, there. It returns when that
// is done or ctx ends, then with the last cause of failure of each partition.
func (w *WriteBehind[K, V]) Flush(ctx context.Context) error {
	if !w.begin() {
		return fmt.Errorf("flush %s: %w", w.c.name, ErrClosed)
	}
	defer w.calls.Done()
	if err := w.flushAll(ctx); err != nil {
		return fmt.Errorf("flush %s: %w", w.c.name, err)
	}
	return nil
}

func (w *WriteBehind[K, V]) flushAll(ctx context.Context) error {
	if w.q == nil {
		return nil
	}
	errs := make([]error, len(w.parts)+1)
	retry := func(slot int, f func() error) {
		for fails := 0; ; {
			err := f()
			if err == nil {
				errs[slot] = nil
				return
			}
			wait := heldPause
			if !errors.Is(err, errHeld) {
				wait = w.backoff(fails)
				fails++
				errs[slot] = err
			}
			if linger(ctx, wait, err) != nil {
				if errs[slot] == nil {
					errs[slot] = err
				}
				return
			}
		}
	}
	retry(len(w.parts), func() error {
		if err := w.open(ctx); err != nil {
			return err
		}
		return w.payDebts(ctx)
	})
	// Others' versions may be ahead of the clock by a time-out, see enqueue.
	until := w.tick(0) + uint64(w.q.r.timeout.Microseconds())
	var all sync.WaitGroup
	for p := range w.parts {
		all.Go(func() {
			retry(p, func() error {
				_, err := w.drain(ctx, p, 0, 0, until)
				return err
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
