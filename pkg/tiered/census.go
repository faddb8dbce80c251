package tiered

// pass visits every cell in memory: first those that ristretto may not have
// taken yet, then ristretto's own. A cell that is there all the time is visited
// once. visit is called under the lock of one part in 256, so it must be short
// and lock nothing; readers do not wait for it.
func (l *local) pass(visit func(*cell) (stop bool)) {
	l.passes.Add(1) // Close awaits it
	defer l.passes.Add(-1)
	if l.closed.Load() {
		return
	}
	seen := make(map[*cell]struct{})
	for _, p := range l.unsettled() {
		if p.each(func(c *cell) bool {
			if _, ok := seen[c]; ok {
				return false
			}
			seen[c] = struct{}{}
			return visit(c)
		}) {
			return
		}
	}
	l.rc.IterValues(func(c *cell) bool {
		if len(seen) > 0 {
			if _, ok := seen[c]; ok {
				return false
			}
		}
		return visit(c)
	})
}

// unsettled are the cells that ristretto may not have taken. The current ones
// come first: they become the old ones, not the other way.
func (l *local) unsettled() [2]*pending {
	cur := l.cur.Load()
	return [2]*pending{cur, l.old.Load()}
}

// each visits the cells of a map that others may be writing to.
func (p *pending) each(visit func(*cell) (stop bool)) (stopped bool) {
	if p.count.Load() == 0 {
		return false
	}
	for i := range p.shards {
		s := &p.shards[i]
		s.mu.RLock()
		for _, c := range s.m {
			if visit(c) {
				s.mu.RUnlock()
				return true
			}
		}
		s.mu.RUnlock()
	}
	return false
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
	s.l1.pass(func(c *cell) bool {
		r := c.rec.Load()
		if r == nil || now >= max(r.expires, r.hard) || !r.ns.valid() {
			return false
		}
		h := all[r.ns.cell]
		h.entries++
		h.bytes += uint64(max(r.cost, 0))
		all[r.ns.cell] = h
		return false
	})
	return all
}
