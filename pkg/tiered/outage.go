package tiered

import (
	"context"
	"sync"
)

// While Redis is away every process loads what it does not have in memory, and
// no lease holds the others back. So that the outage of a cache does not become
// one of the database, loads that Redis could not be asked about take turns.

// underLoad marks the context of a loader: what it loads in turn belongs to a
// load that has its turn already.
type underLoad struct{}

// turn waits until one more load may run, and returns how to say that it has
// ended. Before it waits it asks instead, which may serve the callers without a
// load: then done is nil. It does not wait if the load is urgent: see hurry.
func (s *Store) turn(ctx context.Context, away bool, instead func() bool, urged func() <-chan struct{}) (done func(), err error) {
	if s.turns == nil || !away && s.l2 != nil || ctx.Value(underLoad{}) != nil {
		return func() {}, nil
	}
	done = func() { <-s.turns }
	select {
	case s.turns <- struct{}{}:
		return done, nil
	default:
	}
	if instead() {
		return nil, nil
	}
	s.metrics.queued.Add(1)
	s.metrics.queue.Add(1)
	defer s.metrics.queue.Add(-1)
	select {
	case s.turns <- struct{}{}:
		return done, nil
	case <-urged():
		return func() {}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// turn is the store's for the flight of one key. Without an error it returns
// how to say that the load has ended, or what is served instead of a load.
func (c *Cache[K, V]) turn(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig) (done func(), r *record, err error) {
	done, err = c.s.turn(ctx, c.s.l2 != nil && !o.skipL2, func() bool {
		r = c.instead(ctx, h, f, key, o)
		return r != nil
	}, func() <-chan struct{} { return c.urgency(&seat[K, V]{hash: h, f: f}) })
	return done, r, err
}

// hurry is for one who joins a flight from within a loader: a load that has its
// turn waits for one that may not have it yet, and must not do so for ever. It
// needs the stripe's lock.
func (f *flight[K, V]) hurry(ctx context.Context) {
	if ctx.Value(underLoad{}) == nil || f.urgent {
		return
	}
	f.urgent = true
	if f.urge != nil {
		f.urge()
	}
}

// urgency returns a channel that is closed once a loader waits for any of the
// flights.
func (c *Cache[K, V]) urgency(seats ...*seat[K, V]) <-chan struct{} {
	urged := make(chan struct{})
	urge := sync.OnceFunc(func() { close(urged) })
	for _, s := range seats {
		st := c.s.stripes.of(s.hash)
		st.mu.Lock()
		s.f.urge = urge
		if s.f.urgent {
			urge()
		}
		st.mu.Unlock()
	}
	return urged
}
