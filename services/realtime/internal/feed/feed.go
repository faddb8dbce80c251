// Package feed brings the events of the broker to the hub: decoded once and
// traced once for all followers of a node.
package feed

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	metricnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

const scope = "github.com/crewbeat/crewbeat/services/realtime/internal/feed"

// Options build a Feed. Broker is required.
type Options struct {
	Broker event.Broker
	// Delivered is told of every event after it was handed out, and
	// Interrupted of every channel of which some may be missing. They must
	// not block.
	Delivered   func(event.Message)
	Interrupted func(channel string)
	// Followed reports whether a channel is subscribed for followers; nil means
	// that none is. It must not block.
	Followed func(channel string) bool
	// TakesRights reports of which events the next one has to wait until
	// Delivered has returned; nil means of none.
	TakesRights func(*event.Envelope) bool

	Now    func() time.Time
	Log    *slog.Logger
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

// Feed is a [hub.Source] on a broker.
type Feed struct {
	o          Options
	life       context.Context //nolint:containedctx // what a broker calls carries no context of its own
	tracer     trace.Tracer
	deliveries metric.Int64Counter
	latency    metric.Float64Histogram
	fanout     metric.Float64Histogram
	resets     metric.Int64Counter
	kinds      kinds
}

// New returns a feed. The values of ctx are those of its spans and metrics.
func New(ctx context.Context, o Options) (*Feed, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Tracer == nil {
		o.Tracer = noop.NewTracerProvider()
	}
	if o.Meter == nil {
		o.Meter = metricnoop.NewMeterProvider()
	}
	f := &Feed{o: o, life: context.WithoutCancel(ctx), tracer: o.Tracer.Tracer(scope)}
	m := o.Meter.Meter(scope)
	var errs [4]error
	f.deliveries, errs[0] = m.Int64Counter("realtime.deliveries", metric.WithDescription("Events handed to followers, by event and class."))
	f.latency, errs[1] = m.Float64Histogram("realtime.delivery.latency", metric.WithUnit("s"), metric.WithDescription("Time from an event to its fan-out on this node."))
	f.fanout, errs[2] = m.Float64Histogram("realtime.fanout.duration", metric.WithUnit("s"), metric.WithDescription("Time to hand one event to all followers of this node."))
	f.resets, errs[3] = m.Int64Counter("realtime.resets", metric.WithDescription("Channels of this node whose continuity was lost, by reason."))
	for _, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("create instrument: %w", err)
		}
	}
	return f, nil
}

// Subscribe implements [hub.Source].
func (f *Feed) Subscribe(ctx context.Context, channel string, s hub.Sink) (event.Position, func(), error) {
	return f.o.Broker.Subscribe(ctx, channel, &reader{feed: f, channel: channel, sink: s})
}

// Listen has Delivered and Interrupted told of a channel that nobody on this
// node need follow, until stop is called. It waits as Subscribe does. While
// somebody does follow it they are told by that, which is after those have
// been handed the event.
func (f *Feed) Listen(ctx context.Context, channel string) (stop func(), err error) {
	_, stop, err = f.Subscribe(ctx, channel, nil)
	return stop, err
}

// Since implements [hub.Source].
func (f *Feed) Since(ctx context.Context, channel string, after event.Position, limit int) (hub.Page, error) {
	h, err := f.o.Broker.Since(ctx, channel, after, limit)
	if err != nil {
		return hub.Page{}, err
	}
	p := hub.Page{Last: h.Last, More: h.More(), Reset: h.Reset}
	for _, m := range h.Messages {
		p.Frames = append(p.Frames, frame(m))
	}
	return p, nil
}

func frame(m event.Message) *hub.Frame {
	return &hub.Frame{
		Channel: m.Envelope.Channel, Event: m.Envelope.Event, Class: m.Envelope.Class,
		At: m.At, Prev: m.Prev, Body: m.Body,
	}
}

// reader is the subscription of one channel.
type reader struct {
	feed    *Feed
	channel string
	sink    hub.Sink // nil: this node only listens
}

// listens reports whether r is there to tell Delivered and Interrupted alone,
// and whether it has to.
func (r *reader) listens() (only, tell bool) {
	if r.sink != nil {
		return false, false
	}
	return true, r.feed.o.Followed == nil || !r.feed.o.Followed(r.channel)
}

// Deliver implements [event.Subscriber].
func (r *reader) Deliver(m event.Message) {
	f := r.feed
	if only, tell := r.listens(); only {
		if tell && f.o.Delivered != nil {
			f.o.Delivered(m)
		}
		return
	}
	template := event.Template(r.channel)
	began := f.o.Now()
	ctx, process, traced := f.start(f.life, m, template)
	fr := frame(m)
	fr.Final = f.o.TakesRights != nil && f.o.TakesRights(&m.Envelope)
	var broadcast trace.Span
	if traced {
		_, broadcast = f.tracer.Start(ctx, "ws.broadcast")
	}
	r.sink.Deliver(fr, func(n int) {
		if traced {
			broadcast.SetAttributes(attribute.Int("crewbeat.recipients", n))
			broadcast.End()
			process.End()
		}
		kinds := f.kinds.of(fr.Event, fr.Class)
		f.deliveries.Add(ctx, int64(n), kinds)
		f.latency.Record(ctx, max(0, began.Sub(m.Envelope.Timestamp).Seconds()), kinds)
		f.fanout.Record(ctx, f.o.Now().Sub(began).Seconds())
		if f.o.Delivered != nil {
			f.o.Delivered(m)
		}
	})
}

// start begins the CONSUMER span of a message, in a trace of its own that is
// linked to the one of the publisher, if that was recorded.
func (f *Feed) start(ctx context.Context, m event.Message, template string) (context.Context, trace.Span, bool) {
	producer := event.SpanContext(m.Envelope.Trace)
	if !producer.IsSampled() {
		return ctx, trace.SpanFromContext(ctx), false
	}
	ctx, span := f.tracer.Start(ctx, "process "+template,
		trace.WithNewRoot(),
		trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithLinks(trace.Link{SpanContext: producer}),
		trace.WithAttributes(
			attribute.String("messaging.operation.type", "process"),
			attribute.String("messaging.destination.template", template),
			attribute.String("crewbeat.event", m.Envelope.Event),
			attribute.String("crewbeat.event.class", string(m.Envelope.Class)),
		))
	return ctx, span, true
}

// Reset implements [event.Subscriber].
func (r *reader) Reset(reason string, at event.Position) {
	only, tell := r.listens()
	if only && !tell {
		return
	}
	r.feed.resets.Add(r.feed.life, 1, metric.WithAttributes(attribute.String("reason", reason)))
	if !only {
		r.sink.Reset(reason, at)
	}
	if r.feed.o.Interrupted != nil {
		r.feed.o.Interrupted(r.channel)
	}
}
