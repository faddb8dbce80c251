package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

// ErrForced reports that a second signal ended the program before its parts
// had stopped.
var ErrForced = errors.New("ended by a second signal before everything had stopped")

// Options say how a program starts and ends. The zero value is usable.
type Options struct {
	Log             *slog.Logger  // nil logs nothing
	Probes          *Probes       // marked as draining when the end begins; may be nil
	DrainDelay      time.Duration // how long to serve on while unready
	ShutdownTimeout time.Duration // for all parts together; 0 means 25 s
	// Ready is called once every part has started, with the addresses that
	// are listened on by the names of their parts. It must not block.
	Ready func(addrs map[string]string)
	// Signals begins the end. Nil means SIGINT and SIGTERM of the process.
	Signals <-chan os.Signal
}

// Part is something that is started and stopped. Every field but Name may be
// zero.
type Part struct {
	Name string
	// Start makes the part ready and returns. Its context ends when the part
	// has stopped.
	Start func(ctx context.Context) error
	// Run works in a goroutine of its own until its context ends. An error
	// before that ends the program; nil only means that it has done its work.
	Run func(ctx context.Context) error
	// Stop winds the part up while Run still works. Its context ends when the
	// time to stop is over. After it, the context of Start and Run ends, and
	// Run is waited for.
	Stop func(ctx context.Context) error

	address func() string
}

// Task is a part that works in the background until it is told to end.
func Task(name string, run func(ctx context.Context) error) Part { return Part{Name: name, Run: run} }

// Closer is a part that exists already and has only to be closed in its turn.
func Closer(name string, stop func(ctx context.Context) error) Part {
	return Part{Name: name, Stop: stop}
}

// leastToStop is what each part gets to stop, however late it is.
const leastToStop = time.Second

// Run starts the parts in order, waits for the end and stops them in reverse.
// It returns nil after an orderly end that was asked for, and otherwise what
// made it end and what went wrong on the way. The end of ctx asks for an
// orderly end; the parts themselves outlive it until it is their turn.
func Run(ctx context.Context, opts Options, parts ...Part) error {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.ShutdownTimeout <= 0 {
		opts.ShutdownTimeout = 25 * time.Second
	}
	signals := opts.Signals
	if signals == nil {
		ch := make(chan os.Signal, 2)
		signal.Notify(ch, os.Interrupt, syscall.SIGTERM)
		defer signal.Stop(ch)
		signals = ch
	}
	p := &program{Options: opts, signals: signals, failed: make(chan error, len(parts))}
	return p.run(ctx, parts)
}

type program struct {
	Options
	signals <-chan os.Signal
	started []*running
	failed  chan error // one for each part at most
}

// running is a part between its start and its end.
type running struct {
	Part
	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // it is the part's lifetime, handed to Stop's counterpart
	done   chan struct{}
}

func (p *program) run(ctx context.Context, parts []Part) error {
	reason, orderly := p.start(ctx, parts)
	if reason == nil {
		reason, orderly = p.wait(ctx)
	}
	if p.Probes != nil {
		p.Probes.Draining()
	}

	stopCtx, force := context.WithCancel(context.WithoutCancel(ctx))
	defer force()
	stopped := make(chan error, 1)
	go func() { stopped <- p.stop(stopCtx, orderly) }()
	for {
		select {
		case err := <-stopped:
			if orderly {
				return err
			}
			return errors.Join(reason, err)
		case sig := <-p.signals:
			p.Log.WarnContext(ctx, "ending at once", "signal", sig.String())
			return ErrForced
		}
	}
}

// start starts the parts and reports why it did not get to the end of them.
func (p *program) start(ctx context.Context, parts []Part) (reason error, orderly bool) {
	addrs := map[string]string{}
	for _, part := range parts {
		if ctx.Err() != nil {
			return context.Cause(ctx), true
		}
		partCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		if part.Start != nil {
			if err := guard(func() error { return part.Start(partCtx) }); err != nil {
				cancel()
				return fmt.Errorf("start %s: %w", part.Name, err), false
			}
		}
		r := &running{Part: part, ctx: partCtx, cancel: cancel, done: make(chan struct{})}
		p.started = append(p.started, r)
		go p.work(r)
		if part.address != nil {
			addrs[part.Name] = part.address()
		}
	}
	if p.Ready != nil {
		p.Ready(addrs)
	}
	return nil, false
}

func (p *program) work(r *running) {
	defer close(r.done)
	if r.Run == nil {
		return
	}
	err := guard(func() error { return r.Run(r.ctx) })
	if err != nil && r.ctx.Err() == nil {
		p.failed <- fmt.Errorf("run %s: %w", r.Name, err)
	}
}

func (p *program) wait(ctx context.Context) (reason error, orderly bool) {
	select {
	case <-ctx.Done():
		p.Log.InfoContext(ctx, "ending", "reason", "told to")
		return context.Cause(ctx), true
	case sig := <-p.signals:
		p.Log.InfoContext(ctx, "ending", "signal", sig.String(), "drain_delay", p.DrainDelay)
		return nil, true
	case err := <-p.failed:
		return err, false
	}
}

// stop stops what was started, last first. The delay is for load balancers,
// and for them only: a program that has failed does not pretend to serve.
func (p *program) stop(ctx context.Context, orderly bool) error {
	var problems []error
	if orderly && p.DrainDelay > 0 && len(p.started) > 0 {
		timer := time.NewTimer(p.DrainDelay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		case err := <-p.failed:
			problems = append(problems, err)
		}
	}
	deadline := time.Now().Add(p.ShutdownTimeout)
	for _, r := range slices.Backward(p.started) {
		limit := deadline
		if least := time.Now().Add(leastToStop); limit.Before(least) {
			limit = least
		}
		begin := time.Now()
		if err := r.stop(ctx, limit); err != nil {
			problems = append(problems, fmt.Errorf("stop %s: %w", r.Name, err))
		}
		p.Log.DebugContext(ctx, "stopped", "part", r.Name, "took", time.Since(begin))
	}
	for {
		select {
		case err := <-p.failed:
			problems = append(problems, err)
		default:
			return errors.Join(problems...)
		}
	}
}

// stop stops one part and waits for it, but no longer than until limit.
func (r *running) stop(ctx context.Context, limit time.Time) error {
	ctx, cancel := context.WithDeadline(ctx, limit)
	defer cancel()
	defer r.cancel()
	if r.Stop != nil {
		stopped := make(chan error, 1)
		go func() { stopped <- guard(func() error { return r.Stop(ctx) }) }()
		select {
		case err := <-stopped:
			if err != nil {
				r.cancel()
				r.await(ctx)
				return err
			}
		case <-ctx.Done():
			// Stop may have seen the same deadline and be about to say more,
			// but it has had its time.
			select {
			case err := <-stopped:
				if err != nil {
					return err
				}
			case <-time.After(leastToStop / 10):
				return errors.New("did not stop in time")
			}
		}
	}
	r.cancel()
	if !r.await(ctx) {
		return errors.New("still working when the time to stop was over")
	}
	return nil
}

func (r *running) await(ctx context.Context) bool {
	select {
	case <-r.done:
		return true
	case <-ctx.Done():
		return false
	}
}

// guard turns a panic into an error with its stack, so that one part's bug
// does not keep the others from being drained.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}
