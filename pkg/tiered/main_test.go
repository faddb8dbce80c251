package tiered_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"go.uber.org/goleak"
)

// shared serves the tests that leave the server as it was. Each uses a prefix
// of its own.
var shared *tieredtest.Redis

func TestMain(m *testing.M) {
	if addr := os.Getenv(childAddr); addr != "" {
		block := blockInSink
		if os.Getenv(childLoads) != "" {
			block = blockInLoader
		}
		os.Exit(block(addr, os.Getenv(childPrefix)))
	}
	dir, err := os.MkdirTemp("", "tiered")
	if err == nil {
		shared, err = tieredtest.LaunchRedis(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	shared.Close()
	_ = os.RemoveAll(dir)
	if code == 0 {
		if err := goleak.Find(dialling); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// open opens a store that is closed with the test.
func open(t testing.TB, opts ...tiered.Option) *tiered.Store {
	t.Helper()
	s, err := tiered.Open(t.Context(), opts...)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// node opens a store on r under the test's own prefix: one process of several.
// Its timeouts are generous, for a busy machine is no outage; tests of outages
// have their own.
func node(t testing.TB, r *tieredtest.Redis, opts ...tiered.Option) *tiered.Store {
	t.Helper()
	all := append([]tiered.Option{
		tiered.WithRedis(r.Client(t)), tiered.WithPrefix(prefix(t)), tiered.WithL2Timeout(3 * time.Second),
	}, opts...)
	return open(t, all...)
}

func cache[V any](t testing.TB, s *tiered.Store, name string, opts ...tiered.CacheOption) *tiered.Cache[string, V] {
	t.Helper()
	c, err := tiered.New[string, V](s, name, opts...)
	if err != nil {
		t.Fatalf("new: %v", err)
	}
	return c
}

// eventually polls until ok, for what another process or a server does.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tieredtest.Eventually(t, what, ok)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want[V comparable](t testing.TB, c *tiered.Cache[string, V], key string, want V, opts ...tiered.EntryOption) {
	t.Helper()
	got, err := c.Get(t.Context(), key, opts...)
	if err != nil || got != want {
		t.Fatalf("get %q: got %v, %v; want %v", key, got, err, want)
	}
}

func wantErr[V any](t testing.TB, c *tiered.Cache[string, V], key string, want error, opts ...tiered.EntryOption) {
	t.Helper()
	if got, err := c.Get(t.Context(), key, opts...); !errorIs(err, want) {
		t.Fatalf("get %q: got %v, %v; want error %v", key, got, err, want)
	}
}

// value is a loader that returns v.
func value[V any](v V) tiered.Loader[string, V] {
	return func(_ ctx, _ string, _ *tiered.Load[V]) (V, error) { return v, nil }
}

// blocked is a loader that reports its start and returns what it is given.
type blocked[V any] struct {
	started chan struct{}
	result  chan V
}

func block[V any]() *blocked[V] {
	return &blocked[V]{started: make(chan struct{}), result: make(chan V, 1)}
}

func (b *blocked[V]) load(_ ctx, _ string, _ *tiered.Load[V]) (V, error) {
	close(b.started)
	return <-b.result, nil
}

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
