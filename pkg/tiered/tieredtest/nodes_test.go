package tieredtest_test

import (
	"errors"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func TestTheNetworkOfOneNodeBreaksByItself(t *testing.T) {
	r := tieredtest.StartRedis(t)
	nodes := tieredtest.Nodes(t, 3, r)
	users := tieredtest.Caches[string, int](t, nodes, "users")
	must(t, users[0].Set(t.Context(), "ada", 1))
	for _, c := range users {
		if v, err := c.Get(t.Context(), "ada"); v != 1 || err != nil {
			t.Fatalf("got %d, %v", v, err)
		}
	}
	nodes[2].Net.Refuse()
	nodes[2].Net.Reset()
	tieredtest.Eventually(t, "the third knows that it is alone", func() bool { return !nodes[2].Health().Coherent })
	must(t, users[0].Set(t.Context(), "ada", 2))
	tieredtest.Eventually(t, "the second agrees", func() bool { v, err := users[1].Get(t.Context(), "ada"); return v == 2 && err == nil })
	nodes[2].Net.Heal()
	tieredtest.Eventually(t, "the third agrees", func() bool {
		v, err := users[2].Get(t.Context(), "ada")
		return v == 2 && err == nil && nodes[2].Health().Coherent
	})
}

func TestNodesWithoutAServerHaveOnlyMemory(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, nil, tieredtest.WithClocks(), tieredtest.WithStore(tiered.WithL1(1<<20)))
	c := tieredtest.Caches[string, int](t, nodes, "n", tiered.WithDefaults(tiered.TTL(time.Minute)))
	for _, one := range c {
		must(t, one.Set(t.Context(), "k", 1))
	}
	nodes[0].Clock.Advance(time.Hour)
	if _, err := c[0].Get(t.Context(), "k"); !errors.Is(err, tiered.ErrMiss) {
		t.Errorf("after an hour: %v", err)
	}
	if v, err := c[1].Get(t.Context(), "k"); v != 1 || err != nil {
		t.Errorf("on the node whose clock stands still: %d, %v", v, err)
	}
}
