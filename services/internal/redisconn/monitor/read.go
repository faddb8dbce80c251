package monitor

import (
	"cmp"
	"maps"
	"net"
	"slices"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/info"
)

// read fills in what INFO says.
func read(n *Node, in info.Info) {
	n.Role, n.Version, n.UptimeSeconds = in["role"], in["redis_version"], in.Int("uptime_in_seconds")
	n.Clients = Clients{
		Connected: in.Int("connected_clients"), Blocked: in.Int("blocked_clients"), Max: in.Int("maxclients"),
		Received: in.Int("total_connections_received"), Rejected: in.Int("rejected_connections"),
	}
	n.Memory = Memory{
		Used: in.Int("used_memory"), Peak: in.Int("used_memory_peak"), RSS: in.Int("used_memory_rss"), Dataset: in.Int("used_memory_dataset"),
		Max: in.Int("maxmemory"), Policy: in["maxmemory_policy"], Fragmentation: in.Float("mem_fragmentation_ratio"),
		UsedRatio: ratio(in.Int("used_memory"), in.Int("maxmemory")),
	}
	n.Commands = Commands{
		Processed: in.Int("total_commands_processed"), PerSecond: in.Int("instantaneous_ops_per_sec"), ErrorReplies: in.Int("total_error_replies"),
		InKbps: in.Float("instantaneous_input_kbps"), OutKbps: in.Float("instantaneous_output_kbps"),
	}
	hits, misses := in.Int("keyspace_hits"), in.Int("keyspace_misses")
	n.Keyspace = Keyspace{
		Databases: []Database{}, Hits: hits, Misses: misses, HitRatio: ratio(hits, hits+misses),
		Expired: in.Int("expired_keys"), Evicted: in.Int("evicted_keys"),
	}
	dbs := in.Numbered("db")
	for _, number := range slices.Sorted(maps.Keys(dbs)) {
		n.Keyspace.Databases = append(n.Keyspace.Databases, Database{
			Number: number, Keys: dbs[number].Int("keys"), Expiring: dbs[number].Int("expires"), AverageTTLMs: dbs[number].Float("avg_ttl"),
		})
	}
	n.Replication = replication(in)
	n.Persistence = Persistence{
		Loading: in.Yes("loading"), Changes: in.Int("rdb_changes_since_last_save"), LastSaveOK: in.Yes("rdb_last_bgsave_status"),
		AOF: in.Yes("aof_enabled"), LastAOFWriteOK: in.Yes("aof_last_write_status"), LastAOFRewriteOK: in.Yes("aof_last_bgrewrite_status"),
		LastForkMs: in.Float("latest_fork_usec") / 1000,
	}
	if at := in.Time("rdb_last_save_time"); !at.IsZero() {
		n.Persistence.LastSave = &at
	}
}

func replication(in info.Info) Replication {
	r := Replication{LinkUp: in.Yes("master_link_status"), LagSeconds: max(0, in.Int("master_last_io_seconds_ago")), Replicas: []Replica{}}
	if in.Has("master_host") {
		r.Master = net.JoinHostPort(in["master_host"], in["master_port"])
	}
	for _, one := range in.Numbered("slave") {
		r.Replicas = append(r.Replicas, Replica{
			Addr: net.JoinHostPort(one["ip"], one["port"]), State: one["state"], LagSeconds: one.Int("lag"),
			BehindBytes: max(0, in.Int("master_repl_offset")-one.Int("offset")),
		})
	}
	slices.SortFunc(r.Replicas, func(a, b Replica) int { return cmp.Compare(a.Addr, b.Addr) })
	return r
}

// ratio is nil where there is nothing to be a part of.
func ratio(part, whole int64) *float64 {
	if whole <= 0 {
		return nil
	}
	return new(float64(part) / float64(whole))
}
