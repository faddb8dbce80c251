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
