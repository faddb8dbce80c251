package event

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// link is one subscribing connection, made anew whenever it fails: the only
// one, or that to one master of a Cluster.
type link struct {
	b    *Redis
	addr string // of the master of a Cluster
	node subscribing

	changes  chan struct{} // signals changed and lost
	checking chan struct{} // signals checks

	// All under b.mu.
	changed map[string]struct{} // names whose subscription may have to change
	lost    map[string]struct{} // names whose subscription the server ended
	checks  []*channel          // subscribed (again): where do they stand?
	up      bool
}

// subscribing is the server at which a link subscribes.
type subscribing interface {
	Subscribe(ctx context.Context, channels ...string) *redis.PubSub
}

func newLink(b *Redis, addr string, node subscribing) *link {
	return &link{
		b: b, addr: addr, node: node,
		changes: make(chan struct{}, 1), checking: make(chan struct{}, 1),
		changed: map[string]struct{}{}, lost: map[string]struct{}{},
	}
}

// change notes that the subscription of a channel may have to change; b.mu is
// held.
func (l *link) change(name string) {
	l.changed[name] = struct{}{}
	signal(l.changes)
}

// check asks for the position of a channel whose subscription was confirmed.
func (l *link) check(name string) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if ch := l.b.channels[name]; ch != nil {
		l.checks = append(l.checks, ch)
		signal(l.checking)
	}
}

// gone notes that the server ended a subscription: its slot has moved. It ends
// those that were given up as well, which is no news.
func (l *link) gone(name string) {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	if l.b.channels[name] != nil {
		l.lost[name] = struct{}{}
		l.change(name)
		signal(l.b.moved)
	}
}

func (l *link) setUp(up bool) (changed bool) {
	l.b.mu.Lock()
	changed = l.up != up
	l.up = up
	l.b.mu.Unlock()
	l.b.tell()
	return changed
}

// run keeps a connection until ctx ends.
func (l *link) run(ctx context.Context) {
	b := l.b
	retry := backoff{first: firstRetry, most: b.o.Retry}
	silent := false // log the loss of the connection once
	for ctx.Err() == nil {
		err := l.session(ctx, func() {
			retry.reset()
			if l.setUp(true) && silent {
				b.o.Log.InfoContext(ctx, "event broker is back")
			}
			silent = false
		})
		l.setUp(false)
		if ctx.Err() != nil {
			return
		}
		signal(b.moved)
		b.metrics.ended(ctx, err)
		if !silent {
			b.o.Log.WarnContext(ctx, "event broker lost, reconnecting", slog.Any("error", err))
			silent = true
		}
		if !retry.wait(ctx) {
			return
		}
	}
}

// serves reports whether a pub/sub channel belongs to this link.
func (l *link) serves(ctx context.Context, pubsub string) (bool, error) {
	if l.b.cluster == nil {
		return true, nil
	}
	// Only the first look ever may have to ask a server.
	master, err := l.b.cluster.MasterForKey(ctx, pubsub)
	if err != nil {
		return false, err
	}
	return master.Options().Addr == l.addr, nil
}

// probes is how many names are tried for a probe that a master serves. With
// 16,384 slots, one of 300 masters serves none of them once in a million.
const probes = 4096

var errNoProbe = errors.New("the master serves no slot")

// probe returns the name of a pub/sub channel of this connection alone, which
// this link's server serves.
func (l *link) probe(ctx context.Context) (string, error) {
	id := newEpoch()
	if l.b.cluster == nil {
		return "rt:probe:" + id, nil
	}
	for n := range probes {
		name := "rt:{probe-" + id + "-" + strconv.Itoa(n) + "}:p"
		if ours, err := l.serves(ctx, name); err != nil || ours {
			return name, err
		}
	}
	return "", errNoProbe
}

// send publishes a probe.
func (l *link) send(ctx context.Context, probe string) error {
	if l.b.cluster == nil {
		return l.b.client.Publish(ctx, probe, "").Err()
	}
	return l.b.cluster.SPublish(ctx, probe, "").Err()
}

func (l *link) subscribe(ctx context.Context, ps *redis.PubSub, names ...string) error {
	if l.b.cluster == nil {
		return ps.Subscribe(ctx, names...)
	}
	for _, name := range names { // one command names channels of one slot
		if err := ps.SSubscribe(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (l *link) unsubscribe(ctx context.Context, ps *redis.PubSub, names ...string) error {
	if l.b.cluster == nil {
		return ps.Unsubscribe(ctx, names...)
	}
	for _, name := range names {
		if err := ps.SUnsubscribe(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// followMasters keeps a link to every master of a Cluster. After each sign of
// a change it looks often, then ever less: the client learns of a failover or
// a moved slot only a while later.
func (b *Redis) followMasters() {
	ends := map[string]context.CancelFunc{}
	var running sync.WaitGroup
	defer running.Wait()
	retry := backoff{first: firstRetry, most: b.o.Idle}
	for {
		masters, err := b.masters()
		if err != nil {
			b.o.Log.Debug("masters of the cluster not known, trying again", slog.Any("error", err))
		} else {
			b.relink(masters, ends, &running)
		}
		t := time.NewTimer(retry.next())
		select {
		case <-b.ctx.Done():
		case <-b.moved:
			retry.reset()
		case <-t.C:
		}
		t.Stop()
		if b.ctx.Err() != nil {
			return
		}
	}
}

// masters asks the Cluster for its masters, by address.
func (b *Redis) masters() (map[string]*redis.Client, error) {
	var mu sync.Mutex
	masters := map[string]*redis.Client{}
	err := b.cluster.ForEachMaster(b.ctx, func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters[c.Options().Addr] = c
		return nil
	})
	return masters, err
}

// relink starts and ends links so that there is one to each master, and has
// all of them look again which channels are theirs.
func (b *Redis) relink(masters map[string]*redis.Client, ends map[string]context.CancelFunc, running *sync.WaitGroup) {
	b.mu.Lock()
	for addr := range b.links {
		if masters[addr] == nil {
			ends[addr]()
			delete(ends, addr)
			delete(b.links, addr)
		}
	}
	for addr, c := range masters {
		if b.links[addr] == nil {
			l := newLink(b, addr, c)
			ctx, end := context.WithCancel(b.ctx)
			b.links[addr], ends[addr] = l, end
			running.Go(func() { defer end(); l.run(ctx) })
		}
	}
	for name := range b.channels {
		b.change(name)
	}
	b.mu.Unlock()
	b.tell()
}
