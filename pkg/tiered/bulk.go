package tiered

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
)

// bulkSize is how many keys go into one round trip. It bounds how long Redis
// and its other clients are kept, and what is lost with a connection.
const bulkSize = 256

// GetMany returns the values of those keys that memory or Redis has, asking
// Redis for many in one round trip. Keys that neither has, or that are cached
// as [ErrNotFound], are not in the map. Each key is read as by Get: concurrent
// calls share reads key by key, and a write in between is never undone.
//
// After an error the map has the values that were found nevertheless. Without
// a memory tier the tags of each entry cost a round trip of their own.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, opts ...EntryOption) (map[K]V, error) {
	found := make(map[K]V, len(keys))
	o := c.defaults.with(opts)
	var ask []seat[K, V]
	seen := make(map[K]struct{}, len(keys))
	for _, key := range keys {
		if err := c.check(key, &o); err != nil {
			return found, fmt.Errorf("get many %s: %w", c.name, err)
		}
		if _, ok := seen[key]; ok {
			continue
		}
		seen[key] = struct{}{}
		s := seat[K, V]{key: key, hash: c.hash(key)}
		it, suspect := c.look(s.hash, key, opts)
		if it == nil {
			s.suspect = suspect
			ask = append(ask, s)
		} else if v, err := c.open(it); err == nil {
			found[key] = v
		}
	}
	if c.s.l2 == nil || o.skipL2 {
		return found, nil
	}
	var errs []error
	for batch := range slices.Chunk(ask, bulkSize) {
		if err := c.getBatch(ctx, batch, &o, found); err != nil {
			errs = append(errs, fmt.Errorf("get many %s: %w", c.name, err))
			break // it would be the same for the rest
		}
	}
	return found, errors.Join(errs...)
}

// seat is a call's place in the flight of one key.
type seat[K Key, V any] struct {
	key     K
	hash    uint64
	f       *flight[K, V]
	joined  bool
	suspect *record // read again whole: it shares the round trip
}

// getBatch reads keys that memory does not have.
func (c *Cache[K, V]) getBatch(ctx context.Context, batch []seat[K, V], o *entryConfig, found map[K]V) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	rctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := c.s.onEnd(cancel)
	var left atomic.Int64 // flights of this batch that somebody waits for
	leave := func() {
		if left.Add(-1) == 0 {
			cancel()
		}
	}
	left.Store(1) // until all have boarded
	var seats, own []seat[K, V]
	var err error
	for _, s := range batch {
		if err = c.sit(&s, leave, &left); err != nil {
			break
		}
		seats = append(seats, s)
		if !s.joined {
			own = append(own, s)
		}
	}
	opts := *o
	go func() {
		defer cancel()
		defer unhook()
		c.readBatch(rctx, own, &opts)
	}()
	leave()
	for _, s := range seats {
		if _, _, werr := c.await(ctx, s.hash, s.key, s.f, o, false); werr != nil {
			err = werr // and so it is for the rest, who leave at once
			continue
		}
		it, ferr := s.f.it, s.f.err
		if s.joined && s.f.unsure { // it may be from before this call: ask alone
			v, jerr := c.join(ctx, s.hash, s.key, o, nil, nil)
			if jerr == nil {
				found[s.key] = v
				continue
			}
			it, ferr = nil, jerr
		}
		if it != nil {
			if v, oerr := c.open(it); oerr == nil {
				found[s.key] = v
			}
		} else if !errors.Is(ferr, ErrMiss) && !errors.Is(ferr, ErrNotFound) {
			err = ferr
		}
	}
	return err
}

// sit joins the key's read or opens one, which the batch then flies.
func (c *Cache[K, V]) sit(s *seat[K, V], leave func(), left *atomic.Int64) error {
	st := c.s.stripes.of(s.hash)
	st.mu.Lock()
	defer st.mu.Unlock()
	m := c.flights[s.hash%stripeCount].of(false)
	f := (*m)[s.key]
	if f != nil && f.joinable(c.s) {
		f.waiters++
		c.m.coalesced.Add(1)
		s.f, s.joined = f, true
		return nil
	}
	if !c.s.begin() {
		return ErrClosed
	}
	if f != nil {
		f.spoilt = always
	}
	left.Add(1)
	s.f = c.newFlight(leave)
	s.f.waiters = 1
	if *m == nil {
		*m = make(map[K]*flight[K, V])
	}
	(*m)[s.key] = s.f
	return nil
}

// readBatch flies the batch's own flights and lands each of them.
func (c *Cache[K, V]) readBatch(ctx context.Context, own []seat[K, V], o *entryConfig) {
	full := make([]string, len(own))
	for i, s := range own {
		full[i] = c.s.l2.dataKey(c.name, keyString(s.key))
	}
	epoch := c.s.coherent()
	var entries [][]byte
	var err error
	if len(own) > 0 {
		entries, err = c.s.l2.getMany(ctx, full)
	}
	for i, s := range own {
		func() {
			defer c.s.loads.Done()
			defer c.land(s.hash, s.key, s.f, false)
			if err != nil && !errors.Is(err, ErrUnavailable) {
				s.f.err = err
				return
			}
			s.f.err = ErrMiss
			if err != nil {
				if s.suspect != nil {
					s.f.it, s.f.err = s.suspect.item.(*item[K, V]), nil
				}
				return
			}
			it, r, _ := c.decode(ctx, full[i], keyString(s.key), s.key, entries[i], o, epoch)
			if s.suspect != nil && (it == nil || r.version != s.suspect.version) {
				c.dropSuspect(s.hash, s.suspect)
			}
			if it == nil {
				c.m.l2Misses.Add(1)
				return
			}
			c.m.l2Hits.Add(1)
			s.f.unsure = c.s.l1 == nil
			c.keep(s.hash, s.f, r, o)
			s.f.it, s.f.err = it, nil
		}()
	}
}

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
			errs = append(errs, fmt.Errorf("set %s: %w", c.name, err), c.Delete(ctx, key))
			continue
		}
		writes = append(writes, w)
		calls = append(calls, c.s.l2.setCall(c.name, w.skey, c.entry(w.skey, raw, false, &w.p, 1), w.p.ttl+w.p.grace, c.versionOf(w.h, w.skey)))
	}
	if len(calls) == 0 {
		return errs
	}
	err := ErrUnavailable
	if cause := gaveUp(ctx); !snapshot.known && cause != nil {
		err = fmt.Errorf("%w: %w", errCaller, cause)
	}
	if snapshot.known {
		err = c.s.l2.do(ctx, "setmany", func(ctx context.Context) error { return runAll(ctx, c.s.l2.c, calls) })
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
