package admin

import (
	"sync"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// The history of a process: an hour of samples.
const (
	SampleEvery = 10 * time.Second
	samplesKept = 360
)

// Sample is what happened since the sample before, and how things stood at its
// time.
type Sample struct {
	At time.Time `json:"at"`

	Reads      uint64 `json:"reads" doc:"Reads of the cache since the sample before."`
	L1Hits     uint64 `json:"l1_hits" doc:"Of the reads, those served by memory."`
	L2Hits     uint64 `json:"l2_hits" doc:"Of the reads, those served by Redis."`
	Loads      uint64 `json:"loads" doc:"Times that a value was made anew."`
	LoadErrors uint64 `json:"load_errors"`
	Stale      uint64 `json:"stale" doc:"Reads served past their time because nothing newer was to be had."`

	Entries  uint64        `json:"entries" doc:"In memory."`
	L1Bytes  uint64        `json:"l1_bytes" doc:"Of them."`
	Breaker  string        `json:"breaker" doc:"closed, half-open or open; empty without Redis."`
	Coherent bool          `json:"coherent" doc:"Whether invalidations of other processes arrive."`
	Lag      time.Duration `json:"lag_ns" doc:"Since the canary of the backplane was heard; 0 without Redis."`

	RedisUp    bool  `json:"redis_up"`
	RedisBytes int64 `json:"redis_bytes" doc:"Memory that Redis uses; 0 if it did not say."`
	PoolUsed   int64 `json:"pool_used" doc:"Connections in use."`
	PoolIdle   int64 `json:"pool_idle"`
}

// history is a ring of samples.
type history struct {
	mu     sync.Mutex
	ring   [samplesKept]Sample
	taken  int // ever
	before tiered.CacheStats
}

// Sample notes how the cache and Redis are. [Panel.Run] calls it.
func (p *Panel) Sample() {
	st, h := p.c.Cache.Stats(), p.c.Cache.Health()
	s := Sample{
		At: p.c.Now().UTC(), Entries: st.Entries, L1Bytes: st.L1Bytes,
		Breaker: st.Breaker, Coherent: h.Coherent, Lag: st.Lag,
	}
	if r := p.c.Redis; r != nil && r.Client() != nil {
		rep := r.Report()
		s.RedisUp = rep.Details.Connectivity
		if m := rep.Metrics.Memory; m != nil && s.RedisUp {
			s.RedisBytes = m.UsedBytes
		}
		s.PoolIdle = rep.Metrics.IdleConnections
		s.PoolUsed = max(rep.Metrics.ActiveConnections-s.PoolIdle, 0)
	}
	p.history.add(s, st.CacheStats)
}

// add completes a sample by what has happened since the one before.
func (h *history) add(s Sample, now tiered.CacheStats) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.before
	h.before = now
	s.L1Hits, s.L2Hits = now.L1Hits-was.L1Hits, now.L2Hits-was.L2Hits
	s.Reads = s.L1Hits + now.L1Misses - was.L1Misses
	s.Loads, s.LoadErrors, s.Stale = now.Loads-was.Loads, now.LoadErrors-was.LoadErrors, now.Stale-was.Stale
	h.ring[h.taken%samplesKept] = s
	h.taken++
}

// samples returns what is kept, the oldest first.
func (h *history) samples() []Sample {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := min(h.taken, samplesKept)
	list := make([]Sample, 0, n)
	for i := h.taken - n; i < h.taken; i++ {
		list = append(list, h.ring[i%samplesKept])
	}
	return list
}
