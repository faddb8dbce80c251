package tiered

import (
	"context"
	"errors"
	"fmt"
)

// Write calls write, which changes the source and returns what it has now, and
// stores that in both tiers. It returns what write returned.
//
// The cache is never left with an older value than the source: if anybody else
// wrote the key meanwhile, in any process, by Write, Set, Delete, Update or
// Expire, nobody knows who was last at the source, and the entry is deleted
// instead. So it is if write fails or panics, for the source may have changed
// all the same, or if it takes longer than the lease, which is 30 s or as
// [DistributedLease] says. Loads that are under way are not stored.
//
// Until write has returned, others are served what was there before. If this
// process dies in between, that ends when the lease does, and in the memory of
// processes after the L1TTL.
//
// Write's error is returned as it is. An error of the cache, [ErrUnavailable]
// of a store that requires Redis or [ErrEncode], comes with the value: the
// source has it.
func (c *Cache[K, V]) Write(ctx context.Context, key K, write func(ctx context.Context) (V, error), opts ...EntryOption) (V, error) {
	var zero V
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		return zero, fmt.Errorf("write %s: %w", c.name, err)
	}
	if err := ctx.Err(); err != nil {
		return zero, fmt.Errorf("write %s: %w", c.name, err)
	}
	if write == nil {
		return zero, fmt.Errorf("write %s: the function that writes the source is nil", c.name)
	}
	h, skey := c.hash(key), keyString(key)
	m := c.mark(h, key, true)
	defer c.unmark(h, key, m)
	p := c.place(ctx, &o, o.ttl)
	here := c.s.l2 == nil || o.skipL2
	var token uint64
	if !here {
		if err := c.sent(ctx, skey); err != nil {
			return zero, fmt.Errorf("write %s: %w", c.name, err)
		}
	}
	if !here && p.known {
		token, _, _ = c.s.l2.hold(ctx, c.name, skey, o.leaseTTL(), c.versionOf(h, skey), true) // 0: deleted in the end
	}
	stored := false
	after := context.WithoutCancel(ctx) // the source has changed, whether the caller waits or not
	defer func() {
		if !stored {
			_ = c.remove(after, key) // write has panicked
		}
	}()
	value, err := write(ctx)
	stored = true
	if err != nil {
		return value, errors.Join(err, c.remove(after, key))
	}
	it := &item[K, V]{key: key, value: value}
	if c.clone != nil {
		it.value = c.clone(value)
	}
	p.expire(c.s, &o, o.effectiveTTL(false), o.failSafe)
	if here {
		if !c.keepMarked(h, it, &p, m) {
			err = c.remove(after, key)
		}
		return value, err
	}
	raw, err := c.encode(it)
	version := uint64(0)
	if err == nil && token != 0 {
		var lost error
		version, lost = c.s.l2.setHeld(after, c.name, skey, token, c.entry(skey, raw, false, &p, 1), p.ttl+p.grace)
		if lost != nil {
			version = 0
		}
	}
	if version == 0 {
		return value, errors.Join(err, c.remove(after, key))
	}
	return value, c.settle(h, it, &p, skey, version, nil)
}
