package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// RelayOptions build a [Relay]. Outbox and Broker are required.
type RelayOptions struct {
	Outbox Outbox
	Broker Broker
	// Poll is how often the outbox is looked at when nothing wakes the
	// relay: events of other processes are found so. Default 250 ms.
	Poll time.Duration
	// Lease is how long this process may relay without renewing its right.
	// Default 10 s.
	Lease time.Duration
	// Batch is how many events are read at once. Default 256.
	Batch int
	// Retry is the longest pause while the broker or the database is away.
	// Default 2 s.
	Retry time.Duration

	Now    func() time.Time // default time.Now
	Log    *slog.Logger     // default none
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

// Relay publishes what the outbox holds, in the order in which each channel's
// events were committed. It may run in several processes; one of them works.
//
// An event is published at least once and, because its id is the idempotency
// key, delivered once: a relay that stops between publishing and marking, or
// two that believe to hold the lease, do no harm.
type Relay struct {
	o       RelayOptions
	holder  string
	metrics *metrics
	renew   time.Time // when to renew the lease
	failing bool      // the turn before failed; also so that an outage is logged once

	mu     sync.Mutex
	recent []sent // what was published last, in order
}

// sent is an event that was published.
type sent struct {
	event Event
	epoch string
	at    time.Time
}

// What a broker that was killed may have taken and not handed on.
const (
	recentFor        = time.Second
	recentMost       = 2048
	recentOfAChannel = remembered / 2 // subscribers must still know that they had them
)

// NewRelay returns a relay; Run starts it.
func NewRelay(o RelayOptions) (*Relay, error) {
	if o.Outbox == nil || o.Broker == nil {
		return nil, errors.New("event: a relay needs an outbox and a broker")
	}
	if o.Poll <= 0 {
		o.Poll = 250 * time.Millisecond
	}
	if o.Lease <= 0 {
		o.Lease = 10 * time.Second
	}
	if o.Batch <= 0 {
		o.Batch = 256
	}
	if o.Retry <= 0 {
		o.Retry = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ms, err := newMetrics(o.Meter)
	if err != nil {
		return nil, err
	}
	return &Relay{o: o, holder: newEpoch(), metrics: ms}, nil
}

// Run relays until ctx ends; then it gives the lease back and returns nil.
func (r *Relay) Run(ctx context.Context) error {
	defer r.leave(ctx)
	retry := backoff{first: 50 * time.Millisecond, most: r.o.Retry}
	for ctx.Err() == nil {
		n, err := r.turn(ctx)
		if ctx.Err() != nil {
			return nil
		}
		r.report(err)
		if err != nil {
			if !retry.wait(ctx) {
				return nil
			}
			continue
		}
		retry.reset()
		if n == r.o.Batch {
			continue // there is more
		}
		r.idle(ctx)
	}
	return nil
}

// idle waits for news.
func (r *Relay) idle(ctx context.Context) {
	t := time.NewTimer(r.o.Poll)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-r.o.Outbox.Wake():
	case <-t.C:
	}
}

func (r *Relay) report(err error) {
	switch {
	case err != nil && !r.failing:
		r.o.Log.Warn("events wait in the outbox", slog.Any("error", err))
	case err == nil && r.failing:
		r.o.Log.Info("events flow from the outbox again")
	}
	r.failing = err != nil
}

// leave lets another process take over at once.
func (r *Relay) leave(ctx context.Context) {
	if r.renew.IsZero() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if _, err := r.o.Outbox.Lease(ctx, r.holder, 0); err != nil {
		r.o.Log.DebugContext(ctx, "lease of the outbox not given back, it will expire", slog.Any("error", err))
	}
}

// turn relays one batch and returns how many events it held.
func (r *Relay) turn(ctx context.Context) (int, error) {
	if now := r.o.Now(); !now.Before(r.renew) {
		ok, err := r.o.Outbox.Lease(ctx, r.holder, r.o.Lease)
		if err != nil {
			return 0, fmt.Errorf("take lease: %w", err)
		}
		if !ok {
			r.renew = time.Time{}
			return 0, nil
		}
		r.renew = now.Add(r.o.Lease / 3)
	}
	if r.failing {
		if err := r.republish(ctx); err != nil {
			return 0, err
		}
	}
	events, err := r.o.Outbox.Pending(ctx, r.o.Batch)
	if err != nil {
		return 0, fmt.Errorf("read outbox: %w", err)
	}
	r.metrics.pending.Record(ctx, int64(len(events)))
	if len(events) == 0 {
		return 0, nil
	}
	done, err := r.publish(ctx, events)
	if len(done) > 0 {
		// They are out, whether or not the process is about to stop.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := r.o.Outbox.Published(ctx, done); err != nil {
			return 0, fmt.Errorf("mark published: %w", err)
		}
	}
	return len(events), err
}

// republish follows an outage. A broker that was killed may have taken events
// that it did not hand on, and come back without them: what it took last is
// published again, before anything new. If it still knows them, nothing
// happens; and nobody who got them gets them twice.
func (r *Relay) republish(ctx context.Context) error {
	r.mu.Lock()
	recent := r.recent
	r.recent = nil
	r.mu.Unlock()
	epochs := map[string]string{}
	mixed := map[string]bool{}
	behind := map[string]int{} // how many of the channel are newer
	for _, s := range recent {
		behind[s.event.Channel]++
		if before, ok := epochs[s.event.Channel]; ok && before != s.epoch {
			mixed[s.event.Channel] = true
		}
		epochs[s.event.Channel] = s.epoch
	}
	var events []Event
	for _, s := range recent {
		// In a channel that went on after the loss, older events would come
		// late; its readers were told to load it again.
		behind[s.event.Channel]--
		if !mixed[s.event.Channel] && behind[s.event.Channel] < recentOfAChannel {
			events = append(events, s.event)
		}
	}
	_, err := r.publish(ctx, events)
	if err != nil {
		r.mu.Lock()
		r.recent = recent
		r.mu.Unlock()
	}
	return err
}

// publish sends events out, each channel in order, and returns those that are
// done with. An event that can never be published is given up, loudly: it must
// not hold up those behind it.
func (r *Relay) publish(ctx context.Context, events []Event) (done []string, err error) {
	outs := r.o.Broker.PublishAll(ctx, events)
	now := r.o.Now()
	for i, e := range events {
		switch out := outs[i]; {
		case out.Err == nil:
			r.metrics.relayed(ctx, e, now)
			r.remember(sent{event: e, epoch: out.At.Epoch, at: now})
		case errors.Is(out.Err, ErrInvalid):
			r.metrics.refused.Add(ctx, 1)
			r.o.Log.ErrorContext(ctx, "event given up", slog.String("event", e.Name), slog.Any("error", out.Err))
		default:
			if err == nil {
				err = out.Err
			}
			continue
		}
		done = append(done, e.ID)
	}
	return done, err
}

// remember keeps s for republish, and forgets what is old beside it.
func (r *Relay) remember(s sent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recent = append(r.recent, s)
	old := max(0, len(r.recent)-recentMost)
	for old < len(r.recent) && s.at.Sub(r.recent[old].at) > recentFor {
		old++
	}
	if old > 0 {
		r.recent = slices.Delete(r.recent, 0, old)
	}
}
