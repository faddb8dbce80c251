package redisconn_test

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
)

func signal(t *testing.T, conn *redisconn.Conn, name string) (float64, bool) {
	t.Helper()
	f := conn.Signals()[name]
	if f == nil {
		t.Fatalf("there is no signal %s", name)
	}
	return f()
}

func TestSignalsTellSlowAndFailingCommands(t *testing.T) {
	server := tieredtest.StartRedis(t)
	proxy := tieredtest.StartProxy(t, server.Addr())
	conn := open(t, config(t, map[string]string{"REDIS_URL": "redis://" + proxy.Addr()}), redisconn.Options{})
	for _, name := range []string{"redis_command_p95_ms", "redis_command_error_ratio"} {
		if v, ok := signal(t, conn, name); ok {
			t.Errorf("%s = %v before there was a command", name, v)
		}
	}
	get := func(n int) {
		for range n {
			_ = conn.Client().Get(t.Context(), "none").Err()
		}
	}
	get(20)
	if v, ok := signal(t, conn, "redis_command_error_ratio"); !ok || v != 0 {
		t.Errorf("of what is absent: error ratio = %v, %v", v, ok)
	}
	heal := proxy.Slow(40*time.Millisecond, 0)
	get(5)
	heal()
	if v, ok := signal(t, conn, "redis_command_p95_ms"); !ok || v < 75 {
		t.Errorf("p95 = %v ms, %v; a fifth took 80 ms", v, ok)
	}
	for range 25 {
		_ = conn.Client().LPush(t.Context(), "text", "x").Err()
		_ = conn.Client().Incr(t.Context(), "text").Err()
	}
	if v, ok := signal(t, conn, "redis_command_error_ratio"); !ok || v < .32 || v > .34 {
		t.Errorf("error ratio = %v, %v; 25 of 75 failed", v, ok)
	}
}

func TestTheProfileTellsCommandsApart(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	client, ctx := conn.Client(), t.Context()
	_ = client.Set(ctx, "k", "v", time.Minute)
	_ = client.Get(ctx, "none")                                  // an answer
	_ = client.Eval(ctx, "return {err='hunter2 x'}", nil)        // its text is not Redis's
	_ = client.EvalSha(ctx, strings.Repeat("0", 40), nil)        // how scripts begin
	_ = client.BLPop(ctx, 20*time.Millisecond, "none")           // waits
	left, cancel := context.WithCancel(ctx)                      // whoever asked has left
	cancel()                                                     //
	_ = client.Get(left, "k")                                    //
	_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error { // one of three fails
		p.Get(ctx, "k")
		p.LPush(ctx, "k", "x")
		p.Del(ctx, "none")
		return nil
	})
	got := map[string]profile.CommandReport{}
	for _, c := range conn.Profile().Commands {
		got[c.Name] = c
	}
	for _, tt := range []struct {
		name                 string
		count, failed, timed int64
		kind                 string
	}{
		{"SET", 1, 0, 1, ""}, {"GET", 3, 0, 2, ""}, {"EVAL", 1, 1, 1, "ERR"}, {"EVALSHA", 1, 0, 1, ""},
		{"BLPOP", 1, 0, 0, ""}, {"PIPELINE", 1, 1, 1, "WRONGTYPE"}, {"LPUSH", 1, 1, 0, "WRONGTYPE"}, {"DEL", 1, 0, 0, ""},
	} {
		c := got[tt.name]
		if c.Count != tt.count || c.Failed != tt.failed || c.Minute.Timed != tt.timed || (tt.kind != "" && c.Errors[tt.kind] != tt.failed) {
			t.Errorf("%s: %d commands, %d failed, %d timed, errors %v; want %+v", tt.name, c.Count, c.Failed, c.Minute.Timed, c.Errors, tt)
		}
	}
	// How scripts begin, and whoever left, is no failure of Redis anywhere.
	if m := conn.Metrics(); m.FailedCommands != 2 { // EVAL and the pipeline
		t.Errorf("%d failed", m.FailedCommands)
	}
	conn.ResetProfile()
	if rep := conn.Profile(); len(rep.Commands) != 0 {
		t.Errorf("after the reset: %+v", rep)
	}
}

func TestWithoutMonitoringNothingIsTimed(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL(), "REDIS_PERFORMANCE_MONITORING": "false"}), redisconn.Options{})
	for range 20 {
		_ = conn.Client().Get(t.Context(), "k").Err()
	}
	if rep := conn.Profile(); rep.Commands == nil || len(rep.Commands) != 0 {
		t.Errorf("profile = %+v", rep)
	}
	if v, ok := signal(t, conn, "redis_command_p95_ms"); ok {
		t.Errorf("p95 = %v", v)
	}
}

// The guide's debug mode logs commands as they are, AUTH included.
func TestTheDebugLogHidesWhatCommandsCarry(t *testing.T) {
	const password, value = "hunter2-password", "hunter3-value"
	server := tieredtest.StartRedis(t, tieredtest.WithUsers(tieredtest.User{Name: "app", Password: password, Rules: []string{"~*", "&*", "+@all"}}))
	var log bytes.Buffer
	cfg := config(t, map[string]string{"REDIS_URL": "redis://app@" + server.Addr(), "REDIS_PASSWORD": password, "REDIS_DEBUG": "true"})
	conn := open(t, cfg, redisconn.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	client, ctx := conn.Client(), t.Context()
	_ = client.Set(ctx, "user:"+value, value, time.Minute)
	_ = client.Do(ctx, "AUTH", "app", password)
	_ = client.Do(ctx, "CONFIG", "SET", "requirepass", password)
	_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error { p.HSet(ctx, value, value, []byte(value)); return nil })
	_ = conn.Close()
	for _, secret := range []string{password, value} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log shows %s:\n%s", secret, log.String())
		}
	}
	for _, want := range []string{"operation=AUTH arguments=hidden", `operation=SET arguments="[18 bytes] [13 bytes]`, "operation=CONFIG arguments=hidden", "operation=HSET"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say %q:\n%s", want, log.String())
		}
	}
}

// BenchmarkTracking asks two connections in turns, one that keeps no track and
// one that keeps its profile, of which the histogram for Prometheus is a part.
// It reports by how much the median GET of the latter takes longer, in percent:
//
//	go test ./services/internal/redisconn -run '^$' -bench Tracking -benchtime 100000x -count 5
func BenchmarkTracking(b *testing.B) {
	server := tieredtest.StartRedis(b)
	kinds := []string{"untracked", "tracked"}
	conns, took := make([]*redisconn.Conn, len(kinds)), make([][]time.Duration, len(kinds))
	for i := range kinds {
		conn, err := redisconn.Open(b.Context(), redisconn.Config{
			Mode: redisconn.Single, Addrs: []string{server.Addr()}, MaxConnections: 4, MinConnections: 1, Monitoring: i > 0,
		}, redisconn.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
	}
	if err := conns[0].Client().Set(b.Context(), "k", strings.Repeat("v", 100), time.Hour).Err(); err != nil {
		b.Fatal(err)
	}
	for n := 0; b.Loop(); n++ {
		for i := range conns {
			which := (i + n) % len(conns)
			begin := time.Now()
			if err := conns[which].Client().Get(b.Context(), "k").Err(); err != nil {
				b.Fatal(err)
			}
			took[which] = append(took[which], time.Since(begin))
		}
	}
	median := func(d []time.Duration) float64 { slices.Sort(d); return float64(d[len(d)/2]) }
	without := median(took[0])
	b.ReportMetric(without, "ns/"+kinds[0])
	b.ReportMetric((median(took[1])/without-1)*100, "%slower/"+kinds[1])
}
