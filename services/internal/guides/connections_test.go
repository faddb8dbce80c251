package guides_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// reconnectStrategy is that of the basic configuration; "Exponential backoff
// with max delay of 30 seconds".
func reconnectStrategy(retries int) time.Duration {
	return min(time.Duration(retries*50)*time.Millisecond, 30*time.Second)
}

// reconnectStrategyOfProduction is false after ten tries.
func reconnectStrategyOfProduction(retries int) (time.Duration, bool) {
	if retries > 10 {
		return 0, false
	}
	return min(time.Duration(retries*100)*time.Millisecond, 5*time.Second), true
}

// connectionMetrics are what the events of the client make of them.
type connectionMetrics struct{ total, active, failed, reconnections int }

func (m *connectionMetrics) on(event string) {
	switch event {
	case "connect":
		m.total++
		m.active++
	case "error":
		m.failed++
	case "reconnecting":
		m.reconnections++
	}
}

// redisHealthCheck is the guide's, at a moment of the pod's clock. between is
// called after SET, where others may come in, or the pod may die.
func (s store) redisHealthCheck(ctx context.Context, now time.Time, between func(key string)) (status string) {
	testKey := fmt.Sprint("health:", now.UnixMilli())
	if s.r.Ping(ctx).Err() != nil || s.r.Set(ctx, testKey, `{"test":true}`, 0).Err() != nil {
		return "unhealthy"
	}
	between(testKey)
	if err := s.r.Get(ctx, testKey).Err(); err != nil && !errors.Is(err, redis.Nil) {
		return "unhealthy"
	}
	if s.r.Del(ctx, testKey).Err() != nil {
		return "unhealthy"
	}
	return "healthy"
}

// parseInfo is that of monitorConnectionPool and monitorMemoryUsage.
func parseInfo(info string) map[string]string {
	metrics := map[string]string{}
	for line := range strings.SplitSeq(info, "\r\n") {
		if parts := strings.Split(line, ":"); len(parts) > 1 { // const [key, value] = line.split(':')
			metrics[parts[0]] = parts[1]
		}
	}
	return metrics
}

// debugging logs each command, as enableDebugMode does.
type debugging struct{ log *strings.Builder }

func (d debugging) DialHook(next redis.DialHook) redis.DialHook { return next }
func (d debugging) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (d debugging) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		fmt.Fprintln(d.log, "Redis Command:", cmd.Args())
		return next(ctx, cmd)
	}
}

// diagnoseConnection ends with the configuration.
func diagnoseConnection(env map[string]string) string {
	password := "not set"
	if env["REDIS_PASSWORD"] != "" {
		password = "set"
	}
	return fmt.Sprint("Configuration check:\n  REDIS_URL: ", env["REDIS_URL"], "\n  REDIS_PASSWORD: ", password)
}

var connections = []claim{
	{"the exponential back-off is linear, and all clients come at once", func(*testing.T) string {
		var delays []time.Duration
		for retries := range 8 {
			delays = append(delays, reconnectStrategy(retries+1))
		}
		first, again := reconnectStrategy(3), reconnectStrategy(3)
		return says(delays[7] == 8*delays[0] && first == again, "the pauses are %v, of every pod", delays)
	}},
	{"reconnecting stops for ever after ten tries", func(*testing.T) string {
		_, goesOn := reconnectStrategyOfProduction(11)
		return says(!goesOn, "a Redis that was away for seconds is away until the pod is restarted")
	}},
	{"the count of connections never falls", func(*testing.T) string {
		m := &connectionMetrics{}
		for range 5 { // one connection, lost and made again
			m.on("connect")
			m.on("error")
			m.on("reconnecting")
		}
		return says(m.active == 5, "of one connection, %d are active", m.active)
	}},
	{"Redis is closed before requests have drained", func(t *testing.T) string {
		r := client(t, shared)
		must(t, r.Set(t.Context(), "drain", "v", time.Minute).Err())
		begun, terminated := make(chan struct{}), make(chan struct{})
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			close(begun)
			<-terminated
			if err := r.Get(req.Context(), "drain").Err(); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		}))
		defer server.Close()
		code := 0
		var asking sync.WaitGroup
		asking.Go(func() {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
			if err != nil {
				t.Error(err)
				return
			}
			res, err := server.Client().Do(req)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			code = res.StatusCode
		})
		<-begun
		must(t, r.Close()) // process.on('SIGTERM', shutdownRedis)
		close(terminated)
		asking.Wait()
		return says(code == http.StatusInternalServerError, "a request that was under way is answered with %d", code)
	}},
	{"health: the key of the check has no TTL", func(t *testing.T) string {
		s := guide(t)
		left := time.Duration(0)
		s.redisHealthCheck(t.Context(), time.UnixMilli(1), func(key string) { left = s.r.TTL(t.Context(), key).Val() })
		return says(left == -1, "a pod that dies now leaves it for ever")
	}},
	{"health: the keys of two pods collide", func(t *testing.T) string {
		s, same := guide(t), ""
		at := time.UnixMilli(2)
		s.redisHealthCheck(t.Context(), at, func(first string) {
			s.redisHealthCheck(t.Context(), at, func(second string) {
				if first == second {
					same = first
				}
			})
		})
		return says(same != "", "both pods check by %s, and one deletes what the other reads", same)
	}},
	{"health: the value is never compared", func(t *testing.T) string {
		s := guide(t)
		status := s.redisHealthCheck(t.Context(), time.UnixMilli(3), func(key string) { s.r.Set(t.Context(), key, "something else", 0) })
		return says(status == "healthy", "a Redis that returns something else is %s", status)
	}},
	{"INFO is cut at the second colon", func(*testing.T) string {
		host := parseInfo("# Replication\r\nmaster_host:2001:db8::7\r\nmaster_port:6379\r\n")["master_host"]
		return says(host != "2001:db8::7", "the master's address is %q", host)
	}},
	{"the debug log shows AUTH", func(t *testing.T) string {
		server := tieredtest.StartRedis(t, tieredtest.WithUsers(tieredtest.User{Name: "app", Password: "hunter2", Rules: []string{"+@all", "~*"}}))
		r := redis.NewClient(&redis.Options{Addr: server.Addr(), DisableIdentity: true})
		defer r.Close()
		var log strings.Builder
		r.AddHook(debugging{&log})
		must(t, r.Do(t.Context(), "AUTH", "app", "hunter2").Err())
		return says(strings.Contains(log.String(), "hunter2"), "the log says %q", log.String())
	}},
	{"the diagnosis prints the URL with its password", func(*testing.T) string {
		text := diagnoseConnection(map[string]string{"REDIS_URL": "redis://:hunter2@redis:6379"})
		return says(strings.Contains(text, "hunter2"), "%s", text)
	}},
}
