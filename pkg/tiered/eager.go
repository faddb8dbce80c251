package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// eagerPause is how long a process waits before it tries a refresh again that
// has failed or was another's.
const eagerPause = time.Second

// errElsewhere ends a refresh that another process is at.
var errElsewhere = errors.New("another process loads")

// refreshAt draws when a hit may renew a value (XFetch: Vattani, Chierichetti,
// Lowenstein, "Optimal Probabilistic Cache Stampede Prevention", 2015). The
// random part is drawn here, once, so that a hit compares two integers. It is
// soft if the value is not to be renewed early.
func (o *entryConfig) refreshAt(soft int64, ttl, cost time.Duration) int64 {
	if o.beta <= 0 || cost <= 0 {
		return soft
	}
	early := o.beta * float64(cost) * rand.ExpFloat64() //nolint:gosec // it spreads work, nobody gains by guessing it
	return soft - int64(min(early, (1-o.threshold)*float64(ttl)))
}

// renew starts a load of a value that is fresh still, unless one is under way.
func (c *Cache[K, V]) renew(ctx context.Context, h uint64, key K, r *record, load Loader[K, V], opts []EntryOption) {
	if !c.claim(r) {
		return // another caller has started it
	}
	o := c.defaults.with(opts)
	if c.check(key, &o) != nil {
		return
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	m := c.flights[h%stripeCount].of(true)
	if (*m)[key] != nil || !c.s.begin() {
		return
	}
	c.m.renewals.Add(1)
	f := c.start(ctx, h, key, true, func(ctx context.Context, f *flight[K, V]) (*item[K, V], error) {
		return c.reload(ctx, h, f, key, &o, r.version, load)
	})
	c.sendOnward(h, key, f, &o)
	if *m == nil {
		*m = make(map[K]*flight[K, V])
	}
	(*m)[key] = f
}

// claim reports whether the caller is the one to renew what is due.
func (c *Cache[K, V]) claim(r *record) bool {
	now, at := c.s.time.nanos(), r.refresh.Load()
	return now >= at && r.refresh.CompareAndSwap(at, min(now+int64(eagerPause), r.expires))
}

// reload loads a value that must be newer than version, unless another process
// is at it or has done it.
func (c *Cache[K, V]) reload(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig, version uint64, load Loader[K, V]) (*item[K, V], error) {
	f.early = true
	if r := c.inL1(h); c.serves(r, key) {
		f.prior = r
	}
	if o.failSafe > 0 && !o.skipL1 {
		f.stale.Store(c.remembered(h, key, o)) // for those who join
	}
	var token uint64
	skey := ""
	if c.s.l2 != nil && !o.skipL2 {
		skey = keyString(key)
		it, t, err := c.lease(ctx, h, f, key, skey, o, version, true)
		if it != nil {
			return it, nil
		}
		if errors.Is(err, errElsewhere) {
			f.unsure = true // who has joined asks again
			return nil, err
		}
		if err != nil && !errors.Is(err, ErrUnavailable) {
			return nil, fmt.Errorf("refresh %s: %w", c.name, err)
		}
		token = t
	}
	return c.fetch(ctx, h, f, key, skey, o, token, load)
}
