package ratelimit_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// node returns one node's limiter on a server, which it asks again soon after
// an outage.
func node(t *testing.T, server *tieredtest.Redis, policy ratelimit.Policy, log *bytes.Buffer) *ratelimit.Limiter {
	t.Helper()
	limits, err := ratelimit.New(ratelimit.Options{
		Client: server.Client(t), Timeout: 200 * time.Millisecond, Pause: 20 * time.Millisecond,
		Log: slog.New(slog.NewTextHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := limits.Limiter(policy)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// awaitShared asks until Redis decides.
func awaitShared(t *testing.T, l *ratelimit.Limiter, who string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !l.Take(ctx, who).Shared {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("redis is back, and was not asked for 20 seconds")
		}
	}
}

func TestLosingRedisLetsNobodyIn(t *testing.T) {
	for name, lose := range map[string]struct {
		away, back func(*testing.T, *tieredtest.Redis)
		option     tieredtest.RedisOption
	}{
		"killed": {
			away: func(_ *testing.T, r *tieredtest.Redis) { r.Kill() },
			back: func(t *testing.T, r *tieredtest.Redis) { r.Restart(t) },
		},
		"frozen": {
			away: func(t *testing.T, r *tieredtest.Redis) { r.Stop(t) },
			back: func(t *testing.T, r *tieredtest.Redis) { r.Cont(t) },
		},
		"read-only": {
			away: func(t *testing.T, r *tieredtest.Redis) { replicaOf(t, r, "127.0.0.1", "1") },
			back: func(t *testing.T, r *tieredtest.Redis) { replicaOf(t, r, "NO", "ONE") },
		},
		"full": {
			away: func(t *testing.T, r *tieredtest.Redis) { maxMemory(t, r, "1") },
			back: func(t *testing.T, r *tieredtest.Redis) { maxMemory(t, r, "0") },
		},
		"loading": {
			away:   func(t *testing.T, r *tieredtest.Redis) { r.Load(t, 1000) },
			back:   func(*testing.T, *tieredtest.Redis) {}, // it ends by itself
			option: tieredtest.WithSlowLoading(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			option := lose.option
			if option == nil {
				option = tieredtest.WithArgs()
			}
			server := tieredtest.StartRedis(t, option)
			each(t, 10, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
				var log bytes.Buffer
				l := node(t, server, policy, &log)
				awaitShared(t, l, "somebody else")
				admitted := 0
				for range 6 {
					if l.Take(t.Context(), "ann").Allowed {
						admitted++
					}
				}
				lose.away(t, server)
				began := time.Now()
				for range 100 {
					d := l.Take(t.Context(), "ann")
					if d.Shared {
						t.Fatal("a Redis that is away has decided")
					}
					if d.Allowed {
						admitted++
					}
				}
				if admitted != 10 {
					t.Errorf("admitted %d before and during the outage, want 10", admitted)
				}
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("100 calls without Redis took %v", took)
				}
				lose.back(t, server)
				awaitShared(t, l, "yet another")
				for _, says := range []string{"counted on this node alone", "counted in redis again"} {
					if n := strings.Count(log.String(), says); n != 1 {
						t.Errorf("%d lines say %q, want 1:\n%s", n, says, log.String())
					}
				}
			})
		})
	}
}

func maxMemory(t *testing.T, r *tieredtest.Redis, bytes string) {
	t.Helper()
	if err := r.Client(t).ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
		t.Fatal(err)
	}
}

func replicaOf(t *testing.T, r *tieredtest.Redis, host, port string) {
	t.Helper()
	if err := r.Client(t).ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestWithoutRedisAThousandCallsStillMeetTheLimit(t *testing.T) {
	server := tieredtest.StartRedis(t)
	server.Kill()
	p := inMemory(t, func(o *ratelimit.Options) { o.Client = server.Client(t) })
	each(t, 100, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		if n := burst(t, p.limiter(t, policy), 1000); n != 100 {
			t.Errorf("admitted %d of 1000, want 100", n)
		}
	})
}

func TestTwoNodesShareOneLimit(t *testing.T) {
	c := patient(t, shared)
	if err := c.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	each(t, 10, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		admitted := 0
		for i := range 2 {
			// The clock of the second is more than a window ahead: the guide's
			// would take what the first has counted for old.
			ahead := time.Duration(i) * 61 * time.Minute
			limits, err := ratelimit.New(ratelimit.Options{Client: c, Timeout: time.Minute, Now: func() time.Time { return time.Now().Add(ahead) }})
			if err != nil {
				t.Fatal(err)
			}
			l, err := limits.Limiter(policy)
			if err != nil {
				t.Fatal(err)
			}
			for range 8 {
				if l.Take(t.Context(), "ann").Allowed {
					admitted++
				}
			}
		}
		if admitted != 10 {
			t.Errorf("two nodes admitted %d, want 10", admitted)
		}
	})
}

// Whoever hangs up says nothing about Redis, and is counted all the same.
func TestACallerThatGivesUpIsNoOutage(t *testing.T) {
	c := patient(t, shared)
	if err := c.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	limits, err := ratelimit.New(ratelimit.Options{Client: c, Timeout: time.Minute, Pause: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	l, err := limits.Limiter(policy(ratelimit.Fixed, 2, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 {
		l.Take(gone, "ann")
	}
	if l.Take(gone, "ann").Allowed {
		t.Error("a caller that hangs up is not counted")
	}
	if !l.Take(t.Context(), "ann").Shared {
		t.Error("Redis is not asked any more")
	}
}

// One round trip is what a request can afford.
func TestADecisionIsOneRoundTrip(t *testing.T) {
	c := patient(t, shared)
	limits, err := ratelimit.New(ratelimit.Options{Client: c, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	each(t, 5, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		l, err := limits.Limiter(policy)
		if err != nil {
			t.Fatal(err)
		}
		l.Take(t.Context(), "warm", "up") // the server may not know the script yet
		count := &trips{}
		c.AddHook(count)
		before := count.n
		l.Take(t.Context(), "ann")
		if n := count.n - before; n != 1 {
			t.Errorf("%d commands, want 1", n)
		}
	})
}

// trips counts the commands of one goroutine.
type trips struct{ n int }

func (c *trips) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *trips) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n++
		return next(ctx, cmd)
	}
}

func (c *trips) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
