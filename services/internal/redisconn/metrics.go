package redisconn

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Metrics are what the connection has done since it was opened, and its
// connections now.
type Metrics struct {
	TotalConnections  int64   `json:"total_connections"`  // ever opened or tried
	FailedConnections int64   `json:"failed_connections"` // of those, failed
	ActiveConnections int64   `json:"active_connections"` // open now
	IdleConnections   int64   `json:"idle_connections"`   // of those, unused
	PoolTimeouts      int64   `json:"pool_timeouts"`      // waits for a connection that were given up
	Commands          int64   `json:"commands"`
	FailedCommands    int64   `json:"failed_commands"`
	Reconnections     int64   `json:"reconnections"` // returns after a loss
	AverageMs         float64 `json:"average_ms"`    // of a command
}

// Metrics returns the figures so far.
func (c *Conn) Metrics() Metrics {
	if c.client == nil {
		return Metrics{}
	}
	pool := c.client.PoolStats()
	m := Metrics{
		TotalConnections:  c.totals.dials.Load(),
		FailedConnections: c.totals.failedDials.Load(),
		ActiveConnections: int64(pool.TotalConns),
		IdleConnections:   int64(pool.IdleConns),
		PoolTimeouts:      int64(pool.Timeouts),
		Commands:          c.totals.commands.Load(),
		FailedCommands:    c.totals.failedCommands.Load(),
		Reconnections:     c.totals.returns.Load(),
	}
	if m.Commands > 0 {
		m.AverageMs = milliseconds(time.Duration(c.totals.nanoseconds.Load() / m.Commands))
	}
	return m
}

// observe registers the gauges, if there is a meter, and leaves in c how to
// take them back.
func (c *Conn) observe(meter metric.Meter) error {
	if meter == nil {
		return nil
	}
	var errs []error
	gauge := func(name, unit, help string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(help))
		errs = append(errs, err)
		return g
	}
	up := gauge("app.dependency.up", "", "1 while the dependency answers, 0 while it does not.")
	failures := gauge("app.dependency.failures", "", "Failed checks of the dependency in a row.")
	connections := gauge("redis.pool.connections", "", "Open connections by state.")
	used := gauge("redis.memory.used", "By", "Memory that the Redis server uses.")
	limit := gauge("redis.memory.limit", "By", "Memory that the Redis server may use; 0 means no limit.")
	counter := func(name, help string) metric.Int64ObservableCounter {
		ct, err := meter.Int64ObservableCounter(name, metric.WithDescription(help))
		errs = append(errs, err)
		return ct
	}
	timeouts := counter("redis.pool.timeouts", "Waits for a connection that were given up.")
	reconnections := counter("redis.reconnections", "Returns of Redis after a loss.")
	steps := counter("redis.connection.events", "Steps of the connection by event: connected, ready, lost, and each try while it is lost: reconnecting.")
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("create redis metrics: %w", err)
	}

	dependency := metric.WithAttributes(attribute.String("dependency", "redis"))
	idle := metric.WithAttributes(attribute.String("state", "idle"))
	busy := metric.WithAttributes(attribute.String("state", "used"))
	var byEvent [len(events)]metric.ObserveOption
	for i, e := range events {
		byEvent[i] = metric.WithAttributes(attribute.String("event", string(e)))
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		c.mu.Lock()
		s, h := c.status, c.health
		c.mu.Unlock()
		isUp := int64(0)
		if s.Up {
			isUp = 1
		}
		m := c.Metrics()
		o.ObserveInt64(up, isUp, dependency)
		o.ObserveInt64(failures, int64(s.Failures), dependency)
		o.ObserveInt64(connections, m.IdleConnections, idle)
		o.ObserveInt64(connections, m.ActiveConnections-m.IdleConnections, busy)
		o.ObserveInt64(timeouts, m.PoolTimeouts)
		o.ObserveInt64(reconnections, m.Reconnections)
		for i, e := range events {
			o.ObserveInt64(steps, c.counts.of(e).Load(), byEvent[i])
		}
		if h.info {
			o.ObserveInt64(used, h.usedMemory)
			o.ObserveInt64(limit, h.maxMemory)
		}
		return nil
	}, up, failures, connections, timeouts, reconnections, steps, used, limit)
	if err != nil {
		return fmt.Errorf("register redis metrics: %w", err)
	}
	c.unregister = registration.Unregister
	return nil
}
