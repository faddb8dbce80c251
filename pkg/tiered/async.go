package tiered

import "context"

// posts reports whether a write may be left to the outbox: not if memory cannot
// answer for it meanwhile, or Redis does not take it just now.
func (c *Cache[K, V]) posts(o *entryConfig, skey string) bool {
	s := c.s
	return o.async && s.l2 != nil && s.l1 != nil && s.plane == PubSub && !o.skipL1 && !o.skipL2 &&
		s.l2.available() && s.lost.floor(c.name, skey) == 0
}

// next is a version above all that this process knows of the key. It needs the
// stripe's lock.
func (c *Cache[K, V]) next(st *stripe, h uint64, skey string) uint64 {
	v := max(c.s.tick(), c.versionOf(h, skey)+1, st.newest+1)
	atomicMax(&c.s.hlc, v)
	return v
}

// post queues a write that do has made a posting of under a version, and does
// it in memory, in one step under the stripe's lock. If the key's last write is
// on its way it waits for it: so Redis gets them in order. It reports false if
// the write is to be made now instead.
func (c *Cache[K, V]) post(ctx context.Context, h uint64, key K, skey string, prepare func(version uint64) *posting, here func(st *stripe, version uint64)) (bool, error) {
	if !c.s.begin() {
		return false, ErrClosed
	}
	defer c.s.loads.Done() // Close awaits it before it empties the outbox
	st := c.s.stripes.of(h)
	try := func() (ahead *posting, ok bool) {
		st.mu.Lock()
		defer st.mu.Unlock()
		version := c.next(st, h, skey)
		p := prepare(version)
		p.at, p.version = outKey{c.name, skey}, version
		if ahead, ok = c.s.outbox.post(p); ok {
			c.flights[h%stripeCount].spoil(key, always)
			here(st, version)
		}
		return ahead, ok
	}
	for {
		ahead, ok := try()
		if ok || ahead == nil {
			return ok, nil
		}
		if err := ahead.await(ctx); err != nil {
			return false, err
		}
		if !c.s.l2.available() || c.s.lost.floor(c.name, skey) != 0 {
			return false, nil
		}
	}
}

// postSet queues a Set of an entry that is encoded already.
func (c *Cache[K, V]) postSet(ctx context.Context, h uint64, it *item[K, V], p *placement, skey string, entry []byte) (bool, error) {
	return c.post(ctx, h, it.key, skey, func(version uint64) *posting {
		call := c.s.l2.setCall(c.name, skey, entry, p.ttl+p.grace, version, version)
		return &posting{call: call, size: len(entry), settle: func(stored uint64, err error) {
			c.settlePosted(h, it.key, skey, version, stored, err, func(st *stripe) { c.putSet(st, h, it, p, stored, true) })
		}}
	}, func(st *stripe, version uint64) { c.putSet(st, h, it, p, version, false) })
}

// postDelete queues a Delete.
func (c *Cache[K, V]) postDelete(ctx context.Context, h uint64, key K, skey string) (version uint64, ok bool, err error) {
	ok, err = c.post(ctx, h, key, skey, func(version uint64) *posting {
		call := c.s.l2.deleteCall(c.name, skey, version, version)
		return &posting{call: call, size: headerLen, settle: func(stored uint64, err error) {
			c.settlePosted(h, key, skey, version, stored, err, nil)
		}}
	}, func(st *stripe, v uint64) {
		version = v
		st.heard(v)
		c.s.l1.drop(h, always)
	})
	return version, ok, err
}

// settlePosted does in memory what Redis has answered to a posted write of a
// version, which it stored as another, or refused (0) for a newer one. Put puts
// what was set under the version that it has now; nil if it was deleted.
func (c *Cache[K, V]) settlePosted(h uint64, key K, skey string, version, stored uint64, err error, put func(*stripe)) {
	switch {
	case err != nil:
		c.s.lose(c.name, skey, version)
	case stored != 0:
		atomicMax(&c.s.hlc, stored)
		c.s.lost.told(c.name, skey, stored)
	}
	if err == nil && stored != 0 && put == nil {
		c.forget(h, key, stored) // again: a load that began in between may have found the old entry
		return
	}
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	r := c.s.l1.get(h)
	if r == nil || r.version != version || r.inL2() || r.ns.cell != c.ns {
		// It has given way to something else, or was given up.
		st.newest = max(st.newest, stored)
		if stored != 0 {
			c.flights[h%stripeCount].spoil(key, stored)
		}
		if r != nil && r.inL2() {
			c.s.l1.drop(h, stored)
		}
		return
	}
	switch {
	case err != nil: // memory alone has it, until Redis is back
	case stored == 0:
		c.s.l1.drop(h, always)
	default:
		put(st)
	}
}
