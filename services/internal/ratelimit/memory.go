package ratelimit

import (
	"container/list"
	"sync"
)

// memory counts for one policy in this process. It holds at most most keys;
// beyond that, those used least recently are forgotten. It needs no goroutine:
// each call clears away a few that are over.
type memory struct {
	policy Policy
	most   int

	mu    sync.Mutex // guards what follows
	keys  map[string]*list.Element
	order *list.List // of *entry, used most recently first
}

type entry struct {
	key   string
	state state
	lease lease
}

// clearEachCall is how many keys that are over a call clears away at most: more
// than one, so that memory shrinks while it is used.
const clearEachCall = 4

func newMemory(p Policy, most int) *memory {
	return &memory{policy: p, most: most, keys: map[string]*list.Element{}, order: list.New()}
}

// take decides and counts at now, in µs.
func (m *memory) take(key string, now int64) Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.entry(key).state.take(m.policy, now)
	m.clear(now)
	return d
}

// entry needs mu.
func (m *memory) entry(key string) *entry {
	at, ok := m.keys[key]
	if ok {
		m.order.MoveToFront(at)
	} else {
		at = m.order.PushFront(&entry{key: key})
		m.keys[key] = at
	}
	return at.Value.(*entry)
}

// clear needs mu.
func (m *memory) clear(now int64) {
	for range clearEachCall {
		last := m.order.Back()
		e := last.Value.(*entry)
		if m.order.Len() <= m.most && (m.order.Len() == 1 || (e.lease.holds(now) || !e.state.over(m.policy, now))) {
			return
		}
		m.order.Remove(last)
		delete(m.keys, e.key)
	}
}

func (m *memory) len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.order.Len()
}
