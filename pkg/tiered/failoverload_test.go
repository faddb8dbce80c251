package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// A real failover by Sentinels while three processes write. The replica has
// stopped to hear of the master, which acknowledges 2,000 sets, deletes and
// invalidated tags that are lost with it. What the documentation says of it: a
// beat (1 s) after the new master can be reached, and 20 to 40 ms for each 256
// of what was acknowledged, and then no store serves what was overwritten.
func TestAFailoverUnderLoadIsRepairedWithinItsBound(t *testing.T) {
	const lost, old, fresh = 2000, 1, 2
	sen := tieredtest.StartSentinel(t, 1)
	nodes := tieredtest.Nodes(t, 3, sen, tieredtest.WithStore(tiered.WithPrefix("tc"), quick()))
	c := tieredtest.Caches[int, int](t, nodes, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
	all := make(map[int]int, lost)
	for k := range lost {
		all[k] = old
	}
	for _, n := range nodes {
		healthy(t, n.Store)
	}
	tags := func(k int) tiered.EntryOption { return tiered.Tags("tag" + strconv.Itoa(k/100)) }
	for k := range lost {
		if k%100 == 0 { // a tag for each hundred
			hundred := make(map[int]int, 100)
			for i := k; i < k+100; i++ {
				hundred[i] = all[i]
			}
			must(t, c[0].SetMany(t.Context(), hundred, tags(k)))
		}
	}
	keys := make([]int, lost)
	for k := range keys {
		keys[k] = k
	}
	master := sen.Master(t)
	if n, err := master.Client(t).Wait(t.Context(), 1, 20*time.Second).Result(); n != 1 || err != nil {
		t.Fatalf("replicated to %d, %v", n, err)
	}

	// The load: writes of other keys on all nodes, for as long as the test.
	ctx, stop := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var writes atomic.Int64
	for i, one := range c {
		load.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				k := lost + i*100 + n%100
				if err := one.Set(ctx, k, n); err != nil && ctx.Err() == nil {
					t.Errorf("node %d: set: %v", i, err)
				}
				if v, err := one.Get(ctx, k); err == nil && v != n { // a miss is what a repeated write leaves
					t.Errorf("node %d: get after setting %d: %d", i, n, v)
				}
				writes.Add(1)
				pause(ctx, time.Millisecond)
			}
		})
	}
	defer load.Wait()
	defer stop()

	sen.CutReplication(t)
	for first := 0; first < lost; first += 100 {
		hundred := keys[first : first+100]
		switch first / 100 % 3 {
		case 0:
			must(t, c[0].DeleteMany(t.Context(), hundred))
		case 1:
			must(t, nodes[0].InvalidateTags(t.Context(), "tag"+strconv.Itoa(first/100)))
		default:
			for _, k := range hundred {
				all[k] = fresh
			}
			values := make(map[int]int, len(hundred))
			for _, k := range hundred {
				values[k] = fresh
			}
			must(t, c[0].SetMany(t.Context(), values))
		}
	}
	acknowledged, _ := nodes[0].Acknowledged()
	before := writes.Load()
	master.Kill()
	died := time.Now()

	// stale is how many of the lost keys a node reads as they were.
	stale := func(node int, opts ...tiered.EntryOption) (n int) {
		got, err := c[node].GetMany(ctx, keys, opts...)
		if err != nil && !errors.Is(err, tiered.ErrUnavailable) {
			t.Errorf("node %d: get many: %v", node, err)
		}
		for _, v := range got {
			if v == old {
				n++
			}
		}
		return n
	}
	id := func(ctx context.Context) string { return nodes[0].Client.Info(ctx, "server").Val() }
	eventually(t, "the writer reaches a new master", func() bool {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return id(ctx) != ""
	})
	reached := time.Now()
	worst, last := 0, reached // of another process, in Redis alone
	eventually(t, "all is said again", func() bool {
		// What it reads after its writer has noticed, that one never serves.
		noticed := nodes[0].Health().Failovers > 0
		if n := stale(0); noticed && n > 0 {
			t.Errorf("the writer has noticed, and serves %d that it has overwritten", n)
		}
		if n := stale(2, tiered.SkipL1()); n > 0 {
			worst, last = max(worst, n), time.Now()
			return false
		}
		h := nodes[0].Health()
		return noticed && h.Recovery == 0 && h.Status == tiered.Healthy
	})
	for i := range nodes {
		if n := stale(i) + stale(i, tiered.SkipL1()); n > 0 {
			t.Errorf("node %d serves %d that were overwritten", i, n)
		}
	}
	took, batches := last.Sub(reached), acknowledged/256+1
	bound := time.Second + time.Duration(batches)*40*time.Millisecond
	t.Logf("%d acknowledgements remembered, %d writes lost; %v after the master's death another is reached; up to %d stale ones were read there for %v (bound %v); %d writes of the load, %d of them since the death",
		acknowledged, lost, reached.Sub(died).Round(time.Millisecond), worst, took.Round(time.Millisecond), bound, writes.Load(), writes.Load()-before)
	if worst == 0 {
		t.Error("nothing was lost: the test has lost its ground")
	}
	if took > bound+5*time.Second { // of a busy machine
		t.Errorf("stale values were read for %v, bound %v", took, bound)
	}
	// The old master comes back, as the replica of the new one, and undoes nothing.
	sen.AllowReplication(t)
	master.Restart(t)
	eventually(t, fmt.Sprintf("%s has followed", master.Addr()), func() bool {
		return sen.Master(t).Client(t).Wait(t.Context(), 1, time.Second).Val() == 1
	})
	for i := range nodes {
		if n := stale(i) + stale(i, tiered.SkipL1()); n > 0 {
			t.Errorf("node %d serves %d that were overwritten, once the old master is back", i, n)
		}
	}
}
