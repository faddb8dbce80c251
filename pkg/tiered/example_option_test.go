package tiered_test

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

// One load serves all who ask meanwhile, and who leaves fails nobody else.
func ExampleCache_GetOrLoad() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")

	started, finish := make(chan struct{}), make(chan struct{})
	load := func(context.Context, int, *tiered.Load[string]) (string, error) {
		close(started)
		<-finish
		return "Mira", nil
	}
	impatient, leave := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		_, err := names.GetOrLoad(impatient, 7, load)
		fmt.Println("the first:", err)
		close(finish)
	})
	<-started
	wg.Go(func() {
		name, err := names.GetOrLoad(ctx, 7, load)
		fmt.Println("the second:", name, err)
	})
	until(func() bool { return names.Stats().Coalesced == 1 })
	leave()
	wg.Wait()
	// Output:
	// the first: context canceled
	// the second: Mira <nil>
}

// A loader's panic is an error of those who wait for it.
func ExamplePanicError() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")

	_, err := names.GetOrLoad(ctx, 7, func(context.Context, int, *tiered.Load[string]) (string, error) {
		panic("no such column")
	})
	fmt.Println(err)
	if p, ok := errors.AsType[*tiered.PanicError](err); ok {
		fmt.Println(len(p.Stack) > 0)
	}
	// Output:
	// tiered: loader panicked: no such column
	// true
}

// With a soft timeout the old value is served instead of waiting. The load goes
// on in the background, and what it brings is stored.
func ExampleTimeouts_soft() {
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	rates, _ := tiered.New[string, float64](store, "rates",
		tiered.WithDefaults(tiered.TTL(time.Minute), tiered.FailSafe(time.Hour, 0), tiered.Timeouts(10*time.Millisecond, time.Minute)))
	_ = rates.Set(ctx, "EUR", 1.08)
	clock.Advance(2 * time.Minute)

	finish := make(chan struct{})
	load := func(context.Context, string, *tiered.Load[float64]) (float64, error) {
		<-finish
		return 1.09, nil
	}
	fmt.Println(rates.GetOrLoad(ctx, "EUR", load))
	close(finish)
	until(func() bool { rate, _ := rates.Get(ctx, "EUR"); return rate == 1.09 })
	fmt.Println(rates.Get(ctx, "EUR"))
	// Output:
	// 1.08 <nil>
	// 1.09 <nil>
}

// A source says for how long its answer is good.
func ExampleLoad_Set() {
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	tokens, _ := tiered.New[string, string](store, "tokens", tiered.WithDefaults(tiered.TTL(time.Hour)))

	load := func(_ context.Context, name string, l *tiered.Load[string]) (string, error) {
		fmt.Println("asking for", name)
		if name == "once" {
			l.Set(tiered.TTL(0)) // is not to be cached
		} else {
			l.Set(tiered.TTL(10 * time.Minute)) // expires_in: 600
		}
		return "secret", nil
	}
	for _, name := range []string{"ci", "once", "ci", "once"} {
		_, _ = tokens.GetOrLoad(ctx, name, load)
	}
	clock.Advance(10 * time.Minute)
	_, _ = tokens.GetOrLoad(ctx, "ci", load)
	// Output:
	// asking for ci
	// asking for once
	// asking for once
	// asking for ci
}

// That there is no such thing is remembered too, but not for as long.
func ExampleNegativeTTL() {
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	users, _ := tiered.New[int64, User](store, "users", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.NegativeTTL(5*time.Second)))

	load := func(context.Context, int64, *tiered.Load[User]) (User, error) {
		fmt.Println("select")
		return User{}, tiered.ErrNotFound
	}
	for range 3 {
		_, err := users.GetOrLoad(ctx, 7, load)
		fmt.Println(err)
		clock.Advance(3 * time.Second)
	}
	// Output:
	// select
	// tiered: not found
	// tiered: not found
	// select
	// tiered: not found
}

// What is stored together does not expire together.
func ExampleJitter() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	pages, _ := tiered.New[int, string](store, "pages", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.Jitter(0.5)))
	for i := range 1000 {
		_ = pages.Set(ctx, i, "page")
	}
	var ends []time.Time
	for _, info := range pages.Local() {
		ends = append(ends, *info.Expires)
	}
	first, last := slices.MinFunc(ends, time.Time.Compare), slices.MaxFunc(ends, time.Time.Compare)
	fmt.Println(len(ends), "pages, the first ends more than 20 minutes before the last:", last.Sub(first) > 20*time.Minute)
	// Output: 1000 pages, the first ends more than 20 minutes before the last: true
}

// asXML is a codec of one's own.
type asXML struct{}

func (asXML) ID() uint8                          { return 64 }
func (asXML) Marshal(v any) ([]byte, error)      { return xml.Marshal(v) }
func (asXML) Unmarshal(data []byte, v any) error { return xml.Unmarshal(data, v) }

// A release that writes values in another way does not read the old ones, nor
// does the old release read the new ones, while both run: each finds a miss.
func ExampleWithCodec() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 3, tieredtest.StartRedis(t))
		one := func(node int, opts ...tiered.CacheOption) *tiered.Cache[int64, User] {
			return tieredtest.Caches[int64, User](t, nodes[node:node+1], "users", opts...)[0]
		}
		now := one(0, tiered.WithCodec(tiered.JSON, 1))
		next := one(1, tiered.WithCodec(tiered.JSON, 2)) // User has changed
		other := one(2, tiered.WithCodec(asXML{}, 1))

		_ = now.Set(t.Context(), 7, User{ID: 7, Name: "Mira"})
		for _, c := range []*tiered.Cache[int64, User]{next, other} {
			_, err := c.Get(t.Context(), 7)
			fmt.Println(err, c.Stats().CorruptSchema, c.Stats().CorruptCodec)
		}
		_ = other.Set(t.Context(), 7, User{ID: 7, Name: "Mira"})
		fmt.Println(other.Get(t.Context(), 7, tiered.SkipL1()))
	})
	fmt.Println(err)
	// Output:
	// tiered: miss 1 0
	// tiered: miss 0 1
	// {7 Mira} <nil>
	// <nil>
}

// Large values are smaller in Redis.
func ExampleWithCompression() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 1, tieredtest.StartRedis(t))
		pages := tieredtest.Caches[string, string](t, nodes, "pages", tiered.WithCompression(tiered.Zstd, 1024))[0]
		_ = pages.Set(t.Context(), "/feed", strings.Repeat("three ticks ", 1000))

		in, err := pages.Inspect(t.Context(), "/feed")
		fmt.Println(in.L2.Compression, in.L2.RawSize, in.L2.Size < 500, err)
	})
	fmt.Println(err)
	// Output:
	// zstd 12002 true <nil>
	// <nil>
}

// Memory is bounded in bytes, and the program may know better than the cache how
// many a value takes.
func ExampleWithCost() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx, tiered.WithL1(1<<20))
	defer store.Close(ctx)
	type image struct{ pixels []byte }
	images, _ := tiered.New[int, image](store, "images", tiered.WithCost(func(i image) int64 { return int64(cap(i.pixels)) }))

	for i := range 100 {
		_ = images.Set(ctx, i, image{pixels: make([]byte, 50_000)})
	}
	until(func() bool { return images.Stats().Entries <= 20 })
	fmt.Println("of 100 images no more than 20 stay:", images.Stats().Entries <= 20)
	// Output: of 100 images no more than 20 stay: true
}

// A value that is large and seldom read need not be in every process's memory,
// and one that is of no use to others need not be in Redis.
func ExampleSkipL1() {
	err := tieredtest.Run(func(t testing.TB) {
		nodes := tieredtest.Nodes(t, 1, tieredtest.StartRedis(t))
		exports := tieredtest.Caches[int, string](t, nodes, "exports")[0]
		_ = exports.Set(t.Context(), 1, "in Redis alone", tiered.SkipL1())
		_ = exports.Set(t.Context(), 2, "in memory alone", tiered.SkipL2())
		for _, key := range []int{1, 2} {
			in, err := exports.Inspect(t.Context(), key)
			fmt.Println(in.L1.Present, in.L2.Present, err)
		}
	})
	fmt.Println(err)
	// Output:
	// false true <nil>
	// true false <nil>
	// <nil>
}

// With a cloner each caller has a value of his own to change.
func ExampleWithCloner() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	members, _ := tiered.New[string, []string](store, "members", tiered.WithCloner(slices.Clone[[]string]))

	_ = members.Set(ctx, "team:7", []string{"Mira", "Jon"})
	mine, _ := members.Get(ctx, "team:7")
	mine[0] = "somebody else"
	fmt.Println(members.Get(ctx, "team:7"))
	// Output: [Mira Jon] <nil>
}

// While Redis is away two loads at a time reach the source here, and the others
// take turns. Without Redis a bound that is given holds for all loads.
func ExampleWithOutageLoads() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx, tiered.WithOutageLoads(2))
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")

	var now, most atomic.Int64
	gate := make(chan struct{})
	load := func(context.Context, int, *tiered.Load[string]) (string, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-gate
		return "Mira", nil
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() { _, _ = names.GetOrLoad(ctx, i, load) })
	}
	until(func() bool { return store.Stats().Queue == 8 })
	fmt.Println(store.Stats().Queue, "wait")
	close(gate)
	wg.Wait()
	fmt.Println("at most", most.Load(), "at a time")
	// Output:
	// 8 wait
	// at most 2 at a time
}

// A load has spans for what it takes. A hit in memory has none.
func ExampleWithTracerProvider() {
	err := tieredtest.Run(func(t testing.TB) {
		spans := tracetest.NewSpanRecorder()
		nodes := tieredtest.Nodes(t, 1, tieredtest.StartRedis(t),
			tieredtest.WithStore(tiered.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans)))))
		names := tieredtest.Caches[int, string](t, nodes, "names")[0]
		until(func() bool { return nodes[0].Health().Coherent })
		for range 2 {
			_, _ = names.GetOrLoad(t.Context(), 7, func(context.Context, int, *tiered.Load[string]) (string, error) { return "Mira", nil })
		}
		for _, span := range spans.Ended() {
			fmt.Println(span.Name())
		}
	})
	fmt.Println(err)
	// Output:
	// tiered.get
	// tiered.getlease
	// tiered.tags
	// tiered.load
	// tiered.fill
	// <nil>
}

// Hits are counted without a call of the SDK, and read when somebody collects.
// METRICS.md has the list, as a Prometheus sees it.
func ExampleWithMeterProvider() {
	ctx := context.Background()
	reader := metric.NewManualReader() // or an exporter
	store, _ := tiered.Open(ctx, tiered.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")
	for range 3 {
		_, _ = names.GetOrLoad(ctx, 7, func(context.Context, int, *tiered.Load[string]) (string, error) { return "Mira", nil })
	}
	var collected metricdata.ResourceMetrics
	_ = reader.Collect(ctx, &collected)
	for _, m := range collected.ScopeMetrics[0].Metrics {
		if m.Name == "tiered.hits" || m.Name == "tiered.loads" {
			for _, p := range m.Data.(metricdata.Sum[int64]).DataPoints {
				fmt.Println(m.Name, p.Attributes.Encoded(attribute.DefaultEncoder()), p.Value)
			}
		}
	}
	// Unordered output:
	// tiered.hits namespace=names,tier=l1 2
	// tiered.loads namespace=names 1
}
