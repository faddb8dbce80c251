package tiered

import (
	"context"
	"fmt"
	"time"
)

// mark is a Write or a Refresh under way: what it brings may be stored only if
// nothing else was written in this process since it began.
type mark struct {
	writes bool // to the source
	spoilt bool // stripe's lock
}

// mark begins. Whoever is at it already is late: what he brings may be older
// than this. Of two who write to the source nobody knows who wrote last, so
// neither may store.
func (c *Cache[K, V]) mark(h uint64, key K, writes bool) *mark {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &c.flights[h%stripeCount]
	m := &mark{writes: writes}
	for _, other := range f.marks[key] {
		if writes || !other.writes {
			other.spoilt = true
		}
		m.spoilt = m.spoilt || writes && other.writes
	}
	if f.marks == nil {
		f.marks = make(map[K][]*mark)
	}
	f.marks[key] = append(f.marks[key], m)
	return m
}

// unmark ends it. It needs the stripe's lock.
func (f *flights[K, V]) unmark(key K, m *mark) {
	var rest []*mark
	for _, other := range f.marks[key] {
		if other != m {
			rest = append(rest, other)
		}
	}
	if len(rest) == 0 {
		delete(f.marks, key)
		return
	}
	f.marks[key] = rest
}

func (c *Cache[K, V]) unmark(h uint64, key K, m *mark) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	c.flights[h%stripeCount].unmark(key, m)
}

// keepMarked puts a value into memory, in a call that Redis has no part in,
// unless something was written since the mark. It reports whether it did.
func (c *Cache[K, V]) keepMarked(h uint64, it *item[K, V], p *placement, m *mark) bool {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	if m.spoilt {
		return false
	}
	c.putSet(st, h, it, p, c.s.tick(), false)
	return true
}

// hold takes a key's lease from whoever has it. Data are what is stored, unless
// the source is about to be written.
func (r *remote) hold(ctx context.Context, ns, key string, ttl time.Duration, least uint64, writes bool) (token uint64, data []byte, err error) {
	flag := "0"
	if writes {
		flag = "1"
	}
	err = r.do(ctx, "hold", func(ctx context.Context) error {
		v, err := scriptHold.Run(ctx, r.c, []string{r.dataKey(ns, key), r.leaseKey(ns, key)}, millis(ttl), text(least), flag).Slice()
		if err != nil {
			return err
		}
		if len(v) != 2 {
			return fmt.Errorf("hold answered %d values", len(v))
		}
		n, _ := v[0].(int64)
		s, _ := v[1].(string)
		token, data = uint64(n), []byte(s)
		return nil
	})
	return token, data, err
}

// setHeld stores an entry under a new version if its lease is held still;
// version 0 means that it is not.
func (r *remote) setHeld(ctx context.Context, ns, key string, token uint64, entry []byte, ttl time.Duration) (version uint64, err error) {
	head, tail := r.message('k', ns+" "+key)
	err = r.do(ctx, "sethold", func(ctx context.Context) (err error) {
		version, err = scriptSetHeld.Run(ctx, r.c, []string{r.dataKey(ns, key), r.leaseKey(ns, key)},
			text(token), entry, millis(ttl), r.channel, head, tail).Uint64()
		return err
	})
	return version, err
}

// leaseTTL is how long a load or write may take and still be stored.
func (o *entryConfig) leaseTTL() time.Duration {
	if o.lease > 0 {
		return o.lease
	}
	return DefaultLease
}
