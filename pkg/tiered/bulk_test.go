package tiered_test

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// many is n keys with their values, and the keys as a list.
func many(n int) (values map[string]int, keys []string) {
	values = make(map[string]int)
	for i := range n {
		keys = append(keys, strconv.Itoa(i))
		values[keys[i]] = i
	}
	return values, keys
}

func TestManyAreReadAsTheyWereSet(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		values, keys := many(600) // more than a round trip takes
		must(t, c.SetMany(t.Context(), values))
		opts := [][]tiered.EntryOption{nil}
		if s.Health().Redis {
			opts = append(opts, []tiered.EntryOption{tiered.SkipL1()})
		}
		for _, o := range opts {
			got, err := c.GetMany(t.Context(), append(keys, "absent", keys[0]), o...)
			if err != nil || !maps.Equal(got, values) {
				t.Errorf("got %d values, %v; want %d", len(got), err, len(values))
			}
		}
		must(t, c.Delete(t.Context(), "7"))
		if got, err := c.GetMany(t.Context(), []string{"7", "8"}); err != nil || !maps.Equal(got, map[string]int{"8": 8}) {
			t.Errorf("after a delete: %v, %v", got, err)
		}
		if _, err := c.GetMany(t.Context(), []string{""}); !errors.Is(err, tiered.ErrKey) {
			t.Errorf("the empty key: %v", err)
		}
		if err := c.SetMany(t.Context(), map[string]int{"": 1}); !errors.Is(err, tiered.ErrKey) {
			t.Errorf("the empty key: %v", err)
		}
	})
}

func TestManyCostAsFewRoundTripsAsMayBe(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	s := node(t, shared, tiered.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))))
	healthy(t, s)
	values, keys := many(256)
	must(t, cache[int](t, node(t, shared), "n").SetMany(t.Context(), values))
	c := cache[int](t, s, "n")
	_, err := c.GetMany(t.Context(), keys)
	must(t, err)
	must(t, c.SetMany(t.Context(), values))
	names := map[string]int{}
	for _, sp := range spans.Ended() {
		names[sp.Name()]++
	}
	if names["tiered.mget"] != 1 || names["tiered.setmany"] != 1 || names["tiered.get"]+names["tiered.set"] > 0 || names["tiered.tags"] > 2 {
		t.Errorf("round trips: %v", names)
	}
}

// Each key is a write of its own: it takes the right to store from a load, and
// other processes hear of it.
func TestSettingManyFencesLoads(t *testing.T) {
	a, b := node(t, shared), node(t, shared)
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	must(t, ca.Delete(t.Context(), "k"))
	during(t, ca, "k", func() {
		must(t, cb.SetMany(t.Context(), map[string]string{"k": "new", "l": "new"}))
	})
	want(t, cb, "k", "new")
	want(t, ca, "k", "new", tiered.SkipL1())
	eventually(t, "the loading node agrees", func() bool {
		v, _ := ca.Get(t.Context(), "k")
		return v == "new"
	})
}

// What a read of many brings must not outlive a write that came in between.
func TestReadingManyNeverUndoesAWrite(t *testing.T) {
	s := node(t, shared)
	c, err := tiered.New[string, int](s, "n")
	must(t, err)
	values, keys := many(16)
	ctx, stop := context.WithTimeout(t.Context(), time.Second)
	defer stop()
	must(t, c.SetMany(t.Context(), values))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := c.GetMany(t.Context(), keys); err != nil {
					t.Errorf("get many: %v", err)
				}
			}
		})
	}
	for n := 0; ctx.Err() == nil; n++ {
		k := keys[n%len(keys)]
		must(t, c.Set(t.Context(), k, n))
		if got, err := c.GetMany(t.Context(), keys); err != nil || got[k] != n {
			t.Fatalf("read %d, %v; want %d", got[k], err, n)
		}
		must(t, c.Delete(t.Context(), k))
		if got, err := c.GetMany(t.Context(), keys); err != nil || len(got) > len(keys)-1 {
			t.Fatalf("deleted %s, but it has %d, %v", k, got[k], err)
		}
		must(t, c.Set(t.Context(), k, n))
	}
	wg.Wait()
}

func TestManyWithoutRedis(t *testing.T) {
	r := tieredtest.StartRedis(t)
	s := node(t, r, quick())
	c := cache[int](t, s, "n")
	values, keys := many(300)
	must(t, c.SetMany(t.Context(), values))
	r.Kill()
	for k := range values {
		values[k]++
	}
	must(t, c.SetMany(t.Context(), values))
	got, err := c.GetMany(t.Context(), append(keys, "absent"))
	if err != nil || !maps.Equal(got, values) {
		t.Errorf("%d values, %v", len(got), err)
	}
	if n := s.Health().Recovery; n != len(values) {
		t.Errorf("%d writes to be replayed, want %d", n, len(values))
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.GetMany(cancelled, []string{"absent"}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
