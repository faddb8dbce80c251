package tiered

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// SetMany stores values as Set does, each with a version and a message of its
// own, in as few round trips as may be. It is no transaction: after an error
// some may be stored, and the error has the cause of each key that is not.
func (c *Cache[K, V]) SetMany(ctx context.Context, values map[K]V, opts ...EntryOption) error {
	o := c.defaults.with(opts)
	var errs []error
	keys := make([]K, 0, len(values))
	for key := range values {
		if err := c.check(key, &o); err != nil {
			return fmt.Errorf("set many %s: %w", c.name, err)
		}
		keys = append(keys, key)
	}
	for batch := range slices.Chunk(keys, bulkSize) {
		if err := ctx.Err(); err != nil {
			return errors.Join(append(errs, fmt.Errorf("set many %s: %w", c.name, err))...)
		}
		errs = append(errs, c.setBatch(ctx, batch, values, &o)...)
	}
	return errors.Join(errs...)
}

func (c *Cache[K, V]) setBatch(ctx context.Context, keys []K, values map[K]V, o *entryConfig) (errs []error) {
	type write struct {
		it   *item[K, V]
		p    placement
		h    uint64
		skey string
	}
	_ = c.allSent(ctx, keys) // if ctx ends, what follows says so
	snapshot := c.place(ctx, o, o.ttl)
	var writes []write
	var calls []*call
	for _, key := range keys {
		w := write{it: &item[K, V]{key: key, value: values[key]}, p: snapshot, h: c.hash(key)}
		if c.clone != nil {
			w.it.value = c.clone(w.it.value)
		}
		w.p.expire(c.s, o, o.effectiveTTL(false), o.failSafe) // jitter differs
		if c.s.l2 == nil || o.skipL2 {
			c.keepSet(w.h, w.it, &w.p, c.s.tick(), false)
			continue
		}
		w.skey = keyString(key)
		raw, err := c.encode(w.it)
		if err != nil {
			errs = append(errs, fmt.Errorf("set %s: %w", c.name, err), c.remove(ctx, key))
			continue
		}
		writes = append(writes, w)
		calls = append(calls, c.s.l2.setCall(c.name, w.skey, c.entry(w.skey, raw, false, &w.p, 1), w.p.ttl+w.p.grace, c.versionOf(w.h, w.skey), 0))
	}
	if len(calls) == 0 {
		return errs
	}
	err := ErrUnavailable
	if cause := gaveUp(ctx); !snapshot.known && cause != nil {
		err = fmt.Errorf("%w: %w", errCaller, cause)
	}
	if snapshot.known {
		err = c.s.l2.do(ctx, "setmany", func(ctx context.Context) error { return c.s.l2.runSets(ctx, calls) })
	}
	for i := range writes {
		w := &writes[i]
		version, failed := uint64(0), err
		if cmd := calls[i].cmd; cmd != nil && cmd.Err() == nil {
			version, failed = 0, nil
			if version, failed = cmd.Uint64(); failed != nil {
				failed = fmt.Errorf("%w: %w", ErrUnavailable, failed)
			}
		}
		errs = append(errs, c.settle(w.h, w.it, &w.p, w.skey, version, failed))
	}
	return errs
}

// DeleteMany removes values as Delete does, each with a version and a message
// of its own, in as few round trips as may be. It is no transaction: after an
// error some may be deleted, and the error has the cause of each key that is not.
func (c *Cache[K, V]) DeleteMany(ctx context.Context, keys []K) error {
	if err := c.checkMany(keys, &c.defaults); err != nil {
		return fmt.Errorf("delete many %s: %w", c.name, err)
	}
	var errs []error
	for batch := range slices.Chunk(keys, bulkSize) {
		_ = c.allSent(ctx, batch) // if ctx ends, what follows says so
		calls := make([]*call, 0, len(batch))
		least := make([]uint64, len(batch))
		for i, key := range batch {
			h := c.hash(key)
			if c.s.l2 != nil {
				skey := keyString(key)
				least[i] = c.versionOf(h, skey)
				calls = append(calls, c.s.l2.deleteCall(c.name, skey, least[i], 0))
			}
			c.forget(h, key, 0)
		}
		if c.s.l2 == nil {
			for _, key := range batch {
				c.deleted(key, 0)
			}
			continue
		}
		err := c.pipeline(ctx, "deletemany", calls)
		for i, key := range batch {
			errs = append(errs, c.settleDelete(c.hash(key), key, least[i], calls[i], err))
		}
	}
	return errors.Join(errs...)
}

// settleDelete does in memory what Redis has answered to a delete.
func (c *Cache[K, V]) settleDelete(h uint64, key K, least uint64, done *call, err error) error {
	version, skey := uint64(0), keyString(key)
	defer func() { c.deleted(key, version) }()
	if err = done.outcome(err); err == nil {
		version, err = done.cmd.Uint64()
	}
	if err != nil {
		version = max(c.s.tick(), least+1)
		c.s.lose(c.name, skey, version)
	} else {
		atomicMax(&c.s.hlc, version)
		c.s.lost.told(c.name, skey, version)
	}
	c.forget(h, key, version) // again: a load that began in between may have found the old entry
	if err = c.s.report(err); err != nil {
		return fmt.Errorf("delete %s: %w", c.name, err)
	}
	return nil
}
