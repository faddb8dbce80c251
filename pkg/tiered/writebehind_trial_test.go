package tiered_test

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// A Redis with a disk is killed three times.
func TestNothingAcknowledgedIsLost(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	restart := func() { r.Restart(t) }
	nothingIsLost(t, []*tiered.Store{outage(t, r), outage(t, r)}, 0, restart, restart, restart)
}

// What a replica has confirmed (WAIT) survives the master's death: nothing that
// was acknowledged is lost, by Sentinels' failover or a Cluster's, though none has
// a disk. Until the old master follows again the sink is called before Put returns.
func TestNothingAcknowledgedIsLostByAFailover(t *testing.T) {
	two := func(t *testing.T, server tieredtest.Server) (all []*tiered.Store) {
		for _, n := range tieredtest.Nodes(t, 2, server, tieredtest.WithStore(tiered.WithPrefix("tc"), quick(), tiered.WithL2Timeout(500*time.Millisecond))) {
			healthy(t, n.Store)
			all = append(all, n.Store)
		}
		return all
	}
	t.Run("sentinel", func(t *testing.T) {
		t.Parallel()
		sen := tieredtest.StartSentinel(t, 1)
		nothingIsLost(t, two(t, sen), 1, func() {
			old := sen.Master(t)
			old.Kill()
			sen.AwaitMaster(t, old)
			old.Restart(t)
		})
	})
	t.Run("cluster", func(t *testing.T) {
		t.Parallel()
		cl := tieredtest.StartCluster(t, 3, 1)
		nothingIsLost(t, two(t, cl), 1, func() {
			old := cl.Owner(t, cl.Slot(t, "tc:wb:{w:0}:s")) // which has a partition
			old.Kill()
			cl.AwaitOK(t)
			old.Restart(t)
			cl.AwaitOK(t)
		})
	})
}

// nothingIsLost has two processes write to a slow sink that fails now and then,
// while harm is done: in the end the sink has, of every key, the newest of all that
// was acknowledged. Each writer has a field of its own in the keys that all merge into, and keys
// of its own that it puts. TIERED_TEST_UPDATES is how many writes, 3200.
func nothingIsLost(t *testing.T, stores []*tiered.Store, replicas int, harm ...func()) {
	t.Helper()
	const keys, writers = 100, 8
	each := 400
	if n, err := strconv.Atoi(os.Getenv("TIERED_TEST_UPDATES")); err == nil {
		each = n / writers
	}
	tb := &table{}
	tb.fail(func(ctx context.Context, _ []tiered.Item[string, fields]) error {
		pause(ctx, 3*time.Millisecond)
		if rand.N(10) == 0 {
			return errors.New("now and then")
		}
		return nil
	})
	o := tiered.WriteBehindOptions[fields]{Partitions: 4, Interval: 50 * time.Millisecond, Lease: time.Second, Replicas: replicas}
	var nodes []writeBehind
	for _, s := range stores {
		w, _ := behind(t, s, tb, o)
		nodes = append(nodes, w)
	}
	wanted := make([]map[string]fields, writers)
	var wg sync.WaitGroup
	for g := range writers {
		w, rng := nodes[g%2], rand.New(rand.NewPCG(uint64(g), 1))
		own := "w" + strconv.Itoa(g)
		wanted[g] = map[string]fields{}
		wg.Go(func() {
			for i := 1; i <= each; i++ {
				k := strconv.Itoa(rng.IntN(keys))
				write := w.Merge
				if i%2 == 0 {
					write, k = w.Put, own+":"+k
				}
				// A failure of the sink is an answer too: not acknowledged.
				for write(t.Context(), k, fields{own: i}) != nil && t.Context().Err() == nil {
				}
				wanted[g][k] = fields{own: i}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	queued := func() uint64 { return nodes[0].Stats().Queued + nodes[1].Stats().Queued }
	for _, do := range harm {
		// However slow the machine is, there is always one more.
		for end := queued() + uint64(each); queued() <= end && !closed(done); {
			n := queued()
			eventually(t, "one more is queued", func() bool { return queued() > n || closed(done) })
		}
		do()
	}
	<-done
	if replicas > 0 {
		// All follow again: a replica answers WAIT, and writes are queued.
		eventually(t, "a write is queued", func() bool {
			n := queued()
			_ = nodes[0].Put(t.Context(), "after", fields{"n": 1}) // the sink may fail still
			return queued() > n
		})
	}
	want := map[string]fields{}
	for _, m := range wanted {
		for k, f := range m {
			want[k] = overlay(want[k], f)
		}
	}
	for _, w := range nodes {
		flush(t, w)
		t.Logf("%+v", w.Stats())
	}
	for k, f := range want {
		if got := tb.row(k); !maps.Equal(got, f) {
			t.Errorf("key %s: the sink has %v, want %v", k, got, f)
		}
	}
	if n := len(letters(t, nodes[0])); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

func closed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Two processes put the same keys. What is last in the sink is last in the
// cache, and nobody began to write it after that had been acknowledged.
func TestLastOfTwoProcessesIsLastInTheSinkAndInTheCache(t *testing.T) {
	type write struct{ began, acked time.Time }
	const keys, writers, each = 10, 8, 200
	tb := &table{}
	nodes, caches := []writeBehind{nil, nil}, []*tiered.Cache[string, fields]{nil, nil}
	for i := range nodes {
		nodes[i], caches[i] = behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Partitions: 2, Interval: 20 * time.Millisecond})
	}
	var mu sync.Mutex
	log := map[string]map[int]write{}
	var wg sync.WaitGroup
	for g := range writers {
		wg.Go(func() {
			for i := range each {
				k, n := strconv.Itoa(rand.N(keys)), g*each+i
				at := write{began: time.Now()}
				if err := nodes[g%2].Put(t.Context(), k, fields{"n": n}); err != nil {
					t.Error(err)
				}
				at.acked = time.Now()
				mu.Lock()
				if log[k] == nil {
					log[k] = map[int]write{}
				}
				log[k][n] = at
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	flush(t, nodes[0])
	for k, writes := range log {
		last := tb.row(k)
		for n, wr := range writes {
			if wr.began.After(writes[last["n"]].acked) {
				t.Errorf("key %s: the sink has %d, but %d was written after it", k, last["n"], n)
			}
		}
		if v, err := caches[0].Get(t.Context(), k, tiered.SkipL1()); err != nil || !maps.Equal(v, last) {
			t.Errorf("key %s: Redis has %v, %v; the sink %v", k, v, err, last)
		}
		for i, c := range caches {
			eventually(t, "process "+strconv.Itoa(i)+" serves what the sink has", func() bool {
				v, err := c.Get(t.Context(), k)
				return err == nil && maps.Equal(v, last)
			})
		}
	}
}

// Whatever is put, merged, flushed, evicted and refused, a read through Loader
// sees every write before it, and in the end the sink has them all.
func TestReadsThroughLoaderSeeEveryWrite(t *testing.T) {
	for seed := range uint64(4) {
		rng := rand.New(rand.NewPCG(seed, 2))
		tb := &table{}
		s := node(t, shared, tiered.WithPrefix(prefix(t)+strconv.FormatUint(seed, 10)))
		w, c := behind(t, s, tb, tiered.WriteBehindOptions[fields]{Partitions: 2, Batch: 1 + rng.IntN(5), Interval: 10 * time.Millisecond, Attempts: 50})
		tb.fail(func(context.Context, []tiered.Item[string, fields]) error {
			if rand.N(4) == 0 {
				return errors.New("now and then")
			}
			return nil
		})
		model := map[string]fields{}
		for step := range 200 {
			k := strconv.Itoa(rng.IntN(5))
			f := fields{string(rune('a' + rng.IntN(4))): step}
			switch op := rng.IntN(10); {
			case op < 2 || model[k] == nil:
				must(t, w.Put(t.Context(), k, f))
				model[k] = f
			case op < 6:
				must(t, w.Merge(t.Context(), k, f))
				model[k] = overlay(model[k], f)
			case op < 7:
				flush(t, w)
			case op < 8:
				must(t, c.Clear(t.Context()))
			default:
				must(t, c.Delete(t.Context(), k))
			}
			v, err := c.GetOrLoad(t.Context(), k, w.Loader(tb.load))
			if err != nil || !maps.Equal(v, model[k]) {
				t.Fatalf("seed %d, step %d: key %s is %v, %v; want %v", seed, step, k, v, err, model[k])
			}
		}
		flush(t, w)
		for k, f := range model {
			wantRow(t, tb, k, f)
		}
		if st := w.Stats(); st.Parked != 0 {
			t.Errorf("seed %d: %+v", seed, st)
		}
	}
}
