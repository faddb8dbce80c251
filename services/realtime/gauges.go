package realtime

import (
	"context"
	"fmt"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// watchGauges has what this node holds counted whenever it is asked for, until
// stop is called.
func (s *Server) watchGauges(p metric.MeterProvider) (stop func(), err error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := p.Meter("github.com/crewbeat/crewbeat/services/realtime")
	channels, err := m.Int64ObservableGauge("realtime.channels", metric.WithDescription("Channels that somebody on this node follows, and one for each person's sessions."))
	if err != nil {
		return nil, fmt.Errorf("create instrument: %w", err)
	}
	active, err := m.Int64ObservableGauge("realtime.subscriptions.active", metric.WithDescription("Channels that connections of this node follow: of each connection."))
	if err != nil {
		return nil, fmt.Errorf("create instrument: %w", err)
	}
	r, err := m.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(channels, int64(s.Channels()))
		o.ObserveInt64(active, int64(s.sockets.Subscriptions()))
		return nil
	}, channels, active)
	if err != nil {
		return nil, fmt.Errorf("watch gauges: %w", err)
	}
	return func() { _ = r.Unregister() }, nil
}
