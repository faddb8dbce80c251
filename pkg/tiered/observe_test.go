package tiered_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
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

// What a span says of an error is its kind: its text may have the key in it.
func TestSpansFollowTheConventionsAndTellNothing(t *testing.T) {
	r := tieredtest.StartRedis(t)
	spans := tracetest.NewSpanRecorder()
	s := node(t, r, tiered.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))))
	c := cache[string](t, s, "n")
	_, err := c.GetOrLoad(t.Context(), "secret", func(ctx, string, *tiered.Load[string]) (string, error) {
		return "", fmt.Errorf("row of secret: %w", io.ErrUnexpectedEOF)
	}, tiered.Tags("secret-tag"))
	if err == nil {
		t.Fatal("no error")
	}
	_, _ = c.InvalidatePrefix(t.Context(), "secret")
	_, _ = c.Inspect(t.Context(), "secret")
	r.Kill()
	must(t, c.Delete(t.Context(), "secret"))
	r.Restart(t)
	eventually(t, "the delete is replayed", func() bool {
		return slices.ContainsFunc(spans.Ended(), func(sp trace.ReadOnlySpan) bool { return sp.Name() == "tiered.recover" })
	})

	attrs := map[string]map[string]string{}
	for _, sp := range spans.Ended() {
		have := map[string]string{}
		for _, a := range sp.Attributes() {
			have[string(a.Key)] = a.Value.String()
		}
		all := fmt.Sprint(sp.Name(), have, sp.Status().Description, sp.Events())
		if strings.Contains(all, "secret") {
			t.Errorf("a span tells too much: %s", all)
		}
		if prior := attrs[sp.Name()]; prior == nil || prior["error.type"] == "" {
			attrs[sp.Name()] = have
		}
		if remote := sp.Name() != "tiered.load" && sp.Name() != "tiered.recover"; remote != (sp.SpanKind() == oteltrace.SpanKindClient) {
			t.Errorf("%s is a span of kind %v", sp.Name(), sp.SpanKind())
		}
	}
	host, port, err := net.SplitHostPort(r.Addr())
	must(t, err)
	for name, want := range map[string]map[string]string{
		"tiered.get": {"db.system.name": "redis", "db.operation.name": "get", "db.namespace": "0",
			"server.address": host, "server.port": port, "error.type": ""},
		"tiered.load":    {"tiered.namespace": "n", "error.type": "*errors.errorString"},
		"tiered.scan":    {"db.operation.name": "scan"},
		"tiered.inspect": {"db.operation.name": "inspect"},
		"tiered.recover": {},
	} {
		got, ok := attrs[name]
		if !ok {
			t.Errorf("no span %s", name)
		}
		for key, v := range want {
			if got[key] != v {
				t.Errorf("%s has %s %q, want %q", name, key, got[key], v)
			}
		}
	}
	if attrs["tiered.delete"]["error.type"] == "" {
		t.Errorf("a delete that failed has %v", attrs["tiered.delete"])
	}
}
