package presence

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// Memory is a [Board] within one process.
type Memory struct {
	now   func() time.Time
	began time.Time

	mu    sync.Mutex
	epoch string
	teams map[string]map[held]time.Duration // when a lease ends, since began
}

// held is a lease of a team.
type held struct{ user, node string }

// NewMemory returns an empty board. now is its clock; nil means time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, began: now(), epoch: rand.Text(), teams: map[string]map[held]time.Duration{}}
}

// Write implements [Board].
func (m *Memory) Write(_ context.Context, node string, leases []Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now().Sub(m.began)
	for _, l := range leases {
		t := m.teams[l.Team]
		if t == nil {
			t = map[held]time.Duration{}
			m.teams[l.Team] = t
		}
		lease := held{l.User, node}
		if _, ok := t[lease]; ok || l.For > 0 && len(t) < leasesMost {
			t[lease] = now + l.For
		}
		for lease, ends := range t {
			if now-ends > keep {
				delete(t, lease)
			}
		}
		if len(t) == 0 {
			delete(m.teams, l.Team)
		}
	}
	return nil
}

// Read implements [Board].
func (m *Memory) Read(_ context.Context, teams []string) ([]Sheet, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now().Sub(m.began)
	sheets := make([]Sheet, len(teams))
	for i, team := range teams {
		for lease, ends := range m.teams[team] {
			sheets[i].Epoch = m.epoch
			sheets[i].addUser(lease.user, ends-now)
		}
	}
	return sheets, nil
}
