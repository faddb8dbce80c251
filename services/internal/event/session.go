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

	"github.com/redis/go-redis/v9"
)

// batch is how many channels one command names.
const batch = 512

// errSilent ends a connection on which nothing arrives any more.
var errSilent = errors.New("the subscribing connection is silent")

// session subscribes to everything wanted and receives until the connection
// fails. established is called when the server has confirmed the first
// subscription.
func (l *link) session(ctx context.Context, established func()) error {
	ctx, cancel := context.WithCancel(ctx)
	ps := l.node.Subscribe(ctx)
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
	probe, err := l.probe(ctx)
	if err != nil {
		return fmt.Errorf("choose probe: %w", err)
	}
	if err := l.subscribe(ctx, ps, probe); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	l.b.mu.Lock()
	for name := range l.b.channels {
		l.change(name)
	}
	l.b.mu.Unlock()
	work(func(ctx context.Context) error { return l.follow(ctx, ps) })
	work(l.compare)
	err = l.receive(ctx, ps, probe, established)
	select {
	case cause := <-failed:
		return cause
	default:
		return err
	}
}

// follow subscribes and unsubscribes as channels come and go. Being the only
// one to do so, it cannot get the order of a flapping channel wrong.
func (l *link) follow(ctx context.Context, ps *redis.PubSub) error {
	sent := map[string]*channel{}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changes:
		}
		on, off, err := l.differences(ctx, sent)
		if err != nil {
			return err
		}
		for names := range slices.Chunk(off, batch) {
			if err := l.unsubscribe(ctx, ps, names...); err != nil {
				return fmt.Errorf("unsubscribe: %w", err)
			}
		}
		for names := range slices.Chunk(on, batch) {
			if err := l.subscribe(ctx, ps, names...); err != nil {
				return fmt.Errorf("subscribe: %w", err)
			}
		}
	}
}

// differences returns what to subscribe and unsubscribe since sent was true,
// and makes it true. A channel that was left and wanted again is another one:
// it waits for a confirmation of its own.
func (l *link) differences(ctx context.Context, sent map[string]*channel) (on, off []string, err error) {
	wanted := map[string]*channel{}
	l.b.mu.Lock()
	for name := range l.changed {
		wanted[name] = l.b.channels[name]
	}
	for name := range l.lost {
		delete(sent, name)
	}
	clear(l.changed)
	clear(l.lost)
	l.b.mu.Unlock()
	for name, ch := range wanted {
		moved := false
		if ch != nil {
			ours, err := l.serves(ctx, pubsubName(name))
			if err != nil {
				return nil, nil, fmt.Errorf("find the master of a channel: %w", err)
			}
			if !ours {
				ch, moved = nil, true
			}
		}
		switch {
		case ch == nil && sent[name] != nil:
			delete(sent, name)
			if !moved { // else the server has ended it, and takes no command for it
				off = append(off, pubsubName(name))
			}
		case ch != nil && sent[name] != ch:
			sent[name] = ch
			on = append(on, pubsubName(name))
		}
	}
	return on, off, nil
}

// compare reads the positions of channels whose subscription was confirmed,
// many at a time; only those that are behind read their stream.
func (l *link) compare(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.checking:
		}
		l.b.mu.Lock()
		list := l.checks
		l.checks = nil
		l.b.mu.Unlock()
		for some := range slices.Chunk(list, batch) {
			if err := l.b.comparePositions(ctx, some); err != nil {
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
func (l *link) receive(ctx context.Context, ps *redis.PubSub, probe string, established func()) error {
	probed := false
	for {
		v, err := ps.ReceiveTimeout(ctx, l.b.o.Idle)
		if err != nil {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() || ctx.Err() != nil {
				return fmt.Errorf("receive: %w", err)
			}
			if probed {
				return errSilent
			}
			probed = true
			// Not by the connection itself: it must hear what others publish.
			if err := l.send(ctx, probe); err != nil {
				return fmt.Errorf("probe: %w", err)
			}
			continue
		}
		probed = false
		switch v := v.(type) {
		case *redis.Subscription:
			if err := l.subscription(v, probe, established); err != nil {
				return err
			}
		case *redis.Message:
			l.b.message(v)
		}
	}
}

// errMoved ends a connection to a master that serves its probe no longer.
var errMoved = errors.New("the slot of the probe has moved")

func (l *link) subscription(v *redis.Subscription, probe string, established func()) error {
	name, isChannel := channelOf(v.Channel)
	switch {
	case v.Kind == "subscribe" || v.Kind == "ssubscribe":
		if v.Channel == probe {
			established()
		} else if isChannel {
			l.check(name)
		}
	case v.Kind == "sunsubscribe" && v.Channel == probe:
		return errMoved
	case v.Kind == "sunsubscribe" && isChannel:
		l.gone(name)
	}
	return nil
}

func (b *Redis) message(m *redis.Message) {
	name, ok := channelOf(m.Channel)
	if !ok {
		return
	}
	ch := b.lookup(name)
	if ch == nil {
		b.metrics.drop(b.ctx, "unfollowed")
		return
	}
	w, err := parseWire([]byte(m.Payload))
	if err != nil {
		b.metrics.drop(b.ctx, "unreadable")
		b.o.Log.Error("message dropped", slog.String("channel", Template(name)), slog.Any("error", err))
		return
	}
	if w.kind == stored {
		b.metrics.heard(b.ctx, w.id, b.o.Now())
	}
	ch.live(w)
}

// Followed returns the channels this broker is subscribed to or about to be.
func (b *Redis) Followed() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.channels))
}
