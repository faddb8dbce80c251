package bench

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// hits are those peers that are wanted, with all keys of a trace in memory.
type hits struct {
	trace  []int
	names  []string
	stores []store[int]
	loaded *tiered.Cache[int, int]
	end    func()
}

func openHits(keys int, wanted func(name string) bool) *hits {
	h := &hits{trace: zipf(1, 1<<20, keys, 1.1)}
	for _, p := range append(peers[int](), bytesPeers()...) {
		if !wanted(p.name) {
			continue
		}
		s := p.open(2*keys, func(k int) int { return k })
		for k := range keys {
			if s.set != nil {
				s.set(k, k)
			} else {
				s.get(k)
			}
			if s.wait != nil && k%4096 == 0 {
				s.wait()
			}
		}
		if s.wait != nil {
			s.wait()
		}
		h.names, h.stores = append(h.names, p.name), append(h.stores, s)
	}
	st, c := memoryOnly[int](int64(keys)*2048, 0)
	for k := range keys {
		_ = c.Set(context.Background(), k, k)
	}
	h.loaded, h.end = c, func() { closeStore(st) }
	runtime.GC() // what the filling has left is nobody's cost: of a million keys it takes a second
	return h
}

func (h *hits) close() {
	for _, s := range h.stores {
		s.close()
	}
	h.end()
	h.stores = nil
	runtime.GC()
}

// subjects read, and write what is not of the reads' share.
func (h *hits) subjects(percentReads int, parallel bool) (rows []subject) {
	for i, s := range h.stores {
		if percentReads < 100 && s.set == nil {
			continue
		}
		rows = append(rows, subject{h.names[i], spread(parallel, h.trace, func(i, k int) {
			if i%100 >= percentReads {
				s.set(k, i)
			} else {
				s.get(k)
			}
		})})
	}
	if percentReads == 100 {
		ctx := context.Background()
		never := func(_ context.Context, k int, _ *tiered.Load[int]) (int, error) { return k, nil }
		rows = append(rows, subject{"**tiered** GetOrLoad, TTL", spread(parallel, h.trace, func(_, k int) {
			_, _ = h.loaded.GetOrLoad(ctx, k, never)
		})})
	}
	return rows
}

// spread does operations by one goroutine, or by one for each processor.
func spread(parallel bool, trace []int, do func(i, k int)) work {
	var at atomic.Uint64
	part := func(n int) {
		start := int(at.Add(7919))
		for i := start; i < start+n; i++ {
			do(i, trace[i%len(trace)])
		}
	}
	if !parallel {
		return all(part)
	}
	return all(func(n int) {
		var wg sync.WaitGroup
		p := runtime.GOMAXPROCS(0)
		for range p {
			wg.Go(func() { part((n + p - 1) / p) })
		}
		wg.Wait()
	})
}
