package event_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// TestOfManyNodesThatFindARewindOneBeginsTheNewEpoch: each of the others would
// reset every reader once more, and lose what was published meanwhile.
func TestOfManyNodesThatFindARewindOneBeginsTheNewEpoch(t *testing.T) {
	server := tieredtest.StartRedis(t)
	one, two := newRedis(t, server, event.Options{}), newRedis(t, server, event.Options{})
	const channel = "team:harbor:activity"
	publish(t, one, channel, 1, 3)
	old, err := one.Position(t.Context(), channel)
	if err != nil {
		t.Fatal(err)
	}
	stand := func() event.Position {
		at, err := two.Position(t.Context(), channel)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	if err := one.Rewind(t.Context(), channel, old.Epoch); err != nil {
		t.Fatal(err)
	}
	first := stand()
	if first.Epoch == old.Epoch || first.ID != old.ID {
		t.Fatalf("at %s, after %s", first, old)
	}
	publish(t, one, channel, 4, 5)
	ahead := stand()
	for _, b := range []*event.Redis{two, one} { // they found it a moment later
		if err := b.Rewind(t.Context(), channel, old.Epoch); err != nil {
			t.Fatal(err)
		}
	}
	if at := stand(); at != ahead {
		t.Errorf("at %s, want %s still", at, ahead)
	}
	h, err := two.Since(t.Context(), channel, first, 10)
	if err != nil || h.Reset != "" || len(h.Messages) != 2 {
		t.Errorf("a reader of the new epoch gets %+v, %v", h, err)
	}
}

// TestAnIDThatAFailoverLostIsNotGivenAgain puts a channel back to where a
// replica would have it, within the same millisecond: who has seen the event
// that was lost must be able to tell it from the next one.
func TestAnIDThatAFailoverLostIsNotGivenAgain(t *testing.T) {
	server := tieredtest.StartRedis(t)
	client := server.Client(t)
	for name, later := range map[string]time.Duration{"in a new millisecond": time.Millisecond, "in the same": 0} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			now := time.UnixMilli(1_800_000_000_000)
			b := newRedis(t, server, event.Options{Now: func() time.Time { return now }})
			channel := "team:" + strings.ReplaceAll(name, " ", "-") + ":activity"
			publish(t, b, channel, 0, 0)
			replica := dump(t, client, channel)
			now = now.Add(later)
			seen := map[event.Position]int{}
			for n := range 30 {
				at, err := b.Publish(t.Context(), numbered(channel, 1+n))
				if err != nil {
					t.Fatal(err)
				}
				if other, ok := seen[at]; ok {
					t.Fatalf("events %d and %d are both at %s", other, 1+n, at)
				}
				seen[at] = 1 + n
				restore(t, client, replica)
			}
		})
	}
}

func dump(t *testing.T, client redis.UniversalClient, channel string) map[string]string {
	t.Helper()
	held := map[string]string{}
	for _, kind := range []string{"s", "m"} {
		key := fmt.Sprintf("rt:{%s}:%s", channel, kind)
		v, err := client.Dump(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		held[key] = v
	}
	return held
}

func restore(t *testing.T, client redis.UniversalClient, held map[string]string) {
	t.Helper()
	for key, v := range held {
		if err := client.RestoreReplace(t.Context(), key, time.Hour, v).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEpochsAreRandom: two histories of one name are told apart by nothing else.
func TestEpochsAreRandom(t *testing.T) {
	b, err := event.NewMemory(event.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	epochs, letters := map[string]bool{}, map[int]map[rune]bool{}
	const channels = 400
	for n := range channels {
		at, err := b.Position(t.Context(), fmt.Sprintf("team:t%d:activity", n))
		if err != nil {
			t.Fatal(err)
		}
		epochs[at.Epoch] = true
		for i, c := range at.Epoch {
			if letters[i] == nil {
				letters[i] = map[rune]bool{}
			}
			letters[i][c] = true
		}
	}
	if len(epochs) != channels || len(letters) < 12 {
		t.Errorf("%d epochs for %d channels, of %d letters", len(epochs), channels, len(letters))
	}
	for i, set := range letters {
		if len(set) < 24 { // of 32; of 400 draws fewer than 24 are seen less than once in 10^9 runs
			t.Errorf("letter %d is one of %d", i, len(set))
		}
	}
}

// An idle client comes back after ten minutes to a channel in which nothing has
// happened since, or never has.
func TestRedisKeepsAChannelForLongerThanAClientIsIdle(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, event.Options{}), server.Client(t)
	lives := func(key string) time.Duration {
		t.Helper()
		d, err := c.PTTL(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if _, err := b.Position(t.Context(), "team:8:activity"); err != nil { // and no event ever
		t.Fatal(err)
	}
	publish(t, b, feed, 1, 1)
	keys := []string{event.MetaKey("team:8:activity"), event.MetaKey(feed), event.StreamKey(feed)}
	for _, key := range keys {
		if d := lives(key); d < 24*time.Hour-time.Minute {
			t.Errorf("%s lives for %v", key, d)
		}
		// What is used lives on.
		if err := c.PExpire(t.Context(), key, time.Minute).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, channel := range []string{"team:8:activity", feed} {
		if _, err := b.Position(t.Context(), channel); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range keys {
		if d := lives(key); d < 24*time.Hour-time.Minute {
			t.Errorf("%s lives for %v once it was read", key, d)
		}
	}
}
