package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func TestInvalidatePrefixDeletesThoseKeysAndNoOthers(t *testing.T) {
	s, o := node(t, shared), node(t, shared)
	c, other := cache[string](t, s, "n"), cache[string](t, o, "n")
	foreign := cache[string](t, s, "nn")
	// Each is a glob, a brace or a neighbour that a careless pattern would take.
	gone := []string{"a*b/", "a*b/1", "a*b/[x]", "a*b/{y}", "a*b/%7B", "a*b/ z"}
	stay := []string{"a*b", "axb/1", "aab/1", "x a*b/1", "a*B/1"}
	for _, key := range append(slices.Clip(gone), stay...) {
		must(t, c.Set(t.Context(), key, key))
		want(t, other, key, key)
	}
	must(t, foreign.Set(t.Context(), "a*b/1", "v"))
	n, err := c.InvalidatePrefix(t.Context(), "a*b/")
	must(t, err)
	if n != len(gone) {
		t.Errorf("%d deleted, want %d", n, len(gone))
	}
	for _, key := range gone {
		wantErr(t, c, key, tiered.ErrMiss)
		wantErr(t, c, key, tiered.ErrMiss, tiered.SkipL1())
		eventually(t, "the other node forgets "+key, func() bool {
			_, err := other.Get(t.Context(), key)
			return errors.Is(err, tiered.ErrMiss)
		})
	}
	for _, key := range stay {
		want(t, c, key, key)
		want(t, other, key, key)
	}
	want(t, foreign, "a*b/1", "v")
	if n, err := s.InvalidatePrefix(t.Context(), "n", "a*b/"); n != 0 || err != nil {
		t.Errorf("again, by name: %d, %v", n, err)
	}
}

func TestInvalidatePrefixReachesWhatOnlyAnothersMemoryHas(t *testing.T) {
	s, o := node(t, shared), node(t, shared)
	c, other := cache[string](t, s, "n"), cache[string](t, o, "n")
	must(t, other.Set(t.Context(), "p/1", "v", tiered.SkipL2()))
	must(t, other.Set(t.Context(), "q/1", "v", tiered.SkipL2()))
	_, err := c.InvalidatePrefix(t.Context(), "p/")
	must(t, err)
	eventually(t, "the other node forgets", func() bool {
		_, err := other.Get(t.Context(), "p/1")
		return errors.Is(err, tiered.ErrMiss)
	})
	want(t, other, "q/1", "v")
}

func TestInvalidatePrefixFencesLoadsUnderWay(t *testing.T) {
	for _, loader := range []string{"here", "elsewhere", "from memory only"} {
		t.Run(loader, func(t *testing.T) {
			s, o := node(t, shared), node(t, shared)
			if loader == "from memory only" {
				s = open(t)
				o = s
			}
			c := cache[string](t, s, "n")
			at := c
			if loader == "elsewhere" {
				at = cache[string](t, o, "n")
			}
			b := block[string]()
			var wg sync.WaitGroup
			wg.Go(func() {
				if v, err := at.GetOrLoad(t.Context(), "p/1", b.load); v != "old" || err != nil {
					t.Errorf("who asked before gets %q, %v", v, err)
				}
			})
			<-b.started
			_, err := c.InvalidatePrefix(t.Context(), "p/")
			must(t, err)
			b.result <- "old"
			wg.Wait()
			eventually(t, "the old value is nowhere", func() bool {
				_, here := c.Get(t.Context(), "p/1")
				_, there := at.Get(t.Context(), "p/1")
				return errors.Is(here, tiered.ErrMiss) && errors.Is(there, tiered.ErrMiss)
			})
			wantErr(t, c, "p/1", tiered.ErrMiss)
		})
	}
}

// A load that ends while Redis is being scanned leaves its lease before the
// scan comes to it, and its entry where the scan has been.
func TestInvalidatePrefixFindsWhatIsStoredBehindItsBack(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
	caches := tieredtest.Caches[string, string](t, nodes, "n")
	fill := make(map[string]string)
	for i := range 3000 {
		fill[fmt.Sprint("other/", i)] = "v"
	}
	must(t, caches[1].SetMany(t.Context(), fill))
	const loads = 8
	var wg sync.WaitGroup
	release := make(chan struct{})
	started := make(chan struct{}, loads)
	for i := range loads {
		wg.Go(func() {
			_, _ = caches[1].GetOrLoad(t.Context(), fmt.Sprint("p/", i), func(ctx, string, *tiered.Load[string]) (string, error) {
				started <- struct{}{}
				<-release
				return "old", nil
			})
		})
	}
	for range loads {
		<-started
	}
	hold := nodes[0].Net.HoldReply(tieredtest.Command("scan"))
	done := make(chan error, 1)
	go func() {
		_, err := caches[0].InvalidatePrefix(t.Context(), "p/")
		done <- err
	}()
	hold.Await(t)
	close(release)
	wg.Wait()
	hold.Release()
	must(t, <-done)
	for i := range loads {
		if v, err := caches[0].Get(t.Context(), fmt.Sprint("p/", i)); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("load %d: %q, %v", i, v, err)
		}
	}
	want(t, caches[0], "other/0", "v")
}

func TestInvalidatePrefixEndsWithItsContext(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "p/1", "v"))
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if n, err := c.InvalidatePrefix(gone, "p/"); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := c.InvalidatePrefix(t.Context(), ""); !errors.Is(err, tiered.ErrKey) || !strings.Contains(err.Error(), "Clear") {
		t.Errorf("empty prefix: %v", err)
	}
	numbers, err := tiered.New[int, string](s, "numbers")
	must(t, err)
	if _, err := numbers.InvalidatePrefix(t.Context(), "1"); !errors.Is(err, tiered.ErrKey) {
		t.Errorf("numbers: %v", err)
	}
}

func TestInvalidatePrefixTellsIfRedisIsAway(t *testing.T) {
	r := tieredtest.StartRedis(t)
	s := node(t, r)
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "p/1", "v"))
	r.Kill()
	if n, err := c.InvalidatePrefix(t.Context(), "p/"); n != 0 || !errors.Is(err, tiered.ErrUnavailable) {
		t.Errorf("%d, %v", n, err)
	}
	wantErr(t, c, "p/1", tiered.ErrMiss)
}

func TestInvalidatePrefixScansEveryMasterOfACluster(t *testing.T) {
	cluster := tieredtest.StartCluster(t, 3, 0)
	caches := make([]*tiered.Cache[string, string], 2)
	for i := range caches {
		caches[i] = cache[string](t, open(t, tiered.WithRedis(cluster.Client(t)), tiered.WithL2Timeout(3*time.Second)), "n")
	}
	for i := range 60 {
		must(t, caches[0].Set(t.Context(), fmt.Sprint("p/", i), "v"))
	}
	must(t, caches[0].Set(t.Context(), "q/1", "v"))
	n, err := caches[1].InvalidatePrefix(t.Context(), "p/")
	must(t, err)
	if n != 60 {
		t.Errorf("%d deleted, want 60", n)
	}
	for i := range 60 {
		wantErr(t, caches[1], fmt.Sprint("p/", i), tiered.ErrMiss)
	}
	want(t, caches[1], "q/1", "v")
	in, err := caches[1].Inspect(t.Context(), "p/7")
	must(t, err)
	if !in.L2.Tombstone {
		t.Errorf("%+v", in.L2)
	}
}
