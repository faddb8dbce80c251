package event

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Memory is a [Broker] within one process. Its channels behave as those of
// [Redis] do; they end with the process.
type Memory struct {
	o       Options
	tracer  trace.Tracer
	metrics *metrics

	mu       sync.Mutex
	channels map[string]*memoryChannel
	writes   int
	closed   bool
}

// NewMemory returns a broker for one process.
func NewMemory(o Options) (*Memory, error) {
	ms, err := newMetrics(o.Meter)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	return &Memory{o: o, tracer: tracer(o.Tracer), metrics: ms, channels: map[string]*memoryChannel{}}, nil
}

// memoryChannel is kept small: there is one for each person who is connected.
type memoryChannel struct {
	mu      sync.Mutex
	ledger  ledger
	touched int64 // in nanoseconds of the clock
	subs    []*memorySubscription
}

type memorySubscription struct {
	Subscriber
	b  *Memory
	ch *memoryChannel
}

func (s *memorySubscription) stop() {
	s.ch.mu.Lock()
	defer s.ch.mu.Unlock()
	s.ch.subs = slices.DeleteFunc(s.ch.subs, func(o *memorySubscription) bool { return o == s })
	s.ch.touched = s.b.o.Now().UnixNano()
}

// Publish implements [Broker].
func (b *Memory) Publish(ctx context.Context, e Event) (Position, error) {
	at, _, err := b.publish(ctx, e)
	return at, err
}

func (b *Memory) publish(ctx context.Context, e Event) (at Position, again bool, err error) {
	if err := e.Validate(); err != nil {
		return Position{}, false, err
	}
	ctx, span, e := startPublish(ctx, b.tracer, "memory", e)
	defer span.End()
	env := e.envelope()
	body, err := json.Marshal(env)
	if err != nil {
		return Position{}, false, fmt.Errorf("publish %s: %w: %w", e.Name, ErrInvalid, err)
	}
	ch, release, err := b.channel(e.Channel)
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
		return Position{}, false, err
	}
	defer release()
	now := b.o.Now()
	w, again := ch.ledger.publish(kindOf(env.Class), e.ID, body, now, random20(), b.o)
	at = Position{Epoch: w.epoch, ID: w.id}
	if again {
		b.metrics.publish(ctx, e, "again")
		return at, true, nil
	}
	b.metrics.publish(ctx, e, "ok")
	if len(ch.subs) == 0 {
		return at, false, nil
	}
	m, err := w.message()
	if err != nil {
		return at, false, err
	}
	for _, s := range ch.subs {
		s.Deliver(m)
	}
	return at, false, nil
}

// PublishAll implements [Broker].
func (b *Memory) PublishAll(ctx context.Context, events []Event) []Outcome {
	outs := make([]Outcome, len(events))
	for i, e := range events {
		outs[i].At, outs[i].Again, outs[i].Err = b.publish(ctx, e)
	}
	return outs
}

// Position implements [Broker].
func (b *Memory) Position(_ context.Context, channel string) (Position, error) {
	if !ValidChannel(channel) {
		return Position{}, fmt.Errorf("%w: channel %q", ErrInvalid, clip(channel))
	}
	ch, release, err := b.channel(channel)
	if err != nil {
		return Position{}, err
	}
	defer release()
	return ch.ledger.head(), nil
}

// Since implements [Broker].
func (b *Memory) Since(_ context.Context, channel string, after Position, limit int) (History, error) {
	if !ValidChannel(channel) {
		return History{}, fmt.Errorf("%w: channel %q", ErrInvalid, clip(channel))
	}
	ch, release, err := b.channel(channel)
	if err != nil {
		return History{}, err
	}
	s := ch.ledger.read(after.ID, limit)
	release()
	return s.history(after)
}

// Subscribe implements [Broker].
func (b *Memory) Subscribe(_ context.Context, channel string, s Subscriber) (Position, func(), error) {
	if !ValidChannel(channel) {
		return Position{}, nil, fmt.Errorf("%w: channel %q", ErrInvalid, clip(channel))
	}
	ch, release, err := b.channel(channel)
	if err != nil {
		return Position{}, nil, err
	}
	defer release()
	sub := &memorySubscription{Subscriber: s, b: b, ch: ch}
	ch.subs = append(ch.subs, sub)
	return ch.ledger.head(), sub.stop, nil
}

// Watch implements [Broker]: memory is always there.
func (b *Memory) Watch(f func(up bool)) func() {
	f(true)
	return func() {}
}

// Close implements [Broker].
func (b *Memory) Close() error {
	b.mu.Lock()
	b.closed = true
	channels := slices.Collect(maps.Values(b.channels))
	b.mu.Unlock()
	for _, ch := range channels {
		ch.mu.Lock()
		ch.subs = nil
		ch.mu.Unlock()
	}
	return nil
}

// channel returns a channel, held until release is called.
func (b *Memory) channel(name string) (ch *memoryChannel, release func(), err error) {
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, nil, ErrClosed
	}
	now := b.o.Now()
	if b.writes++; b.writes%1024 == 0 {
		b.forget(now)
	}
	ch = b.channels[name]
	if ch == nil {
		ch = &memoryChannel{ledger: ledger{epoch: newEpoch()}}
		b.channels[name] = ch
	}
	ch.mu.Lock()
	b.mu.Unlock()
	ch.touched = now.UnixNano()
	return ch, ch.mu.Unlock, nil
}

// forget drops channels that nobody follows and that were idle too long; b.mu
// is held, so nobody can come to hold a channel meanwhile.
func (b *Memory) forget(now time.Time) {
	for name, ch := range b.channels {
		if !ch.mu.TryLock() {
			continue // in use
		}
		if len(ch.subs) == 0 && now.UnixNano()-ch.touched > int64(b.o.History) {
			delete(b.channels, name)
		}
		ch.mu.Unlock()
	}
}

func kindOf(c Class) byte {
	if c == Ephemeral {
		return passing
	}
	return stored
}

// ledger is a channel as Redis keeps it: what the scripts do, in Go.
type ledger struct {
	epoch      string
	base, last ID
	entries    []wire
	once       map[string]wire
	order      []published
}

type published struct {
	event string
	at    time.Time
}

func (l *ledger) head() Position { return Position{Epoch: l.epoch, ID: l.last} }

// publish appends an event, or returns the one published under its id.
func (l *ledger) publish(kind byte, event string, body []byte, now time.Time, random uint64, o Options) (w wire, again bool) {
	if known, ok := l.once[event]; ok {
		return known, true
	}
	w = wire{kind: kind, epoch: l.epoch, prev: l.last, id: l.last, event: event, body: body}
	if kind != stored {
		return w, false
	}
	if n := uint64(now.UnixMilli()); n > l.last.Ms {
		w.id = ID{Ms: n, Seq: random}
	} else {
		w.id = ID{Ms: l.last.Ms, Seq: l.last.Seq + 1 + random}
	}
	l.last = w.id
	if l.entries = append(l.entries, w); len(l.entries) > o.Keep {
		l.entries = slices.Delete(l.entries, 0, len(l.entries)-o.Keep)
	}
	if l.once == nil {
		l.once = map[string]wire{}
	}
	l.once[event] = wire{epoch: w.epoch, prev: w.prev, id: w.id}
	l.order = append(l.order, published{event: event, at: now})
	for len(l.order) > 0 && now.Sub(l.order[0].at) > o.Once {
		delete(l.once, l.order[0].event)
		l.order = l.order[1:]
	}
	return w, false
}

func (l *ledger) read(after ID, limit int) snapshot {
	s := snapshot{epoch: l.epoch, base: l.base, last: l.last}
	i, _ := slices.BinarySearchFunc(l.entries, after, func(w wire, id ID) int {
		if w.id == id {
			return -1 // the one after it is wanted
		}
		return w.id.Compare(id)
	})
	n := min(len(l.entries)-i, limit)
	s.entries = slices.Clone(l.entries[i : i+n])
	return s
}

// rewind begins an epoch unless somebody else has.
func (l *ledger) rewind(old, epoch string) {
	if l.epoch == old {
		l.epoch, l.base = epoch, l.last
	}
}
