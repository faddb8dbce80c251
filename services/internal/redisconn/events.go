package redisconn

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"
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

// happen records an event, logs it with more about it, and tells who listens.
func (c *Conn) happen(ctx context.Context, e Event, more ...slog.Attr) {
	c.counts.of(e).Add(1)
	c.mu.Lock()
	was := c.status.Event
	c.status.Event = e
	is := c.status
	var listeners []func(Event, Status)
	for id := range c.nextID {
		if f := c.listeners[id]; f != nil {
			listeners = append(listeners, f)
		}
	}
	c.mu.Unlock()

	level, says := words(e, was, is)
	attrs := append([]slog.Attr{slog.String("event", string(e)), slog.String("addr", c.cfg.Addr())}, more...)
	if is.Failures > 0 {
		attrs = append(attrs, slog.Int("failures", is.Failures), slog.String("cause", string(is.Cause)))
		if level > slog.LevelInfo {
			attrs = append(attrs, slog.String("check", is.Cause.Hint()), slog.String("error", is.LastError))
		}
	}
	c.log.LogAttrs(ctx, level, says, attrs...) //nolint:sloglint // one of those in words
	for _, f := range listeners {
		f(e, is)
	}
}

// words are how an event is logged, by the one before it: a Redis that is away
// is told once, and not with each try.
func words(e, was Event, is Status) (slog.Level, string) {
	down := slog.LevelWarn
	if is.Required {
		down = slog.LevelError
	}
	switch {
	case e == EventLost && is.Required, e == EventReconnecting && was == "" && is.Required:
		return down, "redis is down"
	case e == EventLost, e == EventReconnecting && was == "":
		return down, "redis is down: slower, nothing lost"
	case e == EventReconnecting && was == EventReconnecting:
		return slog.LevelDebug, "redis is looked for"
	case e == EventReconnecting:
		return slog.LevelInfo, "redis is looked for"
	case e == EventConnected && was == EventReady:
		return slog.LevelInfo, "redis is not ready any more"
	case e == EventConnected && was == "":
		return slog.LevelInfo, "redis is up"
	case e == EventConnected:
		return slog.LevelInfo, "redis is back"
	}
	return slog.LevelInfo, "redis is ready"
}

// stepped makes events of a look's result.
func (c *Conn) stepped(ctx context.Context, was, is Status) {
	switch {
	case is.Up && !was.Up && was.CheckedAt.IsZero():
		c.happen(ctx, EventConnected, slog.String("mode", string(c.cfg.Mode)))
	case is.Up && !was.Up:
		c.happen(ctx, EventConnected, slog.Duration("away", is.Since.Sub(was.Since).Round(time.Millisecond)))
	case was.Up && !is.Up:
		c.happen(ctx, EventLost)
	}
}

// examined makes events of a thorough check's result.
func (c *Conn) examined(ctx context.Context, h health) {
	last := c.Status().Event
	switch {
	case h.err == nil && last != EventReady:
		c.happen(ctx, EventReady)
	case h.err != nil && last == EventReady:
		c.happen(ctx, EventConnected)
	}
	if h.err != nil && !c.refusing {
		cause := CauseOf(h.err)
		c.log.LogAttrs(ctx, slog.LevelWarn, "redis answers, and cannot be used", slog.String("addr", c.cfg.Addr()),
			slog.String("cause", string(cause)), slog.String("check", cause.Hint()), slog.String("error", h.err.Error()))
	}
	c.refusing = h.err != nil
}
