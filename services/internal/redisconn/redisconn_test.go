package redisconn_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/env"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

func TestMain(m *testing.M) {
	// The client library notices only up to a second after it was closed that
	// it need not try to connect any more.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		// Nor can its reload of a cluster's state be awaited.
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*clusterStateHolder).LazyReload.func1"))
}

// config reads a configuration from variables, which must be right.
func config(t *testing.T, vars map[string]string) redisconn.Config {
	t.Helper()
	r := env.New(func(name string) string { return vars[name] })
	cfg := redisconn.FromEnv(r)
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func open(t *testing.T, cfg redisconn.Config, opts redisconn.Options) *redisconn.Conn {
	t.Helper()
	conn, err := redisconn.Open(t.Context(), cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := conn.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return conn
}

// eventually waits for ok, which looks at a real server, and returns how long
// it took.
func eventually(t *testing.T, what string, within time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(begin) > within {
			t.Fatalf("not within %v: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(begin)
}

// freeAddr is an address that nobody listens on.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// health asks the handler.
func health(t *testing.T, conn *redisconn.Conn) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	conn.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/api/health/redis", nil))
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return w.Code, body
}

func TestWithoutAnAddressThereIsNoRedis(t *testing.T) {
	conn := open(t, config(t, nil), redisconn.Options{})
	if conn.Client() != nil || conn.Status().State() != "off" || conn.Ping(t.Context()) != nil {
		t.Errorf("client %v, state %s", conn.Client(), conn.Status().State())
	}
	code, body := health(t, conn)
	if code != http.StatusOK || body["status"] != "off" {
		t.Errorf("health = %d %v", code, body)
	}
}

func TestRequiredWithoutAnAddressIsRefused(t *testing.T) {
	_, err := redisconn.Open(t.Context(), config(t, map[string]string{"REDIS_REQUIRED": "true"}), redisconn.Options{})
	if err == nil || !strings.Contains(err.Error(), "REDIS_URL") {
		t.Errorf("err = %v", err)
	}
}

func TestARequiredRedisThatIsAwayIsNamedWithItsCause(t *testing.T) {
	addr := freeAddr(t)
	_, err := redisconn.Open(t.Context(), config(t, map[string]string{"REDIS_URL": "redis://app:hunter2@" + addr, "REDIS_REQUIRED": "true"}), redisconn.Options{})
	unreachable, ok := errors.AsType[*redisconn.UnreachableError](err)
	if !ok || unreachable.Cause != redisconn.CauseRefused || unreachable.Addr != addr {
		t.Fatalf("err = %#v", err)
	}
	want := "redis at " + addr + " is required (REDIS_REQUIRED=true) but cannot be reached: connection refused; check that a Redis server runs there"
	if !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got  %s\nwant %s…", err, want)
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the password is shown: %s", err)
	}
}

func TestCausesAreToldApart(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--databases", "4"))
	if err := server.Client(t).ConfigSet(t.Context(), "requirepass", "right").Err(); err != nil {
		t.Fatal(err)
	}

	silent, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close() // takes connections and says nothing

	host, port, _ := net.SplitHostPort(server.Addr())
	for _, tt := range []struct {
		name string
		url  string
		want redisconn.Cause
	}{
		{"nobody listens", "redis://" + freeAddr(t), redisconn.CauseRefused},
		{"no such name", "redis://no-such-host.invalid:6379", redisconn.CauseNotFound},
		{"no answer", "redis://" + silent.Addr().String(), redisconn.CauseTimeout},
		{"wrong password", "redis://:wrong@" + server.Addr(), redisconn.CauseAuth},
		{"no password", "redis://" + server.Addr(), redisconn.CauseAuth},
		{"unknown user", "redis://nobody:right@" + server.Addr(), redisconn.CauseAuth},
		{"no such database", "redis://:right@" + server.Addr() + "/9", redisconn.CauseDatabase},
		{"TLS where there is none", "rediss://:right@" + net.JoinHostPort(host, port), redisconn.CauseTLS},
		{"no such socket", "unix:///tmp/no-such-dir/redis.sock", redisconn.CauseNoSocket},
		{"no Sentinel", "redis+sentinel://" + freeAddr(t) + "/0?master=crew", redisconn.CauseRefused},
		{"no Cluster", "redis+cluster://:right@" + server.Addr(), redisconn.CauseClusterDown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := redisconn.Open(t.Context(), config(t, map[string]string{"REDIS_URL": tt.url, "REDIS_REQUIRED": "true"}), redisconn.Options{})
			unreachable, ok := errors.AsType[*redisconn.UnreachableError](err)
			if !ok {
				t.Fatalf("err = %v", err)
			}
			if unreachable.Cause != tt.want {
				t.Errorf("cause = %q, want %q: %v", unreachable.Cause, tt.want, unreachable.Unwrap())
			}
			if strings.Contains(err.Error(), "wrong") || strings.Contains(err.Error(), ":right") {
				t.Errorf("a password is shown: %v", err)
			}
		})
	}
}

func TestARedisThatIsNotRequiredMayBeAwayAndComeLater(t *testing.T) {
	server := tieredtest.StartRedis(t)
	server.Kill()

	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	if s := conn.Status(); s.Up || s.Cause != redisconn.CauseRefused || s.Since.IsZero() {
		t.Errorf("status = %+v", s)
	}
	if code, body := health(t, conn); code != http.StatusServiceUnavailable || body["status"] != "unhealthy" {
		t.Errorf("health = %d %v", code, body)
	}
	server.Restart(t)
	took := eventually(t, "up", 3*time.Second, func() bool { return conn.Status().Up })
	t.Logf("seen %v after the return", took)
	if err := conn.Client().Set(t.Context(), "k", "v", time.Minute).Err(); err != nil {
		t.Errorf("up, but: %v", err)
	}
}

func TestALossAndAReturnAreSeenWithinASecondOrTwo(t *testing.T) {
	server := tieredtest.StartRedis(t)
	var log bytes.Buffer
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})

	var mu sync.Mutex
	var seen []bool
	stop := conn.Watch(func(s redisconn.Status) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, s.Up)
	})
	defer stop()

	for range 2 { // nobody uses Redis: the look-out is alone
		server.Kill()
		took := eventually(t, "down", 2*time.Second, func() bool { return !conn.Status().Up })
		t.Logf("loss seen after %v", took)
		eventually(t, "many failures", 3*time.Second, func() bool { return conn.Status().Failures >= 3 })
		server.Restart(t)
		took = eventually(t, "up", 2*time.Second, func() bool { return conn.Status().Up })
		t.Logf("return seen after %v", took)
		if err := conn.Client().Set(t.Context(), "k", "v", time.Minute).Err(); err != nil {
			t.Errorf("up, but: %v", err)
		}
	}
	if s := conn.Status(); s.Failures != 0 || s.Cause != "" {
		t.Errorf("status after the return = %+v", s)
	}
	mu.Lock()
	defer mu.Unlock()
	if got := len(seen); got != 4 || seen[0] || !seen[1] {
		t.Errorf("watchers saw %v", seen)
	}
	if m := conn.Metrics(); m.Reconnections != 2 {
		t.Errorf("reconnections = %d", m.Reconnections)
	}
}

func TestFailingCommandsWakeTheLookOut(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	for range 2 { // the look-out has just looked and pauses for a second
		last := conn.Status().CheckedAt
		eventually(t, "a look", 2*time.Second, func() bool { return conn.Status().CheckedAt.After(last) })
	}
	server.Kill()
	took := eventually(t, "down", 900*time.Millisecond, func() bool {
		_ = conn.Client().Get(t.Context(), "k").Err()
		return !conn.Status().Up
	})
	if took > 500*time.Millisecond {
		t.Errorf("it took %v although commands failed all along", took)
	}
}

func TestCommandsFailAtOnceWhileRedisIsAway(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	server.Kill()
	eventually(t, "down", 2*time.Second, func() bool { return !conn.Status().Up })
	for range 20 {
		begin := time.Now()
		if err := conn.Client().Get(t.Context(), "k").Err(); err == nil {
			t.Fatal("no error")
		}
		if took := time.Since(begin); took > 600*time.Millisecond {
			t.Errorf("a command waited %v for a dead Redis", took)
		}
	}
}

func TestAHungRedisIsSeenAsDown(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	server.Stop(t)
	took := eventually(t, "down", 3*time.Second, func() bool { return !conn.Status().Up })
	t.Logf("hang seen after %v", took)
	if s := conn.Status(); s.Cause != redisconn.CauseTimeout {
		t.Errorf("cause = %q: %s", s.Cause, s.LastError)
	}
	server.Cont(t)
	eventually(t, "up", 3*time.Second, func() bool { return conn.Status().Up })
}

func TestABusyPoolIsNotADeadRedis(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL(), "REDIS_MAX_CONNECTIONS": "4"}), redisconn.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() { conn.Client().BLPop(ctx, 2*time.Second, "nothing") })
	}
	eventually(t, "pool timeouts", 5*time.Second, func() bool {
		return errors.Is(conn.Client().Get(ctx, "k").Err(), redis.ErrPoolTimeout)
	})
	for range 4 {
		_ = conn.Client().Get(ctx, "k").Err()
	}
	if s := conn.Status(); !s.Up || s.Failures != 0 {
		t.Errorf("status = %+v", s)
	}
	cancel()
	readers.Wait()
}

func TestHealthSaysWhatTheGuideSays(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "64mb"))
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	eventually(t, "a thorough check", 2*time.Second, func() bool {
		_, body := health(t, conn)
		return body["details"].(map[string]any)["operations"] != nil
	})
	code, body := health(t, conn)
	if code != http.StatusOK || body["service"] != "redis" || body["status"] != "healthy" {
		t.Errorf("health = %d %v", code, body)
	}
	details, metrics := body["details"].(map[string]any), body["metrics"].(map[string]any)
	operations := details["operations"].(map[string]any)
	for _, name := range []string{"set", "get", "del"} {
		if operations[name] != true {
			t.Errorf("%s = %v", name, operations[name])
		}
	}
	memory := metrics["memory_usage"].(map[string]any)
	if memory["max_bytes"] != float64(64<<20) || memory["used_bytes"].(float64) <= 0 || memory["usage_percent"].(float64) <= 0 {
		t.Errorf("memory = %v", memory)
	}
	if _, err := time.Parse(time.RFC3339Nano, body["timestamp"].(string)); err != nil {
		t.Error(err)
	}
	if n := server.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("the check left %d keys", n)
	}
}

func TestAFullRedisIsDegraded(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "8mb", "--maxmemory-policy", "allkeys-lru"))
	client := server.Client(t)
	for i := range 16 {
		if err := client.SetRange(t.Context(), "fill:"+string(rune('a'+i)), 600<<10, "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	eventually(t, "degraded", 3*time.Second, func() bool {
		code, body := health(t, conn)
		return code == http.StatusOK && body["status"] == "degraded"
	})
}

func TestARedisThatRefusesWritesIsUnhealthy(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"))
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	eventually(t, "unhealthy", 3*time.Second, func() bool {
		code, body := health(t, conn)
		return code == http.StatusServiceUnavailable && body["details"].(map[string]any)["error"] == string(redisconn.CauseOutOfMemory)
	})
}

func TestHealthNeverWaitsForADeadRedis(t *testing.T) {
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{})
	server.Kill()
	for range 50 {
		begin := time.Now()
		health(t, conn)
		if took := time.Since(begin); took > 50*time.Millisecond {
			t.Fatalf("it took %v", took)
		}
	}
}

func TestAUserWithFewRightsIsHealthy(t *testing.T) {
	server := tieredtest.StartRedis(t)
	err := server.Client(t).Do(t.Context(), "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info").Err()
	if err != nil {
		t.Fatal(err)
	}
	conn := open(t, config(t, map[string]string{"REDIS_URL": "redis://app:pw@" + server.Addr(), "REDIS_REQUIRED": "true"}), redisconn.Options{})
	eventually(t, "a thorough check", 2*time.Second, func() bool {
		_, body := health(t, conn)
		return body["details"].(map[string]any)["operations"] != nil
	})
	if code, body := health(t, conn); code != http.StatusOK || body["status"] != "healthy" {
		t.Errorf("health = %d %v", code, body)
	}
}
