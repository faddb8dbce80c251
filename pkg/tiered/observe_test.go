package tiered_test

import (
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
)

func TestSpansAndMetricsTellTheTiersApart(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	reader := metric.NewManualReader()
	s := node(t, shared,
		tiered.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))),
		tiered.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	c := cache[string](t, s, "n")
	_, err := c.GetOrLoad(t.Context(), "secret-key", value("secret-value"))
	must(t, err)
	names := map[string]int{}
	for _, sp := range spans.Ended() {
		names[sp.Name()]++
		for _, a := range sp.Attributes() {
			if v := a.Value.String(); v == "secret-key" || v == "secret-value" {
				t.Errorf("span %s tells %s", sp.Name(), a.Key)
			}
		}
	}
	for _, want := range []string{"tiered.get", "tiered.getlease", "tiered.load", "tiered.fill"} {
		if names[want] != 1 {
			t.Errorf("%d spans %s, want 1; have %v", names[want], want, names)
		}
	}
	before := len(spans.Ended())
	want(t, c, "secret-key", "secret-value")
	if after := len(spans.Ended()); after != before {
		t.Errorf("a hit in memory made %d spans", after-before)
	}
	want(t, c, "secret-key", "secret-value", tiered.SkipL1())

	var rm metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &rm))
	got := map[string]int64{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, p := range sum.DataPoints {
				tier, _ := p.Attributes.Value("tier")
				got[m.Name+tier.AsString()] += p.Value
			}
		}
	}
	for name, want := range map[string]int64{"tiered.hitsl1": 1, "tiered.hitsl2": 1, "tiered.loads": 1, "tiered.missesl1": 1} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
}
