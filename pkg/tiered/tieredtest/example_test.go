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

// In a test t is its *testing.T, and nothing else is different.
func ExampleRun() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
		names := tieredtest.Caches[int, string](t, nodes, "names")
		_ = names[0].Set(t.Context(), 7, "Mira")
		fmt.Println(names[1].Get(t.Context(), 7))
	})
	fmt.Println(err)
	// Output:
	// Mira <nil>
	// <nil>
}

// Redis has done what it was told, and its reply is lost.
func ExampleProxy_HoldReply() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 1, tieredtest.StartRedis(t), tieredtest.WithStore(tiered.WithRedisRequired(true)))
		ages := tieredtest.Caches[string, int](t, nodes, "ages")[0]
		_ = ages.Delete(t.Context(), "ada") // so that Redis knows the script by now

		lost := nodes[0].Net.HoldReply(tieredtest.Command("EVALSHA"))
		done := make(chan error)
		go func() { done <- ages.Delete(context.Background(), "ada") }()
		lost.Await(t)
		lost.Drop()
		fmt.Println(errors.Is(<-done, tiered.ErrUnavailable))
	})
	fmt.Println(err)
	// Output:
	// true
	// <nil>
}

// A failover loses a delete that was acknowledged: the store says it again.
func ExampleStartSentinel() {
	err := tieredtest.Run(func(t testing.TB) {
		sentinel := tieredtest.StartSentinel(t, 1)
		nodes := tieredtest.Nodes(t, 1, sentinel)
		ages := tieredtest.Caches[string, int](t, nodes, "ages")[0]
		_ = ages.Set(t.Context(), "ada", 36)
		sentinel.Master(t).Client(t).Wait(t.Context(), 1, time.Minute) // the replica has it

		sentinel.CutReplication(t)
		_ = ages.Delete(t.Context(), "ada") // which the replica does not hear of
		old := sentinel.Master(t)
		old.Kill()
		sentinel.AwaitMaster(t, old) // on which ada is still 36
		tieredtest.Eventually(t, "it is said again", func() bool { return nodes[0].Health().Failovers > 0 && nodes[0].Health().Recovery == 0 })
		_, err := ages.Get(t.Context(), "ada")
		fmt.Println(err)
	})
	fmt.Println(err)
	// Output:
	// tiered: miss
	// <nil>
}

// A slot moves from one master to another while it is used. Redis may refuse
// what is written meanwhile: then it counts as made while Redis was away, and
// others find no older value, but perhaps none.
func ExampleStartCluster() {
	err := tieredtest.Run(func(t testing.TB) {
		cluster := tieredtest.StartCluster(t, 3, 0)
		nodes := tieredtest.Nodes(t, 2, cluster, tieredtest.WithStore(tiered.WithPrefix("shop")))
		prices := tieredtest.Caches[string, int](t, nodes, "prices")
		_ = prices[0].Set(t.Context(), "tea", 3)
		_, _ = prices[1].Get(t.Context(), "tea")
		slot := cluster.Slot(t, "shop:{prices:tea}")
		to := cluster.Nodes()[0]
		if to == cluster.Owner(t, slot) {
			to = cluster.Nodes()[1]
		}
		cluster.MoveSlot(t, slot, to, func() {
			fmt.Println(prices[0].Set(t.Context(), "tea", 4))
		})
		fmt.Println(prices[0].Get(t.Context(), "tea"))
		tieredtest.Eventually(t, "nobody reads the old price", func() bool {
			v, err := prices[1].Get(t.Context(), "tea")
			return v == 4 || errors.Is(err, tiered.ErrMiss)
		})
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// 4 <nil>
	// <nil>
}

// A server that speaks TLS alone, knows its clients by their certificates, and
// lets each user do what it is allowed to.
func ExampleWithTLS() {
	err := tieredtest.Run(func(t testing.TB) {
		server := tieredtest.StartRedis(t, tieredtest.WithTLS(t),
			tieredtest.WithUsers(tieredtest.User{Name: "reader", Password: "secret", Rules: []string{"~*", "-@all", "+hello", "+ping", "+get"}}))
		client := redis.NewClient(server.UserOptions(t, "reader"))
		defer client.Close()
		fmt.Println(client.Ping(t.Context()).Val())
		fmt.Println(client.Set(t.Context(), "k", "v", 0).Err() != nil)
	})
	fmt.Println(err)
	// Output:
	// PONG
	// true
	// <nil>
}

// The messages of one of two nodes stop to come, and no connection breaks: what
// it serves is old for the canary's window at most.
func ExampleProxy_Blackhole() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
		prices := tieredtest.Caches[string, int](t, nodes, "prices", tiered.WithDefaults(tiered.L1TTL(time.Hour), tiered.TTL(time.Hour)))
		_ = prices[0].Set(t.Context(), "tea", 3)
		_, _ = prices[1].Get(t.Context(), "tea")

		heal := nodes[1].Net.Blackhole(tieredtest.Down, tieredtest.Subscribers)
		defer heal()
		_ = prices[0].Set(t.Context(), "tea", 4)
		tieredtest.Eventually(t, "the new price is seen", func() bool {
			v, err := prices[1].Get(t.Context(), "tea")
			return v == 4 && err == nil
		})
		fmt.Println("seen, though no message came")
	})
	fmt.Println(err)
	// Output:
	// seen, though no message came
	// <nil>
}

// The suite runs with the settings of production. It is for a test, whose parts
// it names.
func ExampleConformance() {
	_ = func(t *testing.T) { // func TestOurRedisIsGoodEnough(t *testing.T)
		server := tieredtest.StartRedis(t)
		tieredtest.Conformance(t, func(t testing.TB) redis.UniversalClient {
			c := redis.NewClient(&redis.Options{Addr: server.Addr(), ReadTimeout: time.Second, ContextTimeoutEnabled: true})
			t.Cleanup(func() { _ = c.Close() })
			return c
		})
	}
	// Output:
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
