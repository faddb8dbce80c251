package tieredtest_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// A test of one's own code: a reply of Redis is lost, on one of two nodes.
func ExampleProxy_HoldReply() {
	_ = func(t *testing.T) { // func TestALostReply(t *testing.T)
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t), tieredtest.WithStore(tiered.WithRedisRequired(true)))
		users := tieredtest.Caches[string, int](t, nodes, "users")

		lost := nodes[0].Net.HoldReply(tieredtest.Command("EVALSHA"))
		done := make(chan error)
		go func() { done <- users[0].Delete(context.Background(), "ada") }()
		lost.Await(t) // Redis has done it
		lost.Drop()   // and nobody will know
		if err := <-done; !errors.Is(err, tiered.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
	}
}

// A failover that loses an acknowledged delete: the store says it again.
func ExampleStartSentinel() {
	_ = func(t *testing.T) { // func TestADeleteSurvivesAFailover(t *testing.T)
		sentinel := tieredtest.StartSentinel(t, 1)
		nodes := tieredtest.Nodes(t, 1, sentinel)
		users := tieredtest.Caches[string, int](t, nodes, "users")[0]
		_ = users.Set(t.Context(), "ada", 36)
		sentinel.Master(t).Client(t).Wait(t.Context(), 1, time.Minute) // the replica has it

		sentinel.CutReplication(t)
		_ = users.Delete(t.Context(), "ada") // which the replica does not hear of
		old := sentinel.Master(t)
		old.Kill()
		sentinel.AwaitMaster(t, old) // on which ada is still 36
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for h := nodes[0].Health(); h.Failovers == 0 || h.Recovery > 0; h = nodes[0].Health() {
			select {
			case <-tick.C:
			case <-t.Context().Done():
				return
			}
		}
		if _, err := users.Get(t.Context(), "ada"); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("ada has risen: %v", err)
		}
	}
}

// A slot moves from one master to another while it is used.
func ExampleStartCluster() {
	_ = func(t *testing.T) { // func TestASlotMoves(t *testing.T)
		cluster := tieredtest.StartCluster(t, 3, 0)
		nodes := tieredtest.Nodes(t, 2, cluster, tieredtest.WithStore(tiered.WithPrefix("shop")))
		prices := tieredtest.Caches[string, int](t, nodes, "prices")
		slot := cluster.Slot(t, "shop:{prices:tea}")
		to := cluster.Nodes()[0]
		if to == cluster.Owner(t, slot) {
			to = cluster.Nodes()[1]
		}
		cluster.MoveSlot(t, slot, to, func() {
			if err := prices[0].Set(t.Context(), "tea", 3); err != nil {
				t.Errorf("set while the slot moves: %v", err)
			}
		})
		if v, err := prices[1].Get(t.Context(), "tea"); v != 3 || err != nil {
			t.Errorf("got %d, %v", v, err)
		}
	}
}

// The messages of one of two nodes stop to come, and no connection breaks: what
// it serves is old for the canary's window at most.
func ExampleProxy_Blackhole() {
	_ = func(t *testing.T) { // func TestASilentNetwork(t *testing.T)
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
		prices := tieredtest.Caches[string, int](t, nodes, "prices")
		_ = prices[0].Set(t.Context(), "tea", 3)
		_, _ = prices[1].Get(t.Context(), "tea")
		heal := nodes[1].Net.Blackhole(tieredtest.Down, tieredtest.Subscribers)
		defer heal()
		_ = prices[0].Set(t.Context(), "tea", 4)
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(10 * time.Second); ; <-tick.C {
			if v, err := prices[1].Get(t.Context(), "tea"); v == 4 && err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatal("the write is not seen")
			}
		}
	}
}

// The suite runs with the settings of production.
func ExampleConformance() {
	_ = func(t *testing.T) { // func TestOurRedisIsGoodEnough(t *testing.T)
		server := tieredtest.StartRedis(t)
		tieredtest.Conformance(t, func(t testing.TB) redis.UniversalClient {
			c := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: time.Second, ContextTimeoutEnabled: true})
			t.Cleanup(func() { _ = c.Close() })
			return c
		})
	}
}

func ExampleClock() {
	clock := tieredtest.NewClock(time.Time{})
	store, err := tiered.Open(context.Background(), tiered.WithClock(clock))
	if err != nil {
		panic(err)
	}
	defer store.Close(context.Background())
	c, err := tiered.New[string, int](store, "n", tiered.WithDefaults(tiered.TTL(time.Hour)))
	if err != nil {
		panic(err)
	}
	_ = c.Set(context.Background(), "k", 1)
	clock.Advance(time.Hour)
	_, err = c.Get(context.Background(), "k")
	fmt.Println(err)
	// Output: tiered: miss
}
