package tiered

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// metrics are plain counters that observable instruments read when somebody
// collects: counting costs no SDK call.
type metrics struct {
	l2Hits, l2Misses        atomic.Uint64
	loads, loadErrors       atomic.Uint64
	loadNanos               atomic.Uint64
	coalesced               atomic.Uint64
	fenced                  atomic.Uint64 // loads not stored for a write in between
	invalidations, received atomic.Uint64
	gaps, revalidated       atomic.Uint64
	corrupt                 atomic.Uint64
	opened                  atomic.Uint64
	stale, timeouts         atomic.Uint64
	renewals                atomic.Uint64
	replayed                atomic.Uint64

	registration metric.Registration
}

// register fails only if the meter refuses a name.
func (m *metrics) register(s *Store, meter metric.Meter) error {
	type reading struct {
		name, unit, help string
		attrs            metric.MeasurementOption
		read             func() int64
	}
	none := metric.WithAttributeSet(attribute.NewSet())
	tier := func(t string) metric.MeasurementOption {
		return metric.WithAttributeSet(attribute.NewSet(attribute.String("tier", t)))
	}
	count := func(c *atomic.Uint64) func() int64 { return func() int64 { return int64(c.Load()) } }
	counters := []reading{
		{"tiered.hits", "{hit}", "Reads served, by tier.", tier("l1"), func() int64 { return int64(s.Stats().L1Hits) }},
		{"tiered.hits", "{hit}", "Reads served, by tier.", tier("l2"), count(&m.l2Hits)},
		{"tiered.misses", "{miss}", "Reads not served, by tier.", tier("l1"), func() int64 { return int64(s.Stats().L1Misses) }},
		{"tiered.misses", "{miss}", "Reads not served, by tier.", tier("l2"), count(&m.l2Misses)},
		{"tiered.loads", "{load}", "Loader calls.", none, count(&m.loads)},
		{"tiered.load.errors", "{load}", "Loader calls that failed.", none, count(&m.loadErrors)},
		{"tiered.load.time", "us", "Time spent in loaders.", none, func() int64 { return int64(m.loadNanos.Load() / 1000) }},
		{"tiered.coalesced", "{call}", "Calls that waited for another's load.", none, count(&m.coalesced)},
		{"tiered.fenced", "{load}", "Loads not stored because of a write in between.", none, count(&m.fenced)},
		{"tiered.invalidations", "{invalidation}", "Keys and tags invalidated here.", none, count(&m.invalidations)},
		{"tiered.messages", "{message}", "Invalidations received from other processes.", none, count(&m.received)},
		{"tiered.gaps", "{gap}", "Times the backplane was lost.", none, count(&m.gaps)},
		{"tiered.revalidations", "{entry}", "Suspect entries found current by a header read.", none, count(&m.revalidated)},
		{"tiered.corrupt", "{entry}", "Entries in Redis that were damaged, foreign or of another schema.", none, count(&m.corrupt)},
		{"tiered.stale", "{read}", "Reads served past their TTL by FailSafe.", none, count(&m.stale)},
		{"tiered.refreshes", "{load}", "Refreshes of values that had not expired.", none, count(&m.renewals)},
		{"tiered.timeouts", "{call}", "Calls that got ErrTimeout.", none, count(&m.timeouts)},
		{"tiered.breaker.opened", "{time}", "Times the breaker opened.", none, count(&m.opened)},
		{"tiered.replayed", "{write}", "Lost writes that Redis was told of later.", none, count(&m.replayed)},
	}
	gauges := []reading{
		{"tiered.recovery.queue", "{write}", "Writes that Redis has not been told of.", none, s.lost.size.Load},
		{"tiered.l1.size", "By", "Memory tier in use.", none, func() int64 { return int64(s.Stats().L1Bytes) }},
		{"tiered.coherent", "1", "1 while invalidations of other processes arrive.", none,
			func() int64 { return int64(1 - s.epoch.Load()%2) }},
	}
	instruments := make(map[string]metric.Int64Observable)
	for _, r := range counters {
		if instruments[r.name] != nil {
			continue
		}
		i, err := meter.Int64ObservableCounter(r.name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
		if err != nil {
			return fmt.Errorf("make metric %s: %w", r.name, err)
		}
		instruments[r.name] = i
	}
	for _, r := range gauges {
		i, err := meter.Int64ObservableGauge(r.name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
		if err != nil {
			return fmt.Errorf("make metric %s: %w", r.name, err)
		}
		instruments[r.name] = i
	}
	all := slices.Concat(counters, gauges)
	list := make([]metric.Observable, 0, len(instruments))
	for _, i := range instruments {
		list = append(list, i)
	}
	reg, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, r := range all {
			o.ObserveInt64(instruments[r.name], r.read(), r.attrs)
		}
		return nil
	}, list...)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	m.registration = reg
	return nil
}

func (m *metrics) unregister() {
	if m.registration != nil {
		_ = m.registration.Unregister() // the meter is going away with its provider
	}
}

// Stats counts what a store has done since it was opened.
type Stats struct {
	L1Hits, L1Misses uint64
	L2Hits, L2Misses uint64
	Loads            uint64 // loader calls
	LoadErrors       uint64 // not counting ErrNotFound
	Coalesced        uint64 // calls that waited for another's load or read
	Fenced           uint64 // loads not stored because of a write in between
	Corrupt          uint64 // entries in Redis taken for misses
	Revalidated      uint64 // suspect entries found current
	Gaps             uint64 // times the backplane was lost
	Replayed         uint64 // lost writes that Redis was told of later
	Stale            uint64 // reads served past their TTL by FailSafe
	Timeouts         uint64 // calls that got ErrTimeout
	Refreshes        uint64 // of values that had not expired
	L1Bytes          uint64
	L1Evicted        uint64
}

// Stats returns the counters of all caches of the store.
func (s *Store) Stats() Stats {
	m := s.metrics
	st := Stats{
		L2Hits: m.l2Hits.Load(), L2Misses: m.l2Misses.Load(),
		Loads: m.loads.Load(), LoadErrors: m.loadErrors.Load(), Coalesced: m.coalesced.Load(),
		Fenced: m.fenced.Load(), Corrupt: m.corrupt.Load(), Revalidated: m.revalidated.Load(),
		Gaps: m.gaps.Load(), Replayed: m.replayed.Load(),
		Stale: m.stale.Load(), Timeouts: m.timeouts.Load(), Refreshes: m.renewals.Load(),
	}
	s.mu.RLock()
	for _, c := range s.caches {
		hits, misses := c.readers().counts()
		st.L1Hits += hits
		st.L1Misses += misses
	}
	s.mu.RUnlock()
	if s.l1 != nil {
		st.L1Bytes, st.L1Evicted = uint64(max(s.l1.bytes(), 0)), s.l1.evicted.Load()
	}
	return st
}
