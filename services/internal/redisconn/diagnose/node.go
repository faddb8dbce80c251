package diagnose

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

// From these on, something is worth a finding.
const (
	fullRatio     = .85
	overfullRatio = .95
	fragmented    = 1.5
	smallMemory   = 64 << 20 // below which fragmentation is no loss
	bigKey        = 1 << 20
	eternalRatio  = .1
	slowLately    = time.Hour
	longSpike     = 100.0 // milliseconds
	longFork      = 500.0
	lateReplica   = 10 // seconds
	behindReplica = 1 << 20
	crowded       = .9
)

// node looks at one server.
func (e *examination) node(ctx context.Context, client *redis.Client, addr string) {
	n := monitor.At(ctx, client, addr)
	if n.State == monitor.Failed {
		e.found(Finding{
			ID: "connection.node", Area: Connection, Severity: Critical, Node: addr, Seen: "The node at " + addr + " does not answer: " + n.Error + ".",
			Causes: []string{"It has died, or cannot be reached from here."}, Next: []string{"See CLUSTER NODES on another one; start it, or let CLUSTER FAILOVER replace it."},
		})
		return
	}
	add := func(area Area, severity Severity, id, seen string, causes, next []string) {
		e.found(Finding{ID: id, Area: area, Severity: severity, Node: addr, Seen: seen, Causes: causes, Next: next})
	}
	if n.State == monitor.OK {
		e.elsewhere(n, add)
		clients(n, add)
	}
	if e.wants(Memory) {
		if n.State == monitor.OK {
			memory(n, add)
		}
		eternal(n, add)
		if n.Role != "slave" {
			e.bigKeys(ctx, client, add)
		}
	}
	if e.wants(Performance) {
		slow(n, add, e.opts.Now())
		if n.State == monitor.OK {
			persistence(n, add)
			replication(n, add)
		}
	}
}

type adder func(area Area, severity Severity, id, seen string, causes, next []string)

// elsewhere notices that this database is empty and another is not.
func (e *examination) elsewhere(n monitor.Node, add adder) {
	others := 0
	for _, d := range n.Keyspace.Databases {
		if d.Number == e.cfg.DB && d.Keys > 0 {
			return
		}
		others++
	}
	if others > 0 && e.cfg.Mode != redisconn.Cluster {
		add(Connection, Note, "connection.other_database", fmt.Sprintf("Database %d is empty, and there are keys in others.", e.cfg.DB),
			[]string{"REDIS_DB, or the number at the end of REDIS_URL, is not the one that the other programs use.", "Nothing has been cached yet."},
			[]string{"Compare with the other replicas' settings: all need the same."})
	}
}

func clients(n monitor.Node, add adder) {
	if n.Clients.Max > 0 && float64(n.Clients.Connected) > crowded*float64(n.Clients.Max) || n.Clients.Rejected > 0 {
		add(Connection, Warning, "connection.crowded", fmt.Sprintf("%d of %d connections are used; %d have been refused for being too many.", n.Clients.Connected, n.Clients.Max, n.Clients.Rejected),
			[]string{"Many replicas with a large REDIS_MAX_CONNECTIONS.", "Programs that never close their connections."},
			[]string{"See CLIENT LIST; raise maxclients or lower REDIS_MAX_CONNECTIONS."})
	}
}

func memory(n monitor.Node, add adder) {
	m := n.Memory
	switch {
	case m.UsedRatio == nil && n.Version != "":
		add(Memory, Warning, "memory.no_limit", "maxmemory is not set.",
			[]string{"The server was started without a configuration for its memory."},
			[]string{"Set maxmemory below what the machine has, and maxmemory-policy volatile-lru: else the kernel ends Redis when memory is gone."})
	case m.UsedRatio != nil && *m.UsedRatio > fullRatio:
		severity := Warning
		if *m.UsedRatio > overfullRatio && m.Policy == "noeviction" {
			severity = Critical
		}
		add(Memory, severity, "memory.nearly_full", fmt.Sprintf("%.0f %% of maxmemory is used.", *m.UsedRatio*100),
			[]string{"maxmemory is too small for what is kept.", "Keys that never expire pile up."}, []string{"Raise maxmemory, or see which keys are large (redis-cli --bigkeys, --memkeys)."})
	}
	if m.Policy == "noeviction" {
		add(Memory, Warning, "memory.noeviction", "maxmemory-policy is noeviction: a full server refuses writes.",
			[]string{"It is Redis's default."}, []string{"Set maxmemory-policy volatile-lru: all of Crewbeat's keys expire, so any may be dropped."})
	}
	if m.Fragmentation > fragmented && m.RSS > smallMemory {
		add(Memory, Note, "memory.fragmented", fmt.Sprintf("The server has %.1f times the memory that it uses.", m.Fragmentation),
			[]string{"Much was deleted lately.", "Values of many different sizes."}, []string{"CONFIG SET activedefrag yes, or restart it at a quiet time."})
	}
	if n.Keyspace.Evicted > 0 {
		add(Memory, Note, "memory.evictions", fmt.Sprintf("%d keys were dropped for want of memory since the server started.", n.Keyspace.Evicted),
			[]string{"maxmemory is smaller than what is wanted again."}, []string{"Raise maxmemory if the hit ratio suffers."})
	}
}

func eternal(n monitor.Node, add adder) {
	s := n.Sample
	if s.State != monitor.OK || s.Eternal == 0 || float64(s.Eternal) < eternalRatio*float64(s.Keys) {
		return
	}
	var kinds []string
	for _, prefix := range slices.Sorted(maps.Keys(s.ByPrefix)) {
		kinds = append(kinds, fmt.Sprintf("%s (%d)", prefix, s.ByPrefix[prefix]))
	}
	add(Memory, Warning, "memory.eternal_keys", fmt.Sprintf("%d of %d keys of a sample never expire: %s.", s.Eternal, s.Keys, strings.Join(kinds, ", ")),
		[]string{"Another program uses the same database: Crewbeat's keys (cb, rt, crewbeat) all expire."}, []string{"Give Crewbeat a Redis, or at least a database, of its own."})
}

// bigKeys samples how much memory keys take.
func (e *examination) bigKeys(ctx context.Context, client *redis.Client, add adder) {
	var cursor uint64
	looked, big, most := 0, 0, int64(0)
	for range 10 {
		keys, next, err := client.Scan(ctx, cursor, "", 200).Result()
		if err != nil {
			return // it may not be asked
		}
		pipe := client.Pipeline()
		sizes := make([]*redis.IntCmd, len(keys))
		for i, key := range keys {
			sizes[i] = pipe.MemoryUsage(ctx, key, 5)
		}
		if _, err := pipe.Exec(ctx); err != nil {
			if _, answered := errors.AsType[redis.Error](err); !answered {
				return
			}
		}
		for _, size := range sizes {
			if n := size.Val(); n > bigKey {
				big++
				most = max(most, n)
			}
		}
		if looked += len(keys); next == 0 || looked >= 1000 {
			break
		}
		cursor = next
	}
	if big > 0 {
		add(Memory, Warning, "memory.big_keys", fmt.Sprintf("%d of %d keys of a sample take more than 1 MiB, the largest %.1f MiB.", big, looked, float64(most)/(1<<20)),
			[]string{"Lists or streams that grow without a limit.", "Another program keeps large values there."},
			[]string{"redis-cli --bigkeys and --memkeys name them; a large value blocks everyone while it is read."})
	}
}

func slow(n monitor.Node, add adder, now time.Time) {
	names := map[string]int{}
	longest := 0.0
	for _, c := range n.SlowLog.Entries {
		if now.Sub(c.At) <= slowLately {
			names[c.Command]++
			longest = max(longest, c.TookMs)
		}
	}
	if len(names) > 0 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(names)) {
			parts = append(parts, fmt.Sprintf("%s (%d)", name, names[name]))
		}
		add(Performance, Warning, "performance.slow_log", fmt.Sprintf("Slow commands in the last hour: %s; the longest took %.0f ms.", strings.Join(parts, ", "), longest),
			[]string{"Commands over many keys or large values, such as KEYS, SMEMBERS or a long script.", "A machine without a processor to spare."},
			[]string{"SLOWLOG GET on the server tells what they were about, and who sent them."})
	}
	for _, spike := range n.Latency.Events {
		if spike.MaxMs >= longSpike {
			add(Performance, Warning, "performance.spikes", fmt.Sprintf("The server stood still for %.0f ms at most (%s).", spike.MaxMs, spike.Event),
				[]string{"Forks, slow disks, expiry of many keys at once, or one long command: the name tells which."}, []string{"LATENCY DOCTOR on the server explains it."})
		}
	}
}

func persistence(n monitor.Node, add adder) {
	p := n.Persistence
	if !p.LastSaveOK {
		add(Performance, Critical, "persistence.snapshot", "The last snapshot failed.",
			[]string{"The disk is full, or the folder may not be written.", "There was not enough memory to fork (vm.overcommit_memory = 1)."},
			[]string{"See the server's log, mend the cause and run BGSAVE."})
	}
	if p.AOF && (!p.LastAOFWriteOK || !p.LastAOFRewriteOK) {
		add(Performance, Critical, "persistence.aof", "The append-only file was not written.",
			[]string{"The disk is full or broken."}, []string{"See the server's log; make room, then run BGREWRITEAOF."})
	}
	if p.LastForkMs > longFork {
		add(Performance, Warning, "persistence.fork", fmt.Sprintf("The last fork took %.0f ms, in which nobody was served.", p.LastForkMs),
			[]string{"Much memory on a virtual machine.", "Transparent huge pages."}, []string{"Switch transparent huge pages off, and let a replica make the snapshots."})
	}
}

func replication(n monitor.Node, add adder) {
	r := n.Replication
	if n.Role == "slave" && !r.LinkUp {
		add(Performance, Warning, "replication.link", "This replica does not hear its master.",
			[]string{"The master is gone, or refuses it (masterauth)."}, []string{"See the replica's log; check that it reaches " + cmpOr(r.Master, "its master") + "."})
	}
	for _, replica := range r.Replicas {
		if replica.LagSeconds >= lateReplica || replica.BehindBytes >= behindReplica || replica.State != "online" {
			add(Performance, Warning, "replication.behind", fmt.Sprintf("The replica %s is %s, %d s and %d KiB behind.", replica.Addr, replica.State, replica.LagSeconds, replica.BehindBytes>>10),
				[]string{"It hangs, or its network or disk is slow.", "It has just started."}, []string{"A failover now would lose what it has not got: see its log and its load."})
		}
	}
}
