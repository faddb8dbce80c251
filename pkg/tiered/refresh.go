package tiered

import (
	"context"
	"errors"
	"fmt"
)

// Refresh loads the value of key now, whatever is cached, stores it in both
// tiers and returns it. Meanwhile others are served what is there. The loader
// is called after Refresh was: of concurrent calls in a process one loads and
// the others share, but who comes while the loader runs shares the next load.
// A load of another process that began before is not stored.
//
// What the loader returns is stored only if nothing was written since, and
// other processes then hear of it. If it fails, its error is returned, also
// with [FailSafe], and what is cached stays. While Redis is away the value is
// kept in this process, and what Redis has is deleted when it returns.
func (c *Cache[K, V]) Refresh(ctx context.Context, key K, load Loader[K, V], opts ...EntryOption) (V, error) {
	var zero V
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		return zero, fmt.Errorf("refresh %s: %w", c.name, err)
	}
	if err := ctx.Err(); err != nil {
		return zero, fmt.Errorf("refresh %s: %w", c.name, err)
	}
	if load == nil {
		return zero, fmt.Errorf("refresh %s: the loader is nil", c.name)
	}
	h := c.hash(key)
	f, err := c.boardRefresh(ctx, h, key, &o, load)
	if err != nil {
		return zero, fmt.Errorf("refresh %s: %w", c.name, err)
	}
	if _, _, err := c.await(ctx, h, key, f, &o, true); err != nil {
		return zero, err
	}
	if f.err != nil {
		return zero, f.err
	}
	return c.open(f.it)
}

// boardRefresh joins the refresh that has not begun to load, or lines one up
// behind the one that has.
func (c *Cache[K, V]) boardRefresh(ctx context.Context, h uint64, key K, o *entryConfig, load Loader[K, V]) (*flight[K, V], error) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	fs := &c.flights[h%stripeCount]
	if f := fs.next[key]; f != nil && f.spoilt == 0 {
		f.waiters++
		c.m.coalesced.Add(1)
		return f, nil
	}
	if !c.s.begin() {
		return nil, ErrClosed
	}
	own, before := *o, fs.now[key]
	f := c.start(ctx, h, key, true, func(ctx context.Context, f *flight[K, V]) (*item[K, V], error) {
		if before != nil {
			select {
			case <-before.done:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		st.mu.Lock()
		if fs.next[key] == f {
			delete(fs.next, key)
		}
		fs.now[key] = f
		st.mu.Unlock()
		defer func() {
			st.mu.Lock()
			defer st.mu.Unlock()
			if fs.now[key] == f {
				delete(fs.now, key)
			}
		}()
		return c.refresh(ctx, h, f, key, &own, load)
	})
	f.waiters = 1
	if fs.next == nil {
		fs.next, fs.now = make(map[K]*flight[K, V]), make(map[K]*flight[K, V])
	}
	fs.next[key] = f
	return f, nil
}

func (c *Cache[K, V]) refresh(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig, load Loader[K, V]) (*item[K, V], error) {
	m := c.mark(h, key, false)
	defer c.unmark(h, key, m)
	skey := keyString(key)
	here := c.s.l2 == nil || o.skipL2
	if r := c.inL1(h); c.serves(r, key) {
		f.prior = r
	}
	if !here {
		if err := c.sent(ctx, skey); err != nil {
			return nil, fmt.Errorf("refresh %s: %w", c.name, err)
		}
		q := c.asking(skey)
		token, data, err := c.s.l2.hold(ctx, c.name, skey, o.leaseTTL(), c.versionOf(h, skey), false)
		if err != nil && !errors.Is(err, ErrUnavailable) {
			return nil, fmt.Errorf("refresh %s: %w", c.name, err)
		}
		f.lease = token
		if err == nil {
			_, f.prior, _ = c.decode(ctx, c.s.l2.dataKey(c.name, skey), skey, key, data, o, q)
		}
	}
	p := c.place(ctx, o, o.ttl)
	f.refs.Store(&p)
	it, l, err := c.produce(ctx, f, key, o, &p, load)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	if gone := ctx.Err(); gone != nil {
		return nil, gone // nobody waits, and others may be at it by now
	}
	if l.opts.ttl <= 0 || it.missing() && l.opts.negative <= 0 {
		return it, errors.Join(err, c.remove(ctx, key))
	}
	grace := l.opts.failSafe
	if it.missing() {
		grace = 0
	}
	p.expire(c.s, &l.opts, l.opts.effectiveTTL(it.missing()), grace)
	if here {
		if !c.keepMarked(h, it, &p, m) {
			c.m.fenced.Add(1)
		}
		return it, err
	}
	version, failed := uint64(0), ErrUnavailable
	if f.lease != 0 && p.known {
		lost := true
		if c.isThere(f, l, &p) {
			version, lost, failed = c.s.l2.extend(ctx, c.name, skey, f.lease, f.prior.version, &p, true)
		}
		if lost {
			raw, eerr := c.encode(it)
			if eerr != nil {
				return it, errors.Join(err, eerr)
			}
			version, failed = c.s.l2.setHeld(ctx, c.name, skey, f.lease, c.entry(skey, raw, it.missing(), &p, 1), p.ttl+p.grace)
		}
		if failed == nil {
			f.lease = 0
		}
		if failed != nil && ctx.Err() != nil {
			c.forget(h, key, 0) // Redis alone knows which value holds
			return nil, ctx.Err()
		}
		if failed == nil && version == 0 {
			c.m.fenced.Add(1)
			return it, err
		}
	}
	if serr := c.settle(h, it, &p, skey, version, failed); serr != nil && !errors.Is(serr, ErrUnavailable) {
		return it, errors.Join(err, serr)
	}
	return it, err
}

// serves reports whether a record is the key's, and has a value that is served.
func (c *Cache[K, V]) serves(r *record, key K) bool {
	it, _ := c.servedBy(r, key)
	return it != nil && !it.missing()
}

// inL1 is the key's record in memory, whatever it is; nil if there is none.
func (c *Cache[K, V]) inL1(h uint64) *record {
	if c.s.l1 == nil || c.s.isClosed() {
		return nil
	}
	return c.s.l1.get(h)
}
