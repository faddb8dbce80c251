package process_test

import (
	"context"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// Sockets that do not go when they are asked to are closed in time for the rest
// to stop well.
func TestRealtimeEndsWellWithSocketsThatIgnoreTheDrain(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	_, realtime, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL, "SHUTDOWN_TIMEOUT": "4s"}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ada, err := crew.Register(ctx, site, "Ada")
	if err != nil {
		t.Fatal(err)
	}
	var feeds []*crew.Feed
	for range 5 {
		f, err := ada.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		feeds = append(feeds, f)
	}
	for _, f := range feeds {
		if err := f.Await(ctx, "hello", func(frames []crew.Frame) (bool, error) { return len(frames) > 0, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if err := realtime.Terminate(30 * time.Second); err != nil {
		t.Errorf("it ended with %v, want 0\n%s", err, realtime.Log())
	}
	for _, f := range feeds {
		drained := false
		for _, fr := range f.Frames() {
			drained = drained || fr.Type == "drain"
		}
		if !drained {
			t.Error("a socket was not asked to leave")
		}
	}
}
