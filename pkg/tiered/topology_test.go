package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// odd keys must not choose their slot: an entry shares it with its lease and
// with what Update remembers.
var odd = []string{"}", "a}b{", "{", "{}", "{x}", "%7D", "plain"}

// everything does all that two processes can do with a cache, on any server.
// Flush makes the servers forget the scripts, so that each has to be sent again.
func everything(t *testing.T, nodes []*tieredtest.Node, flush func()) {
	t.Helper()
	ctx := t.Context()
	a, b := nodes[0], nodes[1]
	healthy(t, a.Store)
	healthy(t, b.Store)
	c := tieredtest.Caches[string, string](t, nodes, "n")
	here, there := c[0], c[1]
	gone := func(key string) {
		t.Helper()
		for i, one := range c {
			eventually(t, fmt.Sprintf("%q is gone on node %d", key, i), func() bool {
				_, err := one.Get(ctx, key)
				return errors.Is(err, tiered.ErrMiss)
			})
			wantErr(t, one, key, tiered.ErrMiss, tiered.SkipL1())
		}
	}
	agreed := func(key, v string) {
		t.Helper()
		for i, one := range c {
			eventually(t, fmt.Sprintf("%q is %q on node %d", key, v, i), func() bool {
				got, err := one.Get(ctx, key)
				return got == v && err == nil
			})
			want(t, one, key, v, tiered.SkipL1())
		}
	}
	wantErr(t, here, "", tiered.ErrKey)
	for _, key := range odd {
		v, err := here.GetOrLoad(ctx, key, value("loaded "+key), tiered.DistributedLease(time.Minute), tiered.Tags("tag", "other}tag{"))
		if err != nil || v != "loaded "+key {
			t.Fatalf("load %q: %q, %v", key, v, err)
		}
		agreed(key, "loaded "+key)
		must(t, there.Set(ctx, key, "set"))
		agreed(key, "set")
		flush()
		must(t, here.Delete(ctx, key))
		gone(key)
		during(t, there, key, func() { must(t, here.Delete(ctx, key)) })
		gone(key)

		_, err = here.Update(ctx, key, func(context.Context, string, bool) (string, error) { return "updated", nil })
		must(t, err)
		agreed(key, "updated")
		flush()
		_, err = there.Update(ctx, key, func(_ context.Context, old string, _ bool) (string, error) { return old + " twice", nil })
		must(t, err)
		agreed(key, "updated twice")
		if ok, err := here.Expire(ctx, key, time.Hour); !ok || err != nil {
			t.Fatalf("expire %q: %v, %v", key, ok, err)
		}
		agreed(key, "updated twice")
		_, err = there.Refresh(ctx, key, value("refreshed"))
		must(t, err)
		agreed(key, "refreshed")
		_, err = here.Write(ctx, key, func(context.Context) (string, error) { return "written", nil })
		must(t, err)
		agreed(key, "written")
		in, err := there.Inspect(ctx, key)
		if err != nil || in.L2.Error != "" || !in.L2.Servable {
			t.Fatalf("inspect %q: %+v, %v", key, in.L2, err)
		}
	}
	// Pipelines over all slots.
	many, keys := make(map[string]string), []string(nil)
	for i := range 300 {
		k := "many/" + strconv.Itoa(i)
		many[k], keys = "v"+k, append(keys, k)
	}
	flush()
	must(t, here.SetMany(ctx, many, tiered.Tags("tag")))
	flush()
	got, err := there.GetMany(ctx, keys)
	if err != nil || len(got) != len(many) || got[keys[77]] != many[keys[77]] {
		t.Fatalf("get many: %d, %v", len(got), err)
	}
	must(t, b.InvalidateTags(ctx, "tag"))
	gone(keys[77])
	flush()
	got, err = there.GetOrLoadMany(ctx, keys, func(_ context.Context, keys []string) (map[string]string, error) {
		all := make(map[string]string, len(keys))
		for _, k := range keys {
			all[k] = "loaded"
		}
		return all, nil
	})
	if err != nil || len(got) != len(many) || got[keys[1]] != "loaded" {
		t.Fatalf("load many: %d, %v", len(got), err)
	}
	agreed(keys[299], "loaded")
	must(t, here.DeleteMany(ctx, keys[:100]))
	gone(keys[99])
	if n, err := there.InvalidatePrefix(ctx, "many/2"); n != 100 || err != nil {
		t.Fatalf("invalidate prefix: %d, %v; want the 100 of 200 to 299", n, err)
	}
	gone(keys[299])
	agreed(keys[199], "loaded")
	must(t, here.Clear(ctx))
	gone(keys[199])
	for i, n := range nodes {
		if h := n.Health(); h.Breaker != "closed" || h.Recovery != 0 {
			t.Errorf("node %d in the end: %+v", i, h)
		}
	}
}

func TestEverythingOnACluster(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 0)
	admin := cl.Client(t)
	nodes := tieredtest.Nodes(t, 2, cl)
	everything(t, nodes, func() {
		must(t, admin.ForEachMaster(t.Context(), func(ctx context.Context, c *redis.Client) error { return c.ScriptFlush(ctx).Err() }))
	})
}

func TestEverythingThroughSentinelsWithTLSAndClientCertificates(t *testing.T) {
	sen := tieredtest.StartSentinel(t, 1, tieredtest.WithTLS(t))
	everything(t, tieredtest.Nodes(t, 2, sen), func() { must(t, sen.Master(t).Client(t).ScriptFlush(t.Context()).Err()) })
}

// installed are the servers on this machine that speak the protocol: Redis
// always, Valkey (Debian's backports have it as valkey-server) if it is there.
func installed() []string {
	programs := []string{"redis-server"}
	if _, err := exec.LookPath("valkey-server"); err == nil {
		programs = append(programs, "valkey-server")
	}
	return programs
}

func TestEverythingOnEveryServerThatIsInstalled(t *testing.T) {
	for _, program := range installed() {
		t.Run(program, func(t *testing.T) {
			r := tieredtest.StartRedis(t, tieredtest.WithServer(program))
			everything(t, tieredtest.Nodes(t, 2, r), func() { must(t, r.Client(t).ScriptFlush(t.Context()).Err()) })
		})
	}
}

// writer sets key to ever greater numbers on c until it is stopped. What is
// read must be the last one, on c at once, or on other, never less than before:
// but when a master dies, until what it had not replicated has been repeated.
type writer struct {
	stop chan struct{}
	wg   sync.WaitGroup
	last int
}

func write(t *testing.T, key string, from int, strict bool, c, other *tiered.Cache[string, int]) *writer {
	w := &writer{stop: make(chan struct{}), last: from}
	w.wg.Go(func() {
		seen := 0
		for {
			select {
			case <-w.stop:
				return
			default:
			}
			if err := c.Set(t.Context(), key, w.last+1); err != nil {
				t.Errorf("set %d: %v", w.last+1, err)
				return
			}
			w.last++
			// A miss is no wrong answer: what was lost is read from the source again.
			if v, err := c.Get(t.Context(), key); err == nil && v != w.last {
				t.Errorf("after setting %d its writer gets %d", w.last, v)
			}
			v, err := other.Get(t.Context(), key)
			switch {
			case err != nil && !errors.Is(err, tiered.ErrMiss):
				t.Errorf("get: %v", err)
			case err == nil && v < seen && strict:
				t.Errorf("the other node got %d, and then %d", seen, v)
			case err == nil:
				seen = v
			}
		}
	})
	return w
}

func (w *writer) end() int {
	close(w.stop)
	w.wg.Wait()
	return w.last
}

// While a slot moves, and when a master dies, no call fails, and while
// nothing is lost no node reads backwards. The client by itself would try the dead master for a minute.
func TestTrafficGoesOnWhileAClusterMovesAndPromotes(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 1)
	nodes := tieredtest.Nodes(t, 2, cl, tieredtest.WithStore(tiered.WithPrefix("tc"), quick()))
	c := tieredtest.Caches[string, int](t, nodes, "m", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
	well := func() {
		t.Helper()
		for _, n := range nodes {
			healthy(t, n.Store)
		}
	}
	agree := func(v int) {
		t.Helper()
		must(t, c[0].Set(t.Context(), "k", v))
		eventually(t, fmt.Sprintf("the other node sees %d", v), func() bool {
			got, err := c[1].Get(t.Context(), "k")
			return got == v && err == nil
		})
		want(t, c[1], "k", v, tiered.SkipL1())
	}
	well()
	agree(0)
	slot := cl.Slot(t, "tc:{m:k}")
	to := cl.Nodes()[0]
	if to == cl.Owner(t, slot) {
		to = cl.Nodes()[1]
	}
	w := write(t, "k", 0, true, c[0], c[1])
	cl.MoveSlot(t, slot, to, func() {
		// In motion a key that is not there is asked for at the new owner.
		_, err := c[1].Get(t.Context(), "k", tiered.SkipL1())
		if err != nil && !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("get while the slot moves: %v", err)
		}
	})
	last := w.end() + 1
	well()
	agree(last)
	t.Logf("%d writes while the slot moved", last)

	for _, victim := range []string{"tc:{m:k}", "tc:inv"} { // of the entry, and of the messages
		before := [2]uint64{nodes[0].Health().Failovers, nodes[1].Health().Failovers}
		dead := cl.Owner(t, cl.Slot(t, victim))
		w := write(t, "k", last, false, c[0], c[1])
		dead.Kill()
		cl.AwaitOK(t)
		began := time.Now()
		eventually(t, "both nodes notice the promotion", func() bool {
			return nodes[0].Health().Failovers > before[0] && nodes[1].Health().Failovers > before[1]
		})
		well()
		took := time.Since(began)
		n := w.end()
		t.Logf("the master of %s died: %d writes meanwhile, all is well %v after its replica was promoted", victim, n-last, took)
		last = n + 1
		agree(last)
		dead.Restart(t)
		cl.AwaitOK(t)
	}
}

// A script that needs two keys, of which none is there, is refused by both
// masters of a slot in motion (TRYAGAIN), and go-redis ends with the MOVED of
// the third: a load then does without Redis, and a write is made later.
func TestASlotInMotionFailsNoLoadAndLosesNoDelete(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 0)
	nodes := tieredtest.Nodes(t, 2, cl, tieredtest.WithStore(tiered.WithPrefix("tc"), quick()))
	c := tieredtest.Caches[string, string](t, nodes, "m")
	healthy(t, nodes[0].Store)
	healthy(t, nodes[1].Store)
	slot := cl.Slot(t, "tc:{m:k}")
	to := cl.Nodes()[0]
	if to == cl.Owner(t, slot) {
		to = cl.Nodes()[1]
	}
	cl.MoveSlot(t, slot, to, func() {
		for range 3 {
			v, err := c[0].GetOrLoad(t.Context(), "k", value("old"), tiered.SkipL1())
			if v != "old" || err != nil {
				t.Errorf("load: %q, %v", v, err)
			}
		}
		must(t, c[0].Delete(t.Context(), "k"))
	})
	eventually(t, "both nodes see what is loaded after the delete", func() bool {
		a, err1 := c[0].GetOrLoad(t.Context(), "k", value("new"))
		b, err2 := c[1].GetOrLoad(t.Context(), "k", value("new"))
		must(t, err1)
		must(t, err2)
		return a == "new" && b == "new"
	})
}

// Whoever gives a client that cannot follow redirections gets MOVED, which is what
// go-redis ends with where it cannot either: it is as if Redis were away.
func TestAnAnswerOfTheWrongMasterFailsNoLoad(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 0)
	slot := cl.Slot(t, "tm:{m:k}")
	wrong := cl.Nodes()[0]
	if wrong == cl.Owner(t, slot) {
		wrong = cl.Nodes()[1]
	}
	s := open(t, tiered.WithRedis(wrong.Client(t)), tiered.WithPrefix("tm"), tiered.WithL2Timeout(3*time.Second))
	c := cache[string](t, s, "m")
	v, err := c.GetOrLoad(t.Context(), "k", value("loaded"), tiered.SkipL1())
	if v != "loaded" || err != nil {
		t.Errorf("load: %q, %v", v, err)
	}
	must(t, c.Delete(t.Context(), "k"))
	if n := s.Health().Recovery; n == 0 {
		t.Error("the delete is not remembered")
	}
}
