package tiered

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// BulkLoader reads many values from their source. Keys that its map lacks do
// not exist, as if a [Loader] had returned [ErrNotFound] for each. With an
// error it may return what it has nevertheless; then the other keys have failed.
//
// keys has no key twice and is the loader's own. ctx ends when nobody waits for
// any of the values any more; it carries the values, but not the deadline, of
// the call that started the load.
type BulkLoader[K Key, V any] func(ctx context.Context, keys []K) (map[K]V, error)

// BulkError reports for which keys a call for many failed, and why. It matches
// each of the causes by errors.Is and As. Its text names no keys.
type BulkError[K Key] struct {
	Op     string // such as "load many users"
	Asked  int    // how many keys the call was for
	Failed map[K]error
}

// Error names the number of keys and up to three different causes.
func (e *BulkError[K]) Error() string {
	causes := e.Unwrap()
	texts := make([]string, 0, 4)
	for i, err := range causes {
		if i == 3 {
			texts = append(texts, fmt.Sprintf("and %d more causes", len(causes)-3))
			break
		}
		texts = append(texts, err.Error())
	}
	return fmt.Sprintf("%s: %d of %d keys failed: %s", e.Op, len(e.Failed), e.Asked, strings.Join(texts, "; "))
}

// Unwrap returns the causes in the order of the keys, those with the same text
// once.
func (e *BulkError[K]) Unwrap() []error {
	seen := make(map[string]struct{})
	var causes []error
	for _, key := range slices.Sorted(maps.Keys(e.Failed)) {
		err := e.Failed[key]
		if _, ok := seen[err.Error()]; !ok {
			seen[err.Error()] = struct{}{}
			causes = append(causes, err)
		}
	}
	return causes
}

// GetOrLoadMany returns the values of keys from memory, from Redis, or from
// the loader, which is called once for all that neither has. Each key is loaded
// as by [Cache.GetOrLoad], and calls of both share loads key by key: a key that
// another call loads already is waited for, and one written during the load is
// not stored, while the others are. Redis is asked in few round trips: one read,
// one for the leases and one to store, for 256 keys each.
//
// Keys that do not exist are not in the map, and cached for [NegativeTTL]. If
// some keys fail, the map has the others, and the error is a [*BulkError] that
// says which. With [FailSafe] a value past its TTL is served instead, per key.
// With [DistributedLease], keys that other processes load are waited for while
// the loader runs for the rest; what those processes then do not bring is
// loaded by a further call.
func (c *Cache[K, V]) GetOrLoadMany(ctx context.Context, keys []K, load BulkLoader[K, V], opts ...EntryOption) (map[K]V, error) {
	began := time.Now()
	found := make(map[K]V, len(keys))
	o := c.defaults.with(opts)
	if err := c.checkMany(keys, &o); err != nil {
		return found, fmt.Errorf("load many %s: %w", c.name, err)
	}
	if load == nil {
		return found, fmt.Errorf("load many %s: the loader is nil: to read without one use GetMany", c.name)
	}
	var ask, due []seat[K, V]
	for _, key := range keys {
		h := c.hash(key)
		it, special := c.look(h, key, opts)
		if it != nil {
			c.openInto(found, it)
			if special != nil && c.claim(special) {
				due = append(due, seat[K, V]{key: key, hash: h, suspect: special})
			}
		} else if r := c.throttled(h, key, &o); r != nil {
			c.served(key, r)
			c.openInto(found, c.itemOf(r))
		} else {
			ask = append(ask, seat[K, V]{key: key, hash: h, suspect: special})
		}
	}
	if len(due) > 0 {
		c.renewMany(ctx, due, load, &o)
	}
	failed := make(map[K]error)
	for try := 0; len(ask) > 0; try++ {
		ask = c.loadMany(ctx, began, ask, load, &o, found, failed, try < maxJoins)
	}
	if len(failed) > 0 {
		return found, &BulkError[K]{Op: "load many " + c.name, Asked: len(keys), Failed: failed}
	}
	return found, nil
}

// loadMany boards the flights of the keys, starts what is its own, and waits
// for all. It returns those that must be asked for again: see join.
func (c *Cache[K, V]) loadMany(ctx context.Context, began time.Time, ask []seat[K, V], load BulkLoader[K, V], o *entryConfig, found map[K]V, failed map[K]error, share bool) (again []seat[K, V]) {
	fail := func(err error) []seat[K, V] {
		for i := range ask {
			failed[ask[i].key] = err
		}
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	b, gctx, err := c.newBulk(ctx, load, o)
	if err != nil {
		return fail(err)
	}
	seats, own := make([]*seat[K, V], 0, len(ask)), make([]*seat[K, V], 0, len(ask))
	flights := rooms[K, V](len(ask))
	for i := range ask {
		s := &ask[i]
		if c.sit(ctx, s, &flights[i], b.group, true, share) {
			continue
		}
		seats = append(seats, s)
		if !s.joined {
			own = append(own, s)
		}
	}
	b.start(gctx, own, b.fly)
	for _, s := range seats {
		if !s.f.hasLanded() {
			patience := *o
			if o.hardTimeout > 0 { // it is the call's, not each key's
				patience.hardTimeout = max(o.hardTimeout-time.Since(began), 1)
				patience.softTimeout = min(o.softTimeout, patience.hardTimeout)
			}
			it, left, err := c.await(ctx, s.hash, s.key, s.f, &patience, true)
			if err != nil {
				failed[s.key] = err
				continue
			}
			if left {
				c.openInto(found, it)
				continue
			}
		}
		switch err := s.f.err; {
		case s.joined && s.f.unsure:
			again = append(again, seat[K, V]{key: s.key, hash: s.hash})
		case err == nil:
			c.openInto(found, s.f.it)
		case !errors.Is(err, ErrNotFound):
			failed[s.key] = err
		}
	}
	return again
}

// renewMany starts one load of values that are fresh still: see renew.
func (c *Cache[K, V]) renewMany(ctx context.Context, due []seat[K, V], load BulkLoader[K, V], o *entryConfig) {
	b, gctx, err := c.newBulk(ctx, load, o)
	if err != nil {
		return
	}
	var own []*seat[K, V]
	flights := rooms[K, V](len(due))
	for i := range due {
		s := &due[i]
		s.unwanted, s.suspect = s.suspect.version, nil
		st := c.s.stripes.of(s.hash)
		st.mu.Lock()
		busy := (*c.flights[s.hash%stripeCount].of(true))[s.key] != nil
		st.mu.Unlock()
		if busy || c.sit(ctx, s, &flights[i], b.group, true, true) {
			continue
		}
		if s.joined { // by a hair
			c.leave(s.hash, s.key, s.f, true)
			continue
		}
		c.m.renewals.Add(1)
		s.f.early = true
		if o.failSafe > 0 && !o.skipL1 {
			s.f.stale.Store(c.remembered(s.hash, s.key, o)) // for those who join
		}
		c.depart(s.hash, s.key, s.f, o)
		own = append(own, s)
	}
	b.start(gctx, own, b.obtain)
}
