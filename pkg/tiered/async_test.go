package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// scriptOn matches a script about a key, or about any key.
func scriptOn(key string) tieredtest.Match {
	return func(command []string) bool {
		if !strings.EqualFold(command[0], "evalsha") && !strings.EqualFold(command[0], "eval") {
			return false
		}
		for _, word := range command[1:] {
			if strings.Contains(word, ":{n:"+key) {
				return true
			}
		}
		return false
	}
}

// asyncPair is two processes of one cache, of which the first has written
// "old" to "k" and has a write of "plug" on its way, held until release.
func asyncPair(t *testing.T) (nodes []*tieredtest.Node, caches []*tiered.Cache[string, string], release func()) {
	t.Helper()
	nodes = tieredtest.Nodes(t, 2, tieredtest.StartRedis(t), tieredtest.WithStore(tiered.WithL2Timeout(time.Minute)))
	caches = tieredtest.Caches[string, string](t, nodes, "n")
	must(t, caches[0].Set(t.Context(), "k", "old"))
	want(t, caches[1], "k", "old")
	hold := nodes[0].Net.HoldCommand(scriptOn("plug"))
	must(t, caches[0].Set(t.Context(), "plug", "v", tiered.Async()))
	hold.Await(t)
	return nodes, caches, hold.Release
}

func delivered(t testing.TB, s *tiered.Store) {
	t.Helper()
	eventually(t, "redis has been told", func() bool { return s.Posted() == 0 })
}

func TestAnAsyncWriteIsReadHereAtOnceAndElsewhereSoon(t *testing.T) {
	nodes, caches, release := asyncPair(t)
	defer release()
	must(t, caches[0].Set(t.Context(), "k", "new", tiered.Async()))
	want(t, caches[0], "k", "new")
	want(t, caches[1], "k", "old") // Redis has not been told
	must(t, caches[0].Set(t.Context(), "k", "newer", tiered.Async()))
	want(t, caches[0], "k", "newer")
	must(t, caches[0].Set(t.Context(), "gone", "v", tiered.Async()))
	must(t, caches[0].Delete(t.Context(), "gone", tiered.Async()))
	if n := nodes[0].Store.Posted(); n != 3 {
		t.Errorf("%d keys are queued, want plug, k and gone", n)
	}
	wantErr(t, caches[1], "gone", tiered.ErrMiss)
	release()
	delivered(t, nodes[0].Store)
	want(t, caches[0], "k", "newer")
	eventually(t, "the other has it", func() bool {
		v, err := caches[1].Get(t.Context(), "k")
		return err == nil && v == "newer"
	})
	wantErr(t, caches[0], "gone", tiered.ErrMiss)
	in, err := caches[0].Inspect(t.Context(), "k")
	if err != nil || in.L1.Version != in.L2.Version || !in.L1.InL2 || in.Pending != 0 {
		t.Errorf("memory and redis have different versions: %+v, %v", in, err)
	}
}

// Whatever is called after an asynchronous write comes after it in Redis.
func TestWritesOfAKeyStayInOrderWhetherTheyWaitOrNot(t *testing.T) {
	nodes := tieredtest.Nodes(t, 2, tieredtest.StartRedis(t))
	caches := tieredtest.Caches[string, string](t, nodes, "n")
	async := tiered.Async()
	steps := map[string]struct {
		write func(ctx, string) error
		want  string // "" is none
	}{
		"set":        {func(ctx ctx, k string) error { return caches[0].Set(ctx, k, "set") }, "set"},
		"set async":  {func(ctx ctx, k string) error { return caches[0].Set(ctx, k, "async", async) }, "async"},
		"delete":     {func(ctx ctx, k string) error { return caches[0].Delete(ctx, k) }, ""},
		"del. async": {func(ctx ctx, k string) error { return caches[0].Delete(ctx, k, async) }, ""},
		"set many":   {func(ctx ctx, k string) error { return caches[0].SetMany(ctx, map[string]string{k: "many"}) }, "many"},
		"del. many":  {func(ctx ctx, k string) error { return caches[0].DeleteMany(ctx, []string{k}) }, ""},
		"prefix":     {func(ctx ctx, k string) error { _, err := caches[0].InvalidatePrefix(ctx, k); return err }, ""},
		"clear":      {func(ctx ctx, _ string) error { return caches[0].Clear(ctx) }, ""},
		"update": {func(ctx ctx, k string) error {
			_, err := caches[0].Update(ctx, k, func(context.Context, string, bool) (string, error) { return "update", nil })
			return err
		}, "update"},
		"refresh": {func(ctx ctx, k string) error { _, err := caches[0].Refresh(ctx, k, value("refresh")); return err }, "refresh"},
		"write": {func(ctx ctx, k string) error {
			_, err := caches[0].Write(ctx, k, func(context.Context) (string, error) { return "write", nil })
			return err
		}, "write"},
		"elsewhere": {func(ctx ctx, k string) error { return caches[1].Set(ctx, k, "elsewhere") }, "elsewhere"},
	}
	n := 0
	for first, a := range steps {
		for second, b := range steps {
			if second == "elsewhere" { // whose order a message decides
				continue
			}
			for _, last := range []string{"set async", "del. async", second} {
				n++
				k := "k" + strconv.Itoa(n)
				must(t, a.write(t.Context(), k))
				must(t, caches[0].Set(t.Context(), k, "between", async))
				must(t, b.write(t.Context(), k))
				if last != second {
					must(t, steps[last].write(t.Context(), k))
				}
				for i, c := range []*tiered.Cache[string, string]{caches[0], caches[1]} {
					if i == 1 {
						delivered(t, nodes[0].Store)
					}
					var got string
					ok := func() bool {
						got, _ = c.Get(t.Context(), k)
						return got == steps[last].want
					}
					if i == 0 && !ok() {
						t.Fatalf("%s, async, %s, %s: here it is %q, want %q", first, second, last, got, steps[last].want)
					}
					eventually(t, fmt.Sprintf("%s, async, %s, %s: node %d has %q, not %q", first, second, last, i, steps[last].want, got), ok)
				}
				want := steps[last].want
				if got, _ := caches[0].Get(t.Context(), k, tiered.SkipL1()); got != want {
					t.Fatalf("%s, async, %s, %s: redis has %q, want %q", first, second, last, got, want)
				}
			}
		}
	}
}

// Of two processes the newer write stays, whoever is the first to tell Redis.
func TestAnAsyncWriteDoesNotOverwriteANewerOneOfAnotherProcess(t *testing.T) {
	nodes, caches, release := asyncPair(t)
	defer release()
	must(t, caches[0].Set(t.Context(), "k", "queued", tiered.Async()))
	must(t, caches[0].Delete(t.Context(), "k2", tiered.Async()))
	version := caches[0].Version("k")
	eventually(t, "the other process's write is newer by redis's clock", func() bool {
		must(t, caches[1].Set(t.Context(), "k", "newer"))
		must(t, caches[1].Set(t.Context(), "k2", "newer"))
		return caches[1].Version("k") > version && caches[1].Version("k2") > version+uint64(time.Second.Microseconds()/100)
	})
	release()
	delivered(t, nodes[0].Store)
	for _, c := range caches {
		want(t, c, "k", "newer")
		want(t, c, "k2", "newer")
		want(t, c, "k", "newer", tiered.SkipL1())
	}
}

func TestAnAsyncWriteFencesLoadsUnderWay(t *testing.T) {
	for name, write := range map[string]func(c *tiered.Cache[string, string]) error{
		"set":    func(c *tiered.Cache[string, string]) error { return c.Set(t.Context(), "k", "new", tiered.Async()) },
		"delete": func(c *tiered.Cache[string, string]) error { return c.Delete(t.Context(), "k", tiered.Async()) },
	} {
		for i, where := range []string{"here", "elsewhere"} {
			t.Run(name+" "+where, func(t *testing.T) {
				nodes, caches, release := asyncPair(t)
				defer release()
				must(t, caches[0].Delete(t.Context(), "k"))
				eventually(t, "the other has heard of it", func() bool {
					_, err := caches[1].Get(t.Context(), "k")
					return errors.Is(err, tiered.ErrMiss)
				})
				b := block[string]()
				loaded := make(chan struct{})
				go func() {
					defer close(loaded)
					_, _ = caches[i].GetOrLoad(t.Context(), "k", b.load)
				}()
				<-b.started
				must(t, write(caches[0]))
				if i == 1 {
					release()
					delivered(t, nodes[0].Store)
				}
				b.result <- "old"
				<-loaded
				if v, _ := caches[0].Get(t.Context(), "k", tiered.SkipL2()); v == "old" {
					t.Errorf("memory keeps what was loaded before the write")
				}
				release()
				delivered(t, nodes[0].Store)
				for _, c := range caches {
					for _, opts := range [][]tiered.EntryOption{nil, {tiered.SkipL1()}} {
						if v, _ := c.Get(t.Context(), "k", opts...); v == "old" {
							t.Errorf("what was loaded before the write is served after it")
						}
					}
				}
				if name == "set" {
					want(t, caches[0], "k", "new")
				}
			})
		}
	}
}

// Nobody here reads from Redis what was there before a queued write: he waits.
func TestAReadOfRedisWaitsForTheQueuedWrite(t *testing.T) {
	nodes, caches, release := asyncPair(t)
	defer release()
	must(t, caches[0].Set(t.Context(), "k", "new", tiered.Async()))
	got := make(chan string, 2)
	go func() {
		v, _ := caches[0].Get(t.Context(), "k", tiered.SkipL1())
		got <- v
	}()
	go func() {
		m, _ := caches[0].GetMany(t.Context(), []string{"k"}, tiered.SkipL1())
		got <- m["k"]
	}()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := caches[0].Expire(gone, "k", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("expire: %v", err)
	}
	eventually(t, "they ask", func() bool { return nodes[0].Flights() > 0 || len(got) > 0 })
	if pause(t.Context(), 200*time.Millisecond); len(got) > 0 { // time to be wrong in
		t.Error("somebody did not wait")
	}
	release()
	for range 2 {
		if v := <-got; v != "new" {
			t.Errorf("got %q", v)
		}
	}
}

func TestAFullQueueMakesAsyncWritesWait(t *testing.T) {
	nodes, caches, release := asyncPair(t)
	defer release()
	for i := range tiered.MaxPosted - 1 {
		must(t, caches[0].Set(t.Context(), "f"+strconv.Itoa(i), "v", tiered.Async()))
	}
	if n := nodes[0].Store.Posted(); n != tiered.MaxPosted {
		t.Fatalf("%d are queued", n)
	}
	must(t, caches[0].Set(t.Context(), "one more", "v", tiered.Async()))
	want(t, caches[1], "one more", "v") // Redis has it
	release()
	delivered(t, nodes[0].Store)
	want(t, caches[1], "f0", "v")
	want(t, caches[1], "f"+strconv.Itoa(tiered.MaxPosted-2), "v")
}

func TestCloseEmptiesTheQueue(t *testing.T) {
	nodes, caches, release := asyncPair(t)
	must(t, caches[0].Set(t.Context(), "k", "new", tiered.Async()))
	must(t, caches[0].Set(t.Context(), "k2", "new", tiered.Async()))
	closed := make(chan error)
	go func() { closed <- nodes[0].Store.Close(t.Context()) }()
	release()
	must(t, <-closed)
	want(t, caches[1], "k", "new", tiered.SkipL1())
	want(t, caches[1], "k2", "new")
	if err := caches[0].Set(t.Context(), "k", "late", tiered.Async()); !errors.Is(err, tiered.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// Close does not wait for the queue once its context has ended, and says so.
// What was on its way may have arrived; what was queued has not.
func TestCloseGivesTheQueueUpWithItsContext(t *testing.T) {
	nodes, caches, release := asyncPair(t)
	defer release()
	must(t, caches[0].Set(t.Context(), "k", "new", tiered.Async()))
	must(t, caches[0].Delete(t.Context(), "k2", tiered.Async()))
	ctx, cancel := context.WithCancel(t.Context())
	closed := make(chan error)
	go func() { closed <- nodes[0].Store.Close(ctx) }()
	cancel()
	eventually(t, "what was queued is given up", func() bool { return nodes[0].Store.Posted() == 1 })
	release()
	if err := <-closed; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "3 writes of Async") {
		t.Errorf("close: %v", err)
	}
	want(t, caches[1], "k", "old", tiered.SkipL1())
	want(t, caches[1], "plug", "v")
	if n := nodes[0].Store.Posted(); n != 0 {
		t.Errorf("%d are queued still", n)
	}
	if err := caches[0].Set(t.Context(), "k", "late", tiered.Async()); !errors.Is(err, tiered.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestAnAsyncWriteThatRedisDidNotTakeIsNotUndone(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	n := tieredtest.Nodes(t, 1, r, tieredtest.WithStore(quick(), tiered.WithPrefix(prefix(t)), tiered.WithL2Timeout(time.Minute)))[0]
	s := n.Store
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.Async()))
	must(t, c.Set(t.Context(), "deleted", "old"))
	must(t, c.Set(t.Context(), "set", "old"))
	delivered(t, s)
	hold := n.Net.HoldCommand(scriptOn("plug"))
	must(t, c.Set(t.Context(), "plug", "v"))
	hold.Await(t)
	must(t, c.Delete(t.Context(), "deleted"))
	must(t, c.Set(t.Context(), "set", "new"))
	if n := s.Posted(); n != 3 {
		t.Fatalf("%d are queued", n)
	}
	r.Kill()
	wantErr(t, c, "deleted", tiered.ErrMiss)
	want(t, c, "set", "new")
	hold.Drop()
	delivered(t, s)
	wantErr(t, c, "deleted", tiered.ErrMiss)
	want(t, c, "set", "new")
	if s.Health().Recovery != 3 {
		t.Errorf("health %+v", s.Health())
	}
	r.Restart(t)
	for range 200 { // also before it has been replayed
		if v, err := c.Get(t.Context(), "deleted"); err == nil {
			t.Fatalf("deleted has risen as %q", v)
		}
		if v, err := c.Get(t.Context(), "set"); err == nil && v != "new" {
			t.Fatalf("set has fallen back to %q", v)
		}
	}
	healthy(t, s)
	other := cache[string](t, node(t, r), "n")
	wantErr(t, other, "deleted", tiered.ErrMiss)
	wantErr(t, other, "set", tiered.ErrMiss)
}

func TestAsyncWaitsWhereMemoryCannotAnswer(t *testing.T) {
	r := tieredtest.StartRedis(t)
	for name, opts := range map[string][]tiered.Option{
		"no memory": {tiered.WithL1(0)}, "off": {tiered.WithBackplane(tiered.Off)}, "tracking": {tiered.WithBackplane(tiered.Tracking)},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := cache[string](t, node(t, r, opts...), "n"), cache[string](t, node(t, r, opts...), "n")
			must(t, a.Set(t.Context(), "k", "v", tiered.Async()))
			want(t, b, "k", "v")
		})
	}
	s := open(t)
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.Async()))
	must(t, c.Set(t.Context(), "k", "v"))
	want(t, c, "k", "v")
	must(t, c.Delete(t.Context(), "k"))
	wantErr(t, c, "k", tiered.ErrMiss)
}
