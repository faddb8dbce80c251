package event

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/trace"
)

// Redis is a [Broker] that all processes share. It connects for subscribing
// only when somebody subscribes or watches. Of a Cluster it connects to each
// master, and subscribes a channel at the one that serves it.
type Redis struct {
	client  redis.UniversalClient
	cluster *redis.ClusterClient // client, if that is of a Cluster
	o       Options
	tracer  trace.Tracer
	metrics *metrics
	store   store
	reads   chan struct{} // bounds concurrent healing

	ctx    context.Context //nolint:containedctx // the life of the connection; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	start  sync.Once

	mu       sync.Mutex
	channels map[string]*channel
	links    map[string]*link // by address; the only one has none
	closed   bool

	moved chan struct{} // signals that the masters of a Cluster may have changed

	status   sync.Mutex // held while watchers are called, so that they see changes in order
	up       bool
	watchers map[*func(bool)]struct{}
}

// NewRedis returns a broker on client, which stays the caller's to close. It
// lives until Close, whatever becomes of ctx: at the end of a process it is
// still needed while others drain.
func NewRedis(ctx context.Context, client redis.UniversalClient, o Options) (*Redis, error) {
	ms, err := newMetrics(o.Meter)
	if err != nil {
		return nil, err
	}
	o = o.withDefaults()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	b := &Redis{
		client: client, o: o, tracer: tracer(o.Tracer), metrics: ms,
		reads: make(chan struct{}, 16),
		ctx:   ctx, cancel: cancel,
		channels: map[string]*channel{}, links: map[string]*link{},
		moved:    make(chan struct{}, 1),
		watchers: map[*func(bool)]struct{}{},
	}
	b.cluster, _ = client.(*redis.ClusterClient)
	b.store = b
	return b, nil
}

// Position implements [Broker].
func (b *Redis) Position(ctx context.Context, channel string) (Position, error) {
	s, err := b.read(ctx, channel, ID{}, 0)
	if err != nil {
		return Position{}, err
	}
	return Position{Epoch: s.epoch, ID: s.last}, nil
}

// Since implements [Broker].
func (b *Redis) Since(ctx context.Context, channel string, after Position, limit int) (History, error) {
	s, err := b.read(ctx, channel, after.ID, max(1, limit))
	if err != nil {
		return History{}, err
	}
	return s.history(after)
}

func (b *Redis) read(ctx context.Context, channel string, after ID, limit int) (snapshot, error) {
	if !ValidChannel(channel) {
		return snapshot{}, fmt.Errorf("%w: channel %q", ErrInvalid, clip(channel))
	}
	v, err := readScript.Run(ctx, b.client, []string{streamKey(channel), metaKey(channel)},
		after.String(), limit, newEpoch(), ms(b.o.History)).Result()
	b.suspect(ctx, err)
	if err != nil {
		return snapshot{}, fmt.Errorf("read %s: %w", Template(channel), err)
	}
	return parseSnapshot(v)
}

// rewind begins a new epoch in place of old, unless somebody else has.
func (b *Redis) rewind(ctx context.Context, channel, old string) error {
	err := rewindScript.Run(ctx, b.client, []string{metaKey(channel)}, old, newEpoch(), pubsubName(channel), b.spublish()).Err()
	if err != nil {
		return fmt.Errorf("rewind %s: %w", Template(channel), err)
	}
	return nil
}

// Subscribe implements [Broker].
func (b *Redis) Subscribe(ctx context.Context, name string, s Subscriber) (Position, func(), error) {
	if !ValidChannel(name) {
		return Position{}, nil, fmt.Errorf("%w: channel %q", ErrInvalid, clip(name))
	}
	ch, err := b.acquire(name)
	if err != nil {
		return Position{}, nil, err
	}
	select {
	case <-ch.ready:
	case <-ctx.Done():
		b.release(ch)
		return Position{}, nil, fmt.Errorf("subscribe %s: %w", Template(name), ctx.Err())
	case <-b.ctx.Done():
		b.release(ch)
		return Position{}, nil, ErrClosed
	}
	at, leave := ch.join(s)
	var once sync.Once
	return at, func() {
		once.Do(func() {
			leave()
			b.release(ch)
		})
	}, nil
}

// acquire counts a reference to a channel, and has it subscribed if it is new.
func (b *Redis) acquire(name string) (*channel, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, ErrClosed
	}
	b.begin()
	ch := b.channels[name]
	if ch == nil {
		ch = newChannel(b, name)
		b.channels[name] = ch
		b.change(name)
	}
	if ch.refs++; ch.idle != nil {
		ch.idle.Stop()
		ch.idle = nil
	}
	return ch, nil
}

// release gives a reference back. The channel is left a while later, unless
// somebody has come meanwhile.
func (b *Redis) release(ch *channel) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if ch.refs--; ch.refs > 0 || b.closed {
		return
	}
	ch.idle = time.AfterFunc(b.o.Linger, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if ch.refs > 0 || b.closed || b.channels[ch.name] != ch {
			return
		}
		delete(b.channels, ch.name)
		ch.gone()
		b.change(ch.name)
	})
}

// change notes that the subscription of a channel may have to change; b.mu is
// held.
func (b *Redis) change(name string) {
	for _, l := range b.links {
		l.change(name)
	}
}

func (b *Redis) lookup(name string) *channel {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.channels[name]
}

// Watch implements [Broker].
func (b *Redis) Watch(f func(up bool)) func() {
	b.mu.Lock()
	if !b.closed {
		b.begin()
	}
	b.mu.Unlock()
	b.status.Lock()
	defer b.status.Unlock()
	b.watchers[&f] = struct{}{}
	f(b.up)
	return func() {
		b.status.Lock()
		defer b.status.Unlock()
		delete(b.watchers, &f)
	}
}

// tell lets watchers know if deliveries began or ceased to flow: they do when
// every link is up.
func (b *Redis) tell() {
	b.status.Lock()
	defer b.status.Unlock()
	b.mu.Lock()
	up := len(b.links) > 0
	for _, l := range b.links {
		up = up && l.up
	}
	b.mu.Unlock()
	if b.up == up {
		return
	}
	b.up = up
	for f := range b.watchers {
		(*f)(up)
	}
}

// begin starts the connections, once; b.mu is held and b is not closed.
func (b *Redis) begin() {
	b.start.Do(func() {
		if b.cluster != nil {
			b.wg.Go(b.followMasters)
			return
		}
		l := newLink(b, "", b.client)
		b.links[l.addr] = l
		b.wg.Go(func() { l.run(b.ctx) })
	})
}

// Close implements [Broker].
func (b *Redis) Close() error {
	b.mu.Lock()
	b.closed = true
	for _, ch := range b.channels {
		if ch.idle != nil {
			ch.idle.Stop()
		}
		ch.gone()
	}
	b.mu.Unlock()
	b.cancel()
	b.wg.Wait()
	return nil
}

// signal wakes whoever waits on c, without waiting.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
