package monitor

import (
	"context"
	"errors"
	"fmt"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// figure is a metric of a node, and how to read it. ok is false while that is
// not known.
type figure struct {
	name, unit, help string
	total            bool // it only grows, until the server restarts
	read             func(n Node) (value float64, ok bool)
}

func always(f func(n Node) int64) func(Node) (float64, bool) {
	return func(n Node) (float64, bool) { return float64(f(n)), n.State == OK }
}

func yes(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

var figures = []figure{
	{"redis.clients.connected", "", "Connections of everyone to the Redis server.", false, always(func(n Node) int64 { return n.Clients.Connected })},
	{"redis.clients.blocked", "", "Of those, the ones that wait in a blocking command.", false, always(func(n Node) int64 { return n.Clients.Blocked })},
	{"redis.clients.rejected", "", "Connections that the Redis server refused for being too many.", true, always(func(n Node) int64 { return n.Clients.Rejected })},
	{"redis.memory.rss", "By", "Memory of the Redis server as its operating system sees it.", false, always(func(n Node) int64 { return n.Memory.RSS })},
	{"redis.memory.fragmentation_ratio", "", "Memory that the Redis server has by memory that it uses.", false, func(n Node) (float64, bool) {
		return n.Memory.Fragmentation, n.State == OK && n.Memory.Fragmentation > 0
	}},
	{"redis.commands.processed", "", "Commands of everyone.", true, always(func(n Node) int64 { return n.Commands.Processed })},
	{"redis.commands.error_replies", "", "Commands that the Redis server answered with an error.", true, always(func(n Node) int64 { return n.Commands.ErrorReplies })},
	{"redis.keys.count", "", "Keys in all databases.", false, always(func(n Node) int64 { return keys(n, func(d Database) int64 { return d.Keys }) })},
	{"redis.keys.expiring", "", "Of those, the ones with a time to live.", false, always(func(n Node) int64 { return keys(n, func(d Database) int64 { return d.Expiring }) })},
	{"redis.keys.expired", "", "Keys whose time to live has ended.", true, always(func(n Node) int64 { return n.Keyspace.Expired })},
	{"redis.keys.evicted", "", "Keys that were dropped for want of memory.", true, always(func(n Node) int64 { return n.Keyspace.Evicted })},
	{"redis.keyspace.hits", "", "Reads that found their key.", true, always(func(n Node) int64 { return n.Keyspace.Hits })},
	{"redis.keyspace.misses", "", "Reads that did not.", true, always(func(n Node) int64 { return n.Keyspace.Misses })},
	{"redis.keys.eternal_ratio", "", "Part of the keys of the last sample that never expire.", false, func(n Node) (float64, bool) {
		return float64(n.Sample.Eternal) / float64(max(1, n.Sample.Keys)), n.Sample.State == OK
	}},
	{"redis.slowlog.length", "", "Entries of the slow log.", false, func(n Node) (float64, bool) { return float64(n.SlowLog.Length), n.SlowLog.State == OK }},
	{"redis.replication.replicas", "", "Replicas that are online.", false, func(n Node) (float64, bool) {
		online := 0
		for _, r := range n.Replication.Replicas {
			if r.State == "online" {
				online++
			}
		}
		return float64(online), n.State == OK && n.Role == "master"
	}},
	{"redis.replication.behind", "By", "How far the last replica is behind.", false, func(n Node) (float64, bool) {
		var most int64
		for _, r := range n.Replication.Replicas {
			most = max(most, r.BehindBytes)
		}
		return float64(most), n.State == OK && len(n.Replication.Replicas) > 0
	}},
	{"redis.replication.link", "", "1 while a replica hears its master, 0 while it does not.", false, func(n Node) (float64, bool) {
		return yes(n.Replication.LinkUp), n.State == OK && n.Role == "slave"
	}},
	{"redis.persistence.snapshot_ok", "", "1 if the last snapshot succeeded.", false, func(n Node) (float64, bool) { return yes(n.Persistence.LastSaveOK), n.State == OK }},
	{"redis.persistence.aof_ok", "", "1 if the last write and the last rewrite of the append-only file succeeded.", false, func(n Node) (float64, bool) {
		return yes(n.Persistence.LastAOFWriteOK && n.Persistence.LastAOFRewriteOK), n.State == OK && n.Persistence.AOF
	}},
	{"redis.persistence.unsaved_changes", "", "Changes since the last snapshot.", false, always(func(n Node) int64 { return n.Persistence.Changes })},
}

func keys(n Node, of func(Database) int64) (sum int64) {
	for _, d := range n.Keyspace.Databases {
		sum += of(d)
	}
	return sum
}

// observe registers the figures, with the address of the node.
func (m *Monitor) observe(meter metric.Meter) error {
	var errs []error
	instruments := make([]metric.Float64Observable, len(figures))
	all := make([]metric.Observable, len(figures))
	for i, f := range figures {
		var err error
		if f.total {
			instruments[i], err = meter.Float64ObservableCounter(f.name, metric.WithUnit(f.unit), metric.WithDescription(f.help))
		} else {
			instruments[i], err = meter.Float64ObservableGauge(f.name, metric.WithUnit(f.unit), metric.WithDescription(f.help))
		}
		all[i] = instruments[i]
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("create redis monitor metrics: %w", err)
	}
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, n := range m.Snapshot().Nodes {
			addr := metric.WithAttributes(attribute.String("server.address", n.Addr))
			for i, f := range figures {
				if value, ok := f.read(n); ok {
					o.ObserveFloat64(instruments[i], value, addr)
				}
			}
		}
		return nil
	}, all...)
	if err != nil {
		return fmt.Errorf("register redis monitor metrics: %w", err)
	}
	m.unregister = registration.Unregister
	return nil
}
