package bench

import (
	"context"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// hitTable measures reads of keys that are all in memory.
func hitTable(keys, percentReads int, parallel bool, count int, turn time.Duration) []result {
	trace := zipf(1, 1<<20, keys, 1.1)
	all := peers[int]()
	if percentReads == 100 {
		all = append(all, bytesPeers()...)
	}
	var subjects []subject
	for _, p := range all {
		s := p.open(2*keys, func(k int) int { return k })
		defer s.close()
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
		subjects = append(subjects, subject{p.name, spread(parallel, trace, func(i, k int) {
			if i%100 >= percentReads && s.set != nil {
				s.set(k, i)
			} else {
				s.get(k)
			}
		})})
	}
	if percentReads == 100 {
		st, c := memoryOnly[int](int64(keys)*2048, 0)
		defer closeStore(st)
		ctx := context.Background()
		for k := range keys {
			_ = c.Set(ctx, k, k)
		}
		never := func(_ context.Context, k int, _ *tiered.Load[int]) (int, error) { return k, nil }
		subjects = append(subjects, subject{"**tiered** GetOrLoad, TTL", spread(parallel, trace, func(_, k int) {
			_, _ = c.GetOrLoad(ctx, k, never)
		})})
	}
	runtime.GC()
	return rounds(count, turn, subjects)
}

// spread does operations by one goroutine, or by one for each processor.
func spread(parallel bool, trace []int, do func(i, k int)) func(n int) {
	var at atomic.Uint64
	part := func(n int) {
		start := int(at.Add(7919))
		for i := start; i < start+n; i++ {
			do(i, trace[i%len(trace)])
		}
	}
	if !parallel {
		return part
	}
	return func(n int) {
		var wg sync.WaitGroup
		p := runtime.GOMAXPROCS(0)
		for range p {
			wg.Go(func() { part((n + p - 1) / p) })
		}
		wg.Wait()
	}
}
