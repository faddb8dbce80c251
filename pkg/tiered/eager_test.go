package tiered_test

import (
	"errors"
	"math"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// slow is a loader that takes ten seconds of the clock.
func slow(clock *tieredtest.Clock, v string) tiered.Loader[string, string] {
	return func(ctx, string, *tiered.Load[string]) (string, error) {
		clock.Advance(10 * time.Second)
		return v, nil
	}
}

// atThreshold makes the refresh due when half of the TTL has passed, whatever
// is drawn but for one in a million.
var atThreshold = tiered.EagerRefresh(0.5, 1e6)

func TestAValueIsRenewedBeforeItExpires(t *testing.T) {
	for name, open := range map[string]func(testing.TB, ...tiered.Option) *tiered.Store{
		"memory": open, "redis": func(t testing.TB, opts ...tiered.Option) *tiered.Store { return node(t, shared, opts...) },
	} {
		t.Run(name, func(t *testing.T) {
			clock := tieredtest.NewClock(time.Time{})
			s := open(t, tiered.WithClock(clock))
			c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(0), atThreshold))
			must(t, c.Clear(t.Context()))
			loads(t, c, slow(clock, "old"), "old", nil)
			due := c.RefreshAfter("k")
			if due < 29*time.Minute || due > 30*time.Minute {
				t.Fatalf("due after %v, want about half an hour", due)
			}
			clock.Advance(due - 1)
			loads(t, c, failing, "old", nil)
			if n := s.Stats().Refreshes; n != 0 {
				t.Fatalf("%d refreshes before it is due", n)
			}
			clock.Advance(1)
			want(t, c, "k", "old") // Get has no loader
			b := block[string]()
			for range 100 {
				loads(t, c, b.load, "old", nil) // nobody waits
			}
			<-b.started
			b.result <- "new"
			eventually(t, "the new value is there", func() bool {
				v, _ := c.Get(t.Context(), "k")
				return v == "new"
			})
			if st := s.Stats(); st.Refreshes != 1 || st.Loads != 2 {
				t.Errorf("%d refreshes, %d loads, want one and two", st.Refreshes, st.Loads)
			}
			if name == "redis" {
				want(t, c, "k", "new", tiered.SkipL1())
			}
		})
	}
}

// E is exponential with mean 1: the share of values that are due a load's time
// before the end is 1/e, two loads' 1/e².
func TestRefreshesAreDrawnByXFetch(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.EagerRefresh(0.25, 2)))
	const keys = 4000
	var beyond [3]int
	for i := range keys {
		k := strconv.Itoa(i)
		_, err := c.GetOrLoad(t.Context(), k, slow(clock, "v"))
		must(t, err)
		early := time.Hour - c.RefreshAfter(k)
		for n := range beyond {
			if early > time.Duration(n)*20*time.Second { // beta times the load's time
				beyond[n]++
			}
		}
		if early < 0 || early > 45*time.Minute {
			t.Fatalf("due %v before the end: beyond its bounds", early)
		}
	}
	for n, got := range beyond {
		p := math.Exp(-float64(n))
		if want := p * keys; math.Abs(float64(got)-want) > 6*math.Sqrt(keys*p*(1-p))+1 {
			t.Errorf("%d of %d are due more than %d loads early, want about %.0f", got, keys, n, want)
		}
	}
	must(t, c.Set(t.Context(), "set", "v"))
	if due := c.RefreshAfter("set"); due != time.Hour {
		t.Errorf("a value of unknown cost is due after %v", due)
	}
}

func TestAFailedRefreshCostsNobodyAnything(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), atThreshold))
	loads(t, c, slow(clock, "old"), "old", nil)
	clock.Advance(40 * time.Minute)
	for round := range uint64(3) {
		for range 20 {
			loads(t, c, failing, "old", nil)
		}
		eventually(t, "the refresh has failed", func() bool { return s.Stats().LoadErrors == round+1 && s.Flights() == 0 })
		for range 20 {
			loads(t, c, failing, "old", nil)
		}
		if n := s.Stats().Refreshes; n != round+1 {
			t.Errorf("%d refreshes, want one a second", n)
		}
		clock.Advance(time.Second)
	}
}

func TestARefreshNeverOverwritesAWrite(t *testing.T) {
	for _, where := range []string{"here", "on another node", "by a tag", "by clear"} {
		t.Run(where, func(t *testing.T) {
			clock := tieredtest.NewClock(time.Time{})
			opts := tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(0), atThreshold, tiered.Tags("tag"))
			a, b := node(t, shared, tiered.WithClock(clock)), node(t, shared)
			ca, cb := cache[string](t, a, "n", opts), cache[string](t, b, "n", opts)
			must(t, ca.Clear(t.Context()))
			loads(t, ca, slow(clock, "old"), "old", nil)
			clock.Advance(40 * time.Minute)
			bl := block[string]()
			loads(t, ca, bl.load, "old", nil)
			<-bl.started
			switch where {
			case "here":
				must(t, ca.Delete(t.Context(), "k"))
			case "on another node":
				must(t, cb.Delete(t.Context(), "k"))
			case "by a tag":
				must(t, a.InvalidateTags(t.Context(), "tag"))
			case "by clear":
				must(t, ca.Clear(t.Context()))
			}
			bl.result <- "too late"
			eventually(t, "the refresh has ended", func() bool {
				return shared.Client(t).Exists(t.Context(), prefix(t)+":l:{n:k}").Val() == 0 && a.Flights() == 0
			})
			eventually(t, "memory agrees", func() bool {
				_, err := ca.Get(t.Context(), "k")
				return errors.Is(err, tiered.ErrMiss)
			})
			wantErr(t, ca, "k", tiered.ErrMiss, tiered.SkipL1())
			wantErr(t, cb, "k", tiered.ErrMiss)
		})
	}
}

func TestOneProcessOfManyRenews(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	opts := tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(0), atThreshold)
	a, b := node(t, shared, tiered.WithClock(clock)), node(t, shared, tiered.WithClock(clock))
	ca, cb := cache[string](t, a, "n", opts), cache[string](t, b, "n", opts)
	must(t, ca.Clear(t.Context()))
	loads(t, ca, slow(clock, "old"), "old", nil)
	loads(t, cb, failing, "old", nil)
	clock.Advance(40 * time.Minute)
	bl := block[string]()
	loads(t, ca, bl.load, "old", nil)
	<-bl.started
	for range 20 {
		loads(t, cb, failing, "old", nil)
	}
	eventually(t, "the other has given up", func() bool { return b.Flights() == 0 })
	bl.result <- "new"
	eventually(t, "the first has renewed it", func() bool { return a.Flights() == 0 })
	clock.Advance(time.Second)
	eventually(t, "the other takes it over", func() bool {
		v, err := cb.GetOrLoad(t.Context(), "k", failing)
		return v == "new" && err == nil
	})
	if n := b.Stats().Loads; n != 0 {
		t.Errorf("%d loads by the other", n)
	}
}

func TestARefreshThatOthersJoinServesThem(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), atThreshold))
	loads(t, c, slow(clock, "old"), "old", nil)
	clock.Advance(40 * time.Minute)
	b := block[string]()
	loads(t, c, b.load, "old", nil)
	<-b.started
	clock.Advance(time.Hour) // now it has expired
	var wg sync.WaitGroup
	wg.Go(func() { loads(t, c, failing, "new", nil) })
	eventually(t, "it waits", func() bool { return s.Stats().Coalesced == 1 })
	b.result <- "new"
	wg.Wait()
}
