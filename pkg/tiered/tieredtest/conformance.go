package tieredtest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/redis/go-redis/v9"
)

// Conformance checks what package tiered guarantees against the Redis, the
// client's settings and the store's options that will be used: that its
// scripts may run, that messages arrive, that writes fence loads between two
// processes in both tiers, that tags and Clear reach everybody.
//
// Connect returns a new client for each node, as a process of its own would
// have, and closes it with the test; a client of nil checks the store without
// Redis. What it writes is under a prefix of its own, unless opts has one, and
// ends by its TTL of a minute. Both tiers must be on.
func Conformance(t *testing.T, connect func(testing.TB) redis.UniversalClient, opts ...tiered.Option) {
	t.Helper()
	nodes := Nodes(t, 2, serverFunc(connect), WithStore(opts...))
	c := Caches[string, string](t, nodes, "conformance", tiered.WithDefaults(tiered.TTL(time.Minute), tiered.Tags("tag")))
	remote := nodes[0].Client != nil
	last := len(c) - 1
	if !remote {
		last = 0 // nodes without a server know nothing of each other
	}

	writes := map[string]struct {
		do   func(context.Context) error // on the last node
		want string
	}{
		"Set":            {func(ctx context.Context) error { return c[last].Set(ctx, "k", "new") }, "new"},
		"Delete":         {func(ctx context.Context) error { return c[last].Delete(ctx, "k") }, ""},
		"InvalidateTags": {func(ctx context.Context) error { return nodes[last].InvalidateTags(ctx, "tag") }, ""},
		"Clear":          {func(ctx context.Context) error { return c[last].Clear(ctx) }, ""},
	}
	for name, w := range writes {
		t.Run(name+" is seen by everybody", func(t *testing.T) {
			check(t, c[0].Set(t.Context(), "k", "old"))
			for _, one := range c[:last+1] {
				agree(t, one, "old", remote)
			}
			check(t, w.do(t.Context()))
			has(t, c[last], w.want) // at once
			for _, one := range c[:last+1] {
				agree(t, one, w.want, remote)
			}
		})
		t.Run(name+" is not undone by a load", func(t *testing.T) {
			check(t, c[0].Delete(t.Context(), "k"))
			started, finish := make(chan struct{}), make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				_, err := c[0].GetOrLoad(t.Context(), "k", func(context.Context, string, *tiered.Load[string]) (string, error) {
					close(started)
					<-finish
					return "old", nil
				})
				if err != nil {
					t.Errorf("load: %v", err)
				}
			})
			<-started
			err := w.do(t.Context())
			close(finish)
			wg.Wait()
			check(t, err)
			has(t, c[last], w.want)
			for _, one := range c[:last+1] {
				agree(t, one, w.want, remote)
			}
		})
	}
	t.Run("of many callers one loads", func(t *testing.T) {
		check(t, c[0].Delete(t.Context(), "k"))
		var mu sync.Mutex
		loads := 0
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				v, err := c[0].GetOrLoad(t.Context(), "k", func(context.Context, string, *tiered.Load[string]) (string, error) {
					mu.Lock()
					defer mu.Unlock()
					loads++
					return "v", nil
				})
				if v != "v" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		wg.Wait()
		if loads != 1 {
			t.Errorf("%d loads, want 1", loads)
		}
	})
	t.Run("any key and value", func(t *testing.T) {
		for _, s := range []string{"}", "{", "a}b{", "*", " ", "\x00", "ü", "a b c", "%7B"} {
			check(t, c[0].Set(t.Context(), s, s))
			if v, err := c[last].Get(t.Context(), s); v != s || err != nil {
				t.Errorf("set %q, got %q, %v", s, v, err)
			}
		}
		has(t, c[0], "v") // and nothing else was hit
	})
	if remote {
		t.Run("messages arrive", func(t *testing.T) {
			for i, n := range nodes {
				Eventually(t, fmt.Sprintf("node %d hears the others", i), func() bool { return n.Health().Coherent })
			}
		})
	}
}

// serverFunc makes a Server of a function that connects, which dials by itself.
func serverFunc(connect func(testing.TB) redis.UniversalClient) Server {
	if connect == nil {
		return nil
	}
	return connector(connect)
}

type connector func(testing.TB) redis.UniversalClient

func (c connector) Connect(t testing.TB, _ DialFunc) redis.UniversalClient { return c(t) }

// ConformCodec checks that a codec gives back what it was given, keeps nothing
// of the bytes it was handed, fails instead of panicking on bytes that are not
// its own, and has an ID of its own.
func ConformCodec[V any](t *testing.T, codec tiered.Codec, samples ...V) {
	t.Helper()
	if codec.ID() == 0 {
		t.Error("its ID is 0, want another: 0 is no codec")
	}
	var zero V
	for i, v := range append(samples, zero) {
		b, err := codec.Marshal(v)
		if err != nil {
			t.Errorf("sample %d: marshal: %v", i, err)
			continue
		}
		var got V
		if err := codec.Unmarshal(b, &got); err != nil {
			t.Errorf("sample %d: unmarshal: %v", i, err)
			continue
		}
		clear(b)
		if !reflect.DeepEqual(got, v) {
			t.Errorf("sample %d: got %#v, want %#v (changed on the way, or by a change of the bytes afterwards)", i, got, v)
		}
		again, err := codec.Marshal(v)
		if err != nil {
			t.Errorf("sample %d: marshal again: %v", i, err)
		}
		for n := range again {
			damaged(t, codec, again[:n], new(V))
		}
	}
}

func damaged(t *testing.T, codec tiered.Codec, b []byte, to any) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("unmarshal %q panics: %v", b, p)
		}
	}()
	_ = codec.Unmarshal(append([]byte(nil), b...), to) // an error or some value, but no panic
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// has fails the test unless the cache has v; "" is a miss.
func has(t testing.TB, c *tiered.Cache[string, string], v string, opts ...tiered.EntryOption) {
	t.Helper()
	got, err := c.Get(t.Context(), "k", opts...)
	if v == "" && !errors.Is(err, tiered.ErrMiss) || v != "" && (got != v || err != nil) {
		t.Fatalf("got %q, %v; want %q", got, err, v)
	}
}

// agree waits until the cache has v.
func agree(t testing.TB, c *tiered.Cache[string, string], v string, shared bool) {
	t.Helper()
	tiers := [][]tiered.EntryOption{nil}
	if shared {
		tiers = append(tiers, []tiered.EntryOption{tiered.SkipL1()})
	}
	for _, opts := range tiers {
		Eventually(t, "the nodes agree on "+v, func() bool {
			got, err := c.Get(t.Context(), "k", opts...)
			return v == "" && errors.Is(err, tiered.ErrMiss) || v != "" && got == v && err == nil
		})
	}
}
