package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// What one call of the script may hold: Redis does nothing else meanwhile.
const (
	scriptEvents = 64
	scriptBytes  = 256 << 10
)

// errBehind reports an event that was not published because one before it in
// its channel was not.
var errBehind = errors.New("an event before it in its channel was not published")

// Outcome is what became of one event of [Broker.PublishAll].
type Outcome struct {
	At    Position
	Again bool // it had been published before, at At
	Err   error
}

// sending is an event on its way into Redis.
type sending struct {
	event Event
	class Class
	body  []byte
	ctx   context.Context //nolint:containedctx // that of its span
	span  trace.Span
	out   *Outcome
}

// Publish implements [Broker].
func (b *Redis) Publish(ctx context.Context, e Event) (Position, error) {
	out := b.PublishAll(ctx, []Event{e})[0]
	return out.At, out.Err
}

// PublishAll implements [Broker]: one call of a script for each channel, and
// all calls in one round trip.
func (b *Redis) PublishAll(ctx context.Context, events []Event) []Outcome {
	outs := make([]Outcome, len(events))
	queues := map[string][]sending{}
	var order []string
	for i, e := range events {
		s, err := b.prepare(ctx, e)
		if err != nil {
			outs[i].Err = err
			continue
		}
		s.out = &outs[i]
		if queues[e.Channel] == nil {
			order = append(order, e.Channel)
		}
		queues[e.Channel] = append(queues[e.Channel], s)
	}
	for len(order) > 0 {
		calls := make([][]sending, 0, len(order))
		for _, channel := range order {
			n := fits(queues[channel])
			calls = append(calls, queues[channel][:n])
			queues[channel] = queues[channel][n:]
		}
		b.send(ctx, calls)
		left := order[:0]
		for i, channel := range order {
			// The order of a channel is kept: nothing overtakes what failed.
			if failed := calls[i][len(calls[i])-1].out.Err; failed != nil {
				for _, s := range queues[channel] {
					s.out.Err = errBehind
					b.finish(s)
				}
				continue
			}
			if len(queues[channel]) > 0 {
				left = append(left, channel)
			}
		}
		order = left
	}
	return outs
}

// prepare checks and encodes e and begins its span.
func (b *Redis) prepare(ctx context.Context, e Event) (sending, error) {
	if err := e.Validate(); err != nil {
		return sending{}, err
	}
	ctx, span, e := startPublish(ctx, b.tracer, "redis", e)
	env := e.envelope()
	body, err := json.Marshal(env)
	if err != nil {
		span.End()
		return sending{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return sending{event: e, class: env.Class, body: body, ctx: ctx, span: span}, nil
}

// fits returns how many of s one call of the script takes; at least one.
func fits(s []sending) int {
	bytes := 0
	for i := range s {
		if bytes += len(s[i].body); i == scriptEvents || i > 0 && bytes > scriptBytes {
			return i
		}
	}
	return len(s)
}

// send runs the script for each call, which holds events of one channel.
func (b *Redis) send(ctx context.Context, calls [][]sending) {
	keys, args := make([][]string, len(calls)), make([][]any, len(calls))
	for i, call := range calls {
		keys[i], args[i] = b.arguments(call)
	}
	cmds := make([]*redis.Cmd, len(calls))
	run := func(eval func(redis.Pipeliner, int) *redis.Cmd, which []int) {
		// What each command met is in the command.
		_, _ = b.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, i := range which {
				cmds[i] = eval(p, i)
			}
			return nil
		})
	}
	all := make([]int, len(calls))
	for i := range all {
		all[i] = i
	}
	run(func(p redis.Pipeliner, i int) *redis.Cmd { return publishScript.EvalSha(ctx, p, keys[i], args[i]...) }, all)
	var unknown []int
	for i, cmd := range cmds {
		if redis.HasErrorPrefix(cmd.Err(), "NOSCRIPT") {
			unknown = append(unknown, i)
		}
	}
	if len(unknown) > 0 {
		run(func(p redis.Pipeliner, i int) *redis.Cmd { return publishScript.Eval(ctx, p, keys[i], args[i]...) }, unknown)
	}
	for i, call := range calls {
		answers, err := cmds[i].Slice()
		b.suspect(ctx, err)
		for n, s := range call {
			switch {
			case err != nil:
				s.out.Err = err
			case len(answers) < 4*(n+1):
				s.out.Err = errBehind
			default:
				*s.out, s.out.Err = outcome(answers[4*n:])
			}
			b.finish(s)
		}
	}
}

// suspect has the masters of a Cluster looked up again after an error that may
// mean that one is dead: the client alone would try it for a minute.
func (b *Redis) suspect(ctx context.Context, err error) {
	var answer redis.Error
	if b.cluster != nil && err != nil && ctx.Err() == nil && !errors.As(err, &answer) {
		b.cluster.ReloadState(ctx)
	}
}

func (b *Redis) arguments(call []sending) (keys []string, args []any) {
	channel := call[0].event.Channel
	keys = append(make([]string, 0, 2+len(call)), streamKey(channel), metaKey(channel))
	args = append(make([]any, 0, 7+4*len(call)), b.spublish(), pubsubName(channel),
		b.o.Now().UnixMilli(), newEpoch(), b.o.Keep, ms(b.o.History), ms(b.o.Once))
	for _, s := range call {
		keys = append(keys, onceKey(channel, s.event.ID))
		args = append(args, string(kindOf(s.class)), s.event.ID, s.body, strconv.FormatUint(random20(), 10))
	}
	return keys, args
}

// outcome reads the part of the script's answer that is about one event.
func outcome(v []any) (Outcome, error) {
	epoch, _ := v[0].(string)
	id, err := idOf(v[2])
	if err != nil || !isEpoch(epoch) {
		return Outcome{}, errWire
	}
	again, _ := v[3].(int64)
	return Outcome{At: Position{Epoch: epoch, ID: id}, Again: again == 1}, nil
}

// finish counts what became of s and ends its span.
func (b *Redis) finish(s sending) {
	defer s.span.End()
	switch {
	case s.out.Err != nil:
		b.metrics.publish(s.ctx, s.event, "error")
		s.span.SetStatus(codes.Error, "not published")
		s.out.Err = fmt.Errorf("publish %s to %s: %w", s.event.Name, Template(s.event.Channel), s.out.Err)
	case s.out.Again:
		b.metrics.publish(s.ctx, s.event, "again")
	default:
		b.metrics.publish(s.ctx, s.event, "ok")
	}
}

// spublish is the command that publishes. On a Cluster a message goes only to
// the nodes that serve its channel's slot.
func (b *Redis) spublish() string {
	if b.cluster != nil {
		return "SPUBLISH"
	}
	return "PUBLISH"
}
