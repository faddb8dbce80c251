package bench

// ratioTable plays a trace to every cache of so many entries and returns the
// shares of hits, in percent. A miss sets the key. Caches that write in the
// background are waited for every 200 reads, so that it is their policy that is
// compared and not their queue.
func ratioTable(trace []int, entries int, wanted func(name string) bool) (names []string, percent []float64) {
	for _, p := range peers[int]() {
		if p.name == "sync.Map" || p.name == "map + RWMutex" || p.name == "ristretto, TTL" || p.name == "otter, TTL, coarse clock" || !wanted(p.name) {
			continue // unbounded, or the same policy again
		}
		s := p.open(entries, func(k int) int { return k })
		hits := 0
		for i, k := range trace {
			if s.get(k) {
				hits++
			} else {
				s.set(k, k)
			}
			if s.wait != nil && i%200 == 199 {
				s.wait()
			}
		}
		s.close()
		names = append(names, p.name)
		percent = append(percent, 100*float64(hits)/float64(len(trace)))
	}
	return names, percent
}
