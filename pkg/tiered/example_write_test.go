package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// A list to which any process may add at any time: no addition is lost.
func ExampleCache_Update() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	members, _ := tiered.New[string, []string](store, "members")

	join := func(name string) error {
		_, err := members.Update(ctx, "team:7", func(_ context.Context, old []string, exists bool) ([]string, error) {
			if len(old) == 2 {
				return nil, errors.New("the team is full")
			}
			return append(old[:len(old):len(old)], name), nil // a copy: values are shared
		})
		return err
	}
	fmt.Println(join("Mira"))
	fmt.Println(join("Jon"))
	fmt.Println(join("Ada"))
	fmt.Println(members.Get(ctx, "team:7"))
	// Output:
	// <nil>
	// <nil>
	// update members: the team is full
	// [Mira Jon] <nil>
}

// A session that is used lives on, and costs no more than a header to keep.
func ExampleCache_Expire() {
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	sessions, _ := tiered.New[string, int64](store, "sessions", tiered.WithDefaults(tiered.TTL(time.Hour)))

	_ = sessions.Set(ctx, "s1", 7)
	clock.Advance(50 * time.Minute)
	fmt.Println(sessions.Expire(ctx, "s1", time.Hour))
	clock.Advance(50 * time.Minute)
	fmt.Println(sessions.Get(ctx, "s1"))
	clock.Advance(10 * time.Minute)
	fmt.Println(sessions.Expire(ctx, "s1", time.Hour))
	// Output:
	// true <nil>
	// 7 <nil>
	// false <nil>
}
