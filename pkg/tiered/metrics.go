package tiered

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	mnoop "go.opentelemetry.io/otel/metric/noop"
)

// metrics are plain counters that observable instruments read when somebody
// collects: counting costs no SDK call. Only what takes far longer than one,
// loads and round trips, goes into a histogram as it happens. METRICS.md has
// the list; those of one namespace are its counters, see stats.go.
type metrics struct {
	tagInvalidations, received atomic.Uint64
	gaps                       atomic.Uint64
	tracked, checks            atomic.Uint64
	opened, failovers          atomic.Uint64
	replayed                   atomic.Uint64
	queued                     atomic.Uint64
	queue                      atomic.Int64

	loadTime, tripTime metric.Float64Histogram
	registration       metric.Registration
}

// durations are from what a Redis nearby takes to what a caller gives up at.
var durations = metric.WithExplicitBucketBoundaries(
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10)

// newMetrics makes the histograms; those that the meter refuses discard.
func newMetrics(meter metric.Meter) *metrics {
	m := &metrics{}
	var err error
	if m.loadTime, err = meter.Float64Histogram("tiered.load.duration", durations, metric.WithUnit("s"),
		metric.WithDescription("Time that loader calls took, by outcome.")); err != nil {
		m.loadTime = mnoop.Float64Histogram{}
	}
	if m.tripTime, err = meter.Float64Histogram("tiered.l2.duration", durations, metric.WithUnit("s"),
		metric.WithDescription("Time that round trips to Redis took, by operation and outcome.")); err != nil {
		m.tripTime = mnoop.Float64Histogram{}
	}
	return m
}

func (m *metrics) loadTook(ctx context.Context, c *counters, d time.Duration, err error) {
	var panicked *PanicError
	outcome := "ok"
	switch {
	case err == nil:
	case errors.Is(err, ErrNotFound):
		outcome = "not_found"
	case errors.As(err, &panicked):
		outcome = "panic"
	default:
		outcome = "error"
	}
	m.loadTime.Record(ctx, d.Seconds(), metric.WithAttributeSet(attribute.NewSet(
		attribute.String("namespace", c.name), attribute.String("outcome", outcome))))
}

func (m *metrics) tripTook(ctx context.Context, op string, d time.Duration, err error) {
	outcome := "ok"
	switch {
	case err == nil, errors.Is(err, redis.Nil):
	case errors.Is(err, errCaller), ctx.Err() != nil:
		outcome = "canceled"
	case errorType(err) == "timeout":
		outcome = "timeout"
	default:
		outcome = "error"
	}
	m.tripTime.Record(ctx, d.Seconds(), metric.WithAttributeSet(attribute.NewSet(
		attribute.String("operation", op), attribute.String("outcome", outcome))))
}

// reading is one series of an observable instrument.
type reading struct {
	name, unit, help string
	gauge            bool
	attrs            []attribute.KeyValue
	read             func() int64
	seconds          func() float64 // instead of read
}

// readings are those of the store.
func (s *Store) readings() []reading {
	m := s.metrics
	count := func(c *atomic.Uint64) func() int64 { return func() int64 { return int64(c.Load()) } }
	all := []reading{
		{name: "tiered.tag.invalidations", unit: "{tag}", help: "Tags invalidated by this process.", read: count(&m.tagInvalidations)},
		{name: "tiered.messages", unit: "{message}", help: "Invalidations received from other processes.", read: count(&m.received)},
		{name: "tiered.tracked", unit: "{key}", help: "Keys that Redis reported as changed, by whomever, with Tracking.", read: count(&m.tracked)},
		{name: "tiered.tracking.checks", unit: "{key}", help: "Own writes and tags that were checked after such a report.", read: count(&m.checks)},
		{name: "tiered.gaps", unit: "{gap}", help: "Times that invalidations of other processes may have been missed.", read: count(&m.gaps)},
		{name: "tiered.replayed", unit: "{write}", help: "Lost writes that Redis was told of later.", read: count(&m.replayed)},
		{name: "tiered.queued", unit: "{load}", help: "Loads that waited for their turn while Redis was away.", read: count(&m.queued)},
		{name: "tiered.queue", unit: "{load}", help: "Loads that wait for their turn while Redis is away.", gauge: true, read: m.queue.Load},
		{name: "tiered.failovers", unit: "{time}", help: "Times that Redis was found with another master.", read: count(&m.failovers)},
		{name: "tiered.breaker.opened", unit: "{time}", help: "Times that the breaker opened.", read: count(&m.opened)},
		{name: "tiered.hooks.dropped", unit: "{event}", help: "Events that no hook was told of, for the queue was full.", read: count(&s.hooks.dropped)},
		{name: "tiered.hooks.panics", unit: "{panic}", help: "Hooks that panicked.", read: count(&s.hooks.panics)},
		{name: "tiered.recovery.queue", unit: "{write}", help: "Writes that Redis has not been told of.", gauge: true,
			read: s.lost.size.Load},
		{name: "tiered.async.queue", unit: "{write}", help: "Writes of Async that Redis is still to be told of.", gauge: true,
			read: s.outbox.size.Load},
		{name: "tiered.coherent", unit: "{state}", help: "1 while invalidations of other processes arrive, else 0.", gauge: true,
			read: func() int64 {
				if s.listening() {
					return 1
				}
				return 0
			}},
	}
	if s.l1 != nil {
		all = append(all,
			reading{name: "tiered.l1.size", unit: "By", help: "Memory in use, with what is not swept yet.", gauge: true,
				read: func() int64 { return max(s.l1.bytes(), 0) }},
			reading{name: "tiered.l1.capacity", unit: "By", help: "Memory that may be used.", gauge: true,
				read: func() int64 { return s.l1.max }})
	}
	if s.l2 == nil {
		return all
	}
	all = append(all, reading{name: "tiered.backplane.lag", unit: "s", help: "Time since the canary was last heard; one beat a second.", gauge: true,
		seconds: func() float64 { return s.Health().Lag.Seconds() }})
	for _, state := range []gobreaker.State{gobreaker.StateClosed, gobreaker.StateHalfOpen, gobreaker.StateOpen} {
		all = append(all, reading{name: "tiered.breaker.state", unit: "{state}", help: "1 for the state that the breaker is in, else 0.", gauge: true,
			attrs: []attribute.KeyValue{attribute.String("state", state.String())},
			read: func() int64 {
				if gobreaker.State(s.l2.breaker.state.Load()) == state {
					return 1
				}
				return 0
			}})
	}
	return all
}

// spaceReadings are those of a namespace.
func spaceReadings(name string, st CacheStats, have held, l1, l2 bool) []reading {
	var all []reading
	add := func(metric, unit, help string, gauge bool, v uint64, attrs ...attribute.KeyValue) {
		all = append(all, reading{name: metric, unit: unit, help: help, gauge: gauge,
			attrs: append(attrs, attribute.String("namespace", name)), read: func() int64 { return int64(v) }})
	}
	tier := func(t string) attribute.KeyValue { return attribute.String("tier", t) }
	if l1 {
		add("tiered.hits", "{hit}", "Reads served, by tier.", false, st.L1Hits, tier("l1"))
		add("tiered.misses", "{miss}", "Reads not served, by tier.", false, st.L1Misses, tier("l1"))
		add("tiered.l1.evictions", "{entry}", "Entries that memory gave up for others.", false, st.L1Evicted)
		add("tiered.l1.entries", "{entry}", "Entries in memory.", true, have.entries)
		add("tiered.l1.entries.size", "By", "Memory of the entries.", true, have.bytes)
	}
	if l2 {
		add("tiered.hits", "{hit}", "Reads served, by tier.", false, st.L2Hits, tier("l2"))
		add("tiered.misses", "{miss}", "Reads not served, by tier.", false, st.L2Misses, tier("l2"))
		for i, n := range []uint64{st.CorruptDamaged, st.CorruptForeign, st.CorruptFuture, st.CorruptSchema, st.CorruptCodec, st.CorruptValue} {
			add("tiered.corrupt", "{entry}", "Entries in Redis taken for misses, by reason.", false, n,
				attribute.String("reason", string(corruptReasons[i])))
		}
	}
	add("tiered.loads", "{load}", "Loader calls.", false, st.Loads)
	add("tiered.load.errors", "{load}", "Loader calls that failed.", false, st.LoadErrors)
	add("tiered.coalesced", "{call}", "Calls that waited for another's load or read.", false, st.Coalesced)
	add("tiered.stale", "{read}", "Reads served past their TTL by FailSafe.", false, st.Stale)
	add("tiered.timeouts", "{call}", "Calls that got ErrTimeout.", false, st.Timeouts)
	add("tiered.refreshes", "{load}", "Loads of values that had not expired.", false, st.Refreshes)
	add("tiered.fenced", "{load}", "Loads not stored because of a write in between.", false, st.Fenced)
	add("tiered.invalidations", "{call}", "Deletes, clears and prefix invalidations by this process.", false, st.Invalidations)
	add("tiered.revalidations", "{entry}", "Suspect entries found current by a header read.", false, st.Revalidated)
	return all
}

// register fails only if the meter refuses a name.
func (m *metrics) register(s *Store, meter metric.Meter) error {
	known := append(s.readings(), spaceReadings("", CacheStats{}, held{}, true, true)...)
	whole := make(map[string]metric.Int64Observable)
	var seconds metric.Float64Observable
	var list []metric.Observable
	for _, r := range known {
		if whole[r.name] != nil {
			continue
		}
		var made metric.Observable
		var err error
		switch {
		case r.seconds != nil:
			seconds, err = meter.Float64ObservableGauge(r.name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
			made = seconds
		case r.gauge:
			whole[r.name], err = meter.Int64ObservableGauge(r.name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
			made = whole[r.name]
		default:
			whole[r.name], err = meter.Int64ObservableCounter(r.name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
			made = whole[r.name]
		}
		if err != nil {
			return fmt.Errorf("make metric %s: %w", r.name, err)
		}
		list = append(list, made)
	}
	reg, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		observe := func(all []reading) {
			for _, r := range all {
				attrs := metric.WithAttributeSet(attribute.NewSet(r.attrs...))
				if r.seconds != nil {
					o.ObserveFloat64(seconds, r.seconds(), attrs)
				} else {
					o.ObserveInt64(whole[r.name], r.read(), attrs)
				}
			}
		}
		observe(s.readings())
		have := s.census()
		for _, c := range s.namespaces() {
			observe(spaceReadings(c.counters().name, c.counted(), have[c.reserved()], s.l1 != nil, s.l2 != nil))
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
