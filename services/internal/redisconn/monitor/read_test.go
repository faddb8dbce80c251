package monitor_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

// What a server says that is not to be had from one in a test: long forks,
// disks that failed, replicas that are behind.
func TestAnInfoIsReadInItsUnits(t *testing.T) {
	n := monitor.Read(strings.ReplaceAll(`# Persistence
loading:0
rdb_last_bgsave_status:err
rdb_last_save_time:1767225600
aof_enabled:1
aof_last_write_status:err
aof_last_bgrewrite_status:ok
latest_fork_usec:250000
role:master
connected_slaves:2
master_repl_offset:5000
slave0:ip=10.0.0.2,port=6379,state=online,offset=4000,lag=3
slave1:ip=10.0.0.1,port=6379,state=wait_bgsave,offset=6000,lag=0
used_memory:80
maxmemory:100
keyspace_hits:3
keyspace_misses:1
db0:keys=7,expires=5,avg_ttl=1500
`, "\n", "\r\n"))
	p := n.Persistence
	if p.LastSaveOK || !p.AOF || p.LastAOFWriteOK || !p.LastAOFRewriteOK || p.LastForkMs != 250 || p.LastSave == nil || !p.LastSave.Equal(time.Unix(1767225600, 0)) {
		t.Errorf("persistence = %+v", p)
	}
	rs := n.Replication.Replicas
	if len(rs) != 2 || rs[0] != (monitor.Replica{Addr: "10.0.0.1:6379", State: "wait_bgsave"}) ||
		rs[1] != (monitor.Replica{Addr: "10.0.0.2:6379", State: "online", LagSeconds: 3, BehindBytes: 1000}) {
		t.Errorf("replicas = %+v", rs)
	}
	if n.Memory.UsedRatio == nil || *n.Memory.UsedRatio != .8 || n.Keyspace.HitRatio == nil || *n.Keyspace.HitRatio != .75 {
		t.Errorf("memory = %+v, keyspace = %+v", n.Memory, n.Keyspace)
	}
	if d := n.Keyspace.Databases; len(d) != 1 || d[0] != (monitor.Database{Keys: 7, Expiring: 5, AverageTTLMs: 1500}) {
		t.Errorf("databases = %+v", d)
	}
}

// SCAN is not for every look.
func TestTheSampleIsKeptFromLookToLook(t *testing.T) {
	server := tieredtest.StartRedis(t)
	m := watch(t, single(server.Addr()), monitor.Options{})
	if s := node(t, m).Sample; s.At == nil || s.Keys != 0 {
		t.Errorf("an empty server's sample: %+v", s)
	}
	if err := server.Client(t).Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	first := node(t, m).Sample
	if first.Keys != 1 {
		t.Errorf("after the first key: %+v", first)
	}
	second := node(t, m).Sample
	if second.At == nil || !first.At.Equal(*second.At) {
		t.Errorf("sampled at %v, and again at %v", first.At, second.At)
	}
}

// Others may name their keys and commands as they like: what is shown of them
// is bounded, and only what is a plain word.
func TestNamesThatOthersMakeUpAreBounded(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--slowlog-log-slower-than", "0", "--slowlog-max-len", "8"))
	client, ctx := server.Client(t), t.Context()
	for i := range 200 {
		word := strings.Map(func(r rune) rune { return r - '0' + 'a' }, fmt.Sprintf("%03d", i))
		if err := client.Set(ctx, word+":x", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	s := node(t, watch(t, single(server.Addr()), monitor.Options{})).Sample
	sum := 0
	for _, n := range s.ByPrefix {
		sum += n
	}
	if len(s.ByPrefix) > 21 || s.ByPrefix["other"] < 100 || sum != s.Eternal || s.Eternal < 200 {
		t.Errorf("%d of 200 prefixes are told apart, %d keys are others', %d of %d told", len(s.ByPrefix), s.ByPrefix["other"], sum, s.Eternal)
	}
	for name, want := range map[string]string{"get": "GET", "ft.search": "FT.SEARCH", "mira@example.org": "OTHER", "": "OTHER", strings.Repeat("x", 33): "OTHER"} {
		if got := monitor.CommandName(name); got != want {
			t.Errorf("%q is shown as %q, want %q", name, got, want)
		}
	}
}
