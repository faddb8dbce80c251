package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// follower opens a store on the Sentinels' master under the test's own prefix.
func follower(t testing.TB, sen *tieredtest.Sentinel, opts ...tiered.Option) *tiered.Store {
	t.Helper()
	o := sen.Options()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	c := redis.NewFailoverClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return open(t, append([]tiered.Option{tiered.WithRedis(c), tiered.WithPrefix(prefix(t)), quick()}, opts...)...)
}

// A promoted replica does not have what the master acknowledged last. What was
// deleted, overwritten or invalidated rises again there, and must not in any
// store, in either tier.
func TestAFailoverDoesNotUndoWhatWasAcknowledged(t *testing.T) {
	sen := tieredtest.StartSentinel(t, 1)
	a, b := follower(t, sen), follower(t, sen)
	opts := tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour))
	ca, cb := cache[string](t, a, "n", opts), cache[string](t, b, "n", opts)
	xa, xb := cache[string](t, a, "cleared", opts), cache[string](t, b, "cleared", opts)
	healthy(t, a)
	healthy(t, b)
	keys := []string{"deleted", "set", "tagged", "kept", "rewritten"}
	for _, k := range keys {
		must(t, ca.Set(t.Context(), k, "old", tiered.Tags("of-"+k)))
	}
	must(t, xa.Set(t.Context(), "k", "old"))
	admin := sen.Client(t)
	if n, err := admin.Wait(t.Context(), 1, 10*time.Second).Result(); n != 1 || err != nil {
		t.Fatalf("replicated to %d, %v", n, err)
	}
	for _, k := range keys {
		want(t, cb, k, "old")
	}
	want(t, xb, "k", "old")

	sen.CutReplication(t)
	must(t, ca.Delete(t.Context(), "deleted"))
	must(t, ca.Set(t.Context(), "set", "new"))
	must(t, a.InvalidateTags(t.Context(), "of-tagged"))
	must(t, xa.Clear(t.Context()))
	old := sen.Master(t)
	old.Kill()
	master := sen.AwaitMaster(t, old)

	// Its ground: the new master has what was overwritten, in the old version.
	direct := master.Client(t)
	if direct.GetRange(t.Context(), prefix(t)+":{n:deleted}", 0, 3).Val() == "" {
		t.Fatal("the new master does not have the entry: the test has lost its ground")
	}
	eventually(t, "both stores notice", func() bool {
		return a.Health().Failovers > 0 && b.Health().Failovers > 0
	})
	eventually(t, "all is said again", func() bool {
		ha, hb := a.Health(), b.Health()
		return ha.Status == tiered.Healthy && hb.Status == tiered.Healthy
	})
	// c knows nothing but what Redis says now.
	c := follower(t, sen)
	cc, xc := cache[string](t, c, "n", opts), cache[string](t, c, "cleared", opts)
	type one struct {
		name string
		*tiered.Cache[string, string]
	}
	// First c, before the others could tell Redis of what they know of tags.
	for _, n := range []one{{"c", cc}, {"a", ca}, {"b", cb}} {
		if v, err := n.Get(t.Context(), "deleted"); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("%s: deleted has risen: %q, %v", n.name, v, err)
		}
		if v, err := n.Get(t.Context(), "tagged"); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("%s: tagged has risen: %q, %v", n.name, v, err)
		}
		if v, err := n.Get(t.Context(), "set"); err == nil && v != "new" {
			t.Errorf("%s: set has fallen back to %q", n.name, v)
		}
		want(t, n.Cache, "kept", "old")
	}
	for _, n := range []one{{"c", xc}, {"a", xa}, {"b", xb}} {
		if v, err := n.Get(t.Context(), "k"); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("%s: what was cleared has risen: %q, %v", n.name, v, err)
		}
	}
}

// What survived a failover, or was written since, is not touched by the replay.
func TestAReplayLeavesWhatIsNewer(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	a, b := node(t, r, quick()), node(t, r, quick())
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	must(t, ca.Set(t.Context(), "survived", "v"))
	must(t, ca.Set(t.Context(), "rewritten", "v"))
	must(t, cb.Set(t.Context(), "rewritten", "w"))
	must(t, ca.Set(t.Context(), "tagged", "v", tiered.Tags("tag")))
	must(t, a.InvalidateTags(t.Context(), "tag"))
	must(t, ca.Set(t.Context(), "tagged", "w", tiered.Tags("tag")))
	eventually(t, "both know the server", func() bool { return a.Watched() && b.Watched() })
	r.Restart(t) // another process, with all data
	eventually(t, "both stores notice", func() bool {
		return a.Health().Failovers == 1 && b.Health().Failovers == 1
	})
	healthy(t, a)
	healthy(t, b)
	c := cache[string](t, node(t, r), "n")
	want(t, c, "survived", "v")
	want(t, c, "rewritten", "w")
	want(t, c, "tagged", "w")
	want(t, ca, "survived", "v")
}

// The store itself may have read the old value from the new master before it
// noticed: that must go too, here and from stores that read it as well.
func TestWhatWasReadFromTheNewMasterIsForgotten(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	a, b := node(t, r), node(t, r)
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	healthy(t, a)
	healthy(t, b)
	must(t, ca.Set(t.Context(), "k", "old", tiered.Tags("tag")))
	raw, err := admin.Get(t.Context(), prefix(t)+":{n:k}").Bytes()
	must(t, err)
	tag, err := admin.Get(t.Context(), prefix(t)+":t:tag").Result()
	must(t, err)
	must(t, ca.Delete(t.Context(), "k"))
	eventually(t, "the delete is heard", func() bool {
		_, err := cb.Get(t.Context(), "k")
		return errors.Is(err, tiered.ErrMiss)
	})
	// As if it had been lost.
	must(t, admin.Set(t.Context(), prefix(t)+":{n:k}", raw, time.Hour).Err())
	must(t, admin.Set(t.Context(), prefix(t)+":t:tag", tag, time.Hour).Err())
	want(t, cb, "k", "old")
	want(t, ca, "k", "old")
	a.Repeat()
	eventually(t, "the old value is gone everywhere", func() bool {
		_, errA := ca.Get(t.Context(), "k")
		_, errB := cb.Get(t.Context(), "k")
		return errors.Is(errA, tiered.ErrMiss) && errors.Is(errB, tiered.ErrMiss)
	})
}

// The ring is bounded in number, in bytes and in time.
func TestAcknowledgedInvalidationsAreBounded(t *testing.T) {
	s := node(t, shared)
	for i := range 100_000 {
		s.Acknowledge("n", strconv.Itoa(i), uint64(i))
	}
	if n, _ := s.Acknowledged(); n != 1<<15 {
		t.Errorf("%d are kept", n)
	}
	long := string(make([]byte, 1<<20))
	for i := range 10 {
		s.Acknowledge("n", fmt.Sprint(long, i), 1)
	}
	if n, bytes := s.Acknowledged(); bytes > 4<<20 || n != 3 {
		t.Errorf("%d with %d bytes are kept", n, bytes)
	}
}

// 10,000 lost keys of several stores come back in batches with pauses, while
// Redis goes on serving others.
func TestARecoveryStormIsBounded(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	const stores, keys = 3, 10_000
	var all []*tiered.Store
	for range stores {
		s := node(t, r, quick())
		c := cache[int](t, s, "n")
		healthy(t, s)
		all = append(all, s)
		defer func() { wantErr(t, c, "1", tiered.ErrMiss) }()
	}
	r.Kill()
	for _, s := range all {
		for k := range keys {
			s.Lose("n", strconv.Itoa(k))
		}
	}
	r.Restart(t)
	probe := r.Client(t)
	began, worst := time.Now(), time.Duration(0)
	eventually(t, "all is replayed", func() bool {
		at := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		o := probe.Ping(ctx)
		worst = max(worst, time.Since(at))
		left := 0
		for _, s := range all {
			left += s.Health().Recovery
		}
		return o.Err() == nil && left == 0
	})
	took := time.Since(began)
	replayed := uint64(0)
	for _, s := range all {
		replayed += s.Stats().Replayed
	}
	t.Logf("%d stores × %d keys: %d replayed in %v, the worst PING took %v", stores, keys, replayed, took, worst)
	// 40 batches with at least 20 ms between them.
	if took < keys/256*20*time.Millisecond {
		t.Errorf("all was replayed in %v: no pauses", took)
	}
	if replayed != stores*keys {
		t.Errorf("%d replayed", replayed)
	}
}
