package api_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// queryCounter counts the queries that are part of a trace.
type queryCounter struct{ n atomic.Int64 }

func (c *queryCounter) count() int { return int(c.n.Load()) }

// OnStart implements [sdktrace.SpanProcessor].
func (c *queryCounter) OnStart(_ context.Context, s sdktrace.ReadWriteSpan) {
	if strings.HasSuffix(s.InstrumentationScope().Name, "otelsql") && strings.HasPrefix(s.Name(), "SELECT") {
		c.n.Add(1)
	}
}

// OnEnd implements [sdktrace.SpanProcessor].
func (c *queryCounter) OnEnd(sdktrace.ReadOnlySpan) {}

// Shutdown implements [sdktrace.SpanProcessor].
func (c *queryCounter) Shutdown(context.Context) error { return nil }

// ForceFlush implements [sdktrace.SpanProcessor].
func (c *queryCounter) ForceFlush(context.Context) error { return nil }

// countQueries traces everything until the test ends.
func countQueries(t *testing.T) (*queryCounter, trace.TracerProvider) {
	t.Helper()
	c := &queryCounter{}
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(c))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	t.Cleanup(func() {
		otel.SetTracerProvider(before)
		must(t, provider.Shutdown(context.WithoutCancel(t.Context())))
	})
	return c, provider
}
