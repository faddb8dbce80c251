package realtime_test

import (
	"slices"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// measured is what a reader finds: by name, the sum of values or of counts, and
// the attributes of all points.
func measured(t *testing.T, r *metric.ManualReader) (sums map[string]float64, attributes []attribute.KeyValue) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	sums = map[string]float64{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			sums[m.Name] += 0
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					sums[m.Name] += float64(p.Value)
					attributes = append(attributes, p.Attributes.ToSlice()...)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					sums[m.Name] += float64(p.Value)
					attributes = append(attributes, p.Attributes.ToSlice()...)
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					sums[m.Name] += float64(p.Count)
					attributes = append(attributes, p.Attributes.ToSlice()...)
				}
			default:
				t.Errorf("%s is a %T", m.Name, d)
			}
		}
	}
	return sums, attributes
}

func TestEverythingIsMeasuredAndNobodyIsNamed(t *testing.T) {
	reader := metric.NewManualReader()
	provider := metric.NewMeterProvider(metric.WithReader(reader))
	broker, err := event.NewMemory(event.Options{Meter: provider})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	n := start(t, broker, func(c *realtime.Config) {
		quickPresence(c)
		c.Meter = provider
		c.Limits.QueueBytes = 32 << 10
	})
	mira := n.connect("mira")
	offset := mira.subscribe(team, "").Offset
	mira.subscribe("user:mira:habits", "")
	mira.subscribe("user:mira:habits", "") // again, which is no other
	again := n.connect("mira")
	n.publish(team, 1, 3)
	mira.awaitEvents(names(1, 3)...)
	again.subscribe(team, offset)
	again.awaitEvents(names(1, 3)...)
	again.say(`{"type":"subscribe","channels":["team:other:activity"]}`)
	again.await("a refusal", func(m message) bool { return m.Code == "forbidden" })
	until(t, "what is held is counted", func() bool {
		sums, _ := measured(t, reader)
		return sums["realtime.subscriptions.active"] == 3 && sums["realtime.connections"] == 2 && sums["realtime.channels"] == 3
	})
	_ = again.ws.CloseNow()

	slow, resume := n.slow("jonas")
	for i := range 300 { // more than the kernel and the queue take
		e := bulky(team, 100+i)
		e.Name = "leaderboard_updated"
		e.Class = []event.Class{event.Latest, event.Ephemeral, event.Durable}[i%3]
		n.emit(e)
	}
	until(t, "what a slow reader costs is counted", func() bool {
		sums, _ := measured(t, reader)
		return sums["realtime.coalesced"] > 0 && sums["realtime.spills"] > 0 && sums["realtime.closes"] > 0
	})
	resume()
	slow.await("the last event", func(m message) bool { return m.ID == "e399" })

	sums, attributes := measured(t, reader)
	for _, name := range []string{
		"realtime.connections", "realtime.subscriptions", "realtime.subscriptions.active", "realtime.channels", "realtime.deliveries",
		"realtime.delivery.latency", "realtime.fanout.duration", "realtime.closes", "realtime.denials", "realtime.coalesced", "realtime.spills",
		"realtime.presence.changes",
	} {
		if sums[name] == 0 {
			t.Errorf("%s is %v", name, sums)
		}
	}
	for _, a := range attributes {
		v := a.Value.String()
		if slices.ContainsFunc([]string{"mira", "jonas", "harbor"}, func(id string) bool { return strings.Contains(v, id) }) {
			t.Errorf("the attribute %s=%s names somebody", a.Key, v)
		}
	}
}
