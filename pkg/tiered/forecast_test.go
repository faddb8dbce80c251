package tiered_test

import (
	"context"
	"encoding/binary"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/redis/go-redis/v9"
)

// counting counts a client's commands by name.
type counting struct{ gets, scripts atomic.Int64 }

func (n *counting) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (n *counting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		switch cmd.Name() {
		case "get":
			n.gets.Add(1)
		case "evalsha":
			n.scripts.Add(1)
		}
		return next(ctx, cmd)
	}
}

func (n *counting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// chill loads keys that Redis does not have until misses are expected.
func chill(t *testing.T, c *tiered.Cache[string, string]) {
	t.Helper()
	for i := range 32 {
		if _, err := c.GetOrLoad(t.Context(), "cold"+strconv.Itoa(i), value("v")); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAMissThatIsExpectedCostsOneRoundTripBeforeTheLoad(t *testing.T) {
	client := shared.Client(t)
	n := &counting{}
	client.AddHook(n)
	s := open(t, tiered.WithRedis(client), tiered.WithPrefix(prefix(t)), tiered.WithL2Timeout(3*time.Second))
	c := cache[string](t, s, "n")
	chill(t, c)
	n.gets.Store(0)
	n.scripts.Store(0)
	_, err := c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) {
		if g, e := n.gets.Load(), n.scripts.Load(); g != 0 || e != 1 {
			t.Errorf("%d GETs and %d scripts before the load, want 0 and 1", g, e)
		}
		return "v", nil
	})
	must(t, err)
	// What Redis has is read by the script as well, and then by GET again.
	for range 32 {
		if v, err := c.GetOrLoad(t.Context(), "k", value("another"), tiered.SkipL1()); v != "v" || err != nil {
			t.Fatalf("got %q, %v", v, err)
		}
	}
	if g := n.gets.Load(); g < 16 {
		t.Errorf("%d of 32 hits in Redis were read by GET", g)
	}
}

func TestWhatIsStaleIsServedAlsoIfAMissWasExpected(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
	aged(t, c, "k", "old")
	other := cache[string](t, node(t, shared), "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
	chill(t, c)
	chill(t, other)
	loads(t, c, failing, "old", nil)
	loads(t, other, failing, "old", nil) // it has read Redis alone
}

// A tombstone whose message has not come yet ends what memory remembers.
func TestWhatWasDeletedIsNotServedStaleIfAMissWasExpected(t *testing.T) {
	c := cache[string](t, node(t, shared), "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
	aged(t, c, "k", "old")
	chill(t, c)
	r, key := shared.Client(t), prefix(t)+":{n:k}"
	b, err := r.Get(t.Context(), key).Bytes()
	must(t, err)
	next := binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(b[8:])+1)
	must(t, r.SetRange(t.Context(), key, 8, string(next)).Err())
	must(t, r.SetRange(t.Context(), key, 3, "\x04").Err())
	loads(t, c, failing, "", errSource)
}
