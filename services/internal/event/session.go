package event

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// batch is how many channels one command names.
const batch = 512

// errSilent ends a connection on which nothing arrives any more.
var errSilent = errors.New("the subscribing connection is silent")

// run keeps a subscribing connection until the broker is closed.
func (b *Redis) run() {
	retry := backoff{first: 50 * time.Millisecond, most: b.o.Retry}
	silent := false // log the loss of the connection once
	for b.ctx.Err() == nil {
		err := b.session(func() {
			retry.reset()
			if b.setUp(true) && silent {
				b.o.Log.Info("event broker is back")
			}
			silent = false
		})
		b.setUp(false)
		if b.ctx.Err() != nil {
			return
		}
		b.metrics.sessions.Add(b.ctx, 1)
		if !silent {
			b.o.Log.Warn("event broker lost, reconnecting", slog.Any("error", err))
			silent = true
		}
		if !retry.wait(b.ctx) {
			return
		}
	}
}

// session subscribes to everything wanted and receives until the connection
// fails. established is called when the server has confirmed the first
// subscription.
func (b *Redis) session(established func()) error {
	ps := b.client.Subscribe(b.ctx)
	ctx, cancel := context.WithCancel(b.ctx)
	// Closing ends a Receive that waits: it does not look at its context.
	closed := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = ps.Close()
	})
	failed := make(chan error, 2)
	var helpers sync.WaitGroup
	work := func(f func(context.Context) error) {
		helpers.Go(func() {
			if err := f(ctx); err != nil {
				failed <- err
				cancel()
			}
		})
	}
	// The next session has its own: these must not take its signals.
	defer helpers.Wait()
	defer func() { cancel(); <-closed }()
	if err := ps.Subscribe(ctx, b.probe); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	b.mu.Lock()
	for name := range b.channels {
		b.change(name)
	}
	b.mu.Unlock()
	work(func(ctx context.Context) error { return b.follow(ctx, ps) })
	work(b.compare)
	err := b.receive(ctx, ps, established)
	select {
	case cause := <-failed:
		return cause
	default:
		return err
	}
}

// follow subscribes and unsubscribes as channels come and go. Being the only
// one to do so, it cannot get the order of a flapping channel wrong.
func (b *Redis) follow(ctx context.Context, ps *redis.PubSub) error {
	sent := map[string]*channel{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.changes:
		}
		var on, off []string
		b.mu.Lock()
		for name := range b.changed {
			switch ch := b.channels[name]; {
			case ch == nil && sent[name] != nil:
				delete(sent, name)
				off = append(off, pubsubName(name))
			case ch != nil && sent[name] != ch:
				sent[name] = ch
				on = append(on, pubsubName(name))
			}
		}
		clear(b.changed)
		b.mu.Unlock()
		for names := range slices.Chunk(off, batch) {
			if err := ps.Unsubscribe(ctx, names...); err != nil {
				return fmt.Errorf("unsubscribe: %w", err)
			}
		}
		for names := range slices.Chunk(on, batch) {
			if err := ps.Subscribe(ctx, names...); err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
		}
	}
}

// compare reads the positions of channels whose subscription was confirmed,
// many at a time; only those that are behind read their stream.
func (b *Redis) compare(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.checking:
		}
		b.mu.Lock()
		list := b.checks
		b.checks = nil
		b.mu.Unlock()
		for some := range slices.Chunk(list, batch) {
			if err := b.comparePositions(ctx, some); err != nil {
				return err
			}
		}
	}
}

func (b *Redis) comparePositions(ctx context.Context, list []*channel) error {
	cmds := make([]*redis.SliceCmd, len(list))
	_, err := b.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, ch := range list {
			cmds[i] = p.HMGet(ctx, metaKey(ch.name), "e", "l", "b")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read positions: %w", err)
	}
	for i, ch := range list {
		v := cmds[i].Val()
		if len(v) != 3 || v[0] == nil || v[1] == nil || v[2] == nil {
			ch.stands(Position{})
			continue
		}
		epoch, _ := v[0].(string)
		id, err := idOf(v[1])
		if err != nil {
			return err
		}
		ch.stands(Position{Epoch: epoch, ID: id})
	}
	return nil
}

// receive hands out what the connection brings. Nothing in it waits for
// Redis, so the server never has to buffer for a slow reader.
func (b *Redis) receive(ctx context.Context, ps *redis.PubSub, established func()) error {
	probed := false
	for {
		v, err := ps.ReceiveTimeout(ctx, b.o.Idle)
		if err != nil {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if probed {
				return errSilent
			}
			probed = true
			if err := b.client.Publish(ctx, b.probe, "").Err(); err != nil {
				return fmt.Errorf("probe: %w", err)
			}
			continue
		}
		probed = false
		switch v := v.(type) {
		case *redis.Subscription:
			if v.Kind != "subscribe" {
				continue
			}
			if v.Channel == b.probe {
				established()
			} else if name, ok := channelOf(v.Channel); ok {
				b.check(name)
			}
		case *redis.Message:
			b.message(v)
		}
	}
}

func (b *Redis) message(m *redis.Message) {
	name, ok := channelOf(m.Channel)
	if !ok {
		return
	}
	ch := b.lookup(name)
	if ch == nil {
		return
	}
	w, err := parseWire([]byte(m.Payload))
	if err != nil {
		b.o.Log.Error("message dropped", slog.String("channel", Template(name)), slog.Any("error", err))
		return
	}
	ch.live(w)
}

// Followed returns the channels this broker is subscribed to or about to be.
func (b *Redis) Followed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.channels))
}
