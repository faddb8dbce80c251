package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// recorded keeps what hooks were told.
type recorded struct {
	mu     sync.Mutex
	events []any
}

func record[E any](r *recorded) func(E) {
	return func(e E) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.events = append(r.events, e)
	}
}

func (r *recorded) hooks() tiered.Hooks {
	return tiered.Hooks{
		OnLoad: record[tiered.LoadEvent](r), OnLoadError: record[tiered.LoadEvent](r), OnStale: record[tiered.StaleEvent](r),
		OnEvict: record[tiered.EvictEvent](r), OnInvalidate: record[tiered.InvalidateEvent](r), OnCorrupt: record[tiered.CorruptEvent](r),
		OnBreaker: record[tiered.BreakerEvent](r), OnGap: record[tiered.GapEvent](r), OnRecovered: record[tiered.RecoveredEvent](r),
	}
}

// told waits for an event.
func told[E any](t testing.TB, r *recorded, what string, ok func(E) bool) {
	t.Helper()
	eventually(t, "a hook is told of "+what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.events {
			if e, is := e.(E); is && ok(e) {
				return true
			}
		}
		return false
	})
}

func TestHooksAreToldWhatHappened(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	var seen, seenThere recorded
	s := node(t, r, tiered.WithHooks(seen.hooks()), tiered.WithL1(16<<10), tiered.WithL2Timeout(300*time.Millisecond))
	o := node(t, r, tiered.WithHooks(seenThere.hooks()))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
	cache[string](t, o, "n")
	told(t, &seen, "the backplane's start", func(e tiered.GapEvent) bool { return !e.Open && e.Duration > 0 })

	_, err := c.GetOrLoad(t.Context(), "k", value("v"), tiered.TTL(time.Millisecond))
	must(t, err)
	told(t, &seen, "a load", func(e tiered.LoadEvent) bool { return e.Namespace == "n" && e.Key == "k" && e.Err == nil })
	broken := errors.New("broken")
	eventually(t, "the value is stale", func() bool {
		_, err := c.Get(t.Context(), "k")
		return errors.Is(err, tiered.ErrMiss)
	})
	v, err := c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) { return "", broken })
	if v != "v" || err != nil {
		t.Fatalf("stale: %q, %v", v, err)
	}
	told(t, &seen, "a failed load", func(e tiered.LoadEvent) bool { return errors.Is(e.Err, broken) })
	told(t, &seen, "a stale value", func(e tiered.StaleEvent) bool { return e.Key == "k" && e.Version > 0 && e.Over > 0 })

	must(t, c.Delete(t.Context(), "k"))
	told(t, &seen, "a delete", func(e tiered.InvalidateEvent) bool { return e.Key == "k" && !e.Remote && e.Version > 0 })
	told(t, &seenThere, "another's delete", func(e tiered.InvalidateEvent) bool { return e.Key == "k" && e.Remote && e.Version > 0 })
	must(t, s.InvalidateTags(t.Context(), "red"))
	told(t, &seen, "a tag", func(e tiered.InvalidateEvent) bool { return e.Tag == "red" && e.Namespace == "" })
	must(t, c.Clear(t.Context()))
	told(t, &seenThere, "another's clear", func(e tiered.InvalidateEvent) bool { return e.Namespace == "n" && e.Key == "" && e.Remote })
	_, err = c.InvalidatePrefix(t.Context(), "p/")
	must(t, err)
	told(t, &seenThere, "another's prefix", func(e tiered.InvalidateEvent) bool { return e.Prefix == "p/" && e.Remote })

	must(t, r.Client(t).Set(t.Context(), prefix(t)+":{n:bad}", "rubbish", 0).Err())
	wantErr(t, c, "bad", tiered.ErrMiss)
	told(t, &seen, "a damaged entry", func(e tiered.CorruptEvent) bool { return e.Key == "bad" && e.Reason == tiered.CorruptDamaged })

	for i := range 200 {
		must(t, c.Set(t.Context(), fmt.Sprint(i), strings.Repeat("x", 1000)))
	}
	told(t, &seen, "an eviction", func(e tiered.EvictEvent) bool { return e.Namespace == "n" && e.Key != "" && e.Bytes > 1000 })
	if n := c.Stats().L1Evicted; n == 0 {
		t.Error("no eviction was counted")
	}

	r.Kill()
	must(t, c.Delete(t.Context(), "k"))
	told(t, &seen, "the gap", func(e tiered.GapEvent) bool { return e.Open })
	for range 10 {
		_, _ = c.Get(t.Context(), "k")
	}
	told(t, &seen, "the breaker", func(e tiered.BreakerEvent) bool { return e.From == "closed" && e.To == "open" })
	r.Restart(t)
	told(t, &seen, "the recovery", func(e tiered.RecoveredEvent) bool { return e.Told > 0 })
}

func TestAHookThatBlocksOrPanicsHarmsNobody(t *testing.T) {
	var calls atomic.Int64
	release, first := make(chan struct{}), make(chan struct{})
	s := open(t, tiered.WithHooks(tiered.Hooks{OnLoad: func(tiered.LoadEvent) {
		if calls.Add(1) == 1 {
			close(first)
			<-release
		}
		panic("a hook's own trouble")
	}}))
	c := cache[string](t, s, "n")
	for i := range 3000 { // nobody waits, or this would never end
		_, err := c.GetOrLoad(t.Context(), fmt.Sprint(i), value("v"))
		must(t, err)
	}
	<-first
	close(release)
	eventually(t, "the queue is empty", func() bool {
		st := s.Stats()
		return st.HooksDropped >= 1000 && st.HooksDropped+st.HookPanics == 3000 && int64(st.HookPanics) == calls.Load()
	})
}

func TestCloseDeliversWhatHooksHaveNotSeen(t *testing.T) {
	var calls atomic.Int64
	s, err := tiered.Open(t.Context(), tiered.WithHooks(tiered.Hooks{OnLoad: func(tiered.LoadEvent) { calls.Add(1) }}))
	must(t, err)
	c := cache[string](t, s, "n")
	for i := range 500 {
		_, err := c.GetOrLoad(t.Context(), fmt.Sprint(i), value("v"))
		must(t, err)
	}
	must(t, s.Close(t.Context()))
	if n := calls.Load(); n != 500 {
		t.Errorf("%d events of 500", n)
	}
}

func TestCloseDoesNotWaitForAHookForEver(t *testing.T) {
	release, entered, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s, err := tiered.Open(t.Context(), tiered.WithHooks(tiered.Hooks{OnLoad: func(tiered.LoadEvent) {
		close(entered)
		<-release
		close(left)
	}}))
	must(t, err)
	_, err = cache[string](t, s, "n").GetOrLoad(t.Context(), "k", value("v"))
	must(t, err)
	<-entered
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Close(gone)
	close(release)
	<-left
}
