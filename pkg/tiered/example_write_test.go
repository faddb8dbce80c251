package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
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
			return append(slices.Clip(old), name), nil // a copy: values are shared
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

// The database is written first, and the cache gets what it has then. If two
// write at a time, or the database fails, the entry is forgotten.
func ExampleCache_Write() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	users, _ := tiered.New[int64, User](store, "users")

	u, err := users.Write(ctx, 7, func(context.Context) (User, error) {
		// UPDATE users SET name = 'Mira' WHERE id = 7 RETURNING id, name
		return User{ID: 7, Name: "Mira"}, nil
	})
	fmt.Println(u.Name, err)
	_, err = users.Write(ctx, 7, func(context.Context) (User, error) {
		return User{}, errors.New("connection lost") // before or after the commit?
	})
	fmt.Println(err)
	_, err = users.Get(ctx, 7)
	fmt.Println(err)
	// Output:
	// Mira <nil>
	// connection lost
	// tiered: miss
}

// What is there is served until the new value has come.
func ExampleCache_Refresh() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	rates, _ := tiered.New[string, float64](store, "rates")

	_ = rates.Set(ctx, "EUR", 1.08)
	fmt.Println(rates.Refresh(ctx, "EUR", func(context.Context, string, *tiered.Load[float64]) (float64, error) {
		return 1.09, nil
	}))
	fmt.Println(rates.Get(ctx, "EUR"))
	// Output:
	// 1.09 <nil>
	// 1.09 <nil>
}

// A value that has not changed at its source is not sent again.
func ExampleLoad_NotModified() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		if r.Header.Get("If-None-Match") == `"v1"` {
			fmt.Println("304")
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Println("200")
		_, _ = io.WriteString(w, "three ticks")
	}))
	defer server.Close()
	ctx := context.Background()
	clock := tieredtest.NewClock(time.Time{})
	store, _ := tiered.Open(ctx, tiered.WithClock(clock))
	defer store.Close(ctx)
	pages, _ := tiered.New[string, string](store, "pages",
		tiered.WithDefaults(tiered.TTL(time.Minute), tiered.FailSafe(time.Hour, 0))) // keeps what has expired

	load := func(ctx context.Context, path string, l *tiered.Load[string]) (string, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+path, nil)
		if err != nil {
			return "", err
		}
		if etag := l.ETag(); etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			return "", err
		}
		defer res.Body.Close()
		if res.StatusCode == http.StatusNotModified {
			return l.NotModified()
		}
		l.SetETag(res.Header.Get("ETag"))
		body, err := io.ReadAll(res.Body)
		return string(body), err
	}
	fmt.Println(pages.GetOrLoad(ctx, "/feed", load))
	clock.Advance(time.Minute)
	fmt.Println(pages.GetOrLoad(ctx, "/feed", load))
	// Output:
	// 200
	// three ticks <nil>
	// 304
	// three ticks <nil>
}

// The answer need not wait for the counter to reach Redis; Close sends what is
// queued still.
func ExampleAsync() {
	ctx := context.Background()
	store, _ := tiered.Open(ctx)
	defer store.Close(ctx)
	seen, _ := tiered.New[int64, string](store, "seen", tiered.WithDefaults(tiered.Async()))

	_ = seen.Set(ctx, 7, "today")
	fmt.Println(seen.Get(ctx, 7))
	_ = seen.Delete(ctx, 7)
	_, err := seen.Get(ctx, 7)
	fmt.Println(err)
	// Output:
	// today <nil>
	// tiered: miss
}
