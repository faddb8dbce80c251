package ratelimit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/crewbeat/crewbeat/services/internal/caching"
)

// Options fit [New]. Their zero value counts in memory.
type Options struct {
	// Client is the Redis that all nodes share; nil counts in this process. It
	// stays the caller's to close.
	Client redis.UniversalClient
	// Secret keys the hashes of who asked, so that they cannot be guessed from
	// Redis. All nodes need the same one.
	Secret string
	// Prefix begins every key in Redis; "" means "cb:rl".
	Prefix string
	// MaxKeys is how many askers of each policy memory holds; 0 means 50,000.
	MaxKeys int
	// Timeout is how long Redis may take to answer; 0 means 250 ms.
	Timeout time.Duration
	// Pause is how long Redis is left alone after it did not answer; then one
	// call tries it. 0 means half a second.
	Pause time.Duration

	Now   func() time.Time     // time.Now if nil; memory's clock, never that of Redis
	Log   *slog.Logger         // none if nil; hears when Redis goes and returns
	Meter metric.MeterProvider // none if nil
}

func (o Options) withDefaults() Options {
	if o.Prefix == "" {
		o.Prefix = "cb:rl"
	}
	if o.MaxKeys <= 0 {
		o.MaxKeys = 50_000
	}
	if o.Timeout <= 0 {
		o.Timeout = 250 * time.Millisecond
	}
	if o.Pause <= 0 {
		o.Pause = 500 * time.Millisecond
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.NewMeterProvider()
	}
	return o
}

// Limits is what all policies share: Redis and what is known of it.
type Limits struct {
	o         Options
	scripts   map[Algorithm]*redis.Script
	start     time.Time // times are counted from here, by a clock that is never set back
	decisions metric.Int64Counter
	server    server
	masters   sync.Map // of a Cluster: *server by address
}

// server is what is known of a Redis.
type server struct {
	away atomic.Int64 // in µs since start: it is left alone until then; 0: it answers
}

// New returns limits that count as o says. There is nothing to be closed.
func New(o Options) (*Limits, error) {
	o = o.withDefaults()
	decisions, err := o.Meter.Meter("github.com/crewbeat/crewbeat/services/internal/ratelimit").Int64Counter(
		"ratelimit.decisions", metric.WithDescription("Calls counted against a limit, by policy, result and where they were counted."))
	if err != nil {
		return nil, fmt.Errorf("create instrument: %w", err)
	}
	// Zero stands for "not away", so that no time may be zero.
	start := o.Now().Add(-time.Hour)
	return &Limits{o: o, scripts: scripts, start: start, decisions: decisions}, nil
}

// Limiter holds askers to one policy. It is safe for concurrent use.
type Limiter struct {
	limits *Limits
	policy Policy
	prefix string
	memory *memory

	// By result and place; made once, since every request counts.
	attributes [2][2]metric.MeasurementOption
}

// Limiter returns a limiter for p. Two of one policy share what Redis holds,
// not what memory does.
func (l *Limits) Limiter(p Policy) (*Limiter, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	r := &Limiter{
		limits: l, policy: p, memory: newMemory(p, l.o.MaxKeys),
		// Each algorithm keeps something else: a policy that changes it starts anew.
		prefix: l.o.Prefix + ":" + p.Name + ":" + string(p.Algorithm) + ":",
	}
	for i, result := range []string{"refused", "admitted"} {
		for j, where := range []string{"memory", "redis"} {
			r.attributes[i][j] = metric.WithAttributeSet(attribute.NewSet(
				attribute.String("policy", p.Name), attribute.String("result", result), attribute.String("where", where)))
		}
	}
	return r, nil
}

// Policy returns what the limiter holds askers to.
func (l *Limiter) Policy() Policy { return l.policy }

// Take counts one call by who, in one or more parts, and says whether it is
// admitted. It always decides: with Redis, or without. It may wait for Redis
// for as long as [Options].Timeout says, or ctx.
func (l *Limiter) Take(ctx context.Context, who ...string) Decision {
	d := l.decide(ctx, l.key(who))
	l.limits.decisions.Add(ctx, 1, l.attributes[bit(d.Allowed)][bit(d.Shared)])
	return d
}

func (l *Limiter) decide(ctx context.Context, key string) Decision {
	shared := l.limits
	if l.policy.Lease > 0 && shared.o.Client != nil {
		return l.decideLeased(ctx, key)
	}
	if shared.o.Client == nil {
		return l.memory.take(key, shared.now())
	}
	server := shared.serverOf(ctx, l.prefix+key)
	if !shared.mayAsk(server) {
		return l.memory.take(key, shared.now())
	}
	_, d, err := l.ask(ctx, key, 1)
	if err != nil {
		if ctx.Err() == nil { // else it says nothing about Redis
			shared.failed(ctx, server, err)
		}
		return l.memory.take(key, shared.now())
	}
	shared.answered(ctx, server)
	if d.Allowed {
		// Or whoever can wait for Redis to fail would start afresh.
		l.memory.take(key, shared.now())
	}
	return d
}

// now is the time in µs since start.
func (l *Limits) now() int64 { return l.o.Now().Sub(l.start).Microseconds() }

// serverOf returns what is known of the server of a key. The masters of a
// Cluster are apart: one that has died is no reason to count on this node what
// the others keep.
func (l *Limits) serverOf(ctx context.Context, key string) *server {
	cluster, ok := l.o.Client.(*redis.ClusterClient)
	if !ok {
		return &l.server
	}
	master, err := cluster.MasterForKey(ctx, key)
	if err != nil {
		return &l.server // nobody knows which
	}
	addr := master.Options().Addr
	known, ok := l.masters.Load(addr)
	if !ok {
		known, _ = l.masters.LoadOrStore(addr, &server{})
	}
	return known.(*server)
}

// mayAsk reports whether to ask a server. When it has been left alone for long
// enough, one caller may.
func (l *Limits) mayAsk(s *server) bool {
	until := s.away.Load()
	if until == 0 {
		return true
	}
	now := l.now()
	return now >= until && s.away.CompareAndSwap(until, now+l.o.Pause.Microseconds())
}

func (l *Limits) failed(ctx context.Context, s *server, err error) {
	if s.away.Swap(l.now()+l.o.Pause.Microseconds()) == 0 {
		l.o.Log.WarnContext(ctx, "limits are counted on this node alone: redis does not answer", "error", err)
	}
}

func (l *Limits) answered(ctx context.Context, s *server) {
	if s.away.Load() != 0 && s.away.Swap(0) != 0 {
		l.o.Log.InfoContext(ctx, "limits are counted in redis again")
	}
}

// key hides who asked.
func (l *Limiter) key(who []string) string {
	return caching.Digest(l.limits.o.Secret, append([]string{"ratelimit", l.policy.Name}, who...)...)
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}
