package tiered_test

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// versionAt reads the version of what is stored.
func versionAt(t *testing.T, r *redis.Client, full string) uint64 {
	t.Helper()
	b, err := r.GetRange(t.Context(), full, 8, 15).Bytes()
	if err != nil || len(b) != 8 {
		t.Fatalf("no version: %x, %v", b, err)
	}
	return binary.BigEndian.Uint64(b)
}

// date gives what is stored another version, which the checksum leaves out.
func date(t *testing.T, r *redis.Client, full string, at time.Time) uint64 {
	t.Helper()
	v := uint64(at.UnixMicro())
	must(t, r.SetRange(t.Context(), full, 8, string(binary.BigEndian.AppendUint64(nil, v))).Err())
	return v
}

// What is stored may be from a time to which Redis's clock has yet to come,
// because it was set back or another server has it now. The next version is
// above it, whoever makes it.
func TestVersionsGrowThoughTheClockOfRedisGoesBack(t *testing.T) {
	r := shared.Client(t)
	full := prefix(t) + ":{n:k}"
	for name, write := range map[string]func(c *tiered.Cache[string, string]) error{
		"set":    func(c *tiered.Cache[string, string]) error { return c.Set(t.Context(), "k", "new") },
		"delete": func(c *tiered.Cache[string, string]) error { return c.Delete(t.Context(), "k") },
		"load": func(c *tiered.Cache[string, string]) error {
			_, err := c.GetOrLoad(t.Context(), "k", value("new"))
			return err
		},
		"update": func(c *tiered.Cache[string, string]) error {
			_, err := c.Update(t.Context(), "k", func(context.Context, string, bool) (string, error) { return "new", nil })
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := cache[string](t, node(t, shared, tiered.WithPrefix(strings.TrimSuffix(full, ":{n:k}"))), "n")
			must(t, c.Delete(t.Context(), "k"))
			ahead := date(t, r, full, time.Now().Add(time.Hour))
			must(t, write(c))
			if v := versionAt(t, r, full); v <= ahead {
				t.Errorf("version %d is not above %d, which was there", v, ahead)
			}
			if name != "delete" { // nor is it taken for expired, though it ends before its version begins
				want(t, c, "k", "new")
				want(t, c, "k", "new", tiered.SkipL1())
			}
		})
	}
}

// A load that failed gives its own lease back, and not that of the load which
// has begun since, or that would not be stored.
func TestALoadThatFailedLeavesTheLeaseOfTheNext(t *testing.T) {
	ca, cb := cache[string](t, node(t, shared), "n"), cache[string](t, node(t, shared), "n")
	first, second := block[string](), block[string]()
	failed, done := make(chan error), make(chan error)
	go func() {
		_, err := ca.GetOrLoad(t.Context(), "k", func(ctx ctx, key string, l *tiered.Load[string]) (string, error) {
			_, _ = first.load(ctx, key, l)
			return "", errSource
		})
		failed <- err
	}()
	<-first.started
	must(t, cb.Delete(t.Context(), "k"))
	go func() {
		_, err := cb.GetOrLoad(t.Context(), "k", second.load)
		done <- err
	}()
	<-second.started
	first.result <- ""
	if err := <-failed; !errors.Is(err, errSource) {
		t.Errorf("the first load: %v", err)
	}
	second.result <- "new"
	must(t, <-done)
	want(t, cb, "k", "new", tiered.SkipL1())
}

// Of two Sets of one process, the answer to the first may come last.
func TestALateAnswerDoesNotReplaceWhatIsNewerInMemory(t *testing.T) {
	n := tieredtest.Nodes(t, 1, shared)
	c := tieredtest.Caches[string, string](t, n, "n")[0]
	h := n[0].Net.HoldReply(func(command []string) bool {
		return strings.HasPrefix(strings.ToUpper(command[0]), "EVAL") && strings.Contains(strings.Join(command, " "), "first")
	})
	done := make(chan error)
	go func() { done <- c.Set(context.Background(), "k", "first") }()
	h.Await(t)
	eventually(t, "Redis has the first", func() bool {
		v, err := c.Get(t.Context(), "k", tiered.SkipL1())
		return v == "first" && err == nil
	})
	must(t, c.Set(t.Context(), "k", "second"))
	h.Release()
	must(t, <-done)
	want(t, c, "k", "second")
	want(t, c, "k", "second", tiered.SkipL1())
}

// A failover may bring a tag's old version back, and with it entries that were
// invalid. A store that has seen the new one tells the others.
func TestATagThatLostAnInvalidationIsInvalidatedAgain(t *testing.T) {
	r := shared.Client(t)
	data, tag := prefix(t)+":{n:k}", prefix(t)+":t:tag"
	knows, other := node(t, shared, tiered.WithL1(0)), node(t, shared)
	c := cache[string](t, knows, "n")
	must(t, c.Set(t.Context(), "k", "old", tiered.Tags("tag")))
	old, before := r.Get(t.Context(), data).Val(), r.Get(t.Context(), tag).Val()
	// A load with the tag is under way, so that its version is not forgotten.
	during(t, cache[string](t, knows, "pins"), "pin", func() {
		must(t, knows.InvalidateTags(t.Context(), "tag"))
		must(t, r.Set(t.Context(), data, old, time.Hour).Err())
		must(t, r.Set(t.Context(), tag, before, time.Hour).Err())
		wantErr(t, c, "k", tiered.ErrMiss)
	}, tiered.Tags("tag"))
	wantErr(t, cache[string](t, other, "n"), "k", tiered.ErrMiss)
}

// The message of a tag's invalidation is late, and an entry that was made since
// comes first: it tells as well.
func TestAnEntryTellsOfANewerVersionOfItsTag(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, shared)
	c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.Tags("tag")))
	healthy(t, nodes[0].Store)
	must(t, c[0].Set(t.Context(), "old", "v"))
	heal := nodes[0].Net.Inject(tieredtest.Down, tieredtest.Fault{Freeze: true, Only: tieredtest.Subscribers})
	defer heal()
	must(t, nodes[1].InvalidateTags(t.Context(), "tag"))
	must(t, c[1].Set(t.Context(), "new", "v"))
	want(t, c[0], "new", "v")
	wantErr(t, c[0], "old", tiered.ErrMiss)
}

// A process whose clock is behind takes what others write for written later
// than now. It lives no longer for that.
func TestAClockThatIsBehindGivesNoLongerLife(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, shared, tieredtest.WithClocks())
	c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.TTL(10*time.Minute), tiered.L1TTL(time.Hour)))
	healthy(t, nodes[0].Store)
	nodes[0].Clock.Advance(-15 * time.Minute)
	must(t, c[1].Set(t.Context(), "k", "v"))
	want(t, c[0], "k", "v")
	in, err := c[0].Inspect(t.Context(), "k")
	must(t, err)
	if in.L1.Expires == nil || in.L1.Expires.Sub(in.At) > 10*time.Minute {
		t.Errorf("at %v memory keeps it until %v, want 10 minutes at most", in.At, in.L1.Expires)
	}
}

// What a process could not tell Redis is replayed as of then: what others wrote
// since stays.
func TestTheRecoveryLeavesWhatOthersWroteSince(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, shared, tieredtest.WithStore(quick(), tiered.WithPrefix(prefix(t))))
	c := tieredtest.Caches[string, string](t, nodes, "n")
	must(t, c[0].Set(t.Context(), "k", "old"))
	nodes[0].Net.Refuse()
	nodes[0].Net.Reset()
	must(t, c[0].Delete(t.Context(), "k"))
	must(t, c[1].Set(t.Context(), "k", "new"))
	date(t, shared.Client(t), prefix(t)+":{n:k}", time.Now().Add(time.Minute)) // as if a minute had passed
	nodes[0].Net.Heal()
	eventually(t, "the delete is replayed", func() bool { return nodes[0].Stats().Replayed > 0 })
	want(t, c[1], "k", "new", tiered.SkipL1())
	want(t, c[0], "k", "new", tiered.SkipL1())
}

// Ristretto evicts by what it knows; a value that was written a moment ago it
// may not know yet.
func TestAnEvictionLeavesWhatWasJustWritten(t *testing.T) {
	s := open(t)
	c, err := tiered.New[string, string](s, "n")
	must(t, err)
	c.SetDropped("k", "v")
	c.Evict("k")
	want(t, c, "k", "v")
	eventually(t, "ristretto has taken it", s.Settled)
	c.Evict("k")
	wantErr(t, c, "k", tiered.ErrMiss)
}
