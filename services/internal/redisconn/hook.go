package redisconn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	tracenoop "go.opentelemetry.io/otel/trace/noop"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
)

// hook makes a span and a measurement of each command, and notices when
// commands fail one after another. Of a command it passes on the name only:
// its keys name people and its values are theirs.
type hook struct {
	c          *Conn
	tracer     trace.Tracer
	system     attribute.KeyValue
	server     []attribute.KeyValue
	operations sync.Map // by the client's name of a command: *operation
	known      atomic.Int64
}

// operation is a kind of command, with what would otherwise be made anew for
// each one.
type operation struct {
	name   string           // upper case
	record *profile.Command // nil unless monitoring
	waits  bool             // it may wait for something to happen; see blocks
}

// mostOperations bounds what is kept for names that somebody makes up.
const mostOperations = 500

func (h *hook) operation(name string) *operation {
	if o, ok := h.operations.Load(name); ok {
		return o.(*operation)
	}
	o := &operation{name: strings.ToUpper(name), waits: mayBlock(name)}
	if h.c.profile != nil {
		o.record = h.c.profile.Command(o.name)
	}
	if h.known.Add(1) <= mostOperations {
		h.operations.Store(name, o)
	}
	return o
}

// totals count what happened since the start.
type totals struct {
	dials, failedDials, commands, failedCommands, returns atomic.Int64
	nanoseconds                                           atomic.Int64 // spent on commands
}

func newHook(c *Conn, opts Options) *hook {
	h := &hook{c: c, tracer: opts.Tracer, system: attribute.String("db.system.name", "redis")}
	if h.tracer == nil {
		h.tracer = tracenoop.NewTracerProvider().Tracer("")
	}
	if host, _, err := net.SplitHostPort(c.cfg.Addrs[0]); err == nil && c.cfg.Mode == Single {
		h.server = []attribute.KeyValue{attribute.String("server.address", host)}
	}
	return h
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
		op := h.operation(cmd.FullName())
		ctx, span := h.start(ctx, op.name)
		begin := time.Now()
		err := next(ctx, cmd)
		took := time.Since(begin)
		failure := failureOf(err)
		if op.record != nil {
			if op.waits && blocks(cmd) {
				op.record.Count(begin.Add(took), counted(failure))
			} else {
				op.record.Took(begin.Add(took), took, counted(failure))
			}
		}
		if h.c.cfg.Debug {
			h.c.log.DebugContext(ctx, "redis command", "operation", op.name, "arguments", redacted(cmd), "took", took, "failure", failure)
		}
		h.end(ctx, span, took, failure, err)
		return err
	}
}

// ProcessPipelineHook wraps several commands that travel together.
func (h *hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		op := h.operation(carrier(cmds))
		ctx, span := h.start(ctx, op.name, attribute.Int("db.operation.batch.size", len(cmds)))
		begin := time.Now()
		err := next(ctx, cmds)
		took := time.Since(begin)
		failure := failureOf(err)
		if op.record != nil {
			end := begin.Add(took)
			op.record.Took(end, took, counted(failure))
			for _, cmd := range cmds {
				if one := h.operation(cmd.FullName()); one != op {
					one.record.Count(end, counted(failureOf(cmd.Err())))
				}
			}
		}
		if h.c.cfg.Debug {
			for _, cmd := range cmds {
				h.c.log.DebugContext(ctx, "redis command", "operation", strings.ToUpper(cmd.FullName()), "arguments", redacted(cmd),
					"in", op.name, "took", took, "failure", failureOf(cmd.Err()))
			}
		}
		h.end(ctx, span, took, failure, err)
		return err
	}
}

// carrier names what commands travel in. The first ones of a connection travel
// together, too.
func carrier(cmds []redis.Cmder) string {
	if len(cmds) > 0 {
		switch cmds[0].Name() {
		case "multi":
			return "multi"
		case "hello", "auth", "select", "client", "readonly":
			return "connect"
		}
	}
	return "pipeline"
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

// end counts, and ends the span.
func (h *hook) end(ctx context.Context, span trace.Span, took time.Duration, failure string, err error) {
	h.c.totals.commands.Add(1)
	h.c.totals.nanoseconds.Add(int64(took))
	if counted(failure) != "" {
		h.c.totals.failedCommands.Add(1)
	}
	h.watch(ctx, err)
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
	if cluster, ok := h.c.client.(*redis.ClusterClient); ok {
		// It would go on asking the master that does not answer. It looks at
		// most five times a second, however often it is told to.
		cluster.ReloadState(ctx)
	}
	if failing.Add(1) == failuresToLook {
		select {
		case h.c.look <- struct{}{}:
		default: // it is awake
		}
	}
}

// canceled is the failure of a command whose caller left.
const canceled = "canceled"

// failureOf is the code of an error that Redis answered, or the cause why it
// did not; "" if there is none. The absence of a value is an answer, and so is
// that somebody else was faster.
func failureOf(err error) string {
	if err == nil || errors.Is(err, redis.Nil) || errors.Is(err, redis.TxFailedErr) {
		return ""
	}
	if errors.Is(err, context.Canceled) {
		return canceled
	}
	if re, ok := errors.AsType[redis.Error](err); ok {
		// A script may answer what it likes, also what it was given.
		if code, _, _ := strings.Cut(re.Error(), " "); isCode(code) {
			return code
		}
		return "ERR"
	}
	return string(CauseOf(err))
}

func isCode(s string) bool {
	return s != "" && len(s) <= 24 && strings.IndexFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' }) < 0
}

// counted is a failure as the profile has it: a caller that left says nothing
// of Redis, and of a script that the server does not know yet it is told by
// such an answer.
func counted(failure string) string {
	switch failure {
	case canceled, "NOSCRIPT":
		return ""
	}
	return failure
}

// redacted says of a command's arguments how many there are and how long each
// is, and of those that may be credentials nothing at all.
func redacted(cmd redis.Cmder) string {
	switch cmd.Name() {
	case "auth", "hello", "acl", "config":
		return "hidden"
	}
	var b strings.Builder
	for i, arg := range cmd.Args() {
		if i == 0 {
			continue
		}
		if i > mostArguments {
			fmt.Fprintf(&b, " and %d more", len(cmd.Args())-i)
			break
		}
		if i > 1 {
			b.WriteByte(' ')
		}
		switch v := arg.(type) {
		case string:
			fmt.Fprintf(&b, "[%d bytes]", len(v))
		case []byte:
			fmt.Fprintf(&b, "[%d bytes]", len(v))
		default:
			fmt.Fprintf(&b, "[%T]", v)
		}
	}
	return b.String()
}

// mostArguments of a command are described.
const mostArguments = 16

// mayBlock reports whether a command can wait for something to happen.
func mayBlock(name string) bool {
	switch name {
	case "xread", "xreadgroup", "blpop", "brpop", "blmove", "bzpopmin", "bzpopmax", "brpoplpush", "blmpop", "bzmpop", "wait", "waitaof":
		return true
	}
	return false
}

// blocks reports whether a command that may waits: its duration says nothing.
func blocks(cmd redis.Cmder) bool {
	if name := cmd.Name(); name != "xread" && name != "xreadgroup" {
		return true
	}
	for _, arg := range cmd.Args() {
		if s, ok := arg.(string); ok && strings.EqualFold(s, "block") {
			return true
		}
		if s, ok := arg.(string); ok && strings.EqualFold(s, "streams") {
			return false
		}
	}
	return false
}
