package tiered_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// L1Bytes is what ristretto counts, Entries are what readers can get: neither
// may exceed the bound once memory has settled.
func TestABurstLeavesMemoryWithinItsBound(t *testing.T) {
	const bound, cost = 1 << 20, 10 << 10
	s := open(t, tiered.WithL1(bound))
	c := cache[int](t, s, "n", tiered.WithCost(func(int) int64 { return cost }))
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 2000 {
				if err := c.Set(t.Context(), fmt.Sprint(w, "/", i%700), i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "memory is settled within its bound", func() bool {
		st := s.Stats()
		n := c.Stats()
		return s.Settled() && st.L1Bytes <= bound && n.L1Bytes <= bound && n.Entries > bound/cost/2 && n.Entries <= bound/cost
	})
	st := c.Stats()
	if each := st.L1Bytes / st.Entries; each < cost || each > cost+1000 {
		t.Errorf("an entry counts %d bytes, want %d and a little", each, cost)
	}
	n := uint64(0)
	for _, info := range c.Local() {
		n += uint64(info.Bytes)
	}
	if n != st.L1Bytes {
		t.Errorf("the entries have %d bytes, the statistics %d", n, st.L1Bytes)
	}
}

func TestWhatIsLargerThanMemoryIsNotKept(t *testing.T) {
	const bound = 64 << 10
	s := node(t, shared, tiered.WithL1(bound))
	c := cache[string](t, s, "n", tiered.WithCost(func(v string) int64 { return int64(len(v)) }))
	large := strings.Repeat("x", bound+1)
	must(t, c.Set(t.Context(), "new", large))
	must(t, c.Set(t.Context(), "grown", "small"))
	must(t, c.Set(t.Context(), "grown", large))
	for _, key := range []string{"new", "grown"} {
		if in := inspect(t, c, key); in.L1.Present || in.Verdict != tiered.HitL2 {
			t.Errorf("%s: %+v", key, in)
		}
		want(t, c, key, large) // from Redis, and it is not kept now either
		if in := inspect(t, c, key); in.L1.Present {
			t.Errorf("%s is in memory: %+v", key, in.L1)
		}
	}
	must(t, c.Set(t.Context(), "grown", "small again"))
	if in := inspect(t, c, "grown"); in.Verdict != tiered.HitL1 {
		t.Errorf("a small one is not kept: %+v", in)
	}
}

func TestSkippedTiersAreNeitherReadNorWritten(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n")
	loads := 0
	load := func(ctx, string, *tiered.Load[string]) (string, error) {
		loads++
		return fmt.Sprint("load ", loads), nil
	}
	get := func(want string, opts ...tiered.EntryOption) {
		t.Helper()
		if v, err := c.GetOrLoad(t.Context(), "k", load, opts...); v != want || err != nil {
			t.Errorf("got %q, %v; want %q", v, err, want)
		}
	}
	present := func(key string, l1, l2 bool) {
		t.Helper()
		in := inspect(t, c, key)
		if there := in.L2.Present && !in.L2.Tombstone; in.L1.Present != l1 || there != l2 {
			t.Errorf("%s is in memory %t, in Redis %t; want %t and %t", key, in.L1.Present, there, l1, l2)
		}
	}
	get("load 1", tiered.SkipL1())
	present("k", false, true)
	get("load 1", tiered.SkipL1()) // Redis has it
	get("load 2", tiered.SkipL2()) // memory has not
	present("k", true, true)
	get("load 2", tiered.SkipL2())
	get("load 2")
	get("load 1", tiered.SkipL1())
	get("load 3", tiered.SkipL1(), tiered.SkipL2())

	must(t, c.Set(t.Context(), "set", "v", tiered.SkipL2()))
	present("set", true, false)
	must(t, c.Set(t.Context(), "set", "w", tiered.SkipL1()))
	present("set", false, true) // what memory had was written over
	want(t, c, "set", "w")
	must(t, c.Delete(t.Context(), "set"))
	present("set", false, false)
}

// An update of the same cost does not reach ristretto; of another, it must.
func TestTheBoundCountsUpdates(t *testing.T) {
	s := open(t, tiered.WithL1(1<<20))
	c := cache[int](t, s, "n", tiered.WithCost(func(v int) int64 { return int64(v) }))
	var before uint64
	for _, cost := range []int{1000, 1000, 50_000, 3} {
		must(t, c.Set(t.Context(), "k", cost))
		want(t, c, "k", cost)
		eventually(t, "the update is counted", func() bool {
			st, n := s.Stats(), c.Stats()
			return s.Settled() && n.Entries == 1 && st.L1Bytes == n.L1Bytes && n.L1Bytes-uint64(cost) < 1000
		})
		after := s.Stats().L1Bytes
		if before == after && cost != 1000 {
			t.Errorf("%d bytes before and after", after)
		}
		before = after
	}
	// What is not asked for any more gives way, also after an update that
	// ristretto was not told of.
	must(t, c.Set(t.Context(), "k", 3))
	for i := range 3000 {
		must(t, c.Set(t.Context(), fmt.Sprint(i), 1000))
	}
	eventually(t, "memory is settled within its bound", func() bool {
		st, n := s.Stats(), c.Stats()
		return s.Settled() && st.L1Bytes <= 1<<20 && n.L1Bytes == st.L1Bytes && n.Entries < 1000
	})
}
