package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"
)

// hook makes a span and a measurement of each command, and notices when
// commands fail one after another. Of a command it passes on the name only:
// its keys name people and its values are theirs.
type hook struct {
	c        *Conn
	tracer   trace.Tracer
	duration metric.Float64Histogram // nil unless monitoring
	system   attribute.KeyValue
	server   []attribute.KeyValue
}

// totals count what happened since the start.
type totals struct {
	dials, failedDials, commands, failedCommands, returns atomic.Int64
	nanoseconds                                           atomic.Int64 // spent on commands
}

func newHook(c *Conn, opts Options) (*hook, error) {
	h := &hook{c: c, tracer: opts.Tracer, system: attribute.String("db.system.name", "redis")}
	if h.tracer == nil {
		h.tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	if host, _, err := net.SplitHostPort(c.cfg.Addrs[0]); err == nil && c.cfg.Mode == Single {
		h.server = []attribute.KeyValue{attribute.String("server.address", host)}
	}
	if !c.cfg.Monitoring {
		return h, nil
	}
	meter := opts.Meter
	if meter == nil {
		meter = noop.NewMeterProvider().Meter("")
	}
	var err error
	h.duration, err = meter.Float64Histogram("db.client.operation.duration",
		metric.WithUnit("s"),
		metric.WithDescription("Time that database commands took, without blocking reads."),
		metric.WithExplicitBucketBoundaries(.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1))
	if err != nil {
		return nil, fmt.Errorf("create redis duration histogram: %w", err)
	}
	return h, nil
}

// DialHook counts connections.
func (h *hook) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		h.c.totals.dials.Add(1)
		if err != nil {
			h.c.totals.failedDials.Add(1)
		}
		return conn, err
	}
}

// ProcessHook wraps one command.
func (h *hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		op := strings.ToUpper(cmd.FullName())
		ctx, span := h.start(ctx, op)
		begin := time.Now()
		err := next(ctx, cmd)
		h.end(ctx, span, op, time.Since(begin), err, blocks(cmd))
		return err
	}
}

// ProcessPipelineHook wraps several commands that travel together.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		op := "PIPELINE"
		if len(cmds) > 0 && strings.EqualFold(cmds[0].Name(), "multi") {
			op = "MULTI"
		}
		ctx, span := h.start(ctx, op, attribute.Int("db.operation.batch.size", len(cmds)))
		begin := time.Now()
		err := next(ctx, cmds)
		h.end(ctx, span, op, time.Since(begin), err, false)
		return err
	}
}

// start begins a span if the command is part of something that is traced: the
// program's own idle reads would be traces of nothing.
func (h *hook) start(ctx context.Context, op string, attrs ...attribute.KeyValue) (context.Context, trace.Span) {
	if parent := trace.SpanFromContext(ctx); !parent.IsRecording() {
		return ctx, nil
	}
	attrs = append(attrs, h.system, attribute.String("db.operation.name", op))
	attrs = append(attrs, h.server...)
	return h.tracer.Start(ctx, "redis "+op, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attrs...))
}

func (h *hook) end(ctx context.Context, span trace.Span, op string, took time.Duration, err error, blocking bool) {
	if errors.Is(err, redis.Nil) {
		err = nil // the absence of a value is an answer
	}
	failure := ""
	if err != nil {
		failure = errorType(err)
	}
	h.c.totals.commands.Add(1)
	h.c.totals.nanoseconds.Add(int64(took))
	if err != nil {
		h.c.totals.failedCommands.Add(1)
	}
	h.watch(ctx, err)
	if h.duration != nil && !blocking {
		attrs := []attribute.KeyValue{h.system, attribute.String("db.operation.name", op)}
		if failure != "" {
			attrs = append(attrs, attribute.String("error.type", failure))
		}
		h.duration.Record(ctx, took.Seconds(), metric.WithAttributes(attrs...))
	}
	if h.c.cfg.Debug {
		h.c.log.DebugContext(ctx, "redis command", "operation", op, "took", took, "failure", failure)
	}
	if span == nil {
		return
	}
	if failure != "" {
		// The text of an error may quote the command.
		span.SetAttributes(attribute.String("error.type", failure))
		span.SetStatus(codes.Error, failure)
	}
	span.End()
}

// watch counts commands in a row that failed on the way, and wakes the
// look-out at the third. An error that Redis itself answered is a sign of life.
func (h *hook) watch(ctx context.Context, err error) {
	failing := &h.c.failing
	if _, answered := errors.AsType[redis.Error](err); err == nil || answered {
		if failing.Load() != 0 {
			failing.Store(0)
		}
		return
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrClosed) {
		return // says nothing of Redis
	}
	if failing.Add(1) == failuresToLook {
		select {
		case h.c.look <- struct{}{}:
		default: // it is awake
		}
	}
}

// errorType is the code of an error that Redis answered, or the cause why it
// did not.
func errorType(err error) string {
	if re, ok := errors.AsType[redis.Error](err); ok {
		code, _, _ := strings.Cut(re.Error(), " ")
		return code
	}
	if errors.Is(err, context.Canceled) {
		return "canceled"
	}
	return string(CauseOf(err))
}

// blocks reports whether a command waits for something to happen: its
// duration says nothing.
func blocks(cmd redis.Cmder) bool {
	switch name := cmd.Name(); name {
	case "xread", "xreadgroup":
		for _, arg := range cmd.Args() {
			if s, ok := arg.(string); ok && strings.EqualFold(s, "block") {
				return true
			}
			if s, ok := arg.(string); ok && strings.EqualFold(s, "streams") {
				return false
			}
		}
		return false
	case "blpop", "brpop", "blmove", "bzpopmin", "bzpopmax", "brpoplpush", "blmpop", "bzmpop", "wait":
		return true
	}
	return false
}
