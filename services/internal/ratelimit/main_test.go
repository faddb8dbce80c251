package ratelimit_test

import (
	"log/slog"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// shared is one server for all tests that do not harm it.
var shared *tieredtest.Redis

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ratelimit")
	if err != nil {
		slog.Error("no folder for redis", "error", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if shared, err = tieredtest.LaunchRedis(dir); err != nil {
		slog.Error("no redis", "error", err)
		return 1
	}
	code := m.Run()
	shared.Close()
	if err := goleak.Find(dialling); err != nil && code == 0 {
		slog.Error("goroutines are left", "error", err)
		return 1
	}
	return code
}

// patient returns a client that waits for a busy machine: a test of counting
// is none of time-outs.
func patient(t testing.TB, server *tieredtest.Redis) *redis.Client {
	t.Helper()
	o := server.Options()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Minute, time.Minute, time.Minute, time.Minute
	o.PoolSize = 32
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// place is somewhere to count, with a clock that moves when told.
type place struct {
	limits *ratelimit.Limits
	shared bool
	clock  *tieredtest.Clock
	redis  *redis.Client // nil in memory
}

var begin = time.Date(2026, time.November, 22, 12, 0, 0, 123_456_000, time.UTC)

func inMemory(t testing.TB, change ...func(*ratelimit.Options)) *place {
	t.Helper()
	p := &place{clock: tieredtest.NewClock(begin)}
	p.open(t, ratelimit.Options{}, change)
	return p
}

func inRedis(t testing.TB, change ...func(*ratelimit.Options)) *place {
	t.Helper()
	p := &place{clock: tieredtest.NewClock(begin), shared: true, redis: patient(t, shared)}
	if err := p.redis.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	p.open(t, ratelimit.Options{Client: p.redis, Timeout: time.Minute}, change)
	ratelimit.OnClock(p.limits)
	p.advance(t, 0)
	return p
}

func (p *place) open(t testing.TB, o ratelimit.Options, change []func(*ratelimit.Options)) {
	t.Helper()
	o.Now = p.clock.Now
	for _, f := range change {
		f(&o)
	}
	var err error
	if p.limits, err = ratelimit.New(o); err != nil {
		t.Fatal(err)
	}
}

// advance moves the clock that counts by d; back, if d is negative.
func (p *place) advance(t testing.TB, d time.Duration) {
	t.Helper()
	p.clock.Advance(d)
	if p.redis == nil {
		return
	}
	now := p.clock.Now()
	pipe := p.redis.TxPipeline()
	pipe.Del(t.Context(), ratelimit.ClockKey)
	pipe.RPush(t.Context(), ratelimit.ClockKey, now.Unix(), strconv.Itoa(now.Nanosecond()/1000))
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (p *place) limiter(t testing.TB, policy ratelimit.Policy) *asking {
	t.Helper()
	l, err := p.limits.Limiter(policy)
	if err != nil {
		t.Fatal(err)
	}
	return &asking{l, p}
}

// asking is a limiter that a test asks.
type asking struct {
	*ratelimit.Limiter
	place *place
}

// take fails the test if another place has decided than the one under test.
func (a *asking) take(t testing.TB, who ...string) ratelimit.Decision {
	t.Helper()
	d := a.Take(t.Context(), who...)
	if d.Shared != a.place.shared {
		t.Fatalf("decided in Redis: %v, want %v", d.Shared, a.place.shared)
	}
	return d
}

func (a *asking) want(t testing.TB, who string, allowed bool, remaining int, reset, retry time.Duration) {
	t.Helper()
	d := a.take(t, who)
	if d.Allowed != allowed || d.Remaining != remaining || d.Reset != reset || d.RetryAfter != retry {
		t.Fatalf("allowed %v, remaining %d, reset %v, retry after %v; want %v, %d, %v, %v",
			d.Allowed, d.Remaining, d.Reset, d.RetryAfter, allowed, remaining, reset, retry)
	}
}

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
