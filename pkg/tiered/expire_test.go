package tiered_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func expires(t *testing.T, c *tiered.Cache[string, string], key string, ttl time.Duration, want bool) {
	t.Helper()
	if existed, err := c.Expire(t.Context(), key, ttl); existed != want || err != nil {
		t.Fatalf("expire %q: %v, %v; want %v", key, existed, err, want)
	}
}

func TestExpireMovesTheEndOfALife(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	c := cache[string](t, open(t, tiered.WithClock(clock)), "n", tiered.WithDefaults(tiered.TTL(time.Minute)))
	must(t, c.Set(t.Context(), "k", "v"))
	clock.Advance(30 * time.Second)
	expires(t, c, "k", time.Hour, true)
	clock.Advance(time.Hour - 1)
	want(t, c, "k", "v")
	expires(t, c, "k", time.Second, true)
	clock.Advance(time.Second - 1)
	want(t, c, "k", "v")
	clock.Advance(1)
	wantErr(t, c, "k", tiered.ErrMiss)
	expires(t, c, "k", time.Hour, false)
}

// In Redis the value is not touched, and its key's own expiry moves along.
func TestExpireLeavesTheValueAlone(t *testing.T) {
	admin := shared.Client(t)
	s, other := node(t, shared), node(t, shared)
	c, oc := cache[string](t, s, "n"), cache[string](t, other, "n")
	long := strings.Repeat("v", 100_000)
	full := prefix(t) + ":{n:k}"
	must(t, c.Set(t.Context(), "k", long, tiered.TTL(time.Minute), tiered.FailSafe(time.Minute, 0), tiered.Tags("tag")))
	want(t, oc, "k", long)
	before := admin.Get(t.Context(), full).Val()
	expires(t, c, "k", time.Hour, true)
	after := admin.Get(t.Context(), full).Val()
	if before[:8] != after[:8] || before[8:32] == after[8:32] || before[32:] != after[32:] {
		t.Error("more than the version and the expiries has changed, or they have not")
	}
	if ttl := admin.PTTL(t.Context(), full).Val(); ttl > time.Hour+time.Minute || ttl < time.Hour {
		t.Errorf("redis keeps it for %v, want an hour and the minute of fail-safe", ttl)
	}
	want(t, c, "k", long)
	want(t, oc, "k", long)
	eventually(t, "the other hears of it", func() bool {
		_, err := oc.Get(t.Context(), "k")
		return err == nil && oc.Version("k") == c.Version("k") && c.Version("k") != 0
	})
	expires(t, oc, "k", time.Millisecond, true)
	eventually(t, "it has ended for everybody", func() bool {
		_, err := c.Get(t.Context(), "k")
		return errors.Is(err, tiered.ErrMiss)
	})
	// Fail-safe keeps it as long as before.
	if v, err := c.GetOrLoad(t.Context(), "k", failing, tiered.FailSafe(time.Hour, 0)); v != long || err != nil {
		t.Errorf("stale: %d bytes, %v", len(v), err)
	}
}

func TestExpireReportsWhatIsNoMore(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		expires(t, c, "k", time.Hour, false)
		many := make([]string, 40) // more than the first bytes hold
		for i := range many {
			many[i] = strings.Repeat(strconv.Itoa(i), 50)
		}
		for name, tt := range map[string]struct {
			tags []string
			end  func() error
		}{
			"deleted":               {nil, func() error { return c.Delete(t.Context(), "k") }},
			"cleared":               {nil, func() error { return c.Clear(t.Context()) }},
			"invalidated":           {[]string{"tag"}, func() error { return s.InvalidateTags(t.Context(), "tag") }},
			"one of many, as a tag": {many, func() error { return s.InvalidateTags(t.Context(), many[39]) }},
		} {
			t.Log(name)
			must(t, c.Set(t.Context(), "k", "v", tiered.Tags(tt.tags...)))
			expires(t, c, "k", time.Hour, true)
			want(t, c, "k", "v")
			must(t, tt.end())
			expires(t, c, "k", time.Hour, false)
			wantErr(t, c, "k", tiered.ErrMiss)
		}
		must(t, c.Delete(t.Context(), "k"))
		notFound := func(ctx, string, *tiered.Load[string]) (string, error) { return "", tiered.ErrNotFound }
		loads(t, c, notFound, "", tiered.ErrNotFound)
		expires(t, c, "k", time.Hour, false)
		wantErr(t, c, "k", tiered.ErrNotFound)
		aged(t, c, "old", "v", tiered.FailSafe(time.Hour, 0))
		expires(t, c, "old", time.Hour, false)
		wantErr(t, c, "old", tiered.ErrMiss)
	})
}

func TestALoadDuringAnExpireDoesNotUndoIt(t *testing.T) {
	for _, where := range []string{"here", "elsewhere"} {
		t.Run(where, func(t *testing.T) {
			c := cache[string](t, node(t, shared), "n")
			loader := c
			if where == "elsewhere" {
				loader = cache[string](t, node(t, shared), "n")
			}
			must(t, c.Set(t.Context(), "k", "set"))
			b := block[string]()
			loaded := make(chan string)
			go func() {
				// As if it had found the entry past its TTL.
				v, err := loader.Reload(t.Context(), "k", b.load)
				if err != nil {
					t.Errorf("load: %v", err)
				}
				loaded <- v
			}()
			<-b.started
			expires(t, c, "k", time.Hour, true)
			b.result <- "loaded"
			<-loaded
			want(t, c, "k", "set")
			want(t, loader, "k", "set", tiered.SkipL1())
			eventually(t, "nobody has what was loaded", func() bool {
				v, err := loader.Get(t.Context(), "k")
				return v == "set" && err == nil
			})
		})
	}
}

func TestExpireNamesMistakes(t *testing.T) {
	c := cache[string](t, open(t), "n")
	for _, ttl := range []time.Duration{0, -time.Second, time.Microsecond, 1 << 62} {
		if _, err := c.Expire(t.Context(), "k", ttl); err == nil || !strings.Contains(err.Error(), "Delete") {
			t.Errorf("ttl %v: %v", ttl, err)
		}
	}
	if _, err := c.Expire(t.Context(), "", time.Hour); !errors.Is(err, tiered.ErrKey) {
		t.Errorf("empty key: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Expire(canceled, "k", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestExpireWhileRedisIsAway(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	s := node(t, r, quick())
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "v"))
	r.Kill()
	expires(t, c, "k", time.Hour, true)
	want(t, c, "k", "v")
	expires(t, c, "other", time.Hour, false)
	expires(t, c, "k", time.Millisecond, true)
	eventually(t, "it has ended here", func() bool {
		_, err := c.Get(t.Context(), "k")
		return errors.Is(err, tiered.ErrMiss)
	})
	r.Restart(t)
	wantErr(t, c, "k", tiered.ErrMiss) // also before it has been replayed
	healthy(t, s)
	wantErr(t, cache[string](t, node(t, r), "n"), "k", tiered.ErrMiss)

	required := node(t, r, tiered.WithRedisRequired(true))
	rc := cache[string](t, required, "required")
	must(t, rc.Set(t.Context(), "k", "v"))
	r.Kill()
	if existed, err := rc.Expire(t.Context(), "k", time.Hour); !existed || !errors.Is(err, tiered.ErrUnavailable) {
		t.Errorf("required: %v, %v", existed, err)
	}
}

// Redis answers reads but does not take the delete: to expire what it still has
// must not bring it back.
func TestExpireDoesNotReviveWhatWasDeletedHere(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	s := node(t, r, tiered.WithL2Timeout(200*time.Millisecond), steady())
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "old"))
	must(t, admin.Do(t.Context(), "CLIENT", "PAUSE", "600000", "WRITE").Err())
	must(t, c.Delete(t.Context(), "k"))
	must(t, admin.Do(t.Context(), "CLIENT", "UNPAUSE").Err())
	if _, err := c.Expire(t.Context(), "k", time.Hour); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c, "k", tiered.ErrMiss)
	wantErr(t, c, "k", tiered.ErrMiss, tiered.SkipL1())
}
