package tiered_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// crowd is a source that tells how many ask it at once, and answers when it is
// let.
type crowd struct {
	now, most, all atomic.Int64
	open           chan struct{}
}

func (s *crowd) load(c ctx, _ string, _ *tiered.Load[int]) (int, error) {
	defer s.now.Add(-1)
	s.all.Add(1)
	n := s.now.Add(1)
	for most := s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
	}
	select {
	case <-s.open:
		return 1, nil
	case <-c.Done():
		return 0, c.Err()
	}
}

// ask loads keys from to to-1 at once.
func (s *crowd) ask(t *testing.T, wg *sync.WaitGroup, c *tiered.Cache[string, int], from, to int, opts ...tiered.EntryOption) {
	for i := from; i < to; i++ {
		wg.Go(func() {
			if v, err := c.GetOrLoad(t.Context(), strconv.Itoa(i), s.load, opts...); v != 1 || err != nil {
				t.Errorf("key %d: %d, %v", i, v, err)
			}
		})
	}
}

// The cap is what stands between a Redis that is gone and the database.
func TestLoadsTakeTurnsWhileRedisIsAway(t *testing.T) {
	const keys, bound = 1000, 7
	r := tieredtest.StartRedis(t)
	s := node(t, r, quick(), tiered.WithOutageLoads(bound))
	c := cache[int](t, s, "n")
	r.Kill()
	src := &crowd{open: make(chan struct{})}
	var wg sync.WaitGroup
	src.ask(t, &wg, c, 0, keys)
	eventually(t, "the others wait", func() bool { return s.Stats().Queue == keys-bound && src.now.Load() >= bound })
	if n := src.now.Load(); n != bound {
		t.Errorf("%d loaders at once, want %d", n, bound)
	}
	// A caller waits for its turn only as long as it wants to.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.GetOrLoad(ctx, "impatient", value(1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller with a deadline got %v", err)
	}
	if _, err := c.GetOrLoad(t.Context(), "bounded", value(1), tiered.Timeouts(0, 20*time.Millisecond)); !errors.Is(err, tiered.ErrTimeout) {
		t.Errorf("a caller with a timeout got %v", err)
	}
	if _, err := c.GetOrLoadMany(ctx, []string{"a", "b"}, func(context.Context, []string) (map[string]int, error) { return nil, nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a caller for many with a deadline got %v", err)
	}
	close(src.open)
	wg.Wait()
	if most, all := src.most.Load(), src.all.Load(); most != bound || all != keys {
		t.Errorf("%d loaders at once, %d in all", most, all)
	}
	eventually(t, "nobody waits", func() bool { return s.Stats().Queue == 0 })
	if n := s.Stats().Queued; n < keys-bound {
		t.Errorf("%d were counted as having waited", n)
	}
}

func TestLoadsDoNotTakeTurnsWhileRedisIsThere(t *testing.T) {
	const keys = 100
	for name, s := range map[string]*tiered.Store{
		"redis": node(t, shared, tiered.WithOutageLoads(2)), "memory": open(t),
		"no bound": func() *tiered.Store {
			r := tieredtest.StartRedis(t)
			defer r.Kill()
			return node(t, r, quick(), tiered.WithOutageLoads(0))
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			src := &crowd{open: make(chan struct{})}
			var wg sync.WaitGroup
			src.ask(t, &wg, cache[int](t, s, "n"), 0, keys)
			eventually(t, "all load", func() bool { return src.now.Load() == keys })
			close(src.open)
			wg.Wait()
		})
	}
}

func TestInMemoryAloneLoadsTakeTurnsIfAsked(t *testing.T) {
	s := open(t, tiered.WithOutageLoads(3))
	c := cache[int](t, s, "n")
	src := &crowd{open: make(chan struct{})}
	var wg sync.WaitGroup
	src.ask(t, &wg, c, 0, 50)
	eventually(t, "the others wait", func() bool { return s.Stats().Queue == 47 })
	close(src.open)
	wg.Wait()
	if most := src.most.Load(); most != 3 {
		t.Errorf("%d loaders at once", most)
	}
}

// Who has a value from before is served that, and neither waits nor loads.
func TestAStaleValueComesBeforeATurn(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock), tiered.WithOutageLoads(1))
	c := cache[int](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Minute), tiered.FailSafe(time.Hour, 0)))
	must(t, c.Set(t.Context(), "old", 7))
	must(t, c.Set(t.Context(), "older", 8))
	clock.Advance(2 * time.Minute)
	src := &crowd{open: make(chan struct{})}
	var wg sync.WaitGroup
	src.ask(t, &wg, c, 0, 1)
	eventually(t, "the turn is taken", func() bool { return src.now.Load() == 1 })
	if v, err := c.GetOrLoad(t.Context(), "old", value(0)); v != 7 || err != nil {
		t.Errorf("got %d, %v", v, err)
	}
	got, err := c.GetOrLoadMany(t.Context(), []string{"old", "older"}, func(context.Context, []string) (map[string]int, error) {
		t.Error("loaded")
		return nil, nil
	})
	if err != nil || got["old"] != 7 || got["older"] != 8 {
		t.Errorf("got %v, %v", got, err)
	}
	close(src.open)
	wg.Wait()
}

// A loader that reads the cache must not wait for a turn that it has itself,
// neither for a load that it starts nor for one that waits already.
func TestALoadWithinALoadNeedsNoTurn(t *testing.T) {
	s := open(t, tiered.WithOutageLoads(1))
	c := cache[int](t, s, "n")
	inner := func(ctx context.Context, _ string, _ *tiered.Load[int]) (int, error) { return 1, ctx.Err() }
	inside, go1 := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		v, err := c.GetOrLoad(t.Context(), "outer", func(ctx context.Context, _ string, _ *tiered.Load[int]) (int, error) {
			close(inside)
			<-go1
			a, err1 := c.GetOrLoad(ctx, "started", inner)
			b, err2 := c.GetOrLoad(ctx, "waiting", inner)
			many, err3 := c.GetOrLoadMany(ctx, []string{"waits too", "starts"}, func(_ context.Context, keys []string) (map[string]int, error) {
				return map[string]int{keys[0]: 1}, nil
			})
			return a + b + len(many), errors.Join(err1, err2, err3)
		})
		if v != 4 || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
	})
	<-inside
	wg.Go(func() { _, _ = c.GetOrLoad(t.Context(), "waiting", inner) })
	wg.Go(func() {
		_, _ = c.GetOrLoadMany(t.Context(), []string{"waits too"}, func(context.Context, []string) (map[string]int, error) {
			return map[string]int{"waits too": 1}, nil
		})
	})
	eventually(t, "both wait", func() bool { return s.Stats().Queue == 2 })
	close(go1)
	wg.Wait()
}
