package presence

import (
	"context"
	"crypto/rand"
	"sync"
	"time"
)

// Memory is a [Board] within one process.
type Memory struct {
	now func() time.Time

	mu    sync.Mutex
	epoch string
	teams map[string]map[string]time.Time // by name of the lease, when it ends
}

// NewMemory returns an empty board. now is its clock; nil means time.Now.
func NewMemory(now func() time.Time) *Memory {
	if now == nil {
		now = time.Now
	}
	return &Memory{now: now, epoch: rand.Text(), teams: map[string]map[string]time.Time{}}
}

// Write implements [Board].
func (m *Memory) Write(_ context.Context, node string, leases []Lease) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	for _, l := range leases {
		t := m.teams[l.Team]
		if t == nil {
			t = map[string]time.Time{}
			m.teams[l.Team] = t
		}
		name := member(l.User, node)
		if _, ok := t[name]; ok || l.For > 0 && len(t) < leasesMost {
			t[name] = now.Add(l.For)
		}
		for name, ends := range t {
			if now.Sub(ends) > keep {
				delete(t, name)
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
	now := m.now()
	sheets := make([]Sheet, len(teams))
	for i, team := range teams {
		for name, ends := range m.teams[team] {
			sheets[i].Epoch = m.epoch
			sheets[i].add(name, ends.Sub(now))
		}
	}
	return sheets, nil
}
