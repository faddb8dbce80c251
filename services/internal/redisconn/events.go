package redisconn

import (
	"context"
	"log/slog"
	"sync/atomic"
)

// Event is a step in the life of the connection.
type Event string

// The events. After Open, and after each loss, they come in this order:
// reconnecting once for each try, connected, ready. A thorough check that fails
// while Redis answers makes it connected again, and ready when one has passed.
const (
	// EventConnected means that Redis answers PING. What else it does is not
	// known yet, or is not well: see [Conn.Report].
	EventConnected Event = "connected"
	// EventReady means that a thorough check has passed: it can be used.
	EventReady Event = "ready"
	// EventLost means that Redis was up and does not answer any more.
	EventLost Event = "lost"
	// EventReconnecting means that a look begins at a Redis that is away. There
	// is no last one: it is tried until [Conn.Close].
	EventReconnecting Event = "reconnecting"
)

// eventCounts is how often each event has been, since the start.
type eventCounts struct{ connected, ready, lost, reconnecting atomic.Int64 }

func (n *eventCounts) of(e Event) *atomic.Int64 {
	switch e {
	case EventConnected:
		return &n.connected
	case EventReady:
		return &n.ready
	case EventLost:
		return &n.lost
	case EventReconnecting:
	}
	return &n.reconnecting
}

// events are all there are, for the counter.
var events = [...]Event{EventConnected, EventReady, EventLost, EventReconnecting}

// OnEvent calls f with each event and the status at that time, in order, from
// one goroutine, which f must not hold up. Events that have been, such as those
// of [Open] itself, are not told again: the last one is in [Status]. A call that
// is under way when stop is called may still be finishing after.
func (c *Conn) OnEvent(f func(Event, Status)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	c.listeners[id] = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.listeners, id)
	}
}

// happen records an event, logs it and tells who listens. Tries after the first
// of a loss, of which there are many, are logged at debug level.
func (c *Conn) happen(ctx context.Context, e Event) {
	c.counts.of(e).Add(1)
	c.mu.Lock()
	level := slog.LevelInfo
	if e == EventReconnecting && c.status.Event == e {
		level = slog.LevelDebug
	}
	c.status.Event = e
	is := c.status
	var listeners []func(Event, Status)
	for id := range c.nextID {
		if f := c.listeners[id]; f != nil {
			listeners = append(listeners, f)
		}
	}
	c.mu.Unlock()

	attrs := []slog.Attr{slog.String("event", string(e)), slog.String("addr", c.cfg.Addr())}
	if is.Failures > 0 {
		attrs = append(attrs, slog.Int("failures", is.Failures), slog.String("cause", string(is.Cause)))
	}
	c.log.LogAttrs(ctx, level, "redis connection", attrs...)
	for _, f := range listeners {
		f(e, is)
	}
}

// stepped makes events of a look's result.
func (c *Conn) stepped(ctx context.Context, was, is Status) {
	switch {
	case is.Up && !was.Up:
		c.happen(ctx, EventConnected)
	case was.Up && !is.Up:
		c.happen(ctx, EventLost)
	}
}

// examined makes events of a thorough check's result.
func (c *Conn) examined(ctx context.Context, h health) {
	switch last := c.Status().Event; {
	case h.err == nil && last != EventReady:
		c.happen(ctx, EventReady)
	case h.err != nil && last == EventReady:
		c.happen(ctx, EventConnected)
	}
}
