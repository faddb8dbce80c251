package alert

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics are the gauge of what fires, by rule, and the count of notices.
type metrics struct {
	notices metric.Int64Counter
	stop    metric.Registration

	mu     sync.Mutex // guards firing
	firing map[[2]string]int64
}

func newMetrics(p metric.MeterProvider) (*metrics, error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	meter := p.Meter("github.com/crewbeat/crewbeat/services/internal/alert")
	m := &metrics{firing: map[[2]string]int64{}}
	gauge, err1 := meter.Int64ObservableGauge("crewbeat.alert.firing", metric.WithUnit("{alert}"),
		metric.WithDescription("Alerts that fire, by name and severity."))
	var err2, err3 error
	m.notices, err2 = meter.Int64Counter("crewbeat.alert.notices", metric.WithUnit("{notice}"),
		metric.WithDescription("Tries to tell a sink of an alert, by sink and outcome."))
	m.stop, err3 = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		m.mu.Lock()
		defer m.mu.Unlock()
		for id, n := range m.firing {
			o.ObserveInt64(gauge, n, metric.WithAttributes(attribute.String("alert", id[0]), attribute.String("severity", id[1])))
		}
		return nil
	}, gauge)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("register alert metrics: %w", err)
	}
	return m, nil
}

// set notes what fires; rules that do not are zero.
func (m *metrics) set(rules []Rule, firing []Alert) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.firing)
	for _, r := range rules {
		m.firing[[2]string{r.Name, string(r.Severity)}] = 0
	}
	for _, a := range firing {
		m.firing[[2]string{a.Name, string(a.Severity)}]++
	}
}

func (m *metrics) sent(ctx context.Context, sink string, ok bool) {
	outcome := "sent"
	if !ok {
		outcome = "failed"
	}
	m.notices.Add(ctx, 1, metric.WithAttributes(attribute.String("sink", sink), attribute.String("outcome", outcome)))
}

func (m *metrics) close() { _ = m.stop.Unregister() }
