package metricstest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
)

// metric is a line of the list.
type metric struct{ kind, labels string }

// documented reads the table of METRICS.md: | `name` | type | labels | meaning |.
func documented(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(tiered_[a-z0-9_]+)` \\| (\\w+) \\| ([^|]*) \\| ([^|]+) \\|$")
	list := make(map[string]metric)
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		labels := regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(m[3], -1)
		var names []string
		for _, l := range labels {
			names = append(names, l[1])
		}
		slices.Sort(names)
		list[m[1]] = metric{kind: m[2], labels: strings.Join(names, ",")}
	}
	return list
}

func TestPrometheusSeesExactlyWhatIsDocumented(t *testing.T) {
	registry := prometheus.NewRegistry()
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo(), promexporter.WithoutTargetInfo())
	if err != nil {
		t.Fatal(err)
	}
	provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))
	nodes := tieredtest.Nodes(t, 1, tieredtest.StartRedis(t), tieredtest.WithStore(tiered.WithMeterProvider(provider)))
	words := tieredtest.Caches[string, string](t, nodes, "words")[0]
	tieredtest.Caches[int, string](t, nodes, "numbers")

	ctx := t.Context()
	sink := func(context.Context, []tiered.Item[string, string]) error { return nil }
	behind, err := tiered.NewWriteBehind(ctx, words, sink, tiered.WriteBehindOptions[string]{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = behind.Close(context.WithoutCancel(ctx)) })
	load := func(_ context.Context, key string, _ *tiered.Load[string]) (string, error) {
		switch key {
		case "absent":
			return "", tiered.ErrNotFound
		case "broken":
			return "", errors.New("broken")
		case "panic":
			panic("of the loader's own")
		}
		return key, nil
	}
	for _, key := range []string{"a", "a", "b", "absent", "broken", "panic"} {
		_, _ = words.GetOrLoad(ctx, key, load)
	}
	_, _ = words.Get(ctx, "a", tiered.SkipL1())

	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	scraped := make(map[string]metric)
	values := make(map[string]float64)
	for _, f := range families {
		labels := make(map[string]struct{})
		for _, m := range f.GetMetric() {
			series := f.GetName()
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = struct{}{}
				series += "," + l.GetName() + "=" + l.GetValue()
			}
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				values[series] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				values[series] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				values[series] = float64(m.GetHistogram().GetSampleCount())
			default:
				t.Errorf("%s is a %s, which nothing here makes", f.GetName(), f.GetType())
			}
		}
		scraped[f.GetName()] = metric{
			kind: strings.ToLower(f.GetType().String()), labels: strings.Join(slices.Sorted(maps.Keys(labels)), ","),
		}
	}
	list := documented(t)
	for name, got := range scraped {
		if want, ok := list[name]; !ok {
			t.Errorf("%s (%s with %s) is not in METRICS.md", name, got.kind, got.labels)
		} else if got != want {
			t.Errorf("%s is a %s with %q; METRICS.md has a %s with %q", name, got.kind, got.labels, want.kind, want.labels)
		}
	}
	for name := range list {
		if _, ok := scraped[name]; !ok {
			t.Errorf("%s is in METRICS.md, but not scraped", name)
		}
	}
	for series, want := range map[string]float64{
		"tiered_hits_total,namespace=words,tier=l1":                      1,
		"tiered_hits_total,namespace=words,tier=l2":                      1,
		"tiered_hits_total,namespace=numbers,tier=l1":                    0,
		"tiered_misses_total,namespace=words,tier=l1":                    5,
		"tiered_loads_total,namespace=words":                             5,
		"tiered_load_errors_total,namespace=words":                       2,
		"tiered_load_duration_seconds,namespace=words,outcome=ok":        2,
		"tiered_load_duration_seconds,namespace=words,outcome=panic":     1,
		"tiered_load_duration_seconds,namespace=words,outcome=error":     1,
		"tiered_l1_entries,namespace=words":                              3,
		"tiered_breaker_state,state=closed":                              1,
		"tiered_breaker_state,state=open":                                0,
		"tiered_coherent":                                                1,
		"tiered_async_queue":                                             0,
		"tiered_l1_capacity_bytes":                                       tiered.DefaultL1Bytes,
		"tiered_l2_duration_seconds,operation=getlease,outcome=ok":       5,
		"tiered_load_duration_seconds,namespace=words,outcome=not_found": 1,
	} {
		if got, ok := values[series]; !ok || got != want {
			t.Errorf("%s is %v, want %v", series, got, want)
		}
	}
	if lag := values["tiered_backplane_lag_seconds"]; lag < 0 || lag > time.Hour.Seconds() {
		t.Errorf("lag of %v s", lag)
	}
	if t.Failed() {
		t.Log(fmt.Sprint(slices.Sorted(maps.Keys(values))))
	}
}
