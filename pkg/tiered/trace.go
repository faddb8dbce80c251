package tiered

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Spans follow the OpenTelemetry semantic conventions for databases and Redis
// (db.system.name, db.operation.name, db.namespace, server.address and port,
// error.type). What they never have is the text of a key, a value, a tag or an
// error: those may be about people.

// startSpan begins the span of one round trip.
func (r *remote) startSpan(ctx context.Context, op string) (context.Context, trace.Span) {
	ctx, span := r.tracer.Start(ctx, "tiered."+op, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(r.about...)
		span.SetAttributes(attribute.String("db.operation.name", op))
	}
	return ctx, span
}

// endSpan ends a span whose error may be the plain answer that there is none.
func endSpan(span trace.Span, err, none error) {
	if err != nil && !errors.Is(err, none) && span.IsRecording() {
		kind := errorType(err)
		span.SetAttributes(attribute.String("error.type", kind))
		span.SetStatus(codes.Error, kind)
	}
	span.End()
}

// errorType tells errors apart without telling what is in them.
func errorType(err error) string {
	var reply redis.Error
	var timeout net.Error
	var panicked *PanicError
	switch {
	case errors.As(err, &panicked):
		return "panic"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	case errors.As(err, &reply):
		code, _, _ := strings.Cut(reply.Error(), " ") // such as LOADING or READONLY
		if code == strings.ToUpper(code) {
			return code
		}
		return "reply"
	case errors.Is(err, ErrUnavailable):
		return "unavailable"
	}
	for next := errors.Unwrap(err); next != nil; next = errors.Unwrap(next) {
		err = next
	}
	return fmt.Sprintf("%T", err)
}

// serverAttributes say which server a client talks to, as far as it is one.
func serverAttributes(c redis.UniversalClient) []attribute.KeyValue {
	about := []attribute.KeyValue{attribute.String("db.system.name", "redis")}
	one, ok := c.(*redis.Client)
	if !ok {
		return about
	}
	about = append(about, attribute.String("db.namespace", strconv.Itoa(one.Options().DB)))
	host, port, err := net.SplitHostPort(one.Options().Addr)
	if err != nil {
		return append(about, attribute.String("server.address", one.Options().Addr))
	}
	about = append(about, attribute.String("server.address", host))
	if n, err := strconv.Atoi(port); err == nil {
		about = append(about, attribute.Int("server.port", n))
	}
	return about
}
