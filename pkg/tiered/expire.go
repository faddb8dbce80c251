package tiered

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Expire makes the value of key live for ttl from now, longer or shorter than
// it would have, without reading or writing the value: a round trip costs the
// same whatever its size. It reports whether there was one. What is past its
// TTL, or is cached as [ErrNotFound], is none. The time for which [FailSafe] keeps the
// value after its TTL stays the same, and so do its tags.
//
// It is a write like Set: a load that is under way does not undo it, and other
// processes hear of it. If Redis is away it holds in this process, and what
// Redis has of the key is deleted when it returns, for it cannot be known
// whose life is the right one; see [WithRedisRequired] for the error.
func (c *Cache[K, V]) Expire(ctx context.Context, key K, ttl time.Duration) (existed bool, err error) {
	o := c.defaults
	if err := c.check(key, &o); err != nil {
		return false, fmt.Errorf("expire %s: %w", c.name, err)
	}
	if ttl < time.Millisecond || ttl > maxFailSafe {
		return false, fmt.Errorf("expire %s: ttl %v: want 1ms to %v; to end a value now use Delete", c.name, ttl, maxFailSafe)
	}
	if err := ctx.Err(); err != nil {
		return false, fmt.Errorf("expire %s: %w", c.name, err)
	}
	h := c.hash(key)
	if c.s.l2 == nil {
		return c.expireHere(h, key, &o, ttl, expiry{}, 0), nil
	}
	skey := keyString(key)
	if err := c.sent(ctx, skey); err != nil {
		return false, fmt.Errorf("expire %s: %w", c.name, err)
	}
	epoch := c.s.coherent()
	x, err := c.s.l2.expire(ctx, c.name, skey, ttl, c.versionOf(h, skey), c.s.floor(c.name, skey))
	switch {
	case err == nil && x.version == 0:
		// Memory may have what was kept out of Redis.
		return c.expireHere(h, key, &o, ttl, x, epoch), nil
	case err == nil:
		atomicMax(&c.s.hlc, x.version)
		c.s.lost.told(c.name, skey, x.version)
		c.expireHere(h, key, &o, ttl, x, epoch)
		existed, err = c.isValid(ctx, c.s.l2.dataKey(c.name, skey), x.prefix)
		if err = c.s.report(err); err != nil {
			return existed, fmt.Errorf("expire %s: %w", c.name, err)
		}
		return existed, nil
	}
	version := max(c.s.tick(), c.versionOf(h, skey)+1)
	c.s.lose(c.name, skey, version)
	if errors.Is(err, errCaller) || !errors.Is(err, ErrUnavailable) {
		c.forget(h, key, version) // nobody knows which life holds
	} else {
		existed = c.expireHere(h, key, &o, ttl, expiry{lost: version}, epoch)
	}
	if err = c.s.report(err); err != nil {
		return existed, fmt.Errorf("expire %s: %w", c.name, err)
	}
	return existed, nil
}

// expiry is what Redis did to an entry.
type expiry struct {
	version, before uint64 // 0: there was none
	prefix          []byte // the entry's first bytes, changed
	lost            uint64 // version of an expiry that Redis was not told of
}

// prefixLen has the tags of nearly every entry.
const prefixLen = 512

func (r *remote) expire(ctx context.Context, ns, key string, ttl time.Duration, least, unwanted uint64) (x expiry, err error) {
	head, tail := r.message('k', ns+" "+key)
	err = r.do(ctx, "expire", func(ctx context.Context) error {
		v, err := scriptExpire.Run(ctx, r.c, []string{r.dataKey(ns, key), r.leaseKey(ns, key)},
			millis(ttl), text(least), r.channel, head, tail, text(unwanted), prefixLen).Slice()
		if err != nil || len(v) != 3 {
			return err
		}
		version, _ := v[0].(int64)
		before, _ := v[1].(int64)
		prefix, _ := v[2].(string)
		x = expiry{version: uint64(version), before: uint64(before), prefix: []byte(prefix)}
		return nil
	})
	return x, err
}

// expireHere gives what memory has its new life, if it is what Redis has, or if
// Redis does not have it, and else drops it.
func (c *Cache[K, V]) expireHere(h uint64, key K, o *entryConfig, ttl time.Duration, x expiry, epoch uint64) (existed bool) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	r, it := c.inMemory(h, key)
	version, inL2 := x.version, x.version != 0
	switch {
	case x.version != 0 && (r == nil || r.version != x.before):
		st.newest = max(st.newest, x.version)
		c.flights[h%stripeCount].spoil(key, x.version)
		if c.s.l1 != nil {
			c.s.l1.drop(h, x.version)
		}
		return false
	case it == nil:
		return false
	case x.version == 0 && c.s.l2 != nil && x.lost == 0 && r.inL2():
		c.s.l1.drop(h, always) // Redis has lost it, or somebody has deleted it
		return false
	case x.lost != 0:
		version = x.lost
		st.heard(x.lost)
	case x.version == 0:
		version = c.s.tick()
	}
	st.newest = max(st.newest, version)
	c.flights[h%stripeCount].spoil(key, version)
	p := placement{epoch: epoch, ns: r.ns, tags: r.tags()}
	if !inL2 {
		p.epoch = r.epoch.Load()
	}
	p.expire(c.s, o, ttl, time.Duration(r.hard()-r.soft))
	kept := c.record(it, &p, version, inL2)
	kept.setAlone(r.alone())
	c.s.l1.put(h, kept)
	c.verify(h, kept)
	return true
}

// isValid reports whether an entry of which only the first bytes are known is
// one of this cache that no tag invalidates.
func (c *Cache[K, V]) isValid(ctx context.Context, full string, prefix []byte) (bool, error) {
	for {
		e, err := parseTags(prefix, keyHash(full))
		if errors.Is(err, errShort) && len(prefix) == prefixLen {
			if prefix, err = c.s.l2.start(ctx, full); err == nil && len(prefix) > prefixLen {
				continue
			}
		}
		if err != nil {
			if errors.Is(err, ErrUnavailable) || errors.Is(err, errCaller) {
				return false, err
			}
			return false, nil
		}
		if e.schema != c.schema || e.codec != c.codec.ID() {
			return false, nil
		}
		refs := []tagRef{{cell: c.ns, version: e.nsVersion}}
		cells := []*tagCell{c.ns}
		for _, t := range e.tags {
			cell := c.s.tags.get(tagKey(c.s.prefix, t.name), c.s.tick)
			refs, cells = append(refs, tagRef{cell: cell, version: t.version}), append(cells, cell)
		}
		if err := c.s.current(ctx, cells); err != nil {
			return false, err
		}
		now := c.s.l2.now()
		for _, ref := range refs {
			if !c.agrees(ref, now) {
				return false, nil
			}
		}
		return true, nil
	}
}

// start returns as many of an entry's first bytes as its tags can take.
func (r *remote) start(ctx context.Context, key string) (b []byte, err error) {
	const most = headerLen + 16 + maxTags*(maxTagLen+16)
	err = r.do(ctx, "getrange", func(ctx context.Context) (err error) {
		b, err = r.c.GetRange(ctx, key, 0, most-1).Bytes()
		return err
	})
	return b, ignoreReply(err)
}
