package tiered_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// source is the truth behind the cache: numbers that only grow, and how far
// writers have got with telling the cache.
type source struct {
	value [8]atomic.Int64 // of each key, in the source
	told  [8]atomic.Int64 // the newest value whose invalidation has returned
}

// load reads the source and dawdles before it returns: the window in which
// other libraries lose.
func (s *source) load(_ context.Context, key int, _ *tiered.Load[int64]) (int64, error) {
	v := s.value[key].Load()
	for range rand.N(2000) {
		runtime.Gosched()
	}
	return v, nil
}

var errFlaky = errors.New("the source is away")

// fail reads nothing.
func (s *source) fail(ctx context.Context, key int, l *tiered.Load[int64]) (int64, error) {
	_, _ = s.load(ctx, key, l)
	return 0, errFlaky
}

// failSafe makes entries stale at once, and loads late often.
var failSafe = []tiered.EntryOption{
	tiered.TTL(time.Millisecond), tiered.FailSafe(time.Hour, 2*time.Millisecond), tiered.Timeouts(time.Millisecond, time.Second),
}

// A read that begins after a write has been told to the cache returns that
// write or a later one: across nodes with memory off, on the writer's node
// with memory on. Subscriptions are cut all the while.
func TestNobodyReadsWhatWasOverwrittenBeforeHeAsked(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	const nodes, writers, readers = 3, 3, 6
	for name, tt := range map[string]struct {
		l1    int64
		opts  []tiered.EntryOption
		flaky bool // loads fail, and what was there before is served
	}{
		"memory off": {}, "memory on": {l1: 1 << 20},
		"fail-safe, memory off": {opts: failSafe, flaky: true},
		"fail-safe, memory on":  {l1: 1 << 20, opts: failSafe, flaky: true},
	} {
		l1 := tt.l1
		t.Run(name, func(t *testing.T) {
			var src [nodes]*source
			var stores [nodes]*tiered.Store
			var caches [nodes]*tiered.Cache[int, int64]
			all := &source{}
			for n := range nodes {
				src[n] = all
				if l1 > 0 {
					src[n] = &source{} // each node writes keys of its own, and all read them
				}
				stores[n] = node(t, r, tiered.WithL1(l1))
				var err error
				caches[n], err = tiered.New[int, int64](stores[n], "n"+strconv.Itoa(n*int(min(l1, 1))),
					tiered.WithDefaults(tiered.Tags("tag")), tiered.WithDefaults(tt.opts...))
				must(t, err)
			}
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			began := time.Now()
			var wg sync.WaitGroup
			var reads, stale atomic.Int64
			for w := range writers {
				wg.Go(func() {
					n := w % nodes
					for ctx.Err() == nil {
						if tt.flaky && !pause(ctx, rand.N(10*time.Millisecond)) { // time for something to become stale
							return
						}
						k := rand.N(8)
						v := src[n].value[k].Add(1)
						var err error
						switch rand.N(10) {
						case 0:
							err = stores[n].InvalidateTags(t.Context(), "tag")
						case 1:
							err = caches[n].Clear(t.Context())
						default:
							err = caches[n].Delete(t.Context(), k)
						}
						if err != nil {
							t.Errorf("write: %v", err)
							return
						}
						for {
							old := src[n].told[k].Load()
							if old >= v || src[n].told[k].CompareAndSwap(old, v) {
								break
							}
						}
					}
				})
			}
			for rd := range readers {
				wg.Go(func() {
					n := rd % nodes
					for ctx.Err() == nil {
						k := rand.N(8)
						told := src[n].told[k].Load()
						load := src[n].load
						if tt.flaky && rand.N(2) == 0 {
							load = src[n].fail
						}
						v, err := caches[n].GetOrLoad(t.Context(), k, load)
						if tt.flaky && (errors.Is(err, errFlaky) || errors.Is(err, tiered.ErrTimeout)) {
							continue
						}
						if err != nil {
							t.Errorf("read: %v", err)
							return
						}
						reads.Add(1)
						if v < told {
							stale.Add(1)
						}
					}
				})
			}
			cut := time.NewTicker(100 * time.Millisecond)
			defer cut.Stop()
			for ctx.Err() == nil {
				select {
				case <-cut.C:
					_ = admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err()
					if time.Since(began) > 4*time.Second && (!tt.flaky || stores[0].Stats().Stale > 0) {
						stop() // on a busy machine it takes longer to have anything to serve
					}
				case <-ctx.Done():
				}
			}
			wg.Wait()
			st := stores[0].Stats()
			t.Logf("%d reads, %d loads not stored, %d stale, %d timeouts", reads.Load(), st.Fenced, st.Stale, st.Timeouts)
			if tt.flaky && st.Stale == 0 {
				t.Error("nothing stale was served: the test has lost its ground")
			}
			if n := stale.Load(); n > 0 {
				t.Errorf("%d of %d reads were of what had been overwritten before", n, reads.Load())
			}
			for _, s := range stores {
				if s.Health().Breaker != "closed" {
					t.Errorf("the breaker is %s: the test has lost its ground", s.Health().Breaker)
				}
			}
		})
	}
}
