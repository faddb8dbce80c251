package event

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// metrics are what a broker and a relay count. Attributes never hold ids.
type metrics struct {
	published metric.Int64Counter     // by event, class, result
	gaps      metric.Int64Counter     // by cause
	resets    metric.Int64Counter     // by reason
	sessions  metric.Int64Counter     // by why it ended
	drops     metric.Int64Counter     // by cause
	lag       metric.Float64Histogram // of pub/sub
	delay     metric.Float64Histogram // from the event to its publication
	pending   metric.Int64Gauge       // what the relay saw waiting
	refused   metric.Int64Counter
}

func newMetrics(p metric.MeterProvider) (*metrics, error) {
	if p == nil {
		p = noop.NewMeterProvider()
	}
	m := p.Meter("github.com/crewbeat/crewbeat/services/internal/event")
	var ms metrics
	var errs [9]error
	ms.published, errs[0] = m.Int64Counter("event.published", metric.WithDescription("Events published, by event, class and result."))
	ms.gaps, errs[1] = m.Int64Counter("event.gaps", metric.WithDescription("Reads of a stream because deliveries were not evidently in order, by cause."))
	ms.resets, errs[2] = m.Int64Counter("event.resets", metric.WithDescription("Channels whose continuity was lost, by reason."))
	ms.sessions, errs[3] = m.Int64Counter("event.sessions", metric.WithDescription("Subscribing connections that ended, by cause."))
	ms.delay, errs[4] = m.Float64Histogram("event.publish.delay", metric.WithUnit("s"), metric.WithDescription("Time from an event to its publication by the relay."))
	ms.pending, errs[5] = m.Int64Gauge("event.relay.pending", metric.WithDescription("Events that the last batch of the relay held."))
	ms.refused, errs[6] = m.Int64Counter("event.relay.refused", metric.WithDescription("Events of the outbox that can never be published."))
	ms.drops, errs[7] = m.Int64Counter("event.pubsub.drops", metric.WithDescription("Pub/sub messages not passed on as they came, by cause: overflow (the stream is read instead), unfollowed, unreadable."))
	ms.lag, errs[8] = m.Float64Histogram("event.pubsub.lag", metric.WithUnit("s"), metric.WithDescription("Time from the publication of an event to its arrival by pub/sub."),
		metric.WithExplicitBucketBoundaries(.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("create instrument: %w", err)
		}
	}
	return &ms, nil
}

func (m *metrics) publish(ctx context.Context, e Event, result string) {
	m.published.Add(ctx, 1, metric.WithAttributes(
		attribute.String("event", e.Name),
		attribute.String("class", string(e.envelope().Class)),
		attribute.String("result", result)))
}

// ended counts a subscribing connection that failed.
func (m *metrics) ended(ctx context.Context, err error) {
	cause := "lost"
	switch {
	case errors.Is(err, errSilent):
		cause = "silent"
	case errors.Is(err, errMoved), redis.HasErrorPrefix(err, "MOVED"):
		cause = "moved"
	}
	m.sessions.Add(ctx, 1, metric.WithAttributes(attribute.String("cause", cause)))
}

func (m *metrics) gap(ctx context.Context, cause string) {
	m.gaps.Add(ctx, 1, metric.WithAttributes(attribute.String("cause", cause)))
}

// drop counts a message that was not passed on as it came.
func (m *metrics) drop(ctx context.Context, cause string) {
	m.drops.Add(ctx, 1, metric.WithAttributes(attribute.String("cause", cause)))
}

// heard measures how long a message was on its way; an id begins with the
// time of its publication, as its publisher saw it.
func (m *metrics) heard(ctx context.Context, id ID, now time.Time) {
	m.lag.Record(ctx, max(0, float64(now.UnixMilli()-int64(id.Ms))/1e3))
}

func (m *metrics) reset(ctx context.Context, reason string) {
	m.resets.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reason)))
}

func (m *metrics) relayed(ctx context.Context, e Event, now time.Time) {
	m.delay.Record(ctx, max(0, now.Sub(e.At).Seconds()))
}
