package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// Loader reads a value from its source. ctx ends when nobody waits for the
// value any more; it carries the values, but not the deadline, of the call
// that started the load. A loader reports with [ErrNotFound] that there is no
// such thing.
type Loader[K Key, V any] func(ctx context.Context, key K, l *Load[V]) (V, error)

// Load is a loader's view of its entry. It is valid during the call.
type Load[V any] struct {
	opts     entryConfig
	stale    V // what the load is to replace
	hasStale bool
	kept     bool // not modified
	oldETag  string
	etag     string
}

// Set changes the entry's options by what the loader has learnt, such as a TTL
// that the source gives; one of zero or less means that the value is not stored,
// and that what it replaces is not served again. Tags, [DistributedLease] and the
// Skip options cannot be changed: they have taken effect before the load began.
// An option that no call may have, such as a jitter above 1, fails the load.
func (l *Load[V]) Set(opts ...EntryOption) {
	o := l.opts.with(opts)
	o.tags, o.skipL1, o.skipL2, o.lease = l.opts.tags, l.opts.skipL1, l.opts.skipL2, l.opts.lease
	l.opts = o
}

// invalid is what is wrong with the options: a TTL that has passed is not.
func (l *Load[V]) invalid() error {
	o := l.opts
	o.ttl = max(o.ttl, time.Millisecond)
	return o.validate()
}

// GetOrLoad returns the value of key from memory, from Redis, or from the
// loader, whose result it stores in both. Of concurrent calls for a key only
// one loads, with its own loader and options; each waits as long as its own
// ctx lets it. A loader's error is returned to all who wait and not cached,
// except [ErrNotFound]; with [FailSafe] a value past its TTL may be returned in
// its stead. A loader's panic is a [*PanicError], and a load that is late may be
// [ErrTimeout]: see [Timeouts].
func (c *Cache[K, V]) GetOrLoad(ctx context.Context, key K, load Loader[K, V], opts ...EntryOption) (V, error) {
	h := c.hash(key)
	it, suspect := c.look(h, key, opts)
	if it != nil {
		if suspect != nil {
			c.renew(ctx, h, key, suspect, load, opts)
		}
		return c.open(it)
	}
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		var zero V
		return zero, err
	}
	if load == nil {
		var zero V
		return zero, fmt.Errorf("load %s: the loader is nil: to read without one use Get", c.name)
	}
	if r := c.throttled(h, key, &o); r != nil {
		c.served(key, r)
		return c.open(c.itemOf(r))
	}
	return c.join(ctx, h, key, &o, suspect, load)
}

// load reads Redis, and if it has nothing, takes the right to store, calls the
// loader, and stores what it returns unless something was written meanwhile.
func (c *Cache[K, V]) load(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig, suspect *record, loader Loader[K, V]) (*item[K, V], error) {
	if it := c.arrived(h, key, o); it != nil {
		return it, nil
	}
	var token uint64 // the version of what is about to be loaded
	skey := ""
	if o.failSafe > 0 && !o.skipL1 {
		f.stale.Store(c.remembered(h, key, o))
	}
	if c.s.l2 != nil && !o.skipL2 {
		skey = keyString(key)
		var it *item[K, V]
		var unwanted uint64
		var err error
		asked := suspect != nil || !c.cold.likely()
		if asked {
			it, unwanted, err = c.read(ctx, h, f, key, o, suspect)
		}
		if it != nil {
			c.cold.learn(false)
			return it, nil
		}
		if err == nil {
			it, token, err = c.lease(ctx, h, f, key, skey, o, unwanted, asked)
			c.cold.learn(it == nil)
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
	return c.fetch(ctx, h, f, key, skey, o, token, loader)
}

// fetch calls the loader and stores what it returns under token, the version
// that Redis gave; 0 if it gave none.
func (c *Cache[K, V]) fetch(ctx context.Context, h uint64, f *flight[K, V], key K, skey string, o *entryConfig, token uint64, loader Loader[K, V]) (*item[K, V], error) {
	inL2 := token != 0
	if !inL2 {
		token = c.s.tick()
		done, r, err := c.turn(ctx, h, f, key, o)
		switch {
		case err != nil:
			return nil, err
		case r != nil:
			return c.itemOf(r), nil
		}
		defer done()
	}
	// Until Redis has stored it, nothing says that no other node has written.
	f.unsure = f.unsure || c.s.deaf() && !o.skipL2
	p := c.place(ctx, o, o.ttl)
	f.refs.Store(&p)

	it, l, err := c.produce(ctx, f, key, o, &p, loader)
	if err != nil && !errors.Is(err, ErrNotFound) {
		if r := c.instead(ctx, h, f, key, o); r != nil {
			c.throttle(h, f, key, r, o)
			return c.itemOf(r), nil
		}
		return nil, err
	}
	if l.opts.ttl <= 0 || it.missing() && l.opts.negative <= 0 {
		// It is not to be stored, but what it replaces must not be served again.
		c.retire(ctx, h, f, skey, token)
		return it, err
	}
	grace := l.opts.failSafe
	if it.missing() {
		grace = 0
	}
	p.expire(c.s, &l.opts, l.opts.effectiveTTL(it.missing()), grace)
	if f.lease != 0 && p.known {
		if stored, ferr := c.fill(ctx, f, skey, it, l, &p); ferr == nil {
			f.lease = 0
			f.unsure, f.filled = !stored || c.s.deaf(), stored
			if !stored {
				c.m.fenced.Add(1)
				return it, err
			}
		}
	}
	r := c.record(it, &p, token, inL2)
	r.setAlone(inL2 && !f.filled)
	c.keep(h, f, r, o)
	return it, err
}

// fill stores what was loaded under the flight's lease. It reports whether it
// was stored, which it is not if something was written since the load began.
func (c *Cache[K, V]) fill(ctx context.Context, f *flight[K, V], skey string, it *item[K, V], l *Load[V], p *placement) (stored bool, err error) {
	if c.isThere(f, l, p) {
		version, lost, err := c.s.l2.extend(ctx, c.name, skey, f.lease, f.prior.version, p, false)
		if err != nil || !lost {
			return version != 0, err
		}
	}
	raw, err := c.encode(it)
	if err != nil {
		c.s.log.WarnContext(ctx, "cannot store in redis", slog.String("namespace", c.name), slog.Any("error", err))
		return false, err
	}
	return c.s.l2.fill(ctx, c.name, skey, f.lease, c.entry(skey, raw, it.missing(), p, f.lease), p.ttl+p.grace)
}

// lease asks for the right to store. Who does not get it waits for the other's
// result if the options say so, and else loads for this process alone, under
// the other's token: a write after either load began is newer than it. Unless
// asked, Redis has not been read yet, and is by this.
func (c *Cache[K, V]) lease(ctx context.Context, h uint64, f *flight[K, V], key K, skey string, o *entryConfig, unwanted uint64, asked bool) (*item[K, V], uint64, error) {
	ttl := o.lease
	if ttl <= 0 {
		ttl = DefaultLease
	}
	if err := c.sent(ctx, skey); err != nil {
		return nil, 0, err
	}
	unwanted = max(unwanted, c.s.floor(c.name, skey))
	full := c.s.l2.dataKey(c.name, skey)
	deadline, holder := time.Now().Add(o.lease), uint64(0)
	for wait := 10 * time.Millisecond; ; wait = min(wait*2, 80*time.Millisecond) {
		q := c.asking(skey)
		l, err := c.s.l2.getLease(ctx, c.name, skey, unwanted, ttl)
		if err != nil {
			return nil, 0, err
		}
		if l.data != nil {
			it, r, version := c.decode(ctx, full, skey, key, l.data, o, q)
			if it == nil {
				f.reconsider(r, version, q.epoch)
			}
			if it != nil {
				c.m.l2Hits.Add(1)
				f.unsure = c.s.deaf()
				c.keep(h, f, r, o)
				return it, 0, nil
			}
			if version <= unwanted {
				return nil, 0, ErrUnavailable // its tags cannot be read now
			}
			unwanted = version
			continue // the next answer is not this entry
		}
		if !asked {
			asked = true
			c.m.l2Misses.Add(1)
			_, r, version := c.decode(ctx, full, skey, key, l.stale, o, q)
			f.reconsider(r, max(version, l.version), q.epoch)
		}
		if !l.held {
			f.lease = l.token
			return nil, l.token, nil
		}
		if f.early {
			return nil, 0, errElsewhere
		}
		if o.lease > 0 && f.stale.Load() != nil {
			if r := c.instead(ctx, h, f, key, o); r != nil {
				return c.itemOf(r), 0, nil // another loads
			}
		}
		switch holder {
		case 0:
			holder = l.token
		case l.token, always:
		default: // the one before has died, or given up: this one is waited for as well
			deadline, holder = deadline.Add(o.lease), always
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

// call runs the loader in a span. A panic becomes an error; a Goexit is for
// land to find.
func (c *Cache[K, V]) call(ctx context.Context, key K, loader Loader[K, V], l *Load[V]) (v V, err error) {
	ctx, span := c.s.tracer.Start(ctx, "tiered.load", trace.WithAttributes(attribute.String("tiered.namespace", c.name)))
	began := time.Now()
	c.m.loads.Add(1)
	ended := false
	defer func() {
		if p := recover(); p != nil || !ended {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
		c.loaded(ctx, key, time.Since(began), err)
		endSpan(span, err, ErrNotFound)
	}()
	v, err = loader(context.WithValue(ctx, underLoad{}, true), key, l)
	ended = true
	return v, err
}
