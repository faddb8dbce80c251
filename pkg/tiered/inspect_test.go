package tiered_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func inspect[V any](t testing.TB, c *tiered.Cache[string, V], key string) tiered.Inspection {
	t.Helper()
	in, err := c.Inspect(t.Context(), key)
	must(t, err)
	return in
}

// Each case says what Inspect foretells, and a Get has to do just that.
func TestInspectForetellsWhatGetDoes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		arrange func(t *testing.T, c *tiered.Cache[string, string], s *tiered.Store, other *tiered.Cache[string, string])
		want    tiered.Verdict
		why     string
	}{
		{name: "nothing anywhere", want: tiered.Miss, why: "not in Redis",
			arrange: func(*testing.T, *tiered.Cache[string, string], *tiered.Store, *tiered.Cache[string, string]) {}},
		{name: "set here", want: tiered.HitL1, why: "memory has it",
			arrange: func(t *testing.T, c *tiered.Cache[string, string], _ *tiered.Store, _ *tiered.Cache[string, string]) {
				must(t, c.Set(t.Context(), "k", "v"))
			}},
		{name: "set elsewhere", want: tiered.HitL2, why: "Redis has it",
			arrange: func(t *testing.T, _ *tiered.Cache[string, string], _ *tiered.Store, other *tiered.Cache[string, string]) {
				must(t, other.Set(t.Context(), "k", "v"))
			}},
		{name: "deleted", want: tiered.Miss, why: "deleted",
			arrange: func(t *testing.T, c *tiered.Cache[string, string], _ *tiered.Store, _ *tiered.Cache[string, string]) {
				must(t, c.Set(t.Context(), "k", "v"))
				must(t, c.Delete(t.Context(), "k"))
			}},
		{name: "absent and known to be", want: tiered.NotFound, why: "memory has it",
			arrange: func(t *testing.T, c *tiered.Cache[string, string], _ *tiered.Store, _ *tiered.Cache[string, string]) {
				_, _ = c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) { return "", tiered.ErrNotFound })
			}},
		{name: "cleared", want: tiered.Miss, why: "cleared",
			arrange: func(t *testing.T, c *tiered.Cache[string, string], _ *tiered.Store, _ *tiered.Cache[string, string]) {
				must(t, c.Set(t.Context(), "k", "v"))
				must(t, c.Clear(t.Context()))
			}},
		{name: "tag invalidated", want: tiered.Miss, why: `tag "red"`,
			arrange: func(t *testing.T, c *tiered.Cache[string, string], s *tiered.Store, _ *tiered.Cache[string, string]) {
				must(t, c.Set(t.Context(), "k", "v", tiered.Tags("red")))
				must(t, s.InvalidateTags(t.Context(), "red"))
			}},
		{name: "damaged", want: tiered.Miss, why: "damaged",
			arrange: func(t *testing.T, _ *tiered.Cache[string, string], _ *tiered.Store, other *tiered.Cache[string, string]) {
				must(t, other.Set(t.Context(), "k", "v"))
				must(t, shared.Client(t).SetRange(t.Context(), prefix(t)+":{n:k}", 50, "xx").Err())
			}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, o := node(t, shared), node(t, shared)
			c, other := cache[string](t, s, "n"), cache[string](t, o, "n")
			tt.arrange(t, c, s, other)
			in := inspect(t, c, "k")
			if in.Verdict != tt.want || !strings.Contains(in.Why, tt.why) {
				t.Errorf("foretold %s because %q, want %s because %q", in.Verdict, in.Why, tt.want, tt.why)
			}
			before := c.Stats()
			_, err := c.Get(t.Context(), "k")
			after := c.Stats()
			var got tiered.Verdict
			switch {
			case errors.Is(err, tiered.ErrMiss):
				got = tiered.Miss
			case errors.Is(err, tiered.ErrNotFound):
				got = tiered.NotFound
			case after.L1Hits > before.L1Hits:
				got = tiered.HitL1
			case after.L2Hits > before.L2Hits:
				got = tiered.HitL2
			}
			if got != tt.want {
				t.Errorf("get did %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

func TestInspectShowsTheWholeEntryButTheValue(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n", tiered.WithCompression(tiered.Zstd, 100), tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Minute)))
	secret := strings.Repeat("secret", 1000)
	must(t, c.Set(t.Context(), "k", secret, tiered.Tags("red", "blue")))
	in := inspect(t, c, "k")
	l1, l2 := in.L1, in.L2
	switch {
	case !l1.Present, !l1.Servable, !l1.InL2, l1.Suspect, l1.Due, l1.Bytes < int64(len(secret)):
		t.Errorf("memory: %+v", l1)
	case !l2.Present, !l2.Servable, l2.Tombstone, l2.Negative, l2.Codec != 1, l2.Compression != "zstd",
		l2.RawSize != len(secret)+2, l2.PackedSize <= 0, l2.PackedSize >= l2.Size, l2.Size >= l2.RawSize:
		t.Errorf("redis: %+v", l2)
	case l1.Version == 0 || l1.Version != l2.Version:
		t.Errorf("version %d in memory, %d in Redis", l1.Version, l2.Version)
	case l1.Expires.Sub(in.At) > time.Minute, l1.Expires.Sub(in.At) < 30*time.Second, l2.TTL > time.Hour, l2.TTL < 50*time.Minute:
		t.Errorf("expires from memory in %v, from Redis in %v", l1.Expires.Sub(in.At), l2.TTL)
	}
	for _, tags := range [][]tiered.TagState{l1.Tags, l2.Tags} {
		if len(tags) != 3 || tags[0].Tag != "" || tags[1].Tag != "red" || tags[2].Tag != "blue" {
			t.Fatalf("tags: %+v", tags)
		}
		for _, tag := range tags {
			if !tag.Valid || tag.Stored == 0 || tag.Stored != tag.Current {
				t.Errorf("tag %+v", tag)
			}
		}
	}
	must(t, s.InvalidateTags(t.Context(), "blue"))
	in = inspect(t, c, "k")
	if tag := in.L2.Tags[2]; tag.Valid || tag.Current <= tag.Stored || in.L1.Tags[2].Valid || !in.L2.Tags[1].Valid {
		t.Errorf("tags after the invalidation: %+v and %+v", in.L1.Tags, in.L2.Tags)
	}
	text, err := json.Marshal(in)
	must(t, err)
	if bytes.Contains(text, []byte("secret")) {
		t.Errorf("it has the value: %s", text)
	}
	var fields map[string]any
	must(t, json.Unmarshal(text, &fields))
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != strings.ToLower(name) {
			t.Errorf("field %s is not in snake case", name)
		}
	}
}

func TestInspectChangesNothing(t *testing.T) {
	s, o := node(t, shared), node(t, shared)
	c, other := cache[string](t, s, "n"), cache[string](t, o, "n")
	must(t, other.Set(t.Context(), "k", "v", tiered.Tags("red")))
	client := shared.Client(t)
	must(t, client.Del(t.Context(), prefix(t)+":t:red").Err())
	stats, keys := c.Stats(), client.Keys(t.Context(), prefix(t)+":*").Val()
	slices.Sort(keys)
	for range 5 {
		in := inspect(t, c, "k")
		if in.L1.Present || in.L2.Servable || in.L2.Tags[1].Current != 0 {
			t.Fatalf("%+v", in)
		}
		inspect(t, c, "absent")
	}
	if now := c.Stats(); now != stats {
		t.Errorf("statistics moved from %+v to %+v", stats, now)
	}
	now := client.Keys(t.Context(), prefix(t)+":*").Val()
	slices.Sort(now)
	if !slices.Equal(keys, now) {
		t.Errorf("keys were %v and are %v", keys, now)
	}
}

func TestInspectSeesALoadAndItsLease(t *testing.T) {
	s, o := node(t, shared), node(t, shared)
	c, other := cache[string](t, s, "n"), cache[string](t, o, "n")
	b := block[string]()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = c.GetOrLoad(t.Context(), "k", b.load) })
	<-b.started
	here, there := inspect(t, c, "k"), inspect(t, other, "k")
	b.result <- "v"
	wg.Wait()
	if !here.Load || there.Load {
		t.Errorf("loading here %t, there %t", here.Load, there.Load)
	}
	if here.Lease == nil || there.Lease == nil || here.Lease.Token != there.Lease.Token || here.Lease.Left <= 0 {
		t.Fatalf("leases %+v and %+v", here.Lease, there.Lease)
	}
	if in := inspect(t, c, "k"); in.Lease != nil || in.Load || in.L2.Version != here.Lease.Token {
		t.Errorf("after the load: %+v; the token was %d", in, here.Lease.Token)
	}
}

func TestInspectKnowsWhatRedisWasNotTold(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	s := node(t, r, tiered.WithL2Timeout(200*time.Millisecond))
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "v"))
	r.Kill()
	must(t, c.Delete(t.Context(), "k"))
	in := inspect(t, c, "k")
	if in.Pending == 0 || in.L2.Error == "" || in.Verdict != tiered.Miss {
		t.Errorf("while Redis is away: %+v", in)
	}
	r.Restart(t)
	eventually(t, "the delete is replayed", func() bool {
		in := inspect(t, c, "k")
		return in.Pending == 0 && in.L2.Tombstone
	})
}

// What the Redis user may not see is not said to be absent.
func TestInspectSaysWhereItMayNotLook(t *testing.T) {
	lines, _ := grants(t)
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	for _, tt := range []struct {
		name  string
		rules []any
		l2    bool // what it has is said
	}{
		{"all may be run", nil, true},
		{"TYPE is forbidden", []any{"-type"}, false},
		{"PTTL is forbidden", []any{"-pttl"}, false},
		{"GET is forbidden", []any{"-get"}, false},
		{"the lease is forbidden", []any{"resetkeys", "~tc:{*", "~tc:n:*", "~tc:t:*"}, false},
		{"tags are forbidden", []any{"resetkeys", "~tc:{*", "~tc:l:*"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			must(t, admin.Do(t.Context(), lines[0]...).Err())
			must(t, admin.FlushAll(t.Context()).Err())
			s := tieredtest.Nodes(t, 1, asUser{r}, tieredtest.WithStore(tiered.WithPrefix("tc")))[0].Store
			healthy(t, s)
			here, there := cache[string](t, s, "here"), cache[string](t, s, "there", tiered.WithDefaults(tiered.SkipL1()))
			must(t, here.Set(t.Context(), "k", "v"))
			must(t, there.Set(t.Context(), "k", "v"))
			must(t, admin.Do(t.Context(), append([]any{"ACL", "SETUSER", "app"}, tt.rules...)...).Err())
			in := inspect(t, there, "k")
			if tt.l2 {
				if in.Verdict != tiered.HitL2 || in.L2.Error != "" {
					t.Errorf("%+v", in)
				}
				return
			}
			if in.Verdict != tiered.Unknown || in.L2.Error != "NOPERM" || in.L2.Servable || !strings.Contains(in.Why, "+type, +pttl and +get") {
				t.Errorf("what Redis has: %s, for %s; %+v", in.Verdict, in.Why, in.L2)
			}
			if in := inspect(t, here, "k"); in.Verdict != tiered.HitL1 || in.L2.Error != "NOPERM" {
				t.Errorf("what memory has: %s, for %s", in.Verdict, in.Why)
			}
		})
	}
}

func TestOperatorInspectsByText(t *testing.T) {
	s := open(t)
	_, err := tiered.New[int64, string](s, "numbers", tiered.WithDefaults(tiered.TTL(time.Hour)))
	must(t, err)
	words := cache[string](t, s, "words")
	must(t, words.Set(t.Context(), "k", "v"))
	all := s.Namespaces()
	if len(all) != 2 || all[0].Name != "numbers" || all[0].Key != "int64" || all[0].TTL != time.Hour || all[1].Stats.Entries != 1 {
		t.Fatalf("namespaces: %+v", all)
	}
	in, err := s.Inspect(t.Context(), "words", "k")
	must(t, err)
	if in.Verdict != tiered.HitL1 || in.Namespace != "words" || in.Key != "k" {
		t.Errorf("%+v", in)
	}
	for _, tt := range []struct {
		ns, key string
		err     error
	}{{"nobody", "k", tiered.ErrNamespace}, {"numbers", "seven", tiered.ErrKey}, {"words", "", tiered.ErrKey}} {
		if _, err := s.Inspect(t.Context(), tt.ns, tt.key); !errors.Is(err, tt.err) {
			t.Errorf("inspect %q of %q: %v, want %v", tt.key, tt.ns, err, tt.err)
		}
		if err := s.InvalidateKey(t.Context(), tt.ns, tt.key); !errors.Is(err, tt.err) {
			t.Errorf("delete %q of %q: %v, want %v", tt.key, tt.ns, err, tt.err)
		}
	}
	must(t, s.InvalidateKey(t.Context(), "words", "k"))
	wantErr(t, words, "k", tiered.ErrMiss)
	must(t, words.Set(t.Context(), "k", "v"))
	must(t, s.Clear(t.Context(), "words"))
	wantErr(t, words, "k", tiered.ErrMiss)
	if err := s.Clear(t.Context(), "nobody"); !errors.Is(err, tiered.ErrNamespace) {
		t.Errorf("clear: %v", err)
	}
}

func TestLocalYieldsExactlyWhatMemoryServes(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c, other := cache[int](t, s, "n"), cache[int](t, s, "other")
	must(t, other.Set(t.Context(), "foreign", 1))
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		must(t, c.Set(t.Context(), key, 1, tiered.Tags(key)))
	}
	must(t, c.Set(t.Context(), "old", 1, tiered.TTL(time.Second)))
	must(t, c.Delete(t.Context(), "b"))
	must(t, s.InvalidateTags(t.Context(), "c"))
	clock.Advance(2 * time.Second)
	for range 2 { // pending at first, ristretto's then
		got := map[string]tiered.Info{}
		for key, info := range c.Local() {
			if _, twice := got[key]; twice {
				t.Errorf("%s comes twice", key)
			}
			got[key] = info
			_ = c.Set(t.Context(), "a", 2) // no lock is held
		}
		if keys := slices.Sorted(maps.Keys(got)); !slices.Equal(keys, []string{"a", "d", "e"}) {
			t.Errorf("memory has %v", keys)
		}
		if d := got["d"]; d.Version == 0 || d.Bytes == 0 || d.Age < time.Second || d.Suspect {
			t.Errorf("d is %+v", d)
		}
		eventually(t, "ristretto has it all", s.Settled)
	}
	if st := c.Stats(); st.Entries != 4 || st.L1Hits+st.L1Misses != 0 { // the one with the tag is not looked for
		t.Errorf("%+v", st)
	}
	for range c.Local() {
		break
	}
}

func TestLocalBesideWritersAndClose(t *testing.T) {
	s := open(t, tiered.WithL1(256<<10))
	c := cache[int](t, s, "n")
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			key := string(rune('a'+i%26)) + string(rune('a'+i/26%26))
			if i%3 == 0 {
				_ = c.Delete(t.Context(), key)
			} else if err := c.Set(t.Context(), key, i); errors.Is(err, tiered.ErrClosed) {
				return
			}
		}
	})
	must(t, c.Set(t.Context(), "stays", 1))
	for range 200 {
		n := 0
		for key := range c.Local() {
			if key == "stays" {
				n++
			}
		}
		if n > 1 {
			t.Fatalf("it came %d times", n)
		}
	}
	wg.Go(func() {
		for range 50 {
			for range c.Local() {
			}
			_ = s.Stats()
		}
	})
	must(t, s.Close(t.Context()))
	close(stop)
	wg.Wait()
	for key := range c.Local() {
		t.Fatalf("a closed store has %s", key)
	}
}

// A failover has brought a tag's old version back, and this process knows the
// new one: a Get would have the tag made anew.
func TestInspectKnowsWhatATagOfRedisHasLost(t *testing.T) {
	r := shared.Client(t)
	s := node(t, shared, tiered.WithL1(0))
	c, pins := cache[string](t, s, "n"), cache[string](t, s, "pins")
	data, tag := prefix(t)+":{n:k}", prefix(t)+":t:tag"
	must(t, c.Set(t.Context(), "k", "old", tiered.Tags("tag")))
	old, before := r.Get(t.Context(), data).Val(), r.Get(t.Context(), tag).Val()
	during(t, pins, "pin", func() { // so that the tag's version is not forgotten
		must(t, s.InvalidateTags(t.Context(), "tag"))
		must(t, r.Set(t.Context(), data, old, time.Hour).Err())
		must(t, r.Set(t.Context(), tag, before, time.Hour).Err())
		if in := inspect(t, c, "k"); in.Verdict != tiered.Miss || in.L2.Servable {
			t.Errorf("a tag that lost its invalidation: %+v", in)
		}
		wantErr(t, c, "k", tiered.ErrMiss)
	}, tiered.Tags("tag"))
}
