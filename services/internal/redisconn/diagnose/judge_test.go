package diagnose_test

import (
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/diagnose"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

// A server that is well but for one thing, which is just over its bound, or
// just within. What a real one shows is in TestEachFaultIsNamed; disks that
// break and forks that take long are not to be had.
func TestWhatIsBeyondABoundIsFoundAndNothingWithin(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		name string
		with func(*monitor.Node)
		want string // severity and id; "" for none
	}{
		{"nothing", func(*monitor.Node) {}, ""},
		{"85 % of memory", func(n *monitor.Node) { n.Memory.UsedRatio = new(.85) }, ""},
		{"86 %", func(n *monitor.Node) { n.Memory.UsedRatio = new(.86) }, "warning memory.nearly_full"},
		{"96 %, and keys are evicted", func(n *monitor.Node) { n.Memory.UsedRatio = new(.96) }, "warning memory.nearly_full"},
		{"96 %, and none is", func(n *monitor.Node) { n.Memory.UsedRatio, n.Memory.Policy = new(.96), "noeviction" }, "critical memory.nearly_full, warning memory.noeviction"},
		{"no limit", func(n *monitor.Node) { n.Memory.UsedRatio = nil }, "warning memory.no_limit"},
		{"half as much again", func(n *monitor.Node) { n.Memory.Fragmentation = 1.5 }, ""},
		{"more than that", func(n *monitor.Node) { n.Memory.Fragmentation = 1.6 }, "note memory.fragmented"},
		{"more than that, of little", func(n *monitor.Node) { n.Memory.Fragmentation, n.Memory.RSS = 9, 1<<20 }, ""},
		{"a key evicted", func(n *monitor.Node) { n.Keyspace.Evicted = 1 }, "note memory.evictions"},
		{"a tenth of the keys eternal", func(n *monitor.Node) { n.Sample.Eternal = 10 }, "warning memory.eternal_keys"},
		{"less than that", func(n *monitor.Node) { n.Sample.Eternal = 9 }, ""},
		{"nine of ten connections", func(n *monitor.Node) { n.Clients.Connected = 90 }, ""},
		{"one more", func(n *monitor.Node) { n.Clients.Connected = 91 }, "warning connection.crowded"},
		{"one refused", func(n *monitor.Node) { n.Clients.Rejected = 1 }, "warning connection.crowded"},
		{"a slow command an hour ago", func(n *monitor.Node) { n.SlowLog.Entries[0].At = now.Add(-time.Hour) }, "warning performance.slow_log"},
		{"a moment before", func(n *monitor.Node) { n.SlowLog.Entries[0].At = now.Add(-time.Hour - 1) }, ""},
		{"a spike", func(n *monitor.Node) { n.Latency.Events[0].MaxMs = 100 }, "warning performance.spikes"},
		{"a smaller one", func(n *monitor.Node) { n.Latency.Events[0].MaxMs = 99 }, ""},
		{"a snapshot that failed", func(n *monitor.Node) { n.Persistence.LastSaveOK = false }, "critical persistence.snapshot"},
		{"a write that failed", func(n *monitor.Node) { n.Persistence.LastAOFWriteOK = false }, "critical persistence.aof"},
		{"a rewrite that failed", func(n *monitor.Node) { n.Persistence.LastAOFRewriteOK = false }, "critical persistence.aof"},
		{"either, where there is no such file", func(n *monitor.Node) { n.Persistence = monitor.Persistence{LastSaveOK: true} }, ""},
		{"a long fork", func(n *monitor.Node) { n.Persistence.LastForkMs = 501 }, "warning persistence.fork"},
		{"half a second", func(n *monitor.Node) { n.Persistence.LastForkMs = 500 }, ""},
		{"a late replica", func(n *monitor.Node) { n.Replication.Replicas[0].LagSeconds = 10 }, "warning replication.behind"},
		{"a second less", func(n *monitor.Node) { n.Replication.Replicas[0].LagSeconds = 9 }, ""},
		{"a MiB behind", func(n *monitor.Node) { n.Replication.Replicas[0].BehindBytes = 1 << 20 }, "warning replication.behind"},
		{"a byte less", func(n *monitor.Node) { n.Replication.Replicas[0].BehindBytes = 1<<20 - 1 }, ""},
		{"a replica that loads", func(n *monitor.Node) { n.Replication.Replicas[0].State = "wait_bgsave" }, "warning replication.behind"},
		{"a replica without its master", func(n *monitor.Node) { n.Role, n.Replication.LinkUp = "slave", false }, "warning replication.link"},
	} {
		n := monitor.Node{Part: monitor.Part{State: monitor.OK}, Role: "master", Version: "7.0.15"}
		n.Memory = monitor.Memory{UsedRatio: new(.5), Policy: "volatile-lru", Fragmentation: 1, RSS: 1 << 30}
		n.Clients = monitor.Clients{Connected: 5, Max: 100}
		n.Sample = monitor.Sample{Part: monitor.Part{State: monitor.OK}, Keys: 100, ByPrefix: map[string]int{"x": 1}}
		n.SlowLog.Entries = []monitor.SlowCommand{{Command: "KEYS", At: now.Add(-24 * time.Hour), TookMs: 50}}
		n.Latency.Events = []monitor.Spike{{Event: "fork"}}
		n.Persistence = monitor.Persistence{LastSaveOK: true, AOF: true, LastAOFWriteOK: true, LastAOFRewriteOK: true}
		n.Replication = monitor.Replication{LinkUp: true, Replicas: []monitor.Replica{{Addr: "r", State: "online"}}}
		tt.with(&n)
		var got []string
		for _, f := range diagnose.Judge(n, now) {
			got = append(got, string(f.Severity)+" "+f.ID)
			if f.Seen == "" || len(f.Causes) == 0 || len(f.Next) == 0 {
				t.Errorf("%s: %s has no cause or no next step", tt.name, f.ID)
			}
		}
		if s := strings.Join(got, ", "); s != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, s, tt.want)
		}
	}
}
