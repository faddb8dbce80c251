package ratelimit_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// asked counts commands.
type asked struct{ n atomic.Int64 }

func (a *asked) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a *asked) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if strings.HasPrefix(cmd.Name(), "eval") {
			a.n.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (a *asked) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// Eight nodes with a hot key, on a real server. The nodes' clock stands still,
// so that nothing is lost by being held for too long.
func TestEightNodesWithLeasesMeetTheLimit(t *testing.T) {
	const nodes, limit, lease = 8, 4000, 100
	for _, a := range []ratelimit.Algorithm{ratelimit.Fixed, ratelimit.GCRA} {
		for _, dying := range []int{0, 1} {
			t.Run(string(a)+map[int]string{0: "/all live", 1: "/one dies with what it holds"}[dying], func(t *testing.T) {
				c := patient(t, shared)
				if err := c.FlushDB(t.Context()).Err(); err != nil {
					t.Fatal(err)
				}
				count := &asked{}
				c.AddHook(count)
				p := policy(a, limit, 300*24*time.Hour)
				p.Lease = lease
				clock := tieredtest.NewClock(begin)
				var limiters []*ratelimit.Limiter
				for range nodes {
					limits, err := ratelimit.New(ratelimit.Options{Client: c, Timeout: time.Minute, Now: clock.Now})
					if err != nil {
						t.Fatal(err)
					}
					l, err := limits.Limiter(p)
					if err != nil {
						t.Fatal(err)
					}
					limiters = append(limiters, l)
				}
				var admitted, calls, asks atomic.Int64
				var all sync.WaitGroup
				for i, l := range limiters {
					for range 4 {
						all.Go(func() {
							for n := 0; i >= dying || n < 60; n++ {
								calls.Add(1)
								d := l.Take(t.Context(), "everybody")
								if !d.Shared {
									t.Error("counted on one node alone")
								}
								if !d.Allowed {
									return
								}
								admitted.Add(1)
							}
						})
					}
				}
				all.Wait()
				asks.Store(count.n.Load())
				n := admitted.Load()
				if n > limit || n < limit-int64(dying*lease) {
					t.Errorf("admitted %d, want %d, and fewer only by %d", n, limit, dying*lease)
				}
				if asks.Load()*4 > calls.Load() {
					t.Errorf("%d of %d calls asked Redis, want a quarter at most", asks.Load(), calls.Load())
				}
				t.Logf("admitted %d of %d; %.1f %% of %d calls needed no round trip", n, limit,
					100*(1-float64(asks.Load())/float64(calls.Load())), calls.Load())
				// Whoever was refused is refused without asking.
				before := count.n.Load()
				for range 100 {
					if limiters[nodes-1].Take(t.Context(), "everybody").Allowed {
						t.Error("admitted after the end")
					}
				}
				if count.n.Load() != before {
					t.Error("Redis is asked although it has said how long it refuses")
				}
			})
		}
	}
}

// Where little is left, nodes hold nothing that others may want.
func TestNearTheLimitEveryCallAsksRedis(t *testing.T) {
	for _, a := range []ratelimit.Algorithm{ratelimit.Fixed, ratelimit.GCRA} {
		t.Run(string(a), func(t *testing.T) {
			p := inRedis(t)
			count := &asked{}
			p.redis.AddHook(count)
			leased := policy(a, 1000, 300*24*time.Hour)
			leased.Lease = 100
			l := p.limiter(t, leased)
			for range 968 {
				l.take(t, "ann")
			}
			before := count.n.Load()
			if before > 400 {
				t.Errorf("968 calls asked %d times", before)
			}
			for range 32 {
				if !l.take(t, "ann").Allowed {
					t.Fatal("refused before the limit")
				}
			}
			if n := count.n.Load() - before; n < 28 { // of the rest, one was held already
				t.Errorf("the last 32 calls asked %d times", n)
			}
		})
	}
}

// What was taken of one window must not be used in the next, which would admit
// more than the limit.
func TestNothingIsHeldIntoTheNextWindow(t *testing.T) {
	p := inRedis(t)
	leased := policy(ratelimit.Fixed, 1000, 5*time.Second)
	leased.Lease = 100
	l := p.limiter(t, leased)
	for range 40 {
		l.take(t, "ann")
	}
	p.advance(t, 4800*time.Millisecond)
	l.take(t, "ann")
	taken := p.redis.Get(t.Context(), l.Key("ann")).Val()
	l.take(t, "ann")
	if got := p.redis.Get(t.Context(), l.Key("ann")).Val(); got != taken {
		t.Error("nothing is held")
	}
	p.advance(t, 200*time.Millisecond)
	l.take(t, "ann")
	if got := p.redis.Get(t.Context(), l.Key("ann")).Val(); got == taken {
		t.Error("the next window uses what was taken of this one")
	}
}

func TestWhatIsHeldForTooLongIsNotUsed(t *testing.T) {
	for _, a := range []ratelimit.Algorithm{ratelimit.Fixed, ratelimit.GCRA} {
		t.Run(string(a), func(t *testing.T) {
			p := inRedis(t)
			leased := policy(a, 1000, 5*time.Second) // held for half a second
			leased.Lease = 100
			l := p.limiter(t, leased)
			for range 40 {
				l.take(t, "ann")
			}
			p.advance(t, 499*time.Millisecond)
			before := p.redis.Get(t.Context(), l.Key("ann")).Val()
			l.take(t, "ann")
			if got := p.redis.Get(t.Context(), l.Key("ann")).Val(); got != before {
				t.Error("what is held is not used")
			}
			p.advance(t, time.Millisecond)
			l.take(t, "ann")
			if got := p.redis.Get(t.Context(), l.Key("ann")).Val(); got == before {
				t.Error("used after half a second")
			}
		})
	}
}

func TestALeaseThatWouldNotBeExactEnoughIsRefused(t *testing.T) {
	p := inMemory(t)
	for about, bad := range map[string]ratelimit.Policy{
		"a tenth": {Name: "a", Algorithm: ratelimit.GCRA, Limit: 100, Window: time.Hour, Lease: 11},
		"sliding": {Name: "a", Algorithm: ratelimit.Sliding, Limit: 100, Window: time.Hour, Lease: 10},
	} {
		if _, err := p.limits.Limiter(bad); err == nil || !strings.Contains(err.Error(), about) {
			t.Errorf("%v, want an error about %q", err, about)
		}
	}
}

func TestLosingRedisWithLeasesLetsNobodyIn(t *testing.T) {
	server := tieredtest.StartRedis(t)
	limits, err := ratelimit.New(ratelimit.Options{Client: server.Client(t), Timeout: 5 * time.Second, Pause: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	p := policy(ratelimit.Fixed, 100, time.Hour)
	p.Lease = 10
	l, err := limits.Limiter(p)
	if err != nil {
		t.Fatal(err)
	}
	admitted := 0
	for i := range 300 {
		if i == 50 {
			server.Kill()
		}
		if l.Take(t.Context(), "ann").Allowed {
			admitted++
		}
	}
	if admitted != 100 {
		t.Errorf("admitted %d before and during the outage, want 100", admitted)
	}
}
