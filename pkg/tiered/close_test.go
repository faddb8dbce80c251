package tiered_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// A store may be closed beside whatever runs. Who comes late is told; nobody
// panics, hangs or leaves a goroutine (see TestMain).
func TestEverythingBesideClose(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n", tiered.WithDefaults(tiered.Tags("tag"), tiered.FailSafe(time.Hour, 0)))
		calls := []func(ctx context.Context, key string) error{
			func(ctx context.Context, key string) error { return c.Set(ctx, key, 1) },
			func(ctx context.Context, key string) error { return c.Delete(ctx, key) },
			func(ctx context.Context, key string) error { _, err := c.Get(ctx, key); return err },
			func(ctx context.Context, key string) error { _, err := c.GetOrLoad(ctx, key, value(2)); return err },
			func(ctx context.Context, key string) error {
				_, err := c.GetMany(ctx, []string{key, "other"})
				return err
			},
			func(ctx context.Context, key string) error { _, err := c.Refresh(ctx, key, value(3)); return err },
			func(ctx context.Context, key string) error { return s.InvalidateTags(ctx, "tag") },
			func(ctx context.Context, key string) error { _, err := c.Expire(ctx, key, time.Minute); return err },
		}
		var made atomic.Int64
		var wg sync.WaitGroup
		for i, call := range calls {
			wg.Go(func() {
				for n := 0; ; n++ {
					err := call(t.Context(), strconv.Itoa(n%7))
					made.Add(1)
					switch {
					case errors.Is(err, tiered.ErrClosed):
						return
					case err != nil && !errors.Is(err, tiered.ErrMiss) && !errors.Is(err, context.Canceled):
						t.Errorf("call %d: %v", i, err)
						return
					}
				}
			})
		}
		eventually(t, "all are at it", func() bool { return made.Load() > 500 })
		must(t, s.Close(t.Context()))
		wg.Wait()
	})
}
