package quota_test

import (
	"bytes"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/realtime/internal/quota"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

func node(t *testing.T, o quota.Options) *quota.Quota {
	t.Helper()
	q := quota.New(t.Context(), o)
	t.Cleanup(func() { q.Close(t.Context()) })
	return q
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick, limit := time.NewTicker(10*time.Millisecond), time.After(20*time.Second)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestNoMorePlacesAreTakenThanThereAre(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		q := node(t, quota.Options{})
		conform(t, q, q)
	})
	t.Run("redis", func(t *testing.T) {
		server := tieredtest.StartRedis(t)
		o := quota.Options{Client: server.Client(t), Wait: 20 * time.Second} // also where 50 at once take their time
		conform(t, node(t, o), node(t, o))
	})
}

// conform is what both kinds must do, on two nodes that share what they share.
func conform(t *testing.T, here, there *quota.Quota) {
	var mu sync.Mutex
	var gives []quota.Place
	nodes := map[quota.Place]*quota.Quota{}
	var refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			q := []*quota.Quota{here, there}[i%2]
			give, ok := q.Take(t.Context(), "user:mira", 20)
			if !ok {
				refused.Add(1)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			gives = append(gives, give)
			nodes[give] = q
		})
	}
	wg.Wait()
	if len(gives) != 20 || refused.Load() != 30 {
		t.Fatalf("%d taken, %d refused", len(gives), refused.Load())
	}
	if give, ok := here.Take(t.Context(), "user:jonas", 1); !ok {
		t.Error("another user was refused")
	} else {
		here.Give(give)
	}
	here.Give(quota.Place{}) // nobody's
	nodes[gives[0]].Give(gives[0])
	nodes[gives[0]].Give(gives[0]) // once is enough
	until(t, "the place is free on both", func() bool {
		give, ok := there.Take(t.Context(), "user:mira", 20)
		if ok {
			gives[0], nodes[give] = give, there
		}
		return ok
	})
	if _, ok := here.Take(t.Context(), "user:mira", 20); ok {
		t.Error("a place that was given back twice was taken twice")
	}
	for _, give := range gives {
		nodes[give].Give(give)
	}
}

// A node renews what it holds while Redis is still to say whether it may.
func TestAPlaceThatWasRefusedTakesNone(t *testing.T) {
	server := tieredtest.StartRedis(t)
	o := quota.Options{Client: server.Client(t), Every: time.Hour, Wait: 20 * time.Second}
	there := node(t, o)
	give, ok := there.Take(t.Context(), "user:mira", 1)
	if !ok {
		t.Fatal("refused")
	}
	p := tieredtest.StartProxy(t, server.Addr())
	c := redis.NewClient(&redis.Options{Addr: p.Addr(), ReadTimeout: 20 * time.Second})
	defer c.Close()
	o.Client, o.Every = c, 10*time.Millisecond
	here := node(t, o)
	if _, ok := here.Take(t.Context(), "user:jonas", 1); !ok {
		t.Fatal("refused")
	}
	held := p.HoldReply(tieredtest.Command("EVALSHA")) // and not EVAL, which renews
	refused := make(chan bool, 1)
	go func() {
		_, ok := here.Take(t.Context(), "user:mira", 1)
		refused <- !ok
	}()
	held.Await(t)
	admin := server.Client(t)
	renewed := func() string {
		s, err := admin.Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, s, _ = strings.Cut(s, "cmdstat_pexpire:calls=")
		s, _, _ = strings.Cut(s, ",")
		return s
	}
	for range 5 {
		before := renewed()
		until(t, "leases are renewed", func() bool { return renewed() != before })
	}
	held.Release()
	if !<-refused {
		t.Fatal("there were two places, where there is one")
	}
	there.Give(give)
	until(t, "the place is free", func() bool {
		give, ok := there.Take(t.Context(), "user:mira", 1)
		if ok {
			there.Give(give)
		}
		return ok
	})
}

func TestANodeThatEndsGivesItsPlacesBack(t *testing.T) {
	server := tieredtest.StartRedis(t)
	o := quota.Options{Client: server.Client(t), Wait: 20 * time.Second}
	ends, stays := node(t, o), node(t, o)
	if _, ok := ends.Take(t.Context(), "user:mira", 1); !ok {
		t.Fatal("refused")
	}
	ends.Close(t.Context())
	if _, ok := stays.Take(t.Context(), "user:mira", 1); !ok {
		t.Error("the place of a node that has ended is still taken")
	}
}

func TestThePlacesOfAKilledNodeAreFreeInTheEnd(t *testing.T) {
	server := tieredtest.StartRedis(t)
	o := quota.Options{Client: server.Client(t), TTL: time.Second, Every: 50 * time.Millisecond, Wait: 20 * time.Second}
	killed, alive := o, o
	killed.Every = time.Hour // it renews nothing, like a node that is no more
	dead, here, there := node(t, killed), node(t, alive), node(t, alive)
	for range 2 {
		if _, ok := dead.Take(t.Context(), "user:mira", 3); !ok {
			t.Fatal("refused")
		}
	}
	if _, ok := here.Take(t.Context(), "user:mira", 3); !ok {
		t.Fatal("refused")
	}
	if _, ok := there.Take(t.Context(), "user:mira", 3); ok {
		t.Fatal("a fourth was taken")
	}
	until(t, "two places are free", func() bool { _, ok := there.Take(t.Context(), "user:mira", 3); return ok })
	until(t, "one place is free", func() bool { _, ok := there.Take(t.Context(), "user:mira", 3); return ok })
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for range 13 { // longer than a lease
		<-tick.C
		if _, ok := there.Take(t.Context(), "user:mira", 3); ok {
			t.Fatal("a lease that is renewed has ended")
		}
	}
}

func TestWithRedisAwayTheLimitOfTheNodeHolds(t *testing.T) {
	server := tieredtest.StartRedis(t)
	var said bytes.Buffer // read when here has been closed
	o := quota.Options{Client: server.Client(t), Every: 50 * time.Millisecond}
	there := node(t, o)
	o.Log, o.Wait = slog.New(slog.NewTextHandler(&said, nil)), 20*time.Second
	here := node(t, o)
	server.Kill()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, ok := here.Take(t.Context(), "user:"+strconv.Itoa(i), 1); !ok {
				t.Error("refused")
			}
		})
	}
	wg.Wait()
	for range 3 {
		if _, ok := here.Take(t.Context(), "user:mira", 3); !ok {
			t.Fatal("refused")
		}
	}
	if _, ok := here.Take(t.Context(), "user:mira", 3); ok {
		t.Error("a fourth was taken on this node")
	}
	server.Restart(t)
	until(t, "redis has been told", func() bool {
		give, ok := there.Take(t.Context(), "user:mira", 3)
		if ok {
			there.Give(give)
		}
		return !ok
	})
	here.Close(t.Context())
	if n := strings.Count(said.String(), "redis does not answer"); n != 1 {
		t.Errorf("it was said %d times that Redis does not answer, want once:\n%s", n, said.String())
	}
}
