package tiered_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// sent counts the bytes of what a client gives scripts.
type sent struct{ atomic.Int64 }

func (*sent) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s *sent) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		s.count(cmd)
		return next(ctx, cmd)
	}
}

func (s *sent) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			s.count(cmd)
		}
		return next(ctx, cmds)
	}
}

func (s *sent) count(cmd redis.Cmder) {
	for _, arg := range cmd.Args() {
		if b, ok := arg.([]byte); ok {
			s.Add(int64(len(b)))
		}
	}
}

// conditional is a source whose value never changes, and says so.
func conditional(value string) tiered.Loader[string, string] {
	return func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
		if l.ETag() == `"1"` {
			return l.NotModified()
		}
		l.SetETag(`"1"`)
		return value, nil
	}
}

// Of a value that is not modified Redis is told only that it lives on, unless
// what is there is not the same, with its tags and its validator.
func TestWhatIsNotModifiedIsNotSentAgain(t *testing.T) {
	big := strings.Repeat("three ticks ", 10_000)
	load := conditional(big)
	tags := tiered.Tags("red", "blue")
	const life = 30 * time.Minute
	long := tiered.TTL(life)
	type place struct {
		nodes []*tieredtest.Node
		c     []*tiered.Cache[string, string]
		admin *redis.Client
		data  string // the key in Redis
	}
	// get has what is past its TTL loaded by a call.
	get := func(t *testing.T, p *place, node int, load tiered.Loader[string, string], opts ...tiered.EntryOption) {
		loads(t, p.c[node], load, big, nil, append([]tiered.EntryOption{long, tags}, opts...)...)
	}
	for _, tt := range []struct {
		name  string
		whole bool // it must be sent again
		first time.Duration
		renew func(t *testing.T, p *place)
		etag  string
	}{
		{name: "past its TTL", renew: func(t *testing.T, p *place) { get(t, p, 0, load) }},
		{name: "past its TTL, read from Redis", renew: func(t *testing.T, p *place) { get(t, p, 0, load, tiered.SkipL1()) }},
		{name: "refreshed", first: time.Minute, renew: func(t *testing.T, p *place) { refreshes(t, p.c[0], load, big, long, tags) }},
		{name: "renewed early", first: time.Minute, renew: func(t *testing.T, p *place) {
			get(t, p, 0, load, tiered.EagerRefresh(0, 1e6))
			eventually(t, "it has been renewed", func() bool { return p.nodes[0].Flights() == 0 })
		}},
		{name: "its life was changed", first: time.Minute, renew: func(t *testing.T, p *place) {
			if there, err := p.c[0].Expire(t.Context(), "k", time.Minute); !there || err != nil {
				t.Fatalf("expire: %v, %v", there, err)
			}
			refreshes(t, p.c[0], load, big, long, tags)
		}},
		{name: "with another validator", whole: true, etag: `"2"`, renew: func(t *testing.T, p *place) {
			get(t, p, 0, func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				l.SetETag(`"2"`)
				return l.NotModified()
			})
		}},
		{name: "under other tags", whole: true, renew: func(t *testing.T, p *place) { get(t, p, 0, load, tiered.Tags("red")) }},
		{name: "under other tags, refreshed", whole: true, first: time.Minute, renew: func(t *testing.T, p *place) {
			refreshes(t, p.c[0], load, big, long, tiered.Tags("blue", "red"))
		}},
		{name: "evicted meanwhile", whole: true, renew: func(t *testing.T, p *place) {
			get(t, p, 0, func(ctx ctx, k string, l *tiered.Load[string]) (string, error) {
				must(t, p.admin.Del(ctx, p.data).Err())
				return load(ctx, k, l)
			})
		}},
		{name: "evicted meanwhile, refreshed", whole: true, first: time.Minute, renew: func(t *testing.T, p *place) {
			refreshes(t, p.c[0], func(ctx ctx, k string, l *tiered.Load[string]) (string, error) {
				must(t, p.admin.Del(ctx, p.data).Err())
				return load(ctx, k, l)
			}, big, long, tags)
		}},
		{name: "something else meanwhile", whole: true, renew: func(t *testing.T, p *place) {
			get(t, p, 0, func(ctx ctx, k string, l *tiered.Load[string]) (string, error) {
				must(t, p.admin.Set(ctx, p.data, "no entry", time.Hour).Err())
				return load(ctx, k, l)
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			name := prefix(t)
			p := &place{nodes: tieredtest.Nodes(t, 2, shared, tieredtest.WithClocks(), tieredtest.WithStore(tiered.WithPrefix(name))),
				admin: shared.Client(t), data: name + ":{n:k}"}
			p.c = tieredtest.Caches[string, string](t, p.nodes, "n", tiered.WithCompression(tiered.NoCompression, 0),
				tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
			var bytes sent
			p.nodes[0].Client.AddHook(&bytes)
			first := tiered.TTL(max(tt.first, time.Millisecond))
			loads(t, p.c[0], func(ctx ctx, k string, l *tiered.Load[string]) (string, error) {
				p.nodes[0].Clock.Advance(time.Second) // what it costs
				return load(ctx, k, l)
			}, big, nil, first, tags, tiered.EagerRefresh(0, 1e6))
			before := p.admin.GetRange(t.Context(), p.data, 48, -1).Val()
			if bytes.Load() < int64(len(big)) {
				t.Fatalf("only %d bytes are counted of %d", bytes.Load(), len(big))
			}
			if tt.first == 0 {
				p.nodes[0].Clock.Advance(time.Millisecond)
				eventually(t, "the TTL has passed", func() bool {
					return p.admin.PTTL(t.Context(), p.data).Val() <= time.Hour-2*time.Millisecond
				})
			}
			bytes.Store(0)
			tt.renew(t, p)
			if n := bytes.Load(); (n > 1000) != tt.whole {
				t.Errorf("%d bytes were sent of %d", n, len(big))
			}
			want(t, p.c[1], "k", big)
			want(t, p.c[0], "k", big)
			in := inspect(t, p.c[0], "k")
			if ttl := in.L2.Soft.Sub(in.At); ttl > life || ttl < life-5*time.Minute {
				t.Errorf("it ends in %v", ttl)
			}
			if in.L1.Version != in.L2.Version || !in.L1.Servable {
				t.Errorf("memory has version %d, Redis %d", in.L1.Version, in.L2.Version)
			}
			if ttl := p.admin.PTTL(t.Context(), p.data).Val(); ttl > life+time.Hour || ttl < life+55*time.Minute {
				t.Errorf("Redis keeps it for %v", ttl)
			}
			if after := p.admin.GetRange(t.Context(), p.data, 48, -1).Val(); !tt.whole && after != before {
				t.Error("it is another")
			}
			if cost := p.admin.GetRange(t.Context(), p.data, 32, 35).Val(); cost == "\x00\x0f\x42\x40" {
				t.Error("the cost is that of the first load")
			}
			refreshes(t, p.c[1], func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				if want := tt.etag; want != "" && l.ETag() != want || want == "" && l.ETag() != `"1"` {
					t.Errorf("etag %s", l.ETag())
				}
				return l.NotModified()
			}, big, tags)
			must(t, p.nodes[0].InvalidateTags(t.Context(), "red"))
			wantErr(t, p.c[0], "k", tiered.ErrMiss)
		})
	}
}

// Two processes have loaded a key at the same time, and not the same. What one
// has, which Redis has not, is not what Redis lives on with.
func TestWhatIsNotModifiedHereIsNotWhatAnotherHasLoaded(t *testing.T) {
	for name, second := range map[string]func(t *testing.T, c *tiered.Cache[string, string]){
		"by one": func(t *testing.T, c *tiered.Cache[string, string]) { loads(t, c, conditional("new"), "new", nil) },
		"by many": func(t *testing.T, c *tiered.Cache[string, string]) {
			got, err := c.GetOrLoadMany(t.Context(), []string{"k"}, func(ctx, []string) (map[string]string, error) {
				return map[string]string{"k": "new"}, nil
			})
			if got["k"] != "new" || err != nil {
				t.Errorf("load many: %v, %v", got, err)
			}
		},
		"and its life was changed": func(t *testing.T, c *tiered.Cache[string, string]) { loads(t, c, conditional("new"), "new", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			nodes := tieredtest.Nodes(t, 2, shared, tieredtest.WithClocks())
			c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.L1TTL(time.Hour)))
			old := block[string]()
			done := make(chan struct{})
			go func() {
				defer close(done)
				loads(t, c[0], old.load, "old", nil)
			}()
			<-old.started
			second(t, c[1])
			old.result <- "old"
			<-done
			if name == "and its life was changed" {
				_, err := c[1].Expire(t.Context(), "k", time.Hour)
				must(t, err)
			}
			refreshed := make(chan struct{})
			load := func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				defer close(refreshed)
				if v, _ := l.Stale(); v != "new" {
					t.Errorf("it has %q", v)
				}
				return l.NotModified()
			}
			if !c[1].Due("k") {
				t.Fatal("it cannot be made due")
			}
			loads(t, c[1], load, "new", nil)
			<-refreshed
			eventually(t, "it has been renewed", func() bool { return nodes[1].Flights() == 0 })
			want(t, c[1], "k", "new", tiered.SkipL1())
			want(t, c[0], "k", "new", tiered.SkipL1())
		})
	}
}

// Who writes the source takes the right to store from a load that asks whether
// it has changed, before what is cached is another.
func TestAConditionalLoadBesideAWriterExtendsNothing(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, shared, tieredtest.WithStore(tiered.WithPrefix(prefix(t))))
	c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0), tiered.TTL(time.Hour)))
	loads(t, c[0], conditional("old"), "old", nil)
	asked, answer, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		v, err := c[0].Refresh(t.Context(), "k", func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
			close(asked)
			<-answer
			return l.NotModified()
		})
		if v != "old" || err != nil {
			t.Errorf("refresh: %q, %v", v, err)
		}
	}()
	<-asked
	_, err := c[1].Write(t.Context(), "k", func(ctx context.Context) (string, error) {
		close(answer)
		<-done
		if ttl := shared.Client(t).PTTL(ctx, prefix(t)+":{n:k}").Val(); ttl > tiered.DefaultLease {
			t.Errorf("what is there while the source is written lives for %v", ttl)
		}
		return "new", nil
	})
	must(t, err)
	eventually(t, "the writer's value is read", func() bool {
		v, err := c[0].Get(t.Context(), "k")
		return v == "new" && err == nil
	})
	want(t, c[0], "k", "new", tiered.SkipL1())
}
