package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// In these examples each node is a process: it has its own memory and its own
// way to a real redis-server.

// Two processes share what they cache, and each hears of the other's writes.
func ExampleStore() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
		names := tieredtest.Caches[int, string](t, nodes, "names")

		_ = names[0].Set(t.Context(), 7, "Mira")
		fmt.Println(names[1].Get(t.Context(), 7)) // from Redis, and now in its memory
		_ = names[0].Set(t.Context(), 7, "Mira Lu")
		until(func() bool { // a message's time
			name, _ := names[1].Get(t.Context(), 7)
			return name == "Mira Lu"
		})
	})
	fmt.Println(err)
	// Output:
	// Mira <nil>
	// <nil>
}

// The classic race: a load has read the old row when somebody changes it and
// deletes the key. Who waited for the load gets what it brings; it is stored
// nowhere.
func ExampleCache_Delete() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
		names := tieredtest.Caches[int, string](t, nodes, "names")

		read, finish, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			fmt.Println(names[0].GetOrLoad(t.Context(), 7, func(context.Context, int, *tiered.Load[string]) (string, error) {
				close(read)
				<-finish
				return "the old name", nil
			}))
		}()
		<-read
		_ = names[1].Delete(t.Context(), 7) // in another process
		close(finish)
		<-done
		for _, c := range names {
			_, err := c.Get(t.Context(), 7)
			fmt.Println(err)
		}
	})
	fmt.Println(err)
	// Output:
	// the old name <nil>
	// tiered: miss
	// tiered: miss
	// <nil>
}

// Of many processes that want a cold key, one loads it.
func ExampleDistributedLease() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 10, tieredtest.StartRedis(t))
		reports := tieredtest.Caches[int, string](t, nodes, "reports", tiered.WithDefaults(tiered.DistributedLease(20*time.Second)))

		var loads atomic.Int64
		load := func(context.Context, int, *tiered.Load[string]) (string, error) {
			loads.Add(1)
			return "the year in numbers", nil
		}
		var wg sync.WaitGroup
		for _, c := range reports {
			wg.Go(func() { _, _ = c.GetOrLoad(t.Context(), 2024, load) })
		}
		wg.Wait()
		fmt.Println(len(reports), "processes,", loads.Load(), "load")
	})
	fmt.Println(err)
	// Output:
	// 10 processes, 1 load
	// <nil>
}

// Messages that were missed while the subscription was broken are made up for:
// what memory has from before is asked about when it is read.
func ExampleStore_Stats() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
		names := tieredtest.Caches[int, string](t, nodes, "names", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
		_ = names[0].Set(t.Context(), 7, "Mira")
		_ = names[0].Set(t.Context(), 8, "Jon")
		_, _ = names[1].GetMany(t.Context(), []int{7, 8})

		nodes[1].Net.Refuse() // no way to Redis for new connections,
		nodes[1].Net.Reset(tieredtest.Subscribers)
		until(func() bool { return nodes[1].Stats().Gaps == 1 })
		_ = names[0].Set(t.Context(), 7, "Mira Lu") // of which no message comes
		nodes[1].Net.Heal()
		until(func() bool { return nodes[1].Health().Coherent })
		fmt.Println(names[1].Get(t.Context(), 7))
		fmt.Println(names[1].Get(t.Context(), 8))
		fmt.Println("found current by a header:", nodes[1].Stats().Revalidated)
	})
	fmt.Println(err)
	// Output:
	// Mira Lu <nil>
	// Jon <nil>
	// found current by a header: 1
	// <nil>
}

// What is written while Redis is away holds here, and Redis is told when it is
// back, before anything older is read from it.
func ExampleStore_Health() {
	err := tieredtest.Run(func(t testing.TB) {
		server := tieredtest.StartRedis(t, tieredtest.WithPersistence())
		nodes := tieredtest.Nodes(t, 2, server)
		names := tieredtest.Caches[int, string](t, nodes, "names")
		_ = names[0].Set(t.Context(), 7, "Mira")

		server.Kill()
		fmt.Println(names[0].Delete(t.Context(), 7))
		fmt.Println(nodes[0].Health().Status, nodes[0].Health().Recovery)
		server.Restart(t) // and it still has Mira
		until(func() bool { return nodes[0].Health().Recovery == 0 })
		_, err := names[1].Get(t.Context(), 7, tiered.SkipL1())
		fmt.Println(err)
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// degraded 1
	// tiered: miss
	// <nil>
}

// Sentinels say who the master is; TLS with client certificates, and a user of
// one's own, are the client's as well.
func ExampleWithRedis_sentinel() {
	err := tieredtest.Run(func(t testing.TB) {
		sentinel := tieredtest.StartSentinel(t, 1, tieredtest.WithTLS(t))
		client := redis.NewFailoverClient(&redis.FailoverOptions{
			MasterName: sentinel.MasterName(), SentinelAddrs: sentinel.Addrs(),
			TLSConfig: sentinel.Options().TLSConfig, ContextTimeoutEnabled: true,
		})
		defer client.Close()
		store, err := tiered.Open(t.Context(), tiered.WithRedis(client), tiered.WithRedisRequired(true), tiered.WithL2Timeout(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close(context.WithoutCancel(t.Context()))
		names, _ := tiered.New[int, string](store, "names")
		fmt.Println(names.Set(t.Context(), 7, "Mira"))
		fmt.Println(names.Get(t.Context(), 7, tiered.SkipL1()))
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// Mira <nil>
	// <nil>
}

// On a Cluster an entry and its lease share a slot, whatever the key.
func ExampleWithRedis_cluster() {
	err := tieredtest.Run(func(t testing.TB) {
		cluster := tieredtest.StartCluster(t, 3, 0)
		client := redis.NewClusterClient(&redis.ClusterOptions{
			Addrs: cluster.Addrs(), MaxRedirects: 3, ContextTimeoutEnabled: true,
		})
		defer client.Close()
		store, err := tiered.Open(t.Context(), tiered.WithRedis(client), tiered.WithRedisRequired(true), tiered.WithL2Timeout(5*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close(context.WithoutCancel(t.Context()))
		names, _ := tiered.New[string, string](store, "names")
		all := map[string]string{"a": "one", "}": "two", "a}b{": "three"}
		fmt.Println(names.SetMany(t.Context(), all))
		fmt.Println(names.GetMany(t.Context(), []string{"a", "}", "a}b{"}, tiered.SkipL1()))
	})
	fmt.Println(err)
	// Output:
	// <nil>
	// map[a:one a}b{:three }:two] <nil>
	// <nil>
}

// A store that requires Redis does not open without it, and says what to check.
func ExampleWithRedisRequired() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaxRetries: -1, DialTimeout: 500 * time.Millisecond})
	defer client.Close()
	_, err := tiered.Open(ctx, tiered.WithRedis(client), tiered.WithRedisRequired(true))
	fmt.Println(errors.Is(err, tiered.ErrUnavailable))

	store, err := tiered.Open(ctx, tiered.WithRedis(client)) // which is not to fail
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)
	fmt.Println(store.Health().Status)
	// Output:
	// true
	// degraded
}

// until polls for what another process or a server does in its own time.
func until(ok func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok() && time.Now().Before(deadline); {
		<-tick.C
	}
}
