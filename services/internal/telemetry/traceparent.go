package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
)

// Traceparent writes the span of ctx as a W3C traceparent, or "" if there is
// none. It is what an event carries to those who handle it later.
func Traceparent(ctx context.Context) string {
	carrier := propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// WithTraceparent returns ctx with the span that tp names as its remote
// parent. What is no traceparent changes nothing.
func WithTraceparent(ctx context.Context, tp string) context.Context {
	return propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": tp})
}
