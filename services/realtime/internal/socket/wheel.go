package socket

import "time"

// wheel holds connections by when something is due for them, so that thousands
// of them need one timer. Server.mu guards it.
type wheel struct {
	tick  time.Duration
	slots []map[*conn]struct{}
	now   int
}

const wheelSlots = 256

func newWheel(tick time.Duration) wheel {
	return wheel{tick: tick, slots: make([]map[*conn]struct{}, wheelSlots)}
}

// put files c under when; what is further away than a turn comes up earlier,
// and is filed again.
func (w *wheel) put(c *conn, when time.Time) {
	n := int(time.Until(when)/w.tick) + 1
	c.due = (w.now + min(max(n, 1), wheelSlots-1)) % wheelSlots
	if w.slots[c.due] == nil {
		w.slots[c.due] = map[*conn]struct{}{}
	}
	w.slots[c.due][c] = struct{}{}
}

func (w *wheel) drop(c *conn) { delete(w.slots[c.due], c) }

// turn ticks until the server is closed.
func (s *Server) turn() {
	t := time.NewTicker(s.c.Tick)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		s.mu.Lock()
		s.wheel.now = (s.wheel.now + 1) % wheelSlots
		due := s.wheel.slots[s.wheel.now]
		s.wheel.slots[s.wheel.now] = nil
		s.mu.Unlock()
		now := time.Now()
		for c := range due {
			next := c.tick(now)
			s.mu.Lock()
			if s.conns[c.number] != nil {
				s.wheel.put(c, next)
			}
			s.mu.Unlock()
		}
	}
}
