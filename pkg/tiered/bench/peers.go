package bench

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/Yiling-J/theine-go"
	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/dgraph-io/ristretto/v2"
	rediscache "github.com/go-redis/cache/v9"
	"github.com/golang/groupcache"
	"github.com/hashicorp/golang-lru/v2"
	"github.com/hashicorp/golang-lru/v2/expirable"
	"github.com/maypok86/otter/v2"
)

// store is a cache in memory as the comparison sees it.
type store[V any] struct {
	get   func(k int) bool
	set   func(k int, v V) // nil if it cannot be written
	wait  func()           // until what was set has taken effect; nil if at once
	close func()
}

// peer makes a store for so many entries.
type peer[V any] struct {
	name string
	open func(entries int, v func(k int) V) store[V]
}

const ttl = time.Hour

func nothing() {}

// peers are all that keep any V, tiered first.
func peers[V any]() []peer[V] {
	return []peer[V]{
		{"**tiered**, TTL", openTiered[V]},
		{"ristretto", func(n int, _ func(int) V) store[V] { return openRistretto[V](n, 0) }},
		{"ristretto, TTL", func(n int, _ func(int) V) store[V] { return openRistretto[V](n, ttl) }},
		{"otter, TTL", func(n int, _ func(int) V) store[V] { return openOtter[V](n, nil) }},
		{"otter, TTL, coarse clock", func(n int, _ func(int) V) store[V] {
			return openOtter[V](n, otter.NewCoarseClock(time.Millisecond))
		}},
		{"theine, TTL", openTheine[V]},
		{"golang-lru", openLRU[V]},
		{"golang-lru expirable, TTL", openExpirable[V]},
		{"sync.Map", openSyncMap[V]},
		{"map + RWMutex", openMap[V]},
	}
}

// entryCost is what tiered says a small entry takes.
func entryCost() int64 {
	s, c := memoryOnly[int](1<<20, 0)
	defer closeStore(s)
	ctx := context.Background()
	_ = c.Set(ctx, 1, 1)
	for s.Stats().L1Bytes == 0 {
		time.Sleep(time.Millisecond)
	}
	return int64(s.Stats().L1Bytes)
}

func memoryOnly[V any](bytes int64, cost int64) (*tiered.Store, *tiered.Cache[int, V]) {
	s, err := tiered.Open(context.Background(), tiered.WithL1(bytes))
	if err != nil {
		panic(err)
	}
	opts := []tiered.CacheOption{tiered.WithDefaults(tiered.TTL(ttl))}
	if cost >= 0 {
		opts = append(opts, tiered.WithCost(func(V) int64 { return cost }))
	}
	c, err := tiered.New[int, V](s, "bench", opts...)
	if err != nil {
		panic(err)
	}
	return s, c
}

func closeStore(s *tiered.Store) { _ = s.Close(context.Background()) }

// openTiered gives each entry a cost of 1 KiB, for which tiered's budget makes
// ten counters, as the others are told to.
func openTiered[V any](n int, _ func(int) V) store[V] {
	const kib = 1 << 10
	s, c := memoryOnly[V](int64(n)*kib, kib-entryCost())
	ctx := context.Background()
	return store[V]{
		get:   func(k int) bool { _, err := c.Get(ctx, k); return err == nil },
		set:   func(k int, v V) { _ = c.Set(ctx, k, v) },
		wait:  func() { time.Sleep(8 * time.Millisecond) }, // four times its flush
		close: func() { closeStore(s) },
	}
}

func openRistretto[V any](n int, ttl time.Duration) store[V] {
	c, err := ristretto.NewCache(&ristretto.Config[int, V]{
		NumCounters: int64(10 * n), MaxCost: int64(n), BufferItems: 64, IgnoreInternalCost: true,
	})
	if err != nil {
		panic(err)
	}
	return store[V]{
		get:  func(k int) bool { _, ok := c.Get(k); return ok },
		set:  func(k int, v V) { c.SetWithTTL(k, v, 1, ttl) },
		wait: c.Wait, close: c.Close,
	}
}

func openOtter[V any](n int, clock otter.Clock) store[V] {
	c := otter.Must(&otter.Options[int, V]{
		MaximumSize: n, ExpiryCalculator: otter.ExpiryWriting[int, V](ttl), Clock: clock,
	})
	return store[V]{
		get:  func(k int) bool { _, ok := c.GetIfPresent(k); return ok },
		set:  func(k int, v V) { c.Set(k, v) },
		wait: c.CleanUp, close: func() { c.StopAllGoroutines() },
	}
}

func openTheine[V any](n int, _ func(int) V) store[V] {
	c, err := theine.NewBuilder[int, V](int64(n)).Build()
	if err != nil {
		panic(err)
	}
	return store[V]{
		get:  func(k int) bool { _, ok := c.Get(k); return ok },
		set:  func(k int, v V) { c.SetWithTTL(k, v, 1, ttl) },
		wait: c.Wait, close: c.Close,
	}
}

func openLRU[V any](n int, _ func(int) V) store[V] {
	c, err := lru.New[int, V](n)
	if err != nil {
		panic(err)
	}
	return store[V]{
		get:   func(k int) bool { _, ok := c.Get(k); return ok },
		set:   func(k int, v V) { c.Add(k, v) },
		close: nothing,
	}
}

func openExpirable[V any](n int, _ func(int) V) store[V] {
	c := expirable.NewLRU[int, V](n, nil, ttl)
	return store[V]{
		get:   func(k int) bool { _, ok := c.Get(k); return ok },
		set:   func(k int, v V) { c.Add(k, v) },
		close: nothing,
	}
}

func openSyncMap[V any](int, func(int) V) store[V] {
	var m sync.Map
	return store[V]{
		get:   func(k int) bool { v, ok := m.Load(k); _, is := v.(V); return ok && is },
		set:   func(k int, v V) { m.Store(k, v) },
		close: nothing,
	}
}

func openMap[V any](int, func(int) V) store[V] {
	var mu sync.RWMutex
	m := map[int]V{}
	return store[V]{
		get: func(k int) bool { mu.RLock(); _, ok := m[k]; mu.RUnlock(); return ok },
		set: func(k int, v V) {
			mu.Lock()
			m[k] = v
			mu.Unlock()
		},
		close: nothing,
	}
}

// bytesPeers keep encoded values under strings. That is their design, and its
// cost is part of theirs: a read of go-redis/cache decodes.
func bytesPeers() []peer[int] {
	return []peer[int]{
		{"go-redis/cache, memory only", func(n int, _ func(int) int) store[int] {
			c := rediscache.New(&rediscache.Options{LocalCache: rediscache.NewTinyLFU(2*n, ttl)})
			ctx, keys := context.Background(), names(n)
			return store[int]{
				get: func(k int) bool { var v int; return c.Get(ctx, keys[k], &v) == nil },
				set: func(k, v int) {
					_ = c.Set(&rediscache.Item{Ctx: ctx, Key: keys[k], Value: v, TTL: ttl})
				},
				close: nothing,
			}
		}},
		{"groupcache", func(n int, value func(int) int) store[int] {
			ctx, keys := context.Background(), names(n)
			groups++
			g := groupcache.NewGroup("bench"+strconv.Itoa(groups), int64(n)*1024, groupcache.GetterFunc(
				func(_ context.Context, key string, dest groupcache.Sink) error {
					k, err := strconv.Atoi(key)
					if err != nil {
						return err
					}
					return dest.SetString(strconv.Itoa(value(k)))
				}))
			get := func(k int) bool {
				var v groupcache.ByteView
				return g.Get(ctx, keys[k], groupcache.ByteViewSink(&v)) == nil
			}
			return store[int]{get: get, close: nothing} // it cannot be written
		}},
	}
}

var groups int // their names are for ever

func names(n int) []string {
	s := make([]string, n)
	for i := range s {
		s[i] = strconv.Itoa(i)
	}
	return s
}
