package monitor_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

func TestMain(m *testing.M) {
	// The client library notices only up to a second after it was closed that
	// it need not try to connect any more.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		// Nor can its reload of a cluster's state be awaited.
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*clusterStateHolder).LazyReload.func1"))
}

func watch(t *testing.T, cfg redisconn.Config, opts monitor.Options) *monitor.Monitor {
	t.Helper()
	conn, err := redisconn.Open(t.Context(), cfg, redisconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	m, err := monitor.New(conn, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func single(addr string) redisconn.Config {
	return redisconn.Config{Mode: redisconn.Single, Addrs: []string{addr}, MaxConnections: 4}
}

// node looks and returns the only node.
func node(t *testing.T, m *monitor.Monitor) monitor.Node {
	t.Helper()
	s := m.Look(t.Context())
	if len(s.Nodes) != 1 {
		t.Fatalf("%d nodes: %+v", len(s.Nodes), s)
	}
	return s.Nodes[0]
}

func TestALookSeesWhatIsThere(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru",
		"--slowlog-log-slower-than", "0", "--latency-monitor-threshold", "1"))
	client, ctx := server.Client(t), t.Context() // a health check may add a key for a moment
	for i := range 30 {
		_ = client.Set(ctx, fmt.Sprint("cb:", i), "v", time.Hour)
	}
	_ = client.Set(ctx, "cb:eternal", "hunter2", 0)
	_ = client.Set(ctx, "mira@demo.example:habits", "hunter2", 0)
	_ = client.Get(ctx, "cb:1")
	_ = client.Get(ctx, "none")
	_ = client.BgSave(ctx)

	m := watch(t, single(server.Addr()), monitor.Options{})
	n := node(t, m)
	if n.State != monitor.OK || n.Role != "master" || n.Version == "" || n.Addr != server.Addr() {
		t.Errorf("node = %+v", n)
	}
	if n.Clients.Connected < 1 || n.Clients.Max == 0 || n.Clients.Received < 2 {
		t.Errorf("clients = %+v", n.Clients)
	}
	if n.Memory.Max != 64<<20 || n.Memory.Used == 0 || n.Memory.Policy != "volatile-lru" || n.Memory.UsedRatio == nil || *n.Memory.UsedRatio <= 0 || *n.Memory.UsedRatio > .5 {
		t.Errorf("memory = %+v", n.Memory)
	}
	if len(n.Keyspace.Databases) != 1 || n.Keyspace.Databases[0].Keys < 32 || n.Keyspace.Databases[0].Expiring < 30 || n.Keyspace.HitRatio == nil || *n.Keyspace.HitRatio <= .2 || *n.Keyspace.HitRatio >= .8 {
		t.Errorf("keyspace = %+v", n.Keyspace)
	}
	if !n.Persistence.LastSaveOK || n.Persistence.AOF || n.Persistence.LastSave == nil {
		t.Errorf("persistence = %+v", n.Persistence)
	}
	if n.SlowLog.State != monitor.OK || n.SlowLog.Length < 30 || len(n.SlowLog.Entries) != 32 || n.SlowLog.Entries[0].At.IsZero() {
		t.Errorf("slow log = %+v", n.SlowLog)
	}
	if n.Latency.State != monitor.OK {
		t.Errorf("latency = %+v", n.Latency)
	}
	if s := n.Sample; s.State != monitor.OK || s.Keys < 32 || s.Eternal != 2 || s.ByPrefix["cb"] != 1 || s.ByPrefix["other"] != 1 || !s.WholeRound {
		t.Errorf("sample = %+v", s)
	}
	b, err := json.Marshal(m.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"hunter2", "mira@demo", "cb:eternal"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("the snapshot shows %s: %s", secret, b)
		}
	}
	if strings.Contains(string(b), ":null,\"entries\"") || strings.Contains(string(b), "\"nodes\":null") {
		t.Errorf("a list of nothing is null: %s", b)
	}
}

func TestWhatTheUserMayNotAskIsSaidAndTheRestIsThere(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithUsers(
		// As in docs/operations.md, before it allowed more.
		tieredtest.User{Name: "few", Password: "pw", Rules: strings.Fields("~cb:* ~crewbeat:* &* -@all +@read +@write +@connection -@dangerous +info")},
		tieredtest.User{Name: "none", Password: "pw", Rules: strings.Fields("~* &* +@all -info")},
	))
	client := server.Client(t)
	for _, key := range []string{"cb:1", "others:1", "others:2"} {
		if err := client.Set(t.Context(), key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	cfg := single(server.Addr())
	cfg.Username, cfg.Password = "few", "pw"
	n := node(t, watch(t, cfg, monitor.Options{}))
	if n.State != monitor.OK || n.Memory.Used == 0 || n.SlowLog.State != monitor.NotPermitted || n.Latency.State != monitor.NotPermitted {
		t.Errorf("node %v, slow log %v, latency %v", n.Part, n.SlowLog.Part, n.Latency.Part)
	}
	if s := n.Sample; s.State != monitor.OK || s.Keys < 3 || s.Forbidden != 2 || s.Eternal != 1 {
		t.Errorf("sample = %+v", s)
	}
	cfg.Username = "none"
	n = node(t, watch(t, cfg, monitor.Options{}))
	if n.State != monitor.NotPermitted || n.SlowLog.State != monitor.OK || n.Sample.Keys < 3 {
		t.Errorf("without INFO: node %v, slow log %v, sample %+v", n.Part, n.SlowLog.Part, n.Sample)
	}
}

func TestEvictionsAreCountedBetweenLooks(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "4mb", "--maxmemory-policy", "allkeys-lru"))
	client, m := server.Client(t), watch(t, single(server.Addr()), monitor.Options{})
	if n := node(t, m); n.Keyspace.EvictedPerSecond != 0 {
		t.Errorf("before: %+v", n.Keyspace)
	}
	for i := range 100 {
		if err := client.SetRange(t.Context(), fmt.Sprint("k", i), 100<<10, "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if n := node(t, m); n.Keyspace.Evicted == 0 || n.Keyspace.EvictedPerSecond <= 0 {
		t.Errorf("after: %+v", n.Keyspace)
	}
	if n := node(t, m); n.Keyspace.Evicted == 0 || n.Keyspace.EvictedPerSecond != 0 {
		t.Errorf("later: %+v", n.Keyspace)
	}
}

// A server that was never saved has forked for nothing; one that holds data
// says how long the fork for its snapshot took.
func TestTheTimeOfAForkIsThatOfTheLastSnapshot(t *testing.T) {
	server := tieredtest.StartRedis(t)
	client, m := server.Client(t), watch(t, single(server.Addr()), monitor.Options{})
	if p := node(t, m).Persistence; p.LastForkMs != 0 {
		t.Errorf("before: %+v", p)
	}
	for i := range 16 {
		if err := client.SetRange(t.Context(), fmt.Sprint("k", i), 1<<20, "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.BgSave(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	text, err := client.Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(text, "latest_fork_usec:")
	micros, err := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(after, "\r\n", 2)[0]), 64)
	if err != nil || micros <= 0 {
		t.Fatalf("the server says %v, %v", micros, err)
	}
	if p := node(t, m).Persistence; p.LastForkMs != micros/1000 {
		t.Errorf("the fork took %v ms, and the server says %v µs", p.LastForkMs, micros)
	}
}

func TestTheSampleIsBoundedAndGoesOn(t *testing.T) {
	server := tieredtest.StartRedis(t)
	pipe := server.Client(t).Pipeline()
	for i := range 5000 {
		pipe.Set(t.Context(), fmt.Sprint("cb:", i), "v", 0)
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	s := node(t, watch(t, single(server.Addr()), monitor.Options{})).Sample
	if s.Keys < 1000 || s.Keys > 1600 || s.Eternal != s.Keys || s.WholeRound {
		t.Errorf("sample = %+v", s)
	}
}

func TestADeadServerIsANodeThatFailed(t *testing.T) {
	server := tieredtest.StartRedis(t)
	m := watch(t, single(server.Addr()), monitor.Options{})
	server.Kill()
	n := node(t, m)
	if n.State != monitor.Failed || n.Error != string(redisconn.CauseRefused) || n.SlowLog.State != monitor.Failed {
		t.Errorf("node = %+v", n)
	}
	server.Restart(t)
	if n := node(t, m); n.State != monitor.OK || n.SlowLog.State != monitor.OK || n.Sample.State != monitor.OK {
		t.Errorf("after the return: %v, %v, %v", n.Part, n.SlowLog.Part, n.Sample.Part)
	}
}

func TestEachNodeOfAClusterIsSeen(t *testing.T) {
	cluster := tieredtest.StartCluster(t, 3, 1)
	cfg := redisconn.Config{Mode: redisconn.Cluster, Addrs: cluster.Addrs(), MaxConnections: 4}
	m := watch(t, cfg, monitor.Options{})
	s := m.Look(t.Context())
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	// A master names its replica only when it knows how far that is.
	for deadline := time.Now().Add(time.Minute); len(s.Nodes) < 6 && time.Now().Before(deadline); <-tick.C {
		s = m.Look(t.Context())
	}
	roles := map[string]int{}
	for _, n := range s.Nodes {
		roles[n.Role]++
		switch {
		case n.State != monitor.OK:
			t.Errorf("%s: %v", n.Addr, n.Part)
		case n.Role == "master" && (len(n.Replication.Replicas) != 1 || n.Sample.State != monitor.OK):
			t.Errorf("%s: %+v, sample %v", n.Addr, n.Replication, n.Sample.Part)
		case n.Role == "slave" && (!n.Replication.LinkUp || n.Replication.Master == "" || n.Sample.State != monitor.NotYet):
			t.Errorf("%s: %+v, sample %v", n.Addr, n.Replication, n.Sample.Part)
		}
	}
	if roles["master"] != 3 || roles["slave"] != 3 {
		t.Errorf("roles = %v", roles)
	}
}

func TestMetricsAreThoseOfTheLastLook(t *testing.T) {
	server := tieredtest.StartRedis(t)
	// Many, since a health check's key may be there for a moment, and ends.
	for n := range 100 {
		if err := server.Client(t).Set(t.Context(), "k"+strconv.Itoa(n), "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	reader := sdkmetric.NewManualReader()
	m := watch(t, single(server.Addr()), monitor.Options{Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")})
	m.Look(t.Context())
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			switch d := one.Data.(type) {
			case metricdata.Gauge[float64]:
				got[one.Name] = d.DataPoints[0].Value
			case metricdata.Sum[float64]:
				got[one.Name] = d.DataPoints[0].Value
			}
		}
	}
	for name, want := range map[string][2]float64{
		"redis.keys.count": {100, 101}, "redis.keys.expiring": {0, 1}, "redis.keys.eternal_ratio": {0.98, 1}, "redis.persistence.snapshot_ok": {1, 1},
	} {
		if v, ok := got[name]; !ok || v < want[0] || v > want[1] {
			t.Errorf("%s = %v, %v; want %v", name, v, ok, want)
		}
	}
	if _, ok := got["redis.persistence.aof_ok"]; ok {
		t.Error("the state of a file that is not there is told")
	}
}

func TestRunLooksUntilItIsEnded(t *testing.T) {
	server := tieredtest.StartRedis(t)
	cfg := single(server.Addr())
	cfg.MonitorInterval = 20 * time.Millisecond
	m := watch(t, cfg, monitor.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- m.Run(ctx) }()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	first, deadline := time.Time{}, time.Now().Add(20*time.Second)
	for {
		at := m.Snapshot().At
		if first.IsZero() {
			first = at
		} else if at.After(first) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nobody looks")
		}
		<-tick.C
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What was seen last stays, with its time, while Redis is away, and Run goes on
// when it is back.
func TestRunOutlivesARedisThatIsAway(t *testing.T) {
	server := tieredtest.StartRedis(t)
	cfg := single(server.Addr())
	cfg.MonitorInterval = 20 * time.Millisecond
	conn, err := redisconn.Open(t.Context(), cfg, redisconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	m, err := monitor.New(conn, monitor.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	until := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
			if time.Now().After(deadline) {
				t.Fatalf("not within half a minute: %s", what)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	seen := func() bool {
		s := m.Snapshot()
		return len(s.Nodes) == 1 && s.Nodes[0].State == monitor.OK
	}
	until("it looks", seen)
	server.Kill()
	until("Redis is away for some looks", func() bool { return conn.Status().Failures >= 4 })
	last := m.Snapshot().At
	until("and for some more", func() bool { return conn.Status().Failures >= 7 })
	if at := m.Snapshot().At; !at.Equal(last) {
		t.Errorf("it looked at %v, after %v, at a Redis that is away", at, last)
	}
	server.Restart(t)
	until("it looks again", func() bool { return m.Snapshot().At.After(last) && seen() })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWithoutARedisThereIsNothingToSee(t *testing.T) {
	m := watch(t, redisconn.Config{}, monitor.Options{})
	if s := m.Look(t.Context()); s.Nodes == nil || len(s.Nodes) != 0 || !s.At.IsZero() {
		t.Errorf("got %+v", s)
	}
}
