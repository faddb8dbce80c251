package tiered

import "context"

// Lost is the version of a write of the key that Redis has not been told of.
func (s *Store) Lost(ns, key string) uint64 { return s.lost.floor(ns, key) }

// ReplayLate replays a write that was lost as if the replay had begun before
// anything that came after.
func (s *Store) ReplayLate(ns, key string, version uint64) {
	_, _ = s.l2.delete(context.Background(), ns, key, version, version+replaySkew)
}

// Reload loads like a refresh in the background, and awaits the result.
func (c *Cache[K, V]) Reload(ctx context.Context, key K, load Loader[K, V]) (V, error) {
	h := c.hash(key)
	r := &record{}
	if have := c.s.l1.get(h); have != nil {
		r.version = have.version
	} else if _, err := c.Get(ctx, key); err == nil {
		r.version = c.s.l1.get(h).version
	}
	o := c.defaults
	st := c.s.stripes.of(h)
	st.mu.Lock()
	c.s.begin()
	f := c.start(ctx, h, key, true, func(ctx context.Context, f *flight[K, V]) (*item[K, V], error) {
		return c.reload(ctx, h, f, key, &o, r.version, load)
	})
	m := c.flights[h%stripeCount].of(true)
	if *m == nil {
		*m = make(map[K]*flight[K, V])
	}
	(*m)[key] = f
	st.mu.Unlock()
	<-f.done
	if f.err != nil {
		var zero V
		return zero, f.err
	}
	return f.it.value, nil
}

// Posted is how many writes of Async Redis has not been told of.
func (s *Store) Posted() int {
	s.outbox.mu.Lock()
	defer s.outbox.mu.Unlock()
	return len(s.outbox.keys)
}

// MaxPosted bounds them.
const MaxPosted = maxPosted
