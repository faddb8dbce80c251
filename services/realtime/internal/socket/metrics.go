package socket

import (
	"context"
	"fmt"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"

	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

// metrics count without a request: what they count outlives any.
type metrics struct {
	ctx         context.Context //nolint:containedctx // the life of the server
	connections metric.Int64UpDownCounter
	closes      metric.Int64Counter
	panics      metric.Int64Counter
	denials     metric.Int64Counter
	resumes     metric.Int64Counter
	spills      metric.Int64Counter
	coalesced   metric.Int64Counter
	queue       metric.Int64UpDownCounter
	drains      metric.Float64Histogram
}

func newMetrics(ctx context.Context, p metric.MeterProvider) (*metrics, error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := p.Meter("github.com/crewbeat/crewbeat/services/realtime/internal/socket")
	ms := &metrics{ctx: ctx}
	var errs [9]error
	ms.connections, errs[0] = m.Int64UpDownCounter("realtime.connections", metric.WithDescription("Open connections."))
	ms.closes, errs[1] = m.Int64Counter("realtime.closes", metric.WithDescription("Connections that ended, by code; 0 is the client's doing."))
	ms.denials, errs[2] = m.Int64Counter("realtime.denials", metric.WithDescription("What was refused, by why."))
	ms.resumes, errs[3] = m.Int64Counter("realtime.subscriptions", metric.WithDescription("Subscriptions, by whether they resumed and what came of it."))
	ms.spills, errs[4] = m.Int64Counter("realtime.spills", metric.WithDescription("Events that found the queue of a slow reader full, by class."))
	ms.queue, errs[5] = m.Int64UpDownCounter("realtime.queue", metric.WithUnit("By"), metric.WithDescription("Bytes that wait for slow readers."))
	ms.drains, errs[6] = m.Float64Histogram("realtime.drain.duration", metric.WithUnit("s"), metric.WithDescription("How long drains of this node took."))
	ms.panics, errs[7] = m.Int64Counter("realtime.panics", metric.WithDescription("Connections that were ended by a bug of this server; each is in the log."))
	ms.coalesced, errs[8] = m.Int64Counter("realtime.coalesced", metric.WithDescription("Events that a slow reader was spared: latest ones that a newer one has replaced, and ephemeral ones, by class."))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("create instrument: %w", err)
		}
	}
	return ms, nil
}

func (m *metrics) opened() { m.connections.Add(m.ctx, 1) }

func (m *metrics) ended(code int) {
	m.connections.Add(m.ctx, -1)
	m.closes.Add(m.ctx, 1, metric.WithAttributes(attribute.String("code", strconv.Itoa(code))))
}

func (m *metrics) denied(why string) {
	m.denials.Add(m.ctx, 1, metric.WithAttributes(attribute.String("why", why)))
}

func (m *metrics) joined(resume bool, j hub.Joined) {
	result := "new"
	switch {
	case resume && j.Recovered:
		result = "recovered"
	case resume:
		result = "reset"
	}
	m.resumes.Add(m.ctx, 1, metric.WithAttributes(attribute.String("result", result)))
}

func (m *metrics) spilled(f *hub.Frame) {
	m.spills.Add(m.ctx, 1, metric.WithAttributes(attribute.String("class", string(f.Class))))
}

func (m *metrics) queueBytes(n int64) { m.queue.Add(m.ctx, n) }

// spare counts an event that need not be sent any more.
func (m *metrics) spare(f *hub.Frame) {
	m.coalesced.Add(m.ctx, 1, metric.WithAttributes(attribute.String("class", string(f.Class))))
}
