package traceview

import (
	"context"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"
)

// Exporter returns what a tracer provider of this process sends its spans to.
// It never fails and never waits for anything but memory.
func (v *View) Exporter() sdktrace.SpanExporter { return exporter{v.store} }

type exporter struct{ store *store }

// ExportSpans keeps the spans.
func (e exporter) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	kept := make([]*span, 0, len(spans))
	for _, s := range spans {
		kept = append(kept, fromSDK(s))
	}
	e.store.add(kept)
	return nil
}

// Shutdown does nothing: what was kept can still be looked at.
func (exporter) Shutdown(context.Context) error { return nil }

func fromSDK(s sdktrace.ReadOnlySpan) *span {
	kept := &span{
		trace:      traceID(s.SpanContext().TraceID()),
		id:         spanID(s.SpanContext().SpanID()),
		name:       s.Name(),
		scope:      s.InstrumentationScope().Name,
		start:      s.StartTime().UnixNano(),
		end:        s.EndTime().UnixNano(),
		failed:     s.Status().Code == codes.Error,
		message:    s.Status().Description,
		attributes: fromAttributes(s.Attributes()),
		dropped:    s.DroppedAttributes() + s.DroppedEvents() + s.DroppedLinks(),
	}
	if s.Parent().SpanID().IsValid() {
		kept.parent = spanID(s.Parent().SpanID())
	}
	if s.SpanKind() != oteltrace.SpanKindInternal {
		kept.kind = strings.ToLower(s.SpanKind().String())
	}
	if name, ok := s.Resource().Set().Value("service.name"); ok {
		kept.service = name.String()
	}
	for _, e := range s.Events() {
		kept.events = append(kept.events, spanEvent{e.Name, e.Time.UnixNano(), fromAttributes(e.Attributes)})
	}
	for _, l := range s.Links() {
		kept.links = append(kept.links, link{
			traceID(l.SpanContext.TraceID()), spanID(l.SpanContext.SpanID()), fromAttributes(l.Attributes),
		})
	}
	return kept
}

func fromAttributes(attrs []attribute.KeyValue) []keyValue {
	kept := make([]keyValue, 0, len(attrs))
	for _, a := range attrs {
		kept = append(kept, keyValue{string(a.Key), a.Value.String()})
	}
	return kept
}
