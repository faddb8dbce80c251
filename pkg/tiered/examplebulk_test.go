package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// What memory and Redis do not have is loaded by one call. What the loader does
// not return does not exist.
func ExampleCache_GetOrLoadMany() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")
	_ = names.Set(ctx, 1, "Mira")

	load := func(_ context.Context, ids []int) (map[int]string, error) {
		fmt.Println("select id, name from people where id in", ids)
		return map[int]string{2: "Jon"}, nil
	}
	fmt.Println(names.GetOrLoadMany(ctx, []int{1, 2, 3}, load))
	fmt.Println(names.GetOrLoadMany(ctx, []int{1, 2, 3}, load))
	// Output:
	// select id, name from people where id in [2 3]
	// map[1:Mira 2:Jon] <nil>
	// map[1:Mira 2:Jon] <nil>
}

// An error comes with what was found nevertheless, and says which keys failed.
func ExampleBulkError() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")
	_ = names.Set(ctx, 1, "Mira")

	found, err := names.GetOrLoadMany(ctx, []int{1, 2, 3}, func(context.Context, []int) (map[int]string, error) {
		return nil, errors.New("the database is away")
	})
	fmt.Println(found)
	fmt.Println(err)
	if failed, ok := errors.AsType[*tiered.BulkError[int]](err); ok {
		fmt.Println(slices.Sorted(maps.Keys(failed.Failed)))
	}
	// Output:
	// map[1:Mira]
	// load many names: 2 of 3 keys failed: the database is away
	// [2 3]
}

// DeleteMany is Delete for many keys in few round trips.
func ExampleCache_DeleteMany() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")
	_ = names.SetMany(ctx, map[int]string{1: "Mira", 2: "Jon", 3: "Lu"})

	fmt.Println(names.DeleteMany(ctx, []int{1, 3, 5}))
	fmt.Println(names.GetMany(ctx, []int{1, 2, 3}))
	// Output:
	// <nil>
	// map[2:Jon] <nil>
}
