package event

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// SpanContext returns what a W3C traceparent says, or an invalid context.
func SpanContext(traceparent string) trace.SpanContext {
	// version-traceid-spanid-flags
	if len(traceparent) < 55 || traceparent[:3] != "00-" || traceparent[35] != '-' || traceparent[52] != '-' {
		return trace.SpanContext{}
	}
	tid, err := trace.TraceIDFromHex(traceparent[3:35])
	if err != nil {
		return trace.SpanContext{}
	}
	sid, err := trace.SpanIDFromHex(traceparent[36:52])
	if err != nil {
		return trace.SpanContext{}
	}
	flags, err := strconv.ParseUint(traceparent[53:55], 16, 8)
	if err != nil {
		return trace.SpanContext{}
	}
	return trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: tid, SpanID: sid, TraceFlags: trace.TraceFlags(flags) & trace.FlagsSampled, Remote: true,
	})
}

// startPublish begins the PRODUCER span of e and puts it into e, so that
// readers can link to it. The span belongs to the trace of whoever wrote the
// event; if it is published from within another trace, that one is linked.
func startPublish(ctx context.Context, t trace.Tracer, system string, e Event) (context.Context, trace.Span, Event) {
	name := Template(e.Channel)
	opts := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(
			attribute.String("messaging.system", system),
			attribute.String("messaging.operation.type", "send"),
			attribute.String("messaging.destination.template", name),
			attribute.String("crewbeat.event", e.Name),
			attribute.String("crewbeat.event.class", string(e.envelope().Class)),
		),
	}
	if writer := SpanContext(e.Trace); writer.IsValid() {
		here := trace.SpanContextFromContext(ctx)
		if here.IsValid() && here.TraceID() != writer.TraceID() {
			opts = append(opts, trace.WithLinks(trace.Link{SpanContext: here}))
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, writer)
	}
	ctx, span := t.Start(ctx, "publish "+name, opts...)
	if span.SpanContext().IsValid() {
		c := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, c)
		e.Trace = c["traceparent"]
	}
	return ctx, span, e
}

func tracer(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		p = noop.NewTracerProvider()
	}
	return p.Tracer("github.com/crewbeat/crewbeat/services/internal/event")
}
