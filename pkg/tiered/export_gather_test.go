package tiered

import "time"

// Together has no write go to Redis alone: each waits a moment for others.
func Together() Option { return func(o *config) { o.together = true } }

// HoldSets keeps Sets from being sent until release. It must come before any.
func (s *Store) HoldSets() (release func()) {
	g := s.l2.sets
	g.wait = time.Hour
	for range cap(g.slots) {
		g.slots <- struct{}{}
	}
	return func() {
		for range cap(g.slots) {
			<-g.slots
		}
	}
}

// HeldSets are those that wait.
func (s *Store) HeldSets() int {
	s.l2.sets.mu.Lock()
	defer s.l2.sets.mu.Unlock()
	return len(s.l2.sets.queue)
}
