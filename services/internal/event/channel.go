package event

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	pageSize = 256 // entries of a read
	ahead    = 512 // live messages that a channel keeps while a read is under way
)

// store is what a channel reads of its history, and how it begins a new one.
type store interface {
	read(ctx context.Context, channel string, after ID, limit int) (snapshot, error)
	rewind(ctx context.Context, channel, old string) error
}

// channel is one channel that this process follows on Redis.
type channel struct {
	b     *Redis
	name  string
	ready chan struct{} // closed once its position is known

	refs int         // b.mu
	idle *time.Timer // b.mu

	mu      sync.Mutex // also held while subscribers are called
	cur     cursor
	known   bool // cur has a position
	dead    bool // nobody follows it any more
	healing bool // a read is under way: live messages wait
	again   bool // what is read may be old already: read once more
	rewound bool // this process found the history rewound
	early   []wire
	room    int // for early
	subs    map[*member]struct{}
}

// member is a subscriber and the era in which it came.
type member struct {
	Subscriber
	era uint64
}

func newChannel(b *Redis, name string) *channel {
	return &channel{b: b, name: name, room: ahead, ready: make(chan struct{}), subs: map[*member]struct{}{}}
}

// join adds a subscriber behind what was delivered so far.
func (c *channel) join(s Subscriber) (Position, func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := &member{Subscriber: s, era: c.cur.era}
	c.subs[m] = struct{}{}
	return c.cur.pos, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.subs, m)
	}
}

// gone ends the healing of a channel that nobody follows.
func (c *channel) gone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dead = true
	clear(c.subs)
}

// live takes a message from the connection. It never waits for Redis.
func (c *channel) live(w wire) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.healing || !c.known {
		c.keep(w)
		return
	}
	switch c.cur.judge(w) {
	case deliver:
		c.deliver(w)
	case heal:
		c.keep(w)
		c.heal(cause(c.cur.pos, w))
	case ignore:
	}
}

func cause(pos Position, w wire) string {
	switch {
	case w.epoch != pos.Epoch:
		return "epoch"
	case pos.ID.Before(w.prev):
		return "missed"
	}
	return "doubt"
}

// keep holds a message until the read under way is done; c.mu is held.
func (c *channel) keep(w wire) {
	if len(c.early) >= c.room {
		c.b.metrics.drop(c.b.ctx, "overflow")
		c.early, c.again = nil, true
		return
	}
	c.early = append(c.early, w)
}

// stands takes the position that Redis has for a channel whose subscription
// was just confirmed: nothing is missed after it. An empty epoch means that
// Redis knows nothing of the channel.
func (c *channel) stands(at Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.dead:
	case c.healing:
		c.again = true
	case !c.known && !at.IsZero():
		c.cur.jump(at)
		if c.settle() && c.again {
			c.heal("overflow")
		}
	case !c.known:
		c.heal("")
	case c.cur.pos != at:
		c.heal("behind")
	}
}

// settle marks the position as known and goes through what came early; it
// reports false if that cannot be put in order without another read. c.mu is
// held.
func (c *channel) settle() bool {
	early := c.early
	c.early = nil
	if !c.known {
		c.known = true
		close(c.ready)
	}
	for _, w := range early {
		if w.kind == stored && w.epoch == c.cur.pos.Epoch && !c.cur.pos.ID.Before(w.id) {
			continue // the read covered it
		}
		switch c.cur.judge(w) {
		case deliver:
			c.deliver(w)
		case heal:
			if !c.healing {
				c.heal(cause(c.cur.pos, w))
			}
			return false
		case ignore:
		}
	}
	return true
}

// heal starts the one read that may be under way for the channel; c.mu is
// held.
func (c *channel) heal(cause string) {
	c.healing = true
	if cause != "" {
		c.b.metrics.gap(c.b.ctx, cause)
	}
	c.b.wg.Go(func() {
		retry := backoff{first: 20 * time.Millisecond, most: c.b.o.Retry}
		for {
			done, err := c.pass(c.b.ctx)
			if done || c.b.ctx.Err() != nil {
				return
			}
			if err == nil {
				retry.reset()
				continue
			}
			c.b.o.Log.Debug("event history not read, trying again", slog.String("channel", Template(c.name)), slog.Any("error", err))
			if !retry.wait(c.b.ctx) {
				return
			}
		}
	})
}

// pass reads once and moves along what it read. It reports whether the
// channel is in order again.
func (c *channel) pass(ctx context.Context) (done bool, err error) {
	c.mu.Lock()
	if c.dead {
		c.mu.Unlock()
		return true, nil
	}
	c.again = false
	at, known := c.cur.pos, c.known
	// What is here already was published before the read that follows, which
	// therefore covers it.
	c.early = nil
	c.mu.Unlock()

	limit := pageSize
	if !known {
		limit = 0
	}
	select {
	case c.b.reads <- struct{}{}:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	s, err := c.b.store.read(ctx, c.name, at.ID, limit)
	<-c.b.reads
	if err != nil {
		return false, err
	}

	c.mu.Lock()
	st := step{settled: true}
	if known {
		st = c.cur.absorb(s)
	} else {
		c.cur.jump(Position{Epoch: s.epoch, ID: s.last})
	}
	if st.rewound {
		c.rewound = true
		c.mu.Unlock()
		c.b.o.Log.WarnContext(ctx, "event history was rewound, beginning a new epoch", slog.String("channel", Template(c.name)))
		return false, c.b.store.rewind(ctx, c.name, at.Epoch)
	}
	defer c.mu.Unlock()
	if st.reset != "" {
		if c.rewound {
			st.reset, c.rewound = ResetRewound, false
		}
		c.b.metrics.reset(ctx, st.reset)
		for s := range c.subs {
			s.Reset(st.reset, c.cur.pos)
		}
	}
	for _, d := range st.fresh {
		c.hand(d)
	}
	if !st.settled || c.again || !c.settle() || c.again {
		return false, nil
	}
	c.healing = false
	return true, nil
}

// deliver moves behind w and hands it out; c.mu is held.
func (c *channel) deliver(w wire) { c.hand(c.cur.advance(w)) }

// hand gives d to every subscriber that has not had it; c.mu is held.
func (c *channel) hand(d delivery) {
	var m Message
	for s := range c.subs {
		if d.before >= s.era {
			continue
		}
		if m.At.IsZero() {
			var err error
			if m, err = d.message(); err != nil {
				c.b.metrics.drop(c.b.ctx, "unreadable")
				c.b.o.Log.Error("event dropped: it cannot be read", slog.String("channel", Template(c.name)), slog.Any("error", err))
				return
			}
		}
		s.Deliver(m)
	}
}
