package tiered_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/redis/go-redis/v9"
)

// A large entry gets its version after it was stored, in the same script; one
// who may not SETRANGE pays for a copy instead.
func TestALargeEntryIsStampedInPlace(t *testing.T) {
	r := shared.Client(t)
	for _, rule := range []string{"+setrange", "-setrange"} {
		t.Run(rule, func(t *testing.T) {
			user := "large" + rule[:1]
			must(t, r.Do(t.Context(), "ACL", "SETUSER", user, "reset", "on", "nopass", "allkeys", "allchannels", "+@all", rule).Err())
			t.Cleanup(func() { _ = r.Do(context.Background(), "ACL", "DELUSER", user).Err() })
			o := shared.Options()
			o.Username, o.Password = user, "x"
			o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 5*time.Second, 5*time.Second, 5*time.Second
			client := redis.NewClient(o)
			t.Cleanup(func() { _ = client.Close() })
			plain := tiered.WithCompression(tiered.NoCompression, 0)
			ca := cache[string](t, node(t, shared, tiered.WithRedis(client)), "n", plain)
			cb := cache[string](t, node(t, shared), "n", plain)
			for i, size := range []int{10, 64 << 10, 5000, 64 << 10} {
				value := strings.Repeat(string(rune('a'+i)), size)
				must(t, ca.Set(t.Context(), "k", value, tiered.TTL(time.Hour), tiered.FailSafe(2*time.Hour, 0)))
				if got, err := cb.Get(t.Context(), "k", tiered.SkipL1()); err != nil || got != value {
					t.Fatalf("got %d bytes, %v; want %d", len(got), err, size)
				}
				full := prefix(t) + ":{n:k}"
				b, err := r.Get(t.Context(), full).Bytes()
				must(t, err)
				h, err := tiered.ParseEntry(b, tiered.KeyHash(full))
				must(t, err)
				if v := ca.Version("k"); h.Version() != v || v == 0 {
					t.Errorf("the entry has version %d, memory %d", h.Version(), v)
				}
				if soft := time.Until(h.Soft()); soft < 55*time.Minute || soft > 61*time.Minute {
					t.Errorf("the TTL ends in %v", soft)
				}
				load := strings.Repeat("l", size)
				got, err := ca.GetOrLoad(t.Context(), "l"+value[:1], func(context.Context, string, *tiered.Load[string]) (string, error) { return load, nil })
				must(t, err)
				if again, err := cb.Get(t.Context(), "l"+value[:1], tiered.SkipL1()); err != nil || again != got {
					t.Errorf("what was loaded: %d bytes, %v; want %d", len(again), err, size)
				}
			}
		})
	}
}
