package tiered_test

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/redis/go-redis/v9"
)

// Many small writes of a row reach the database as one.
func ExampleNewWriteBehind() {
	ctx := context.Background()
	client := redis.NewClient(shared.Options())
	defer client.Close()
	store, err := tiered.Open(ctx, tiered.WithRedis(client), tiered.WithPrefix("behind"), tiered.WithL2Timeout(5*time.Second))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)
	type columns = map[string]string
	users, _ := tiered.New[int64, columns](store, "users")

	// UPDATE users SET ..., version = $v WHERE id = $id AND ($v = 0 OR version < $v)
	sink := func(_ context.Context, items []tiered.Item[int64, columns]) error {
		for _, it := range items {
			fmt.Println("write", it.Key, it.Value, "partial:", it.Partial)
		}
		return nil
	}
	behind, err := tiered.NewWriteBehind(ctx, users, sink, tiered.WriteBehindOptions[columns]{
		Merge: func(old, partial columns) columns {
			merged := maps.Clone(old)
			maps.Copy(merged, partial)
			return merged
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = behind.Merge(ctx, 7, columns{"seen": "10:00"})
	_ = behind.Merge(ctx, 7, columns{"page": "/feed"})
	_ = behind.Merge(ctx, 7, columns{"seen": "10:05"})
	fmt.Println(behind.Close(ctx)) // flushes; a program defers it, before the store's
	// Output:
	// write 7 map[page:/feed seen:10:05] partial: true
	// <nil>
}
