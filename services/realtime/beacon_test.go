package realtime_test

import (
	"net/http"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crewbeat/crewbeat/services/realtime"
)

func TestPagesReportHowLongEventsTook(t *testing.T) {
	reader := metric.NewManualReader()
	n := start(t, nil, func(c *realtime.Config) { c.Meter = metric.NewMeterProvider(metric.WithReader(reader)) })
	token, _ := n.signIn("mira")
	report := func(method, body, origin, token string) int {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, n.http.URL+"/rt/v1/beacon", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", origin)
		r.AddCookie(&http.Cookie{Name: "crewbeat.sid", Value: token})
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	const good = `{"received_ms":20.5,"rendered_ms":120}`
	for _, tt := range []struct {
		name, method, body, origin, token string
		want                              int
	}{
		{"a report", "POST", good, n.http.URL, token, 204},
		{"an empty report", "POST", ``, n.http.URL, token, 400},
		{"no numbers", "POST", `{"received_ms":"20"}`, n.http.URL, token, 400},
		{"shown before it was received", "POST", `{"received_ms":20,"rendered_ms":19}`, n.http.URL, token, 400},
		{"before it happened", "POST", `{"received_ms":-1,"rendered_ms":19}`, n.http.URL, token, 400},
		{"an hour later", "POST", `{"received_ms":1,"rendered_ms":3600000}`, n.http.URL, token, 400},
		{"too big", "POST", `{"x":"` + strings.Repeat("x", 600) + `","received_ms":1,"rendered_ms":1}`, n.http.URL, token, 400},
		{"of a stranger", "POST", good, n.http.URL, "", 401},
		{"of another site", "POST", good, "https://evil.example", token, 403},
		{"by GET", "GET", "", n.http.URL, token, 405},
	} {
		if got := report(tt.method, tt.body, tt.origin, tt.token); got != tt.want {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.want)
		}
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if m.Name != "realtime.render.latency" {
				continue
			}
			for _, p := range m.Data.(metricdata.Histogram[float64]).DataPoints {
				stage, _ := p.Attributes.Value("stage")
				if p.Attributes.Len() != 1 || p.Count != 1 {
					t.Errorf("%d reports with %v, want one, and nothing but the stage", p.Count, p.Attributes.ToSlice())
				}
				sums[stage.AsString()] = p.Sum
			}
		}
	}
	if sums["received"] != 0.0205 || sums["rendered"] != 0.12 {
		t.Errorf("measured %v", sums)
	}
}

func TestReportsOfAPersonAreLimited(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	for range 10_000 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, n.http.URL+"/rt/v1/beacon", strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Origin", n.http.URL)
		r.AddCookie(&http.Cookie{Name: "crewbeat.sid", Value: token})
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode == http.StatusTooManyRequests {
			return
		}
	}
	t.Error("10,000 reports were taken at once")
}
