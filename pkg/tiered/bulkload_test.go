package tiered_test

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// database is a loader of many that has the values and counts its calls.
type database struct {
	values map[string]int
	mu     sync.Mutex
	calls  [][]string
}

func (s *database) load(_ ctx, keys []string) (map[string]int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, keys)
	got := make(map[string]int)
	for _, k := range keys {
		if v, ok := s.values[k]; ok {
			got[k] = v
		}
	}
	got["unasked"] = 1
	return got, nil
}

func TestManyAreLoadedByOneCall(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		values, keys := many(600)
		src := &database{values: values}
		must(t, c.Set(t.Context(), "0", 0))
		must(t, c.Set(t.Context(), "1", 1, tiered.SkipL1()))
		for range 2 {
			got, err := c.GetOrLoadMany(t.Context(), append(keys, "absent", keys[5]), src.load)
			if err != nil || !maps.Equal(got, values) {
				t.Fatalf("got %d values, %v; want %d", len(got), err, len(values))
			}
		}
		known := 1
		if s.Health().Redis {
			known = 2
		}
		if len(src.calls) != 1 || len(src.calls[0]) != 601-known {
			t.Fatalf("%d calls", len(src.calls))
		}
		wantErr(t, c, "absent", tiered.ErrNotFound)
		wantErr(t, c, "unasked", tiered.ErrMiss)
		if s.Health().Redis {
			want(t, c, "599", 599, tiered.SkipL1())
			wantErr(t, c, "absent", tiered.ErrNotFound, tiered.SkipL1())
		}
		if _, err := c.GetOrLoadMany(t.Context(), []string{"a", ""}, src.load); !errors.Is(err, tiered.ErrKey) {
			t.Errorf("the empty key: %v", err)
		}
		if got, err := c.GetOrLoadMany(t.Context(), nil, src.load); len(got) != 0 || err != nil {
			t.Errorf("no keys: %v, %v", got, err)
		}
		if n := s.Flights(); n != 0 {
			t.Errorf("%d flights are left", n)
		}
	})
}

func TestAbsenceIsNotCachedWithoutANegativeTTL(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n", tiered.WithDefaults(tiered.NegativeTTL(0)))
		src := &database{}
		for range 2 {
			if got, err := c.GetOrLoadMany(t.Context(), []string{"a", "b"}, src.load); len(got) != 0 || err != nil {
				t.Fatalf("got %v, %v", got, err)
			}
		}
		if len(src.calls) != 2 {
			t.Errorf("%d calls, want 2", len(src.calls))
		}
	})
}

// One round trip reads, one takes the leases, one stores; the versions of the
// batch's tags are read in one each time that they must be.
func TestALoadOfManyCostsAsFewRoundTripsAsMayBe(t *testing.T) {
	for name, opts := range map[string][]tiered.Option{"with memory": nil, "without": {tiered.WithL1(0)}} {
		t.Run(name, func(t *testing.T) {
			spans := tracetest.NewSpanRecorder()
			s := node(t, shared, append(opts, tiered.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))))...)
			healthy(t, s)
			c := cache[int](t, s, "n", tiered.WithDefaults(tiered.Tags("a", "b", "c")))
			values, keys := many(256)
			src := &database{values: values}
			trips := func(f func()) map[string]int {
				spans.Reset()
				f()
				names := map[string]int{}
				for _, sp := range spans.Ended() {
					names[sp.Name()]++
				}
				return names
			}
			got := trips(func() {
				_, err := c.GetOrLoadMany(t.Context(), keys, src.load)
				must(t, err)
			})
			if got["tiered.mget"] != 1 || got["tiered.getlease"] != 1 || got["tiered.fill"] != 1 || got["tiered.load"] != 1 ||
				got["tiered.get"]+got["tiered.release"] > 0 || got["tiered.tags"] > 2 {
				t.Errorf("round trips of a load: %v", got)
			}
			got = trips(func() {
				found, err := c.GetMany(t.Context(), keys, tiered.SkipL1())
				if err != nil || !maps.Equal(found, values) {
					t.Errorf("%d values, %v", len(found), err)
				}
			})
			if got["tiered.mget"] != 1 || got["tiered.tags"] > 1 || len(got) > 2 {
				t.Errorf("round trips of a read: %v", got)
			}
		})
	}
}

func TestLoadsOfOneAndOfManyShareKeyByKey(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		one, some := block[string](), newBulkBlock(t)
		var wg sync.WaitGroup
		wg.Go(func() {
			if v, err := c.GetOrLoad(t.Context(), "a", one.load); v != "one" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
		})
		<-one.started
		check := func(keys []string, load tiered.BulkLoader[string, string], want map[string]string) {
			got, err := c.GetOrLoadMany(t.Context(), keys, load)
			if err != nil || !maps.Equal(got, want) {
				t.Errorf("got %v, %v; want %v", got, err, want)
			}
		}
		wg.Go(func() { check([]string{"a", "b"}, some.load, map[string]string{"a": "one", "b": "some"}) })
		if keys := <-some.started; !slices.Equal(keys, []string{"b"}) {
			t.Errorf("asked for %v, which includes what is being loaded", keys)
		}
		never := func(ctx, []string) (map[string]string, error) { return nil, errors.New("loaded twice") }
		wg.Go(func() { check([]string{"b", "a"}, never, map[string]string{"a": "one", "b": "some"}) })
		wg.Go(func() {
			v, err := c.GetOrLoad(t.Context(), "b", func(ctx, string, *tiered.Load[string]) (string, error) { return "", errors.New("loaded twice") })
			if v != "some" || err != nil {
				t.Errorf("got %q, %v", v, err)
			}
		})
		eventually(t, "all have joined", func() bool { return s.Stats().Coalesced == 4 })
		one.result <- "one"
		some.result <- map[string]string{"b": "some"}
		wg.Wait()
	})
}

func TestAFailedLoadOfManyReturnsWhatIsThere(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		must(t, c.Set(t.Context(), "cached", "v"))
		load := func(ctx, []string) (map[string]string, error) {
			return map[string]string{"loaded": "v"}, errSource
		}
		got, err := c.GetOrLoadMany(t.Context(), []string{"cached", "loaded", "failed", "private"}, load)
		var be *tiered.BulkError[string]
		if !errors.Is(err, errSource) || !errors.As(err, &be) || len(be.Failed) != 2 || !errors.Is(be.Failed["failed"], errSource) {
			t.Fatalf("error %v", err)
		}
		if strings.Contains(err.Error(), "private") || !strings.Contains(err.Error(), "2 of 4") {
			t.Errorf("error %v", err)
		}
		if !maps.Equal(got, map[string]string{"cached": "v", "loaded": "v"}) {
			t.Errorf("got %v", got)
		}
		want(t, c, "loaded", "v")
		wantErr(t, c, "failed", tiered.ErrMiss) // an error is not cached
	})
}

// The right to store is given back before those who wait are told, so that the
// next load stores again.
func TestALoadOfManyThatFailsHoldsNothing(t *testing.T) {
	for name, load := range map[string]tiered.BulkLoader[string, string]{
		"error":  func(ctx, []string) (map[string]string, error) { return nil, errSource },
		"panic":  func(ctx, []string) (map[string]string, error) { panic(errSource) },
		"goexit": func(ctx, []string) (map[string]string, error) { runtime.Goexit(); return nil, nil },
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, s *tiered.Store) {
				c := cache[string](t, s, "n")
				_, err := c.GetOrLoadMany(t.Context(), []string{"a", "k"}, load)
				if name != "goexit" && !errors.Is(err, errSource) || name != "error" && !errors.Is(err, tiered.ErrPanic) {
					t.Fatalf("got %v", err)
				}
				loads(t, c, value("v"), "v", nil)
				if s.Health().Redis {
					want(t, c, "k", "v", tiered.SkipL1())
				}
				if n := s.Flights(); n != 0 {
					t.Errorf("%d flights are left", n)
				}
			})
		})
	}
}

func TestAFailedLoadOfManyServesWhatWasThereBefore(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, time.Hour)))
		aged(t, c, "k", "old")
		for range 2 { // by the failed load, and then by the throttle
			got, err := c.GetOrLoadMany(t.Context(), []string{"k", "new"}, func(ctx, []string) (map[string]string, error) { return nil, errSource })
			var be *tiered.BulkError[string]
			if !errors.As(err, &be) || len(be.Failed) != 1 || !maps.Equal(got, map[string]string{"k": "old"}) {
				t.Fatalf("got %v, %v", got, err)
			}
		}
		must(t, c.Delete(t.Context(), "k"))
		if got, _ := c.GetOrLoadMany(t.Context(), []string{"k"}, func(ctx, []string) (map[string]string, error) { return nil, errSource }); len(got) > 0 {
			t.Errorf("deleted, but %v", got)
		}
	})
}

func TestEveryCallerOfALoadOfManyKeepsItsContext(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		b := newBulkBlock(t)
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := c.GetOrLoadMany(ctx, []string{"a", "b"}, b.load)
			left <- err
		}()
		<-b.started
		var wg sync.WaitGroup
		wg.Go(func() {
			if v, err := c.GetOrLoad(t.Context(), "a", value("mine")); v != "1" || err != nil {
				t.Errorf("who stays got %q, %v", v, err)
			}
		})
		eventually(t, "the second waits", func() bool { return s.Stats().Coalesced == 1 })
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves: %v", err)
		}
		b.result <- map[string]string{"a": "1", "b": "2"}
		wg.Wait()
		want(t, c, "a", "1")
		if !s.Health().Redis {
			// Nobody waited for it, so nobody could have told it of a write.
			// Redis can: there the lease tells.
			wantErr(t, c, "b", tiered.ErrMiss)
		}
	})
}

func TestALoadOfManyThatNobodyWaitsForIsCancelled(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		must(t, c.Set(t.Context(), "there", "v", tiered.SkipL1()))
		ctx, leave := context.WithCancel(t.Context())
		ended := make(chan struct{})
		_, err := c.GetOrLoadMany(ctx, []string{"there", "a", "b"}, func(ctx context.Context, _ []string) (map[string]string, error) {
			leave()
			<-ctx.Done()
			close(ended)
			return nil, ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		<-ended
		if v, err := c.GetOrLoad(t.Context(), "a", value("2")); v != "2" || err != nil {
			t.Fatalf("the next caller got %q, %v", v, err)
		}
		_, err = c.GetOrLoadMany(ctx, []string{"x"}, func(context.Context, []string) (map[string]string, error) {
			t.Error("loads for a caller that had gone")
			return nil, nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled before: %v", err)
		}
	})
}

func TestALateLoadOfManyIsStoredAllTheSame(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		must(t, c.Set(t.Context(), "there", "v"))
		b := newBulkBlock(t)
		got, err := c.GetOrLoadMany(t.Context(), []string{"there", "a", "b"}, b.load, tiered.Timeouts(0, 20*time.Millisecond))
		var be *tiered.BulkError[string]
		if !errors.Is(err, tiered.ErrTimeout) || !errors.As(err, &be) || len(be.Failed) != 2 || got["there"] != "v" {
			t.Fatalf("got %v, %v", got, err)
		}
		b.result <- map[string]string{"a": "1", "b": "2"}
		eventually(t, "it is stored", func() bool { v, _ := c.Get(t.Context(), "b"); return v == "2" })
	})
}

// Keys that another process loads are waited for, while the rest is loaded.
func TestALoadOfManyWaitsForOtherProcesses(t *testing.T) {
	a, b := node(t, shared), node(t, shared)
	o := tiered.WithDefaults(tiered.DistributedLease(time.Minute))
	ca, cb := cache[string](t, a, "n", o), cache[string](t, b, "n", o)
	theirs := block[string]()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = cb.GetOrLoad(t.Context(), "theirs", theirs.load) })
	<-theirs.started
	failing, fail := context.WithCancelCause(t.Context())
	wg.Go(func() {
		_, _ = cb.GetOrLoad(t.Context(), "failing", func(ctx, string, *tiered.Load[string]) (string, error) {
			<-failing.Done()
			return "", errSource
		})
	})
	eventually(t, "both leases are held", func() bool {
		n, err := shared.Client(t).Exists(t.Context(), prefix(t)+":l:{n:theirs}", prefix(t)+":l:{n:failing}").Result()
		return err == nil && n == 2
	})
	calls := make(chan []string, 8)
	wg.Go(func() {
		got, err := ca.GetOrLoadMany(t.Context(), []string{"mine", "theirs", "failing", "also mine"}, func(_ ctx, keys []string) (map[string]string, error) {
			calls <- keys
			m := make(map[string]string)
			for _, k := range keys {
				m[k] = "a"
			}
			return m, nil
		})
		if want := map[string]string{"mine": "a", "also mine": "a", "theirs": "b", "failing": "a"}; err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	})
	if keys := <-calls; !slices.Equal(keys, []string{"mine", "also mine"}) {
		t.Errorf("the first call is for %v", keys)
	}
	eventually(t, "mine is there before the others are", func() bool {
		v, err := ca.Get(t.Context(), "mine")
		return v == "a" && err == nil
	})
	theirs.result <- "b"
	fail(nil)
	if keys := <-calls; !slices.Equal(keys, []string{"failing"}) {
		t.Errorf("the second call is for %v", keys)
	}
	wg.Wait()
	want(t, cb, "failing", "a", tiered.SkipL1())
	want(t, ca, "theirs", "b", tiered.SkipL1())
}

func TestManyProcessesLoadManyColdKeysOnce(t *testing.T) {
	_, keys := many(40)
	var loaded [40]atomic.Int32
	var wg sync.WaitGroup
	for p := range 8 {
		c := cache[int](t, node(t, shared, tiered.WithL1(1<<20)), "n")
		wg.Go(func() {
			mine := slices.Concat(keys[p*5:], keys[:p*5])[:30] // overlapping, in different orders
			got, err := c.GetOrLoadMany(t.Context(), mine, func(_ ctx, keys []string) (map[string]int, error) {
				m := make(map[string]int)
				for _, k := range keys {
					m[k], _ = strconv.Atoi(k)
					loaded[m[k]].Add(1)
				}
				return m, nil
			}, tiered.DistributedLease(10*time.Second))
			if err != nil || len(got) != len(mine) {
				t.Errorf("got %d of %d, %v", len(got), len(mine), err)
			}
		})
	}
	wg.Wait()
	for k := range loaded {
		if n := loaded[k].Load(); n != 1 {
			t.Errorf("key %d was loaded %d times", k, n)
		}
	}
}

func TestManyAreRenewedByOneCall(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[int](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.EagerRefresh(0.5, 1e6)))
	var calls atomic.Int32
	release := make(chan struct{}, 4)
	load := func(_ ctx, keys []string) (map[string]int, error) {
		n := int(calls.Add(1))
		<-release
		clock.Advance(time.Second)
		m := make(map[string]int)
		for _, k := range keys {
			m[k] = n
		}
		return m, nil
	}
	release <- struct{}{}
	_, keys := many(10)
	_, err := c.GetOrLoadMany(t.Context(), keys, load)
	must(t, err)
	clock.Advance(31 * time.Minute) // beyond the threshold: beta makes all due
	got, err := c.GetOrLoadMany(t.Context(), keys, load)
	if err != nil || got["3"] != 1 {
		t.Fatalf("who starts it gets %v, %v", got, err)
	}
	release <- struct{}{}
	eventually(t, "all are renewed", func() bool {
		got, err := c.GetMany(t.Context(), keys)
		return err == nil && got["0"] == 2 && got["9"] == 2
	})
	if n := calls.Load(); n != 2 {
		t.Errorf("%d calls, want 2", n)
	}
	if n := s.Stats().Refreshes; n != 10 {
		t.Errorf("%d refreshes, want 10", n)
	}
}

func TestAValueThatCannotBeEncodedDoesNotSpoilTheOthers(t *testing.T) {
	s := node(t, shared)
	c := cache[any](t, s, "n")
	ch := make(chan int)
	got, err := c.GetOrLoadMany(t.Context(), []string{"good", "bad"}, func(ctx, []string) (map[string]any, error) {
		return map[string]any{"good": "v", "bad": ch}, nil
	})
	if err != nil || got["bad"] != any(ch) {
		t.Fatalf("got %v, %v", got, err)
	}
	want(t, c, "good", any("v"), tiered.SkipL1())
	wantErr(t, c, "bad", tiered.ErrMiss, tiered.SkipL1())
	want(t, c, "bad", any(ch))
}

func TestManyAreLoadedWhileRedisIsAway(t *testing.T) {
	r := tieredtest.StartRedis(t)
	s := node(t, r, quick())
	c := cache[int](t, s, "n")
	r.Kill()
	values, keys := many(600)
	src := &database{values: values}
	for range 2 {
		got, err := c.GetOrLoadMany(t.Context(), keys, src.load)
		if err != nil || !maps.Equal(got, values) {
			t.Fatalf("%d values, %v", len(got), err)
		}
	}
	if len(src.calls) != 1 {
		t.Errorf("%d calls, want 1", len(src.calls))
	}
}

func TestDeletingManyIsDeletingEach(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		values, keys := many(300)
		must(t, c.SetMany(t.Context(), values))
		must(t, c.DeleteMany(t.Context(), append(keys[1:], "absent")))
		for _, opts := range [][]tiered.EntryOption{nil, {tiered.SkipL1()}} {
			if s.Health().Redis || opts == nil {
				if got, err := c.GetMany(t.Context(), keys, opts...); err != nil || !maps.Equal(got, map[string]int{"0": 0}) {
					t.Errorf("left: %v, %v", got, err)
				}
			}
		}
		if err := c.DeleteMany(t.Context(), []string{"0", ""}); !errors.Is(err, tiered.ErrKey) {
			t.Errorf("the empty key: %v", err)
		}
		want(t, c, "0", 0)
	})
}

func TestManyDeletedWhileRedisIsAwayDoNotComeBack(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	s := node(t, r, quick(), tiered.WithL2Timeout(250*time.Millisecond))
	c := cache[int](t, s, "n")
	values, keys := many(20)
	must(t, c.SetMany(t.Context(), values))
	r.Kill()
	must(t, c.DeleteMany(t.Context(), keys))
	if n := s.Health().Recovery; n != len(keys) {
		t.Errorf("%d writes to be replayed, want %d", n, len(keys))
	}
	r.Restart(t)
	healthy(t, s)
	for _, c := range []*tiered.Cache[string, int]{c, cache[int](t, node(t, r), "n")} {
		if got, err := c.GetMany(t.Context(), keys); err != nil || len(got) > 0 {
			t.Errorf("%d have risen, %v", len(got), err)
		}
	}
}
