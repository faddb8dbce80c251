package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Loader reads a value from its source. ctx ends when nobody waits for the
// value any more; it carries the values, but not the deadline, of the call
// that started the load. A loader reports with [ErrNotFound] that there is no
// such thing.
type Loader[K Key, V any] func(ctx context.Context, key K, l *Load[V]) (V, error)

// Load is a loader's view of its entry. It is valid during the call.
type Load[V any] struct {
	opts entryConfig
}

// Set changes the entry's options by what the loader has learnt, such as a TTL
// that the source gives; a TTL of zero means that the value is not stored.
// Tags and the Skip options cannot be changed: they
// have taken effect before the load began.
func (l *Load[V]) Set(opts ...EntryOption) {
	o := l.opts.with(opts)
	o.tags, o.skipL1, o.skipL2, o.lease = l.opts.tags, l.opts.skipL1, l.opts.skipL2, l.opts.lease
	l.opts = o
}

// flights are the reads and loads under way in one stripe. The stripe's lock
// guards them.
type flights[K Key, V any] struct {
	reads, loads map[K]*flight[K, V]
}

func (f *flights[K, V]) of(loads bool) *map[K]*flight[K, V] {
	if loads {
		return &f.loads
	}
	return &f.reads
}

// flight is one read of Redis, or one load, and those who wait for it.
type flight[K Key, V any] struct {
	done    chan struct{} // closed when it and err are set
	cancel  context.CancelFunc
	waiters int    // stripe's lock
	spoilt  uint64 // stripe's lock: if not 0 nobody joins, and what is older is not stored
	unsure  bool   // set before done: see join
	tagGen  uint64
	refs    atomic.Pointer[placement] // once taken
	lease   uint64                    // the token, while it is to be given back; flight's goroutine only
	it      *item[K, V]
	err     error
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
}

// joinable reports whether a caller of now may have the flight's result. It
// may not if a tag was invalidated since the flight began.
func (f *flight[K, V]) joinable(s *Store) bool {
	if f.spoilt != 0 {
		return false
	}
	if f.tagGen == s.tagGen.Load() {
		return true
	}
	p := f.refs.Load()
	return p != nil && p.ns.valid() && allValid(p.tags)
}

// GetOrLoad returns the value of key from memory, from Redis, or from the
// loader, whose result it stores in both. Of concurrent calls for a key only
// one loads, with its own loader and options; each waits as long as its own
// ctx lets it. A loader's error is returned to all who wait and not cached,
// except [ErrNotFound].
func (c *Cache[K, V]) GetOrLoad(ctx context.Context, key K, load Loader[K, V], opts ...EntryOption) (V, error) {
	h := c.hash(key)
	it, suspect := c.look(h, key, opts)
	if it != nil {
		return c.open(it)
	}
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		var zero V
		return zero, err
	}
	return c.join(ctx, h, key, &o, suspect, load)
}

// join waits for the key's flight, which it starts if there is none. Without a
// loader the flight only reads Redis.
//
// A flight that began before a write on another node may be joined after it,
// while the message is on its way. Redis tells: if it refuses to store what was
// loaded, only the one who started the flight takes the result, for he asked
// before; the others ask again. Without a memory tier they always do, and find
// it in Redis.
func (c *Cache[K, V]) join(ctx context.Context, h uint64, key K, o *entryConfig, suspect *record, load Loader[K, V]) (V, error) {
	var zero V
	for try := 0; ; try++ {
		if err := ctx.Err(); err != nil {
			return zero, err
		}
		f, joined, err := c.board(ctx, h, key, o, suspect, load, try < maxJoins)
		if err != nil {
			return zero, err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			c.leave(h, key, f, load != nil)
			return zero, ctx.Err()
		}
		switch {
		case joined && f.unsure:
			suspect = nil
		case f.err != nil:
			return zero, f.err
		default:
			return c.open(f.it)
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
			c.s.metrics.coalesced.Add(1)
			return f, true, nil
		}
	}
	if f = (*m)[key]; f != nil {
		f.spoilt = always
		delete(*m, key)
	}
	if !c.s.begin() {
		return nil, false, ErrClosed
	}
	f = c.start(ctx, h, key, o, suspect, load)
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
	if f.waiters--; f.waiters > 0 {
		return
	}
	// Nobody wants it any more, and from here on nobody could tell it of a
	// write: it must not store anything either.
	f.spoilt = always
	if m := *c.flights[h%stripeCount].of(loads); m[key] == f {
		delete(m, key)
	}
	f.cancel()
}

// start begins a flight in a goroutine of its own, so that nobody's leaving
// ends it for the others.
func (c *Cache[K, V]) start(ctx context.Context, h uint64, key K, o *entryConfig, suspect *record, load Loader[K, V]) *flight[K, V] {
	fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := context.AfterFunc(c.s.loadCtx, cancel)
	f := &flight[K, V]{done: make(chan struct{}), cancel: cancel, tagGen: c.s.tagGen.Load()}
	opts := *o
	go func() {
		defer c.s.loads.Done()
		defer cancel()
		defer unhook()
		defer c.land(h, key, f, load != nil)
		defer func() {
			// Not used: others need not wait for it to run out, and whoever
			// waits for this load may begin the next as soon as it has landed.
			if f.lease != 0 {
				c.s.l2.release(context.WithoutCancel(fctx), c.name, keyString(key), f.lease)
			}
		}()
		if load != nil {
			f.it, f.err = c.load(fctx, h, f, key, &opts, suspect, load)
			return
		}
		it, _, err := c.read(fctx, h, f, key, &opts, suspect)
		if it == nil && (err == nil || errors.Is(err, ErrUnavailable)) {
			err = ErrMiss
		}
		f.it, f.err = it, err
	}()
	return f
}

// land ends a flight. It is deferred, so that a loader's panic or Goexit, or a
// codec's, ends here and reaches those who wait as an error.
func (c *Cache[K, V]) land(h uint64, key K, f *flight[K, V], loads bool) {
	if f.it == nil && f.err == nil {
		f.err = &PanicError{Value: recover(), Stack: debug.Stack()}
		c.s.metrics.loadErrors.Add(1)
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	if m := *c.flights[h%stripeCount].of(loads); m[key] == f {
		delete(m, key)
	}
	st.mu.Unlock()
	close(f.done)
}

// keep puts a flight's result into memory unless something newer was written
// since the flight began. A spoilt flight is told of no further writes, so
// what it brings must be as new as anything that the stripe has heard of, by
// the clock that made those versions: Redis's.
func (c *Cache[K, V]) keep(h uint64, f *flight[K, V], r *record, o *entryConfig) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case f.spoilt != 0 && (!r.inL2 || r.version < max(f.spoilt, st.newest)):
		c.s.metrics.fenced.Add(1)
	case c.s.l1 != nil && !o.skipL1:
		c.s.l1.put(h, r)
	}
}

// read asks Redis for the key. Nil and no error is a miss, and unwanted is the
// version of what is there nevertheless. A suspect record saves reading the
// value again if Redis still has its version, and is what is served if Redis
// does not answer.
func (c *Cache[K, V]) read(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig, suspect *record) (it *item[K, V], unwanted uint64, err error) {
	skey := keyString(key)
	full := c.s.l2.dataKey(c.name, skey)
	if suspect != nil {
		current, err := c.revalidate(ctx, full, skey, suspect)
		if current || errors.Is(err, ErrUnavailable) {
			return suspect.item.(*item[K, V]), 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		c.dropSuspect(h, suspect)
	}
	epoch := c.s.coherent()
	b, err := c.s.l2.get(ctx, full)
	if err != nil {
		return nil, 0, err
	}
	it, r, unwanted := c.decode(ctx, full, skey, key, b, o, epoch)
	if it == nil {
		c.s.metrics.l2Misses.Add(1)
		return nil, unwanted, nil
	}
	c.s.metrics.l2Hits.Add(1)
	f.unsure = c.s.l1 == nil
	c.keep(h, f, r, o)
	return it, 0, nil
}

// revalidate asks Redis by a header whether a record is still current, and if
// so stamps it with the epoch from before the question.
func (c *Cache[K, V]) revalidate(ctx context.Context, full, skey string, r *record) (current bool, err error) {
	epoch := c.s.coherent()
	b, err := c.s.l2.header(ctx, full)
	if err != nil {
		return false, err
	}
	hd, perr := parseHeader(b)
	if perr != nil || hd.tombstone() || hd.version != r.version || hd.key != keyHash(full) ||
		hd.version <= c.s.lost.floor(c.name, skey) {
		return false, nil
	}
	cells := []*tagCell{r.ns.cell}
	for _, t := range r.tags {
		cells = append(cells, t.cell)
	}
	if err := c.s.current(ctx, cells); err != nil {
		return false, err
	}
	if !r.ns.valid() || !allValid(r.tags) {
		return false, nil
	}
	if epoch != 0 {
		r.epoch.Store(epoch)
	}
	c.s.metrics.revalidated.Add(1)
	return true, nil
}

func (c *Cache[K, V]) dropSuspect(h uint64, r *record) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	c.s.l1.drop(h, r.version+1)
}

// decode makes an item and a record of an entry, or says by unwanted which
// version is of no use. Whatever is wrong with an entry, it is a miss.
func (c *Cache[K, V]) decode(ctx context.Context, full, skey string, key K, b []byte, o *entryConfig, epoch uint64) (it *item[K, V], r *record, unwanted uint64) {
	if len(b) == 0 {
		return nil, nil, 0
	}
	unwanted = min(peekVersion(b), maxVersion)
	corrupt := func() (*item[K, V], *record, uint64) {
		c.s.metrics.corrupt.Add(1)
		return nil, nil, unwanted
	}
	e, err := parseEntry(b, keyHash(full))
	if err != nil {
		return corrupt()
	}
	now := c.s.l2.now()
	future := uint64(now + dayMicros)
	if e.version > future || e.schema != c.schema && !e.tombstone() || e.codec != c.codec.ID() && !e.negative() && !e.tombstone() {
		return corrupt()
	}
	if floor := c.s.lost.floor(c.name, skey); e.tombstone() || e.version <= floor {
		return nil, nil, max(unwanted, floor)
	}
	// A future-dated entry counts as just written and gets no extra life.
	left := min(e.hard-now, e.hard-int64(e.version))
	if left <= 0 {
		return nil, nil, unwanted
	}
	p := placement{epoch: epoch, ns: tagRef{cell: c.ns, version: e.nsVersion}, skipL1: o.skipL1}
	cells := []*tagCell{c.ns}
	for _, t := range e.tags {
		cell := c.s.tags.get(tagKey(c.s.prefix, t.name), c.s.tick)
		cells = append(cells, cell)
		p.tags = append(p.tags, tagRef{cell: cell, version: t.version})
	}
	if c.s.current(ctx, cells) != nil {
		return nil, nil, unwanted // cannot be known to be valid
	}
	for _, ref := range append(p.tags, p.ns) {
		// Somebody has seen a newer version than this process was told of yet.
		if ref.version > ref.cell.version.Load() && ref.version < future {
			ref.cell.raise(ref.version)
		}
		if !ref.valid() {
			return nil, nil, unwanted
		}
	}
	it = &item[K, V]{key: key, missing: e.negative()}
	if !it.missing {
		if err := unmarshal(c.codec, e.raw, &it.value); err != nil {
			return corrupt()
		}
	}
	ttl := time.Duration(left) * time.Microsecond
	p.local = c.s.time.nanos() + int64(o.local(ttl))
	return it, c.record(it, &p, e.version, true), 0
}

const dayMicros = int64(24 * time.Hour / time.Microsecond)

// load reads Redis, and if it has nothing, takes the right to store, calls the
// loader, and stores what it returns unless something was written meanwhile.
func (c *Cache[K, V]) load(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig, suspect *record, loader Loader[K, V]) (*item[K, V], error) {
	var token uint64 // the version of what is about to be loaded
	skey := ""
	if c.s.l2 != nil && !o.skipL2 {
		skey = keyString(key)
		it, unwanted, err := c.read(ctx, h, f, key, o, suspect)
		if it != nil {
			return it, nil
		}
		if err == nil {
			it, token, err = c.lease(ctx, h, f, key, skey, o, unwanted)
			if it != nil {
				return it, nil
			}
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil && !errors.Is(err, ErrUnavailable) {
			return nil, fmt.Errorf("load %s: %w", c.name, err)
		}
	}
	inL2 := token != 0
	if !inL2 {
		token = c.s.tick()
	}
	p := c.place(ctx, o, o.ttl)
	f.refs.Store(&p)

	l := &Load[V]{opts: *o}
	value, err := c.call(ctx, key, loader, l)
	it := &item[K, V]{key: key, value: value, missing: err != nil}
	if err != nil && (!errors.Is(err, ErrNotFound) || l.opts.negative <= 0) {
		return nil, err
	}
	if l.opts.ttl <= 0 {
		return it, err // the loader wants it not to be stored
	}
	p.expire(c.s, &l.opts, l.opts.effectiveTTL(it.missing))
	if f.lease != 0 && p.known {
		if raw, eerr := c.encode(it); eerr == nil {
			entry := c.entry(skey, raw, it.missing, &p, token)
			stored, ferr := c.s.l2.fill(ctx, c.name, skey, token, entry, p.ttl)
			if ferr == nil {
				f.lease = 0
				f.unsure = !stored || c.s.l1 == nil
				if !stored {
					c.s.metrics.fenced.Add(1)
					return it, err
				}
			}
		} else {
			c.s.log.WarnContext(ctx, "cannot store in redis", slog.String("namespace", c.name), slog.Any("error", eerr))
		}
	}
	c.keep(h, f, c.record(it, &p, token, inL2), o)
	return it, err
}

// lease asks for the right to store. Who does not get it waits for the other's
// result if the options say so, and else loads for this process alone, under
// the other's token: a write after either load began is newer than it.
func (c *Cache[K, V]) lease(ctx context.Context, h uint64, f *flight[K, V], key K, skey string, o *entryConfig, unwanted uint64) (*item[K, V], uint64, error) {
	ttl := o.lease
	if ttl <= 0 {
		ttl = DefaultLease
	}
	unwanted = max(unwanted, c.s.lost.floor(c.name, skey))
	full := c.s.l2.dataKey(c.name, skey)
	deadline := time.Now().Add(o.lease)
	for wait := 10 * time.Millisecond; ; wait = min(wait*2, 80*time.Millisecond) {
		epoch := c.s.coherent()
		l, err := c.s.l2.getLease(ctx, c.name, skey, unwanted, ttl)
		if err != nil {
			return nil, 0, err
		}
		if l.data != nil {
			it, r, version := c.decode(ctx, full, skey, key, l.data, o, epoch)
			if it != nil {
				c.s.metrics.l2Hits.Add(1)
				f.unsure = c.s.l1 == nil
				c.keep(h, f, r, o)
				return it, 0, nil
			}
			if version <= unwanted {
				return nil, 0, ErrUnavailable // its tags cannot be read now
			}
			unwanted = version
			continue // the next answer is not this entry
		}
		if !l.held {
			f.lease = l.token
			return nil, l.token, nil
		}
		if o.lease <= 0 || !time.Now().Before(deadline) {
			f.unsure = true // nothing will be stored that could be refused
			return nil, l.token, nil
		}
		timer := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, 0, ctx.Err()
		}
	}
}

// call runs the loader in a span.
func (c *Cache[K, V]) call(ctx context.Context, key K, loader Loader[K, V], l *Load[V]) (V, error) {
	ctx, span := c.s.tracer.Start(ctx, "tiered.load", trace.WithAttributes(attribute.String("tiered.namespace", c.name)))
	began := time.Now()
	c.s.metrics.loads.Add(1)
	defer func() {
		c.s.metrics.loadNanos.Add(uint64(time.Since(began)))
		span.End()
	}()
	v, err := loader(ctx, key, l)
	if err != nil && !errors.Is(err, ErrNotFound) {
		c.s.metrics.loadErrors.Add(1)
		span.SetStatus(codes.Error, err.Error())
	}
	return v, err
}
