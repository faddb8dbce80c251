package bench

import "runtime"

// memoryTable is how many bytes of heap an entry takes, beyond its payload of
// so many bytes, when there are so many of them.
func memoryTable(entries, payload int, wanted func(name string) bool) (names []string, overhead []float64) {
	for _, p := range peers[[]byte]() {
		if p.name == "otter, TTL, coarse clock" || !wanted(p.name) {
			continue
		}
		before := heap()
		s := p.open(entries+entries/4, func(int) []byte { return make([]byte, payload) })
		for k := range entries {
			s.set(k, make([]byte, payload))
			if s.wait != nil && k%2000 == 0 {
				s.wait()
			}
		}
		if s.wait != nil {
			s.wait()
		}
		kept := 0
		for k := range entries {
			if s.get(k) {
				kept++
			}
		}
		took := float64(heap() - before)
		names = append(names, p.name)
		overhead = append(overhead, took/float64(kept)-float64(payload))
		s.close()
		runtime.KeepAlive(s)
	}
	return names, overhead
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
