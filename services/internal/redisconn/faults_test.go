package redisconn_test

import (
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

func logTo(j *journal) redisconn.Options {
	return redisconn.Options{Log: slog.New(slog.NewTextHandler(j, nil))}
}

func do(t *testing.T, client redis.UniversalClient, args ...any) {
	t.Helper()
	if err := client.Do(t.Context(), args...).Err(); err != nil {
		t.Fatalf("%v: %v", args[0], err)
	}
}

// addUser adds the one whose password is pw. A server forgets it when it ends.
func addUser(t *testing.T, server *tieredtest.Redis) {
	t.Helper()
	do(t, server.Client(t), "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
}

// fault breaks a server that works, or the way to it, and returns what ends it.
type fault struct {
	name   string
	option tieredtest.RedisOption // of the server; may be nil
	begin  func(t *testing.T, server *tieredtest.Redis, way *tieredtest.Proxy) (end func())
	// What is seen while it lasts.
	up     bool
	status string
	cause  redisconn.Cause
}

var faults = []fault{
	{
		name: "killed", status: "unhealthy", cause: redisconn.CauseRefused,
		begin: func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) func() {
			server.Kill()
			return func() { server.Restart(t); addUser(t, server) }
		},
	}, {
		name: "stopped", status: "unhealthy", cause: redisconn.CauseTimeout,
		begin: func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) func() {
			server.Stop(t)
			return func() { server.Cont(t) }
		},
	}, {
		name: "blackholed", status: "unhealthy", cause: redisconn.CauseTimeout,
		begin: func(_ *testing.T, _ *tieredtest.Redis, way *tieredtest.Proxy) func() {
			return way.Blackhole(tieredtest.Both)
		},
	}, {
		name: "half open", status: "unhealthy", cause: redisconn.CauseTimeout,
		begin: func(_ *testing.T, _ *tieredtest.Redis, way *tieredtest.Proxy) func() {
			return way.Blackhole(tieredtest.Down)
		},
	}, {
		// 400 ms for an answer, and it has 250.
		name: "slow by 200 ms each way", status: "unhealthy", cause: redisconn.CauseTimeout,
		begin: func(_ *testing.T, _ *tieredtest.Redis, way *tieredtest.Proxy) func() {
			return way.Slow(200*time.Millisecond, 0)
		},
	}, {
		name: "read-only replica", up: true, status: "unhealthy", cause: redisconn.CauseReadOnly,
		begin: func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) func() {
			client := server.Client(t)
			master := tieredtest.StartRedis(t)
			_, port, _ := strings.Cut(master.Addr(), ":")
			do(t, client, "REPLICAOF", "127.0.0.1", port)
			return func() { do(t, client, "REPLICAOF", "NO", "ONE") }
		},
	}, {
		name: "full", option: tieredtest.WithArgs("--maxmemory-policy", "noeviction"), up: true, status: "unhealthy", cause: redisconn.CauseOutOfMemory,
		begin: func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) func() {
			client := server.Client(t)
			do(t, client, "CONFIG", "SET", "maxmemory", "1mb")
			return func() { do(t, client, "CONFIG", "SET", "maxmemory", "0") }
		},
	}, {
		name: "password rotated", status: "unhealthy", cause: redisconn.CauseAuth,
		begin: func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) func() {
			client := server.Client(t)
			do(t, client, "ACL", "SETUSER", "app", "resetpass", ">new")
			do(t, client, "CLIENT", "KILL", "USER", "app")
			return func() { do(t, client, "ACL", "SETUSER", "app", ">pw") }
		},
	}, {
		name: "loading", status: "unhealthy", cause: redisconn.CauseLoading,
		option: tieredtest.WithSlowLoading(),
		begin:  func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) func() { return server.Load(t, 2000) },
	},
}

func TestFaultsAreNamedAndTheConnectionComesBackByItself(t *testing.T) {
	t.Parallel()
	for _, tt := range faults {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var options []tieredtest.RedisOption
			if tt.option != nil {
				options = append(options, tt.option)
			}
			server := tieredtest.StartRedis(t, options...)
			addUser(t, server)
			way := tieredtest.StartProxy(t, server.Addr())
			url := "redis://app:pw@" + way.Addr()
			if tt.cause == redisconn.CauseRefused {
				url = "redis://app:pw@" + server.Addr() // the proxy would accept
			}
			var log journal
			conn := open(t, config(t, map[string]string{"REDIS_URL": url, "REDIS_HEALTH_CHECK_INTERVAL": "200"}), logTo(&log))
			ready := func() bool {
				return conn.Status().Event == redisconn.EventReady && conn.Report().Status == "healthy" &&
					conn.Client().Set(t.Context(), "cb:k", "v", time.Minute).Err() == nil
			}
			eventually(t, "ready at first", 20*time.Second, ready)

			end := tt.begin(t, server, way)
			took := eventually(t, "status and cause", 20*time.Second, func() bool {
				r := conn.Report()
				return conn.Status().Up == tt.up && r.Status == tt.status && r.Details.Error == string(tt.cause)
			})
			t.Logf("seen after %v", took)
			if code, _ := health(t, conn); code != http.StatusServiceUnavailable {
				t.Errorf("code = %d", code)
			}
			end()
			took = eventually(t, "ready again", 30*time.Second, ready)
			t.Logf("back after %v", took)
			if strings.Contains(log.String(), "pw@") {
				t.Errorf("the log shows a password:\n%s", log.String())
			}
		})
	}
}

// TestASlowRedisIsUpIfItMayBeSlow is 200 ms for an answer, which the time-out
// allows: it works, and the report says how slow.
func TestASlowRedisIsUpIfItMayBeSlow(t *testing.T) {
	t.Parallel()
	server := tieredtest.StartRedis(t)
	way := tieredtest.StartProxy(t, server.Addr())
	way.Slow(100*time.Millisecond, 0)
	conn := open(t, config(t, map[string]string{
		"REDIS_URL": "redis://" + way.Addr(), "REDIS_COMMAND_TIMEOUT": "5s", "REDIS_CONNECT_TIMEOUT": "5s", "REDIS_REQUIRED": "true",
	}), redisconn.Options{})
	eventually(t, "ready", 20*time.Second, func() bool { return conn.Status().Event == redisconn.EventReady })
	r := conn.Report()
	if !conn.Status().Up || r.Metrics.PingMs == nil || *r.Metrics.PingMs < 200 || *r.Metrics.SetMs < 200 {
		t.Errorf("report = %+v", r)
	}
}

var reconnects = flag.Int("reconnects", 10_000, "connections that are cut and made again in the test of that")

func TestTenThousandReconnectsLeaveNothingBehind(t *testing.T) {
	server := tieredtest.StartRedis(t)
	const most = 20
	conn := open(t, config(t, map[string]string{
		"REDIS_URL": "redis://app:pw@" + server.Addr(), "REDIS_MAX_CONNECTIONS": fmt.Sprint(most), "REDIS_POOL_TIMEOUT": "10s",
		"REDIS_COMMAND_TIMEOUT": "5s", "REDIS_CONNECT_TIMEOUT": "5s",
	}), redisconn.Options{})
	admin := server.Client(t)
	addUser(t, server)
	eventually(t, "up", 20*time.Second, func() bool { return conn.Status().Up })
	before := runtime.NumGoroutine()

	begin := time.Now()
	var last error
	made := func() int64 { m := conn.Metrics(); return m.TotalConnections - m.FailedConnections }
	for made() < int64(*reconnects) {
		if time.Since(begin) > 5*time.Minute {
			t.Fatalf("%d connections in 5 minutes: %v", made(), last)
		}
		var users sync.WaitGroup
		for i := range most {
			users.Go(func() { _ = conn.Client().Set(t.Context(), fmt.Sprint("cb:", i), "v", time.Minute).Err() })
		}
		users.Wait()
		last = conn.Client().Get(t.Context(), "cb:0").Err()
		do(t, admin, "CLIENT", "KILL", "USER", "app")
	}
	t.Logf("%d connections in %v", made(), time.Since(begin))

	eventually(t, "up and usable", 20*time.Second, func() bool {
		return conn.Status().Up && conn.Client().Get(t.Context(), "cb:0").Err() == nil
	})
	eventually(t, "no connection is left over", 20*time.Second, func() bool {
		list := admin.ClientList(t.Context()).Val()
		return strings.Count(list, "user=app") <= most+2 && conn.Metrics().ActiveConnections <= most
	})
	eventually(t, "no goroutine is left over", 20*time.Second, func() bool { return runtime.NumGoroutine() <= before+5 })
	if m := conn.Metrics(); m.ActiveConnections < 0 || m.IdleConnections > m.ActiveConnections {
		t.Errorf("metrics = %+v", m)
	}
}

// The guide's count of connections only rises.
func TestTheCountOfConnectionsFallsAsWellAsRises(t *testing.T) {
	t.Parallel()
	server := tieredtest.StartRedis(t)
	conn := open(t, config(t, map[string]string{
		"REDIS_URL": server.URL(), "REDIS_MIN_CONNECTIONS": "0", "REDIS_POOL_TIMEOUT": "10s", "REDIS_COMMAND_TIMEOUT": "10s", "REDIS_CONNECT_TIMEOUT": "10s",
	}), redisconn.Options{})
	var waiting sync.WaitGroup
	for range 8 {
		waiting.Go(func() { _ = conn.Client().BLPop(t.Context(), 30*time.Second, "cb:none").Err() })
	}
	eventually(t, "eight connections are open", 20*time.Second, func() bool { return conn.Metrics().ActiveConnections >= 8 })
	server.Kill()
	waiting.Wait()
	eventually(t, "none is", 20*time.Second, func() bool {
		_ = conn.Client().Ping(t.Context()).Err() // finds those that nobody has used since
		return conn.Metrics().ActiveConnections == 0
	})
	server.Restart(t)
	eventually(t, "some are again", 20*time.Second, func() bool {
		return conn.Client().Ping(t.Context()).Err() == nil && conn.Metrics().ActiveConnections > 0
	})
}
