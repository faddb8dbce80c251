package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

type User struct {
	ID   int64
	Name string
}

// A cache in front of a database. Without WithRedis it is memory only.
func Example() {
	ctx := context.Background()
	store, err := tiered.Open(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx)

	users, err := tiered.New[int64, User](store, "users",
		tiered.WithDefaults(tiered.TTL(time.Hour), tiered.Jitter(0.1)))
	if err != nil {
		fmt.Println(err)
		return
	}
	load := func(_ context.Context, id int64, _ *tiered.Load[User]) (User, error) {
		fmt.Println("reading the database")
		return User{ID: id, Name: "Mira"}, nil
	}
	for range 2 {
		u, err := users.GetOrLoad(ctx, 7, load)
		fmt.Println(u.Name, err)
	}
	// Output:
	// reading the database
	// Mira <nil>
	// Mira <nil>
}

// Redis as the second tier, with a client that gives up soon.
func ExampleWithRedis() {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{
		Addr:                  shared.Addr(),
		DialTimeout:           500 * time.Millisecond,
		ReadTimeout:           250 * time.Millisecond,
		WriteTimeout:          250 * time.Millisecond,
		MaxRetries:            -1,
		ContextTimeoutEnabled: true,
	})
	defer client.Close()
	store, err := tiered.Open(ctx, tiered.WithRedis(client), tiered.WithPrefix("example"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer store.Close(ctx) // before the client
	names, err := tiered.New[string, string](store, "names")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(names.Set(ctx, "7", "Mira"))
	fmt.Println(names.Get(ctx, "7", tiered.SkipL1())) // as another process would
	fmt.Println(store.Health().Status)
	// Output:
	// <nil>
	// Mira <nil>
	// healthy
}

// Tags invalidate entries of any namespace together.
func ExampleStore_InvalidateTags() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	pages, _ := tiered.New[string, string](store, "pages")

	_ = pages.Set(ctx, "/feed", "three ticks", tiered.Tags("team:7"))
	_ = pages.Set(ctx, "/about", "about us")
	_ = store.InvalidateTags(ctx, "team:7")

	_, err := pages.Get(ctx, "/feed")
	fmt.Println(errors.Is(err, tiered.ErrMiss))
	about, _ := pages.Get(ctx, "/about")
	fmt.Println(about)
	// Output:
	// true
	// about us
}

// A loader says with ErrNotFound that there is no such thing, which is cached
// as well, and with Load.Set what it has learnt about its entry.
func ExampleLoader() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	users, _ := tiered.New[int64, User](store, "users", tiered.WithDefaults(tiered.NegativeTTL(time.Minute)))

	load := func(_ context.Context, id int64, l *tiered.Load[User]) (User, error) {
		if id > 100 {
			return User{}, fmt.Errorf("user %d: %w", id, tiered.ErrNotFound)
		}
		l.Set(tiered.TTL(time.Duration(id) * time.Minute))
		return User{ID: id}, nil
	}
	_, err := users.GetOrLoad(ctx, 101, load)
	fmt.Println(err)
	_, err = users.Get(ctx, 101)
	fmt.Println(err)
	// Output:
	// user 101: tiered: not found
	// tiered: not found
}

// Clear empties a namespace in constant time, in every process.
func ExampleCache_Clear() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")
	_ = names.Set(ctx, 1, "Mira")
	_ = names.Clear(ctx)
	_, err := names.Get(ctx, 1)
	fmt.Println(err)
	// Output: tiered: miss
}

// With FailSafe an outage of the source is not one of the program: what was
// there before is served, and the source is left alone for the throttle.
func ExampleFailSafe() {
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	rates, _ := tiered.New[string, float64](store, "rates",
		tiered.WithDefaults(tiered.TTL(time.Minute), tiered.FailSafe(time.Hour, 10*time.Second)))

	_ = rates.Set(ctx, "EUR", 1.08)
	clock.Advance(2 * time.Minute)
	load := func(context.Context, string, *tiered.Load[float64]) (float64, error) {
		return 0, errors.New("the bank is closed")
	}
	fmt.Println(rates.GetOrLoad(ctx, "EUR", load))
	clock.Advance(time.Hour)
	fmt.Println(rates.GetOrLoad(ctx, "EUR", load))
	// Output:
	// 1.08 <nil>
	// 0 the bank is closed
}

// A caller waits for a slow source no longer than the hard timeout. The load
// goes on, and serves those who come later.
func ExampleTimeouts() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	reports, _ := tiered.New[int, string](store, "reports")

	ready := make(chan struct{})
	load := func(context.Context, int, *tiered.Load[string]) (string, error) {
		<-ready
		return "the year in numbers", nil
	}
	_, err := reports.GetOrLoad(ctx, 2024, load, tiered.Timeouts(0, 10*time.Millisecond))
	fmt.Println(err)
	close(ready)
	fmt.Println(reports.GetOrLoad(ctx, 2024, load))
	// Output:
	// tiered: load timed out
	// the year in numbers <nil>
}

// A value that is read all the time is renewed before it expires, and nobody
// waits for it. The earliest time is half of the TTL here.
func ExampleEagerRefresh() {
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	pages, _ := tiered.New[string, int](store, "pages",
		tiered.WithDefaults(tiered.TTL(time.Hour), tiered.EagerRefresh(0.5, 1)))

	edition := 0
	renewed := make(chan struct{}, 2)
	load := func(context.Context, string, *tiered.Load[int]) (int, error) {
		clock.Advance(10 * time.Second) // what a load takes
		edition++
		renewed <- struct{}{}
		return edition, nil
	}
	fmt.Println(pages.GetOrLoad(ctx, "/feed", load))
	<-renewed
	clock.Advance(time.Hour - time.Millisecond) // due but for one draw in ten thousand
	fmt.Println(pages.GetOrLoad(ctx, "/feed", load))
	<-renewed
	// Output:
	// 1 <nil>
	// 1 <nil>
}

// Inspect is for operators: what is where, how old, and what a Get would do.
func ExampleCache_Inspect() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	pages, _ := tiered.New[string, string](store, "pages")
	_ = pages.Set(ctx, "/feed", "three ticks", tiered.Tags("team:7"))
	_ = store.InvalidateTags(ctx, "team:7")

	in, err := store.Inspect(ctx, "pages", "/feed") // by text, without the types
	fmt.Println(in.Verdict, in.Why, err)
	// Output: miss tag "team:7" was invalidated since <nil>
}

// Local iterates over what this process has in memory.
func ExampleCache_Local() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")
	_ = names.Set(ctx, 7, "Mira", tiered.TTL(time.Hour))

	for id, info := range names.Local() {
		fmt.Println(id, info.Expires.After(time.Now().Add(59*time.Minute)), info.Suspect)
	}
	fmt.Println(names.Stats().Entries)
	// Output:
	// 7 true false
	// 1
}

// An operator has imported pages anew and wants the old ones gone everywhere.
func ExampleCache_InvalidatePrefix() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	pages, _ := tiered.New[string, string](store, "pages")
	_ = pages.SetMany(ctx, map[string]string{"/docs/1": "one", "/docs/2": "two", "/feed": "three ticks"})

	fmt.Println(pages.InvalidatePrefix(ctx, "/docs/"))
	_, err := pages.Get(ctx, "/docs/1")
	fmt.Println(err)
	fmt.Println(pages.Get(ctx, "/feed"))
	// Output:
	// 2 <nil>
	// tiered: miss
	// three ticks <nil>
}

// Hooks are called after the fact, by a goroutine that no caller waits for.
// Close delivers what is left.
func ExampleWithHooks() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx, tiered.WithHooks(tiered.Hooks{
		OnLoadError:  func(e tiered.LoadEvent) { fmt.Println("cannot load", e.Namespace, e.Key, e.Err) },
		OnInvalidate: func(e tiered.InvalidateEvent) { fmt.Println("invalidated", e.Namespace, e.Key) },
	}))
	names, _ := tiered.New[int, string](store, "names")
	_, _ = names.GetOrLoad(ctx, 7, func(context.Context, int, *tiered.Load[string]) (string, error) {
		return "", errors.New("the database is away")
	})
	_ = names.Delete(ctx, 7)
	_ = store.Close(ctx)
	// Output:
	// cannot load names 7 the database is away
	// invalidated names 7
}

// Many values cost Redis few round trips. What is not there is not in the map.
func ExampleCache_GetMany() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	names, _ := tiered.New[int, string](store, "names")

	fmt.Println(names.SetMany(ctx, map[int]string{1: "Mira", 2: "Jon"}))
	fmt.Println(names.GetMany(ctx, []int{1, 2, 3}))
	// Output:
	// <nil>
	// map[1:Mira 2:Jon] <nil>
}

// What other programs do to the keys in Redis reaches memory too.
func ExampleWithBackplane() {
	ctx := context.Background()
	client := redis.NewClient(shared.Options())
	defer client.Close()
	store, _ := tiered.Open(ctx, tiered.WithRedis(client), tiered.WithPrefix("shop"), tiered.WithBackplane(tiered.Tracking))
	defer store.Close(ctx)
	prices, _ := tiered.New[string, int](store, "prices", tiered.WithDefaults(tiered.L1TTL(time.Hour)))

	_ = prices.Set(ctx, "tea", 3)
	client.Del(ctx, "shop:{prices:tea}") // redis-cli, or a program in another language
	soon, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		_, err := prices.Get(soon, "tea")
		if err != nil {
			fmt.Println("memory:", err) // a message's time later
			return
		}
	}
	// Output: memory: tiered: miss
}
