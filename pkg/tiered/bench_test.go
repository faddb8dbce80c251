package tiered_test

import (
	"context"
	"math/rand"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/dgraph-io/ristretto/v2"
)

// The bar: a hit costs at most 1.3 times a raw ristretto Get with a TTL.
func BenchmarkHit(b *testing.B) {
	const keys = 16 << 10
	zipf := rand.NewZipf(rand.New(rand.NewSource(1)), 1.1, 1, keys-1)
	order := make([]int, 1<<16)
	for i := range order {
		order[i] = int(zipf.Uint64())
	}
	b.Run("cache=ristretto", func(b *testing.B) {
		rc, err := ristretto.NewCache(&ristretto.Config[int, int]{NumCounters: 10 * keys, MaxCost: 64 << 20, BufferItems: 64})
		if err != nil {
			b.Fatal(err)
		}
		defer rc.Close()
		for k := range keys {
			rc.SetWithTTL(k, k, 1, time.Hour)
			if k%1000 == 0 {
				rc.Wait()
			}
		}
		rc.Wait()
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.Int(); pb.Next(); i++ {
				_, _ = rc.Get(order[i%len(order)])
			}
		})
	})
	b.Run("cache=tiered", func(b *testing.B) {
		c, err := tiered.New[int, int](open(b), "n")
		if err != nil {
			b.Fatal(err)
		}
		ctx := context.Background()
		for k := range keys {
			_ = c.Set(ctx, k, k)
		}
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for i := rand.Int(); pb.Next(); i++ {
				_, _ = c.Get(ctx, order[i%len(order)])
			}
		})
	})
}

func BenchmarkMiss(b *testing.B) {
	c := cache[string](b, node(b, shared), "n")
	b.Run("op=get", func(b *testing.B) {
		for b.Loop() {
			_, _ = c.Get(context.Background(), "absent")
		}
	})
	b.Run("op=set", func(b *testing.B) {
		for b.Loop() {
			_ = c.Set(context.Background(), "k", "v")
		}
	})
	n := 0
	key := func() string { n++; return strconv.Itoa(n) }
	b.Run("op=load", func(b *testing.B) {
		for b.Loop() {
			_, _ = c.GetOrLoad(context.Background(), key(), value("v"))
		}
	})
	b.Run("op=lease", func(b *testing.B) {
		for b.Loop() {
			_, _ = c.GetOrLoad(context.Background(), key(), func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				l.Set(tiered.TTL(0))
				return "v", nil
			})
		}
	})
	r := shared.Client(b)
	b.Run("op=bare GET", func(b *testing.B) {
		for b.Loop() {
			_ = r.Get(context.Background(), "absent").Err()
		}
	})
	b.Run("op=bare SET", func(b *testing.B) {
		for b.Loop() {
			_ = r.Set(context.Background(), "k", "v", 0).Err()
		}
	})
}

// 100 entries of 100 bytes, that memory does not keep.
func BenchmarkMany(b *testing.B) {
	c, r := cache[string](b, node(b, shared), "n"), shared.Client(b)
	ctx, value := context.Background(), strings.Repeat("v", 100)
	keys, bare, values := make([]string, 100), make([]string, 100), map[string]string{}
	for i := range keys {
		keys[i] = strconv.Itoa(i)
		bare[i] = prefix(b) + ":bare:" + keys[i]
		values[keys[i]] = value
		_ = r.Set(ctx, bare[i], value, time.Hour).Err()
	}
	if err := c.SetMany(ctx, values); err != nil {
		b.Fatal(err)
	}
	b.Run("op=MGET", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_ = r.MGet(ctx, bare...).Err()
		}
	})
	b.Run("op=get", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if found, err := c.GetMany(ctx, keys, tiered.SkipL1()); len(found) != len(keys) {
				b.Fatal(len(found), err)
			}
		}
	})
	b.Run("op=load", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if found, err := c.GetOrLoadMany(ctx, keys, nil, tiered.SkipL1()); len(found) != len(keys) {
				b.Fatal(len(found), err)
			}
		}
	})
}

// What remembering an acknowledged write adds to it, with a full ring.
func BenchmarkAcknowledge(b *testing.B) {
	s := open(b)
	for i := range 1 << 16 {
		s.Acknowledge("n", "key", uint64(i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.Acknowledge("n", "key", uint64(i))
	}
}
