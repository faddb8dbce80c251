package tiered

import (
	"context"
	"errors"
	"time"
)

// Fail-safe: what is past its TTL is kept until its hard expiry, and served
// when the loader fails or is late. Before that it is confirmed: nothing may
// have been written over it, here or, unless Redis is away, anywhere.

// remembered is the key's record in memory, whatever its age, if it may be
// served stale.
func (c *Cache[K, V]) remembered(h uint64, key K, o *entryConfig) *record {
	if c.s.l1 == nil || c.s.isClosed() {
		return nil
	}
	r := c.s.l1.get(h)
	if r == nil || r.ns.cell != c.ns || !c.servable(r, o) {
		return nil
	}
	if it := c.itemOf(r); it == nil || it.key != key {
		return nil
	}
	return r
}

// servable reports whether time and tags let a record be served stale.
func (c *Cache[K, V]) servable(r *record, o *entryConfig) bool {
	it := c.itemOf(r)
	return it != nil && !it.missing() && c.s.time.nanos() < min(r.hard(), r.soft+int64(o.failSafe)) &&
		r.ns.valid() && allValid(r.tags())
}

// throttled is what is served without a load, because the last one failed only
// just now.
func (c *Cache[K, V]) throttled(h uint64, key K, o *entryConfig) *record {
	if o.failSafe <= 0 || o.throttle <= 0 || o.skipL1 {
		return nil
	}
	r := c.remembered(h, key, o)
	if r == nil {
		return nil
	}
	if more := r.extras.Load(); more == nil || c.s.time.nanos() >= more.retry.Load() {
		return nil
	}
	if r.epoch.Load() == c.s.epoch.Load() || c.s.l2 == nil || !c.s.l2.available() {
		return r
	}
	return nil // messages were missed: the load asks Redis first
}

// reconsider takes over what Redis answered: r is its entry if that may be
// served stale, unwanted the version of whatever is there. What memory
// remembers counts only if no message can have been missed, and there is
// nothing newer.
func (f *flight[K, V]) reconsider(r *record, unwanted, epoch uint64) {
	if r == nil {
		r = f.stale.Load()
		if r == nil || r.version >= unwanted && epoch != 0 && r.epoch.Load() == epoch {
			return
		}
		r = nil
	}
	f.stale.Store(r)
}

// confirm reports whether r may be served to one who waits for the flight.
func (c *Cache[K, V]) confirm(ctx context.Context, h uint64, f *flight[K, V], key K, r *record, o *entryConfig) bool {
	usable := func() bool {
		st := c.s.stripes.of(h)
		st.mu.Lock()
		defer st.mu.Unlock()
		return f.spoilt == 0 && c.servable(r, o)
	}
	if r == nil || o.failSafe <= 0 || !usable() {
		return false
	}
	if epoch := c.s.coherent(); c.s.l2 == nil || o.skipL2 || epoch != 0 && r.epoch.Load() == epoch {
		return true
	}
	skey := keyString(key)
	current, err := c.revalidate(ctx, c.s.l2.dataKey(c.name, skey), skey, r)
	return (current || errors.Is(err, ErrUnavailable)) && usable()
}

// instead is what a flight serves whose load has failed, or is another's; nil
// if there is nothing. Nobody joins any more before Redis is asked, so that
// what it says holds for all who wait.
func (c *Cache[K, V]) instead(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig) *record {
	r := f.stale.Load()
	if r == nil {
		return nil
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	f.shut = true
	st.mu.Unlock()
	if c.confirm(ctx, h, f, key, r, o) {
		if !f.early {
			c.served(key, r)
		}
		return r
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if (*c.flights[h%stripeCount].of(true))[key] != f {
		f.spoilt = always // it has not been told of writes since
	}
	f.shut = false
	return nil
}

// throttle keeps loads of the key from being tried for a while, by leaving r in
// memory with a mark. It must be there still that a write would have found it.
func (c *Cache[K, V]) throttle(h uint64, f *flight[K, V], key K, r *record, o *entryConfig) {
	if o.throttle <= 0 || o.skipL1 || c.s.l1 == nil {
		return
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	if f.spoilt == 0 && (*c.flights[h%stripeCount].of(true))[key] == f {
		throttle := o.throttle
		if c.s.plane == Off {
			throttle = o.local(throttle) // nobody would tell of a write
		}
		r.extras.CompareAndSwap(nil, &extras{hard: r.soft})
		r.extras.Load().retry.Store(c.s.time.nanos() + int64(throttle))
		c.s.l1.put(h, r)
	}
}

// retire ends what could be served stale, for the source has said that it is
// no more: in memory, and in Redis unless something was written meanwhile.
func (c *Cache[K, V]) retire(ctx context.Context, h uint64, f *flight[K, V], skey string, token uint64) {
	if f.stale.Load() == nil {
		return
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	if f.spoilt == 0 && c.s.l1 != nil {
		c.s.l1.drop(h, always)
	}
	st.mu.Unlock()
	if f.lease == 0 {
		return
	}
	tomb := c.s.l2.tombstone(c.s.l2.dataKey(c.name, skey), token)
	stored, err := c.s.l2.fill(ctx, c.name, skey, token, tomb, tombstoneTTL)
	if err == nil {
		f.lease = 0
		f.unsure = !stored || c.s.deaf()
	}
}

// depart leaves a flight that goes on: what it brings is wanted, though nobody
// waits for it. It ends when it could not be stored any more.
func (c *Cache[K, V]) depart(h uint64, key K, f *flight[K, V], o *entryConfig) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	f.waiters--
	c.sendOnward(h, key, f, o)
}

// sendOnward needs the stripe's lock.
func (c *Cache[K, V]) sendOnward(h uint64, key K, f *flight[K, V], o *entryConfig) {
	if f.onward || f.landed {
		return
	}
	f.onward = true
	bound := o.lease
	if bound <= 0 {
		bound = DefaultLease
	}
	f.reaper = time.AfterFunc(bound-time.Since(f.began), func() {
		st := c.s.stripes.of(h)
		st.mu.Lock()
		defer st.mu.Unlock()
		f.onward = false
		if !f.landed && f.waiters <= 0 {
			c.abandon(h, key, f, true)
		}
	})
}
