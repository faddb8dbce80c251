package socket

import "time"

// wheel holds connections by when something is due for them, so that thousands
// of them need one timer. Each slot is a ring of connections, linked by
// themselves. Server.mu guards it.
type wheel struct {
	tick  time.Duration
	slots []*conn // one of each ring
	now   int
}

// spoke is where a connection is in the wheel.
type spoke struct {
	slot       int32
	next, last *conn // in the ring; nil: it is in none
}

const wheelSlots = 256

func newWheel(tick time.Duration) wheel {
	return wheel{tick: tick, slots: make([]*conn, wheelSlots)}
}

// put files c, which is not filed, under a time to come; what is further away
// than a turn comes up earlier, and is filed again.
func (w *wheel) put(c *conn, in time.Duration) {
	n := int(in/w.tick) + 1
	slot := (w.now + min(max(n, 1), wheelSlots-1)) % wheelSlots
	c.spoke = spoke{slot: int32(slot), next: c, last: c} // less than 256
	if o := w.slots[slot]; o != nil {
		c.spoke.next, c.spoke.last = o, o.spoke.last
		c.spoke.last.spoke.next, o.spoke.last = c, c
	}
	w.slots[slot] = c
}

func (w *wheel) filed(c *conn) bool { return c.spoke.next != nil }

// drop takes c out, if it is filed.
func (w *wheel) drop(c *conn) {
	if !w.filed(c) {
		return
	}
	at := c.spoke
	c.spoke = spoke{}
	if at.next == c { // it was alone
		w.slots[at.slot] = nil
		return
	}
	at.next.spoke.last, at.last.spoke.next = at.last, at.next
	if w.slots[at.slot] == c {
		w.slots[at.slot] = at.next
	}
}

// advance turns the wheel by one slot, and appends who was filed there to due.
func (w *wheel) advance(due []*conn) []*conn {
	w.now = (w.now + 1) % wheelSlots
	for c := w.slots[w.now]; c != nil; c = w.slots[w.now] {
		w.drop(c)
		due = append(due, c)
	}
	return due
}

// turn ticks until the server is closed.
func (s *Server) turn() {
	t := time.NewTicker(s.c.Tick)
	defer t.Stop()
	var due []*conn
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		}
		s.mu.Lock()
		due = s.wheel.advance(due[:0])
		s.mu.Unlock()
		now := s.moment(time.Now())
		for i, c := range due {
			next := c.tick(now)
			due[i] = nil
			s.mu.Lock()
			if s.conns[c.number] != nil && !s.wheel.filed(c) { // it may have been, by endAt
				s.wheel.put(c, next.after(now))
			}
			s.mu.Unlock()
		}
	}
}
