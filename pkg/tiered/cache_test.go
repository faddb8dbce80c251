package tiered_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

type ctx = context.Context

func errorIs(err, target error) bool { return errors.Is(err, target) }

// prefix is the test's own part of the shared server.
func prefix(t testing.TB) string {
	n, _ := prefixes.LoadOrStore(t, given.Add(1))
	return "t" + strconv.FormatInt(n.(int64), 36)
}

// prefixes holds what a test was given, so that asking twice gives the same.
var (
	prefixes sync.Map
	given    atomic.Int64
)

// both runs a test on a store without Redis and on one with it.
func both(t *testing.T, test func(t *testing.T, s *tiered.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, open(t)) })
	t.Run("redis", func(t *testing.T) { test(t, node(t, shared)) })
}

func TestSetIsSeenByTheNextGet(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "names")
		must(t, c.Set(t.Context(), "a", "one"))
		want(t, c, "a", "one")
		must(t, c.Set(t.Context(), "a", "two"))
		want(t, c, "a", "two")
		must(t, c.Delete(t.Context(), "a"))
		wantErr(t, c, "a", tiered.ErrMiss)
		v, err := c.GetOrLoad(t.Context(), "a", value("three"))
		if v != "three" || err != nil {
			t.Fatalf("load: %q, %v", v, err)
		}
		want(t, c, "a", "three")
		wantErr(t, c, "b", tiered.ErrMiss)
	})
}

var rounds = flag.Int("rounds", 1, "how often TestReadYourWrites is done")

// Ristretto alone fails all three counts: see local.go.
func TestReadYourWrites(t *testing.T) {
	for range *rounds {
		readYourWrites(t)
	}
}

func readYourWrites(t *testing.T) {
	t.Helper()
	const keys = 20_000
	s := open(t)
	c, err := tiered.New[int, int](s, "numbers")
	must(t, err)
	var wg sync.WaitGroup
	const writers = 4
	var miss, stale, risen [writers]int
	for w := range writers {
		wg.Go(func() {
			for k := w; k < keys; k += writers {
				for v := range 2 {
					_ = c.Set(t.Context(), k, v)
					switch got, err := c.Get(t.Context(), k); {
					case err != nil:
						miss[w]++
					case got != v:
						stale[w]++
					}
				}
				_ = c.Delete(t.Context(), k)
				if _, err := c.Get(t.Context(), k); !errors.Is(err, tiered.ErrMiss) {
					risen[w]++
				}
				_ = c.Set(t.Context(), k, -k)
			}
		})
	}
	wg.Wait()
	lost := 0
	for k := range keys {
		if v, err := c.Get(t.Context(), k); err != nil || v != -k {
			lost++
		}
	}
	if m, st, r := sum(miss), sum(stale), sum(risen); m+st+r+lost > 0 {
		t.Fatalf("of %d keys: %d missed, %d stale, %d resurrected, %d lost in the end", keys, m, st, r, lost)
	}
}

func sum(n [4]int) int { return n[0] + n[1] + n[2] + n[3] }

// A burst of new keys overflows ristretto's queue, which then drops most.
func TestABurstOfNewKeysIsKept(t *testing.T) {
	s := open(t, tiered.WithL1(256<<20))
	c, err := tiered.New[int, int](s, "numbers")
	must(t, err)
	const keys, writers = 60_000, 4
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for k := w; k < keys; k += writers {
				_ = c.Set(t.Context(), k, k)
			}
		})
	}
	wg.Wait()
	eventually(t, "ristretto has taken all", s.Settled)
	for k := range keys {
		if v, err := c.Get(t.Context(), k); v != k || err != nil {
			t.Fatalf("key %d: %d, %v", k, v, err)
		}
	}
}

func TestWhatRistrettoDroppedIsOfferedAgain(t *testing.T) {
	s := open(t)
	c, err := tiered.New[int, int](s, "numbers")
	must(t, err)
	for k := range 100 {
		c.SetDropped(k, k)
	}
	eventually(t, "it has been offered", s.Settled)
	for k := range 100 {
		if v, err := c.Get(t.Context(), k); v != k || err != nil {
			t.Fatalf("key %d: %d, %v", k, v, err)
		}
	}
}

func TestMemoryStaysWithinItsBound(t *testing.T) {
	const bound = 1 << 20
	s := open(t, tiered.WithL1(bound))
	c := cache[string](t, s, "blobs")
	blob := strings.Repeat("x", 4<<10)
	for k := range 2000 {
		must(t, c.Set(t.Context(), strconv.Itoa(k), blob))
	}
	// An update beyond the bound is not kept, and neither is what it replaced.
	must(t, c.Set(t.Context(), "big", "small"))
	must(t, c.Set(t.Context(), "big", strings.Repeat("x", bound)))
	wantErr(t, c, "big", tiered.ErrMiss)
	eventually(t, "memory is within its bound", func() bool {
		b := s.Stats().L1Bytes
		return b > bound/4 && b <= bound
	})
}

func TestAHitAllocatesNothing(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "names")
	must(t, c.Set(t.Context(), "key", "value", tiered.Tags("a", "b")))
	type id int64
	ids, err := tiered.New[id, *string](s, "ids")
	must(t, err)
	must(t, ids.Set(t.Context(), 7, new("seven")))
	load := value("never")
	for name, f := range map[string]func(){
		"get":         func() { _, _ = c.Get(t.Context(), "key") },
		"get id":      func() { _, _ = ids.Get(t.Context(), 7) },
		"get or load": func() { _, _ = c.GetOrLoad(t.Context(), "key", load, tiered.TTL(time.Minute), tiered.Tags("a", "b")) },
	} {
		if n := testing.AllocsPerRun(1000, f); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	if st := s.Stats(); st.L1Misses > 0 {
		t.Errorf("%d misses", st.L1Misses)
	}
}

func TestExpiry(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[string](t, s, "names", tiered.WithDefaults(tiered.TTL(time.Minute), tiered.L1TTL(10*time.Second)))
	must(t, c.Set(t.Context(), "k", "v"))
	must(t, c.Set(t.Context(), "own", "v", tiered.L1TTL(time.Hour), tiered.TTL(20*time.Second)))
	clock.Advance(10*time.Second - 1)
	want(t, c, "k", "v")
	clock.Advance(1)
	wantErr(t, c, "k", tiered.ErrMiss)
	clock.Advance(10*time.Second - 1)
	want(t, c, "own", "v")
	clock.Advance(1)
	wantErr(t, c, "own", tiered.ErrMiss)
}

func TestJitterOnlyShortens(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	c := cache[int](t, open(t, tiered.WithClock(clock)), "n")
	o := []tiered.EntryOption{tiered.TTL(100 * time.Second), tiered.Jitter(0.5)}
	for i := range 200 {
		must(t, c.Set(t.Context(), strconv.Itoa(i), i, o...))
	}
	count := func() (n int) {
		for i := range 200 {
			if _, err := c.Get(t.Context(), strconv.Itoa(i)); err == nil {
				n++
			}
		}
		return n
	}
	clock.Advance(50*time.Second - time.Millisecond)
	if n := count(); n != 200 {
		t.Errorf("%d of 200 live before the jitter's part", n)
	}
	clock.Advance(25 * time.Second)
	if n := count(); n < 50 || n > 150 {
		t.Errorf("%d of 200 live in the middle of it", n)
	}
	clock.Advance(25 * time.Second)
	if n := count(); n != 0 {
		t.Errorf("%d of 200 outlived the TTL", n)
	}
}

func TestMemoryDoesNotOutliveRedis(t *testing.T) {
	r := shared.Client(t)
	a, clock := node(t, shared), tieredtest.NewClock(time.Time{})
	b := node(t, shared, tiered.WithClock(clock))
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	o := []tiered.EntryOption{tiered.TTL(3 * time.Second), tiered.L1TTL(time.Hour)}
	must(t, ca.Set(t.Context(), "k", "v", o...))
	want(t, cb, "k", "v", tiered.L1TTL(time.Hour)) // promoted with what is left
	_ = r
	clock.Advance(3 * time.Second)
	if n := b.Stats().L1Hits; n != 0 {
		t.Fatalf("%d hits", n)
	}
	must(t, r.Del(t.Context(), prefix(t)+":{n:k}").Err())
	wantErr(t, cb, "k", tiered.ErrMiss)
}

func TestNegativeCaching(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		calls := 0
		absent := func(ctx, string, *tiered.Load[string]) (string, error) {
			calls++
			return "ignored", fmt.Errorf("user 7: %w", tiered.ErrNotFound)
		}
		for range 3 {
			if v, err := c.GetOrLoad(t.Context(), "k", absent); v != "" || !errors.Is(err, tiered.ErrNotFound) {
				t.Fatalf("got %q, %v", v, err)
			}
		}
		wantErr(t, c, "k", tiered.ErrNotFound)
		if calls != 1 {
			t.Errorf("loaded %d times, want once", calls)
		}
		must(t, c.Set(t.Context(), "k", "born"))
		want(t, c, "k", "born")
		for range 2 {
			_, _ = c.GetOrLoad(t.Context(), "other", absent, tiered.NegativeTTL(0))
		}
		if calls != 3 {
			t.Errorf("loaded %d times, want 3 when negative caching is off", calls)
		}
	})
}

func TestClearLeavesOtherKeys(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c, other := cache[string](t, s, "a"), cache[string](t, s, "ab")
		if s.Health().Redis {
			must(t, shared.Client(t).Set(t.Context(), prefix(t)+":{foreign}", "theirs", 0).Err())
		}
		must(t, c.Set(t.Context(), "k", "v"))
		must(t, other.Set(t.Context(), "k", "kept"))
		must(t, c.Clear(t.Context()))
		wantErr(t, c, "k", tiered.ErrMiss)
		wantErr(t, c, "k", tiered.ErrMiss, tiered.SkipL1())
		want(t, other, "k", "kept")
		if s.Health().Redis {
			want(t, other, "k", "kept", tiered.SkipL1())
			if v := shared.Client(t).Get(t.Context(), prefix(t)+":{foreign}").Val(); v != "theirs" {
				t.Errorf("a foreign key is %q", v)
			}
		}
		must(t, c.Set(t.Context(), "k", "after"))
		want(t, c, "k", "after")
	})
}

func TestTags(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		must(t, c.Set(t.Context(), "a", "1", tiered.Tags("red", "big")))
		must(t, c.Set(t.Context(), "b", "2", tiered.Tags("red")))
		must(t, c.Set(t.Context(), "c", "3", tiered.Tags("blue")))
		must(t, s.InvalidateTags(t.Context(), "big", "unused"))
		wantErr(t, c, "a", tiered.ErrMiss)
		want(t, c, "b", "2")
		must(t, s.InvalidateTags(t.Context(), "red"))
		wantErr(t, c, "b", tiered.ErrMiss)
		want(t, c, "c", "3")
		must(t, c.Set(t.Context(), "a", "4", tiered.Tags("red", "big")))
		want(t, c, "a", "4")
	})
}

// Values that other libraries take for their own marks.
func TestAnyValueIsAValue(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n")
	p := cache[*int](t, s, "pointers")
	for _, v := range []string{"", "*", "null", "\x00", strings.Repeat("long ", 4000)} {
		must(t, c.Set(t.Context(), "k", v))
		want(t, c, "k", v)
		want(t, c, "k", v, tiered.SkipL1())
	}
	must(t, p.Set(t.Context(), "nil", nil))
	want(t, p, "nil", nil)
	want(t, p, "nil", nil, tiered.SkipL1())
}

func TestAnyKeyIsAKeyExceptTheEmptyOne(t *testing.T) {
	a, b := node(t, shared), node(t, shared)
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	for _, key := range []string{"}", "a}b{", "{", "{}", "%7D", " ", "a b", "k\n", "ü", strings.Repeat("k", 10_000)} {
		must(t, ca.Set(t.Context(), key, key))
		want(t, cb, key, key)
		must(t, ca.Delete(t.Context(), key))
		eventually(t, "the delete of "+key[:1], func() bool {
			_, err := cb.Get(t.Context(), key)
			return errors.Is(err, tiered.ErrMiss)
		})
	}
	wantErr(t, ca, "", tiered.ErrKey)
	if err := ca.Set(t.Context(), "", "v"); !errors.Is(err, tiered.ErrKey) {
		t.Errorf("set: %v", err)
	}
	if err := ca.Delete(t.Context(), ""); !errors.Is(err, tiered.ErrKey) {
		t.Errorf("delete: %v", err)
	}
}

func TestAnUnmarshalableValue(t *testing.T) {
	s := node(t, shared)
	c := cache[any](t, s, "n")
	must(t, c.Set(t.Context(), "k", "good"))
	if err := c.Set(t.Context(), "k", func() {}); !errors.Is(err, tiered.ErrEncode) {
		t.Fatalf("set: %v, want ErrEncode", err)
	}
	wantErr(t, c, "k", tiered.ErrMiss)
	wantErr(t, c, "k", tiered.ErrMiss, tiered.SkipL1())
	// A loader's value goes to its callers and to memory all the same.
	ch := make(chan int)
	v, err := c.GetOrLoad(t.Context(), "k", value[any](ch))
	if v != any(ch) || err != nil {
		t.Fatalf("load: %v, %v", v, err)
	}
	want(t, c, "k", any(ch))
}

func TestTheSameKeyAsAnotherTypeIsAMiss(t *testing.T) {
	a, b := node(t, shared), node(t, shared)
	texts, numbers := cache[string](t, a, "n"), cache[int](t, b, "n")
	must(t, texts.Set(t.Context(), "k", "text"))
	wantErr(t, numbers, "k", tiered.ErrMiss)
	v, err := numbers.GetOrLoad(t.Context(), "k", value(7))
	if v != 7 || err != nil {
		t.Fatalf("load over another type: %v, %v", v, err)
	}
	if b.Stats().Corrupt == 0 {
		t.Error("not counted as corrupt")
	}
}

func TestCodecsAndSchemas(t *testing.T) {
	type point struct{ X, Y int }
	for i, opts := range [][]tiered.CacheOption{
		{tiered.WithCodec(tiered.MsgPack, 0)},
		{tiered.WithCodec(tiered.JSON, 1)},
		{tiered.WithCodec(tiered.MsgPack, 2), tiered.WithCompression(tiered.Zstd, 1)},
		{tiered.WithCompression(tiered.S2, 1)},
	} {
		a, b, old := node(t, shared), node(t, shared), node(t, shared)
		ca, cb := cache[[]point](t, a, "n", opts...), cache[[]point](t, b, "n", opts...)
		co := cache[[]point](t, old, "n", tiered.WithCodec(tiered.MsgPack, 99))
		points := make([]point, 500)
		points[499] = point{1, 2}
		must(t, ca.Set(t.Context(), "k", points))
		if got, err := cb.Get(t.Context(), "k"); err != nil || len(got) != 500 || got[499] != (point{1, 2}) {
			t.Errorf("%d: %v, %v", i, len(got), err)
		}
		if _, err := co.Get(t.Context(), "k"); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("%d: another schema is read: %v", i, err)
		}
		n := shared.Client(t).StrLen(t.Context(), prefix(t)+":{n:k}").Val()
		if i >= 2 && n > 1000 {
			t.Errorf("%d: %d bytes, want it compressed", i, n)
		}
	}
}

func TestWithClonerNobodySharesAValue(t *testing.T) {
	c := cache[[]int](t, open(t), "n", tiered.WithCloner(func(v []int) []int { return append([]int(nil), v...) }))
	mine := []int{1}
	must(t, c.Set(t.Context(), "k", mine))
	mine[0] = 2
	got, _ := c.Get(t.Context(), "k")
	got[0] = 3
	if got, _ = c.Get(t.Context(), "k"); got[0] != 1 {
		t.Errorf("the cached value became %d", got[0])
	}
}

func TestMistakesAreNamed(t *testing.T) {
	s := open(t)
	cache[int](t, s, "taken")
	bad := func(name string, opts ...tiered.CacheOption) error {
		_, err := tiered.New[string, int](s, name, opts...)
		return err
	}
	for what, err := range map[string]error{
		"empty name":     bad(""),
		"name":           bad("a:b"),
		"taken":          bad("taken"),
		"cloner of else": bad("n", tiered.WithCloner(func(s string) string { return s })),
		"ttl":            bad("n", tiered.WithDefaults(tiered.TTL(0))),
		"jitter":         bad("n", tiered.WithDefaults(tiered.Jitter(2))),
		"tag":            bad("n", tiered.WithDefaults(tiered.Tags(""))),
		"fail-safe":      bad("n", tiered.WithDefaults(tiered.FailSafe(-1, 0))),
		"throttle":       bad("n", tiered.WithDefaults(tiered.FailSafe(0, -1))),
		"forever":        bad("n", tiered.WithDefaults(tiered.FailSafe(1<<62, 0))),
		"threshold":      bad("n", tiered.WithDefaults(tiered.EagerRefresh(2, 1))),
		"beta":           bad("n", tiered.WithDefaults(tiered.EagerRefresh(0.5, -1))),
		"soft > hard":    bad("n", tiered.WithDefaults(tiered.Timeouts(2, 1))),
	} {
		if err == nil {
			t.Errorf("%s: no error", what)
		}
	}
	if _, err := tiered.New[string, int](nil, "n"); err == nil || !strings.Contains(err.Error(), "Open") {
		t.Errorf("no store: %v", err)
	}
	c := cache[int](t, s, "n")
	for what, call := range map[string]func() error{
		"GetOrLoad":     func() error { _, err := c.GetOrLoad(t.Context(), "k", nil); return err },
		"GetOrLoadMany": func() error { _, err := c.GetOrLoadMany(t.Context(), []string{"k"}, nil); return err },
		"Refresh":       func() error { _, err := c.Refresh(t.Context(), "k", nil); return err },
		"Update":        func() error { _, err := c.Update(t.Context(), "k", nil); return err },
		"Write":         func() error { _, err := c.Write(t.Context(), "k", nil); return err },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "nil") || errors.Is(err, tiered.ErrPanic) {
			t.Errorf("%s of nil: %v", what, err)
		}
	}
	if err := c.Set(t.Context(), "", 1); !errors.Is(err, tiered.ErrKey) || !strings.Contains(err.Error(), "empty") {
		t.Errorf("the empty key: %v", err)
	}
	if _, err := tiered.Open(t.Context(), tiered.WithPrefix("a{b"), tiered.WithL1(-1)); err == nil ||
		!strings.Contains(err.Error(), "prefix") || !strings.Contains(err.Error(), "l1") {
		t.Errorf("open: %v, want both mistakes", err)
	}
}

func TestAClosedStoreSaysSo(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "v"))
	var wg sync.WaitGroup
	for range 4 { // beside Close: ristretto alone panics
		wg.Go(func() {
			for i := range 2000 {
				key := strconv.Itoa(i)
				_ = c.Set(context.Background(), key, key, tiered.SkipL2())
				_, _ = c.Get(context.Background(), key, tiered.SkipL2())
				_, _ = c.GetOrLoad(context.Background(), key, value("x"), tiered.SkipL2())
			}
		})
	}
	must(t, s.Close(context.Background()))
	wg.Wait()
	wantErr(t, c, "k", tiered.ErrClosed)
	if err := c.Set(t.Context(), "k", "v"); !errors.Is(err, tiered.ErrClosed) {
		t.Errorf("set: %v", err)
	}
	if err := s.InvalidateTags(t.Context(), "t"); !errors.Is(err, tiered.ErrClosed) {
		t.Errorf("invalidate: %v", err)
	}
	must(t, s.Close(context.Background()))
}

// Texts that JSON writes as they are take a short way; all others must come
// out as encoding/json has them, whoever wrote them.
func TestTextsAreTheSameJSONOnTheShortWay(t *testing.T) {
	texts := []string{"", "a", "plain text of more than eight bytes", "ü", "日本語の文字", "\x00", "tab\t", "line\u2028", "\xff\xfe", "del\x7f"}
	for c := range 256 {
		for _, before := range []int{0, 3, 7, 8, 12} {
			texts = append(texts, strings.Repeat("x", before)+string([]byte{byte(c)})+"yyyyyyyyy")
		}
	}
	for _, text := range texts {
		want, err := json.Marshal(text)
		must(t, err)
		got, err := tiered.JSON.Marshal(text)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q: got %s, %v; want %s", text, got, err, want)
		}
		for _, data := range []string{string(want), `"` + text + `"`, ` "` + text + `"`, `"` + text + `" `, `"` + text, `"`} {
			var plain, short string
			perr, serr := json.Unmarshal([]byte(data), &plain), tiered.JSON.Unmarshal([]byte(data), &short)
			if (perr == nil) != (serr == nil) || perr == nil && plain != short {
				t.Errorf("%s: got %q, %v; want %q, %v", data, short, serr, plain, perr)
			}
		}
	}
}
