package tiered

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// gather sends calls of concurrent callers in common round trips: for Redis and
// for this process most of a round trip of its own is reading and writing
// sockets. A caller who is alone waits for nobody. While as many as there are
// slots are on their way, others queue, and go together as soon as one of those
// is back, or after a moment; each has its own result.
type gather struct {
	r     *remote
	op    string
	wait  time.Duration // at most, for a slot
	many  func(ctx context.Context, calls []*call) error
	begin func() bool // keeps the store from closing until end, or reports false
	end   func()
	slots chan struct{}

	mu    sync.Mutex
	queue []*gathered
}

// gathered is a call that waits to be sent with others.
type gathered struct {
	call *call
	err  error // set when done is closed
	done chan struct{}
}

const (
	gatherSlots = 2
	// gatherWait bounds what company costs: where the network is slow, or Redis
	// does not answer, nobody waits for those before him for longer.
	gatherWait = time.Millisecond
	// gatherBytes: what is larger goes alone, for it would keep the others.
	gatherBytes = 8 << 10
)

func newGather(r *remote, op string, many func(context.Context, []*call) error, begin func() bool, end func()) *gather {
	return &gather{r: r, op: op, many: many, begin: begin, end: end, wait: gatherWait, slots: make(chan struct{}, r.slots)}
}

// run makes a call of about so many bytes. Its result is in call.cmd if there
// is no error.
func (g *gather) run(ctx context.Context, c *call, size int) error {
	if size > gatherBytes {
		return g.alone(ctx, c)
	}
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
		return g.alone(ctx, c)
	default:
	}
	w := &gathered{call: c, done: make(chan struct{})}
	g.mu.Lock()
	if len(g.queue) == 0 {
		if !g.begin() {
			g.mu.Unlock()
			return g.alone(ctx, c)
		}
		go g.send(context.WithoutCancel(ctx))
	}
	g.queue = append(g.queue, w)
	g.mu.Unlock()
	select {
	case <-w.done:
		return w.err
	case <-ctx.Done():
		g.leave(w)
		return fmt.Errorf("%w: %w", errCaller, ctx.Err())
	}
}

func (g *gather) alone(ctx context.Context, c *call) error {
	return g.r.do(ctx, g.op, func(ctx context.Context) error {
		c.cmd = c.script.Run(ctx, g.r.c, c.keys, c.args...)
		return c.cmd.Err()
	})
}

// leave takes a call out again, if it has not been sent: it must not be made
// after its caller has gone on to the next.
func (g *gather) leave(w *gathered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.queue, w); i >= 0 {
		w.call = nil
	}
}

// send waits for a slot and makes what has queued by then. Its context is that of
// the first caller, for the span, and does not end: the others are not his.
func (g *gather) send(ctx context.Context) {
	growStack(0)
	defer g.end()
	wait := time.NewTimer(g.wait)
	defer wait.Stop()
	select {
	case g.slots <- struct{}{}:
		defer func() { <-g.slots }()
	case <-wait.C:
	}
	g.mu.Lock()
	batch := g.queue // as many as there are callers: see gatherBytes for what that may take
	g.queue = nil
	g.mu.Unlock()
	calls := make([]*call, 0, len(batch))
	for _, w := range batch {
		if w.call != nil {
			calls = append(calls, w.call)
		}
	}
	var err error
	if len(calls) > 0 {
		err = g.r.do(ctx, g.op, func(ctx context.Context) error { return g.many(ctx, calls) })
	}
	for _, w := range batch {
		if w.call != nil {
			w.err = w.call.ownOutcome(err)
		}
		close(w.done)
	}
}

// ownOutcome is the call's own error, of a pipeline that ended with err, which
// says whether Redis was there.
func (c *call) ownOutcome(err error) error {
	if c.cmd != nil {
		if own := c.cmd.Err(); refused(own) {
			return own
		}
	}
	return c.outcome(err)
}
