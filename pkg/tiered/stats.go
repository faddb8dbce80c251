package tiered

import (
	"sync/atomic"
	"time"
)

// CorruptReason says why an entry in Redis is of no use. It is a miss then.
type CorruptReason string

// The reasons.
const (
	CorruptDamaged CorruptReason = "damaged" // not an entry, or its checksum is wrong
	CorruptForeign CorruptReason = "foreign" // a sound entry of another key
	CorruptFuture  CorruptReason = "future"  // its version is more than a day ahead
	CorruptSchema  CorruptReason = "schema"  // another schema number than WithCodec's
	CorruptCodec   CorruptReason = "codec"   // another codec than WithCodec's
	CorruptValue   CorruptReason = "value"   // the codec cannot decode it
)

// corruptReasons are in the order of their index.
var corruptReasons = [...]CorruptReason{
	CorruptDamaged, CorruptForeign, CorruptFuture, CorruptSchema, CorruptCodec, CorruptValue,
}

func (r CorruptReason) index() int {
	for i, have := range corruptReasons {
		if have == r {
			return i
		}
	}
	return 0
}

// counters are what one namespace has done. Counting costs an atomic addition,
// and nothing on a hit in memory, whose counters are striped.
type counters struct {
	name              string
	keyOf             func(*record) string // of a record of this namespace
	l2Hits, l2Misses  atomic.Uint64
	loads, loadErrors atomic.Uint64
	loadNanos         atomic.Uint64
	coalesced         atomic.Uint64
	fenced            atomic.Uint64 // loads not stored for a write in between
	invalidations     atomic.Uint64
	revalidated       atomic.Uint64
	corrupt           [len(corruptReasons)]atomic.Uint64
	stale, timeouts   atomic.Uint64
	renewals          atomic.Uint64
	evicted           atomic.Uint64
}

// CacheStats counts what a cache has done since it was made. All numbers but
// L1Bytes and Entries only grow, and each is read by itself: two may differ by
// what happened in between. Rates and windows are the caller's business: take
// the difference of two readings.
type CacheStats struct {
	L1Hits         uint64        `json:"l1_hits"`         // reads served by memory
	L1Misses       uint64        `json:"l1_misses"`       // reads that memory could not serve
	L2Hits         uint64        `json:"l2_hits"`         // reads served by Redis
	L2Misses       uint64        `json:"l2_misses"`       // reads that Redis could not serve
	Loads          uint64        `json:"loads"`           // loader calls
	LoadErrors     uint64        `json:"load_errors"`     // not counting ErrNotFound
	LoadTime       time.Duration `json:"load_time_ns"`    // sum over all loader calls
	Coalesced      uint64        `json:"coalesced"`       // calls that waited for another's load or read
	Stale          uint64        `json:"stale"`           // reads served past their TTL by FailSafe
	Timeouts       uint64        `json:"timeouts"`        // calls that got ErrTimeout
	Refreshes      uint64        `json:"refreshes"`       // loads of values that had not expired
	Fenced         uint64        `json:"fenced"`          // loads not stored because of a write in between
	Invalidations  uint64        `json:"invalidations"`   // Delete, Clear and InvalidatePrefix
	Revalidated    uint64        `json:"revalidated"`     // suspect entries found current by a header read
	Corrupt        uint64        `json:"corrupt"`         // entries in Redis taken for misses, by reason:
	CorruptDamaged uint64        `json:"corrupt_damaged"` // see CorruptDamaged
	CorruptForeign uint64        `json:"corrupt_foreign"` // see CorruptForeign
	CorruptFuture  uint64        `json:"corrupt_future"`  // see CorruptFuture
	CorruptSchema  uint64        `json:"corrupt_schema"`  // see CorruptSchema
	CorruptCodec   uint64        `json:"corrupt_codec"`   // see CorruptCodec
	CorruptValue   uint64        `json:"corrupt_value"`   // see CorruptValue
	L1Evicted      uint64        `json:"l1_evicted"`      // entries that memory gave up for others
	Entries        uint64        `json:"entries"`         // in memory now
	L1Bytes        uint64        `json:"l1_bytes"`        // of them, as counted by WithCost or estimated
}

// Stats counts what a store has done since it was opened: the sums over its
// caches, and what belongs to none of them.
type Stats struct {
	CacheStats

	L1Capacity       uint64        `json:"l1_capacity_bytes"` // WithL1
	TagInvalidations uint64        `json:"tag_invalidations"` // tags invalidated by this process
	Messages         uint64        `json:"messages"`          // invalidations received from other processes
	Tracked          uint64        `json:"tracked"`           // keys that Redis reported as changed, by whomever; with Tracking
	Checks           uint64        `json:"tracking_checks"`   // own writes and tags checked after such a report
	Gaps             uint64        `json:"gaps"`              // times that invalidations of others may have been missed
	Lag              time.Duration `json:"lag_ns"`            // since the canary was heard; 0 without Redis
	Recovery         uint64        `json:"recovery_queue"`    // writes that Redis has not been told of
	Replayed         uint64        `json:"replayed"`          // lost writes that Redis was told of later
	Queued           uint64        `json:"queued"`            // loads that waited for their turn while Redis was away
	Queue            uint64        `json:"queue"`             // loads that wait for it now
	Breaker          string        `json:"breaker"`           // "closed", "half-open", "open"; "" without Redis
	Failovers        uint64        `json:"failovers"`         // times that Redis was found with another master
	BreakerOpened    uint64        `json:"breaker_opened"`    // times that it opened
	HooksDropped     uint64        `json:"hooks_dropped"`     // events that no hook was told of
	HookPanics       uint64        `json:"hook_panics"`
}

// Stats returns the cache's counters. Counting the entries passes over the
// memory of the whole store, some 20 ns for each entry; nothing waits for it.
func (c *Cache[K, V]) Stats() CacheStats {
	st := c.counted()
	if c.s.l1 != nil {
		have := c.s.census()[c.ns]
		st.Entries, st.L1Bytes = have.entries, have.bytes
	}
	return st
}

// counted is Stats without what must be looked for.
func (c *Cache[K, V]) counted() CacheStats {
	m := c.m
	st := CacheStats{
		L2Hits: m.l2Hits.Load(), L2Misses: m.l2Misses.Load(),
		Loads: m.loads.Load(), LoadErrors: m.loadErrors.Load(), LoadTime: time.Duration(min(m.loadNanos.Load(), 1<<63-1)),
		Coalesced: m.coalesced.Load(), Stale: m.stale.Load(), Timeouts: m.timeouts.Load(), Refreshes: m.renewals.Load(),
		Fenced: m.fenced.Load(), Invalidations: m.invalidations.Load(), Revalidated: m.revalidated.Load(), L1Evicted: m.evicted.Load(),
		CorruptDamaged: m.corrupt[0].Load(), CorruptForeign: m.corrupt[1].Load(), CorruptFuture: m.corrupt[2].Load(),
		CorruptSchema: m.corrupt[3].Load(), CorruptCodec: m.corrupt[4].Load(), CorruptValue: m.corrupt[5].Load(),
	}
	st.Corrupt = st.CorruptDamaged + st.CorruptForeign + st.CorruptFuture + st.CorruptSchema + st.CorruptCodec + st.CorruptValue
	st.L1Hits, st.L1Misses = c.reads.counts()
	return st
}

func (a *CacheStats) add(b CacheStats) {
	a.L1Hits += b.L1Hits
	a.L1Misses += b.L1Misses
	a.L2Hits += b.L2Hits
	a.L2Misses += b.L2Misses
	a.Loads += b.Loads
	a.LoadErrors += b.LoadErrors
	a.LoadTime += b.LoadTime
	a.Coalesced += b.Coalesced
	a.Stale += b.Stale
	a.Timeouts += b.Timeouts
	a.Refreshes += b.Refreshes
	a.Fenced += b.Fenced
	a.Invalidations += b.Invalidations
	a.Revalidated += b.Revalidated
	a.Corrupt += b.Corrupt
	a.CorruptDamaged += b.CorruptDamaged
	a.CorruptForeign += b.CorruptForeign
	a.CorruptFuture += b.CorruptFuture
	a.CorruptSchema += b.CorruptSchema
	a.CorruptCodec += b.CorruptCodec
	a.CorruptValue += b.CorruptValue
	a.L1Evicted += b.L1Evicted
}

// Stats returns the counters of the store and all its caches. L1Bytes is what
// ristretto counts against WithL1, with what has expired or was deleted and is
// not swept yet. See [Cache.Stats] for the cost.
func (s *Store) Stats() Stats {
	m := s.metrics
	st := Stats{
		TagInvalidations: m.tagInvalidations.Load(), Messages: m.received.Load(), Gaps: m.gaps.Load(), Tracked: m.tracked.Load(), Checks: m.checks.Load(),
		Queued: m.queued.Load(), Queue: uint64(max(m.queue.Load(), 0)), Replayed: m.replayed.Load(), Recovery: uint64(max(s.lost.size.Load(), 0)), BreakerOpened: m.opened.Load(), Failovers: m.failovers.Load(),
		HooksDropped: s.hooks.dropped.Load(), HookPanics: s.hooks.panics.Load(),
	}
	h := s.Health()
	st.Breaker, st.Lag = h.Breaker, h.Lag
	for _, c := range s.namespaces() {
		st.add(c.counted())
	}
	if s.l1 != nil {
		for _, n := range s.census() {
			st.Entries += n.entries
		}
		st.L1Bytes, st.L1Capacity = uint64(max(s.l1.bytes(), 0)), uint64(s.l1.max)
	}
	return st
}

// namespaces are the store's caches, in no order.
func (s *Store) namespaces() []namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]namespace, 0, len(s.caches))
	for _, c := range s.caches {
		all = append(all, c)
	}
	return all
}
