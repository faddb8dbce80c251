package tiered_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// With nobody listening, the L1 TTL is the bound of staleness, and one's own
// writes are seen at once.
func TestWithTheBackplaneOffTheL1TTLIsTheBound(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	a, b := node(t, shared), node(t, shared, tiered.WithBackplane(tiered.Off), tiered.WithClock(clock))
	opts := tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(10*time.Second))
	ca, cb := cache[int](t, a, "n", opts), cache[int](t, b, "n", opts)
	must(t, ca.Set(t.Context(), "k", 1, tiered.Tags("tag")))
	want(t, cb, "k", 1)
	must(t, ca.Set(t.Context(), "k", 2, tiered.Tags("tag")))
	clock.Advance(10*time.Second - 1)
	want(t, cb, "k", 1) // nobody told it
	clock.Advance(1)
	want(t, cb, "k", 2)
	// Tags are read from Redis with every read of Redis.
	must(t, a.InvalidateTags(t.Context(), "tag"))
	want(t, cb, "k", 2)
	clock.Advance(10 * time.Second)
	wantErr(t, cb, "k", tiered.ErrMiss)

	must(t, cb.Set(t.Context(), "k", 3))
	want(t, cb, "k", 3)
	eventually(t, "the other node hears of it", func() bool {
		v, err := ca.Get(t.Context(), "k")
		return err == nil && v == 3
	})
	must(t, cb.Delete(t.Context(), "k"))
	wantErr(t, cb, "k", tiered.ErrMiss)
	h := b.Health()
	if h.Status != tiered.Healthy || h.Coherent || h.Lag != 0 {
		t.Errorf("health: %+v", h)
	}
	if st := b.Stats(); st.Messages != 0 || st.Gaps != 0 || st.Revalidated != 0 {
		t.Errorf("stats: %+v", st)
	}
}

// What was read from its source before another process wrote is not served from
// memory for longer than if it had been in memory then.
func TestWithTheBackplaneOffALoadIsAsOldAsItsStart(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	a, b := node(t, shared), node(t, shared, tiered.WithBackplane(tiered.Off), tiered.WithClock(clock))
	opts := tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(10*time.Second))
	ca, cb := cache[string](t, a, "n", opts), cache[string](t, b, "n", opts)
	other := block[string]()
	done := make(chan error)
	go func() { // so that the second load has no lease, and Redis cannot refuse it
		_, err := ca.GetOrLoad(t.Context(), "k", other.load)
		done <- err
	}()
	<-other.started
	v, err := cb.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) {
		clock.Advance(9 * time.Second)
		must(t, ca.Set(t.Context(), "k", "new"))
		return "old", nil
	})
	if v != "old" || err != nil {
		t.Fatal(v, err)
	}
	clock.Advance(time.Second)
	want(t, cb, "k", "new")
	other.result <- "older"
	must(t, <-done)
	want(t, cb, "k", "new")
}

// A caller who comes after a write on another node does not get what a load
// from before brings: no message says so, but Redis refuses to store it.
func TestWithTheBackplaneOffALoadFromBeforeIsNotJoined(t *testing.T) {
	a, b := node(t, shared), node(t, shared, tiered.WithBackplane(tiered.Off))
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	slow := block[string]()
	first := make(chan string, 1)
	go func() {
		v, _ := cb.GetOrLoad(t.Context(), "k", slow.load)
		first <- v
	}()
	<-slow.started
	must(t, ca.Set(t.Context(), "k", "new"))
	second := make(chan string, 1)
	go func() {
		v, _ := cb.GetOrLoad(t.Context(), "k", value("newer"))
		second <- v
	}()
	eventually(t, "the second has joined", func() bool { return b.Stats().Coalesced == 1 })
	slow.result <- "old"
	if v := <-first; v != "old" {
		t.Errorf("the one who asked before got %q", v)
	}
	if v := <-second; v != "new" {
		t.Errorf("the one who asked after got %q", v)
	}
}

func TestWithTheBackplaneOffNobodyListens(t *testing.T) {
	r := tieredtest.StartRedis(t)
	s := node(t, r, tiered.WithBackplane(tiered.Off))
	c := cache[int](t, s, "n")
	must(t, c.Set(t.Context(), "k", 1))
	list, err := r.Client(t).Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	must(t, err)
	if strings.TrimSpace(list) != "" {
		t.Errorf("somebody is subscribed: %s", list)
	}
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	if n, all := strings.Count(string(stacks), ".(*Store).beat("), strings.Count(string(stacks), ".(*Store).listen("); n != 1+all {
		t.Errorf("%d stores beat and %d listen, want one that does not", n, all)
	}
	// What was not written while Redis was away is repeated all the same.
	r.Stop(t)
	must(t, c.Delete(t.Context(), "k"))
	r.Cont(t)
	eventually(t, "Redis has been told", func() bool { return s.Health().Recovery == 0 })
	wantErr(t, cache[int](t, node(t, r), "n"), "k", tiered.ErrMiss)
}

func TestFailSafeWithTheBackplaneOffServesNothingThatIsGone(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	a, b := node(t, shared, tiered.WithClock(clock)), node(t, shared, tiered.WithBackplane(tiered.Off), tiered.WithClock(clock))
	opts := tiered.WithDefaults(tiered.TTL(time.Minute), tiered.L1TTL(20*time.Second), tiered.FailSafe(time.Hour, time.Minute))
	ca, cb := cache[string](t, a, "n", opts), cache[string](t, b, "n", opts)
	broken := func(ctx, string, *tiered.Load[string]) (string, error) { return "", errors.New("broken") }
	must(t, ca.Set(t.Context(), "k", "v"))
	must(t, cb.Set(t.Context(), "k", "v"))
	clock.Advance(time.Minute)
	if v, err := cb.GetOrLoad(t.Context(), "k", broken); v != "v" || err != nil {
		t.Fatal(v, err)
	}
	must(t, ca.Delete(t.Context(), "k"))
	clock.Advance(20 * time.Second) // the throttle is no longer than the L1 TTL
	if v, err := cb.GetOrLoad(t.Context(), "k", broken); err == nil {
		t.Errorf("got %q", v)
	}
}

func TestAnUnknownBackplaneIsRefused(t *testing.T) {
	if _, err := tiered.Open(t.Context(), tiered.WithBackplane(7)); err == nil || !strings.Contains(err.Error(), "want PubSub, Tracking or Off") {
		t.Error(err)
	}
	if got := fmt.Sprint(tiered.PubSub, tiered.Tracking, tiered.Off, tiered.Backplane(7)); got != "pubsub tracking off backplane(7)" {
		t.Error(got)
	}
}
