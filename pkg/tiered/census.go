package tiered

// pass visits every record in memory. One that is there all the time is visited
// once. No lock is held: visit sees what comes and goes meanwhile or does not,
// and may see what has gone when a table was left for a larger one.
func (l *local) pass(visit func(hash uint64, r *record) (stop bool)) {
	for i := range l.index.shards {
		for hash, r := range l.index.shards[i].table.Load().all() {
			if visit(hash, r) {
				return
			}
		}
	}
}

// held is what one namespace has in memory.
type held struct{ entries, bytes uint64 }

// census counts what each namespace, by its reserved tag, has in memory that
// may still be served.
func (s *Store) census() map[*tagCell]held {
	all := make(map[*tagCell]held)
	if s.l1 == nil {
		return all
	}
	now := s.time.nanos()
	s.l1.pass(func(_ uint64, r *record) bool {
		if now >= r.ends() || !r.ns.valid() {
			return false
		}
		h := all[r.ns.cell]
		h.entries++
		h.bytes += uint64(r.cost())
		all[r.ns.cell] = h
		return false
	})
	return all
}
