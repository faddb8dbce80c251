package tieredtest_test

import (
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

func TestRunEndsWhatItStartedAndTellsWhatFailed(t *testing.T) {
	var order []string
	var dir string
	var client *redis.Client
	note := func(s string) { order = append(order, s) }
	err := tieredtest.Run(func(tb testing.TB) {
		tb.Helper()
		tb.Cleanup(func() { note("first") })
		dir = tb.TempDir()
		client = tieredtest.StartRedis(tb).Client(tb)
		if err := client.Ping(tb.Context()).Err(); err != nil {
			t.Error(err)
		}
		tb.Cleanup(func() {
			if tb.Context().Err() == nil {
				t.Error("its context goes on")
			}
			tb.Fatalf("no %s", "end")
		})
		tb.Cleanup(func() { note("last") })
		if tb.Failed() {
			t.Error("it has failed before it has")
		}
		tb.Log("nothing")
		tb.Error("one", "two")
		if !tb.Failed() {
			t.Error("it has not failed")
		}
		tb.Fatal("three")
		note("after Fatal")
	})
	if err == nil || err.Error() != "one two\nthree\nno end" {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(order, []string{"last", "first"}) {
		t.Errorf("it ended in the order %v", order)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is there: %v", err)
	}
	if err := client.Ping(t.Context()).Err(); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("its client is open: %v", err)
	}
	if err := tieredtest.Run(func(testing.TB) {}); err != nil {
		t.Errorf("nothing has failed: %v", err)
	}
}
