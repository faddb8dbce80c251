package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

// redacted drops from spans what must not leave the process, before any
// exporter sees them.
type redacted struct{ sdktrace.SpanExporter }

// ExportSpans passes the spans on without what must not be told.
func (e redacted) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	clean := make([]sdktrace.ReadOnlySpan, len(spans))
	for i, s := range spans {
		clean[i] = cleanSpan{s}
	}
	return e.SpanExporter.ExportSpans(ctx, clean)
}

type cleanSpan struct{ sdktrace.ReadOnlySpan }

// Attributes returns those that may be told.
func (s cleanSpan) Attributes() []attribute.KeyValue { return clean(s.ReadOnlySpan.Attributes()) }

// Events returns the events with the attributes that may be told.
func (s cleanSpan) Events() []sdktrace.Event {
	events := s.ReadOnlySpan.Events()
	out := make([]sdktrace.Event, len(events))
	for i, e := range events {
		e.Attributes = clean(e.Attributes)
		out[i] = e
	}
	return out
}

func clean(attrs []attribute.KeyValue) []attribute.KeyValue {
	out := make([]attribute.KeyValue, 0, len(attrs))
	for _, a := range attrs {
		text := ""
		if a.Value.Type() == attribute.STRING {
			text = a.Value.AsString()
		}
		kept, ok := traceview.Redact(string(a.Key), text)
		if !ok {
			continue
		}
		if kept != text {
			a = a.Key.String(kept)
		}
		out = append(out, a)
	}
	return out
}
