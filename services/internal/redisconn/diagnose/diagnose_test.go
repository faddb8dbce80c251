package diagnose_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/diagnose"
)

func TestMain(m *testing.M) {
	// The client library notices only up to a second after it was closed that
	// it need not try to connect any more.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
		goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9.(*clusterStateHolder).LazyReload.func1"))
}

const password = "hunter2-password"

func to(addr string) redisconn.Config {
	return redisconn.Config{Mode: redisconn.Single, Addrs: []string{addr}, ConnectTimeout: 2 * time.Second}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// until waits for ok, which looks at a real server.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(30 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// sane is a server of which nothing is to be said.
func sane(t *testing.T, opts ...tieredtest.RedisOption) *tieredtest.Redis {
	t.Helper()
	return tieredtest.StartRedis(t, append([]tieredtest.RedisOption{
		tieredtest.WithArgs("--maxmemory", "64mb", "--maxmemory-policy", "volatile-lru", "--slowlog-log-slower-than", "-1"),
	}, opts...)...)
}

func TestOfASaneServerNothingIsFound(t *testing.T) {
	server := sane(t)
	r := diagnose.Diagnose(t.Context(), to(server.Addr()), diagnose.Options{})
	for _, f := range r.Findings {
		if f.ID != "performance.far" { // this machine may be busy
			t.Errorf("found %+v", f)
		}
	}
	if len(r.Looked) != 3 || r.Findings == nil {
		t.Errorf("report = %+v", r)
	}
	if n := server.Client(t).DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("the doctor left %d keys", n)
	}
}

func TestEachFaultIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name, id string
		severity diagnose.Severity
		seen     string // part of what is seen, or of its causes
		fault    func(t *testing.T) (redisconn.Config, diagnose.Options)
	}{
		{"nobody listens", "connection.refused", diagnose.Critical, "refused", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(freeAddr(t)), o
		}},
		{"no such host", "connection.unresolved", diagnose.Critical, "no-such-host.invalid", func(*testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to("no-such-host.invalid:6379"), o
		}},
		{"a server that hangs", "connection.timeout", diagnose.Critical, "timeout", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t)
			server.Stop(t)
			t.Cleanup(func() { server.Cont(t) })
			return to(server.Addr()), o
		}},
		{"a wrong password", "connection.auth", diagnose.Critical, "authentication", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t, tieredtest.WithUsers(tieredtest.User{Name: "app", Password: "right", Rules: []string{"+@all"}}))
			cfg = to(server.Addr())
			cfg.Username, cfg.Password = "app", password
			return cfg, o
		}},
		{"no such database", "connection.database", diagnose.Critical, "no such database", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			cfg = to(sane(t, tieredtest.WithArgs("--databases", "4")).Addr())
			cfg.DB = 9
			return cfg, o
		}},
		{"another database", "connection.other_database", diagnose.Note, "Database 3 is empty", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t)
			must(t, server.Client(t).Set(t.Context(), "cb:1", "v", time.Hour).Err())
			cfg = to(server.Addr())
			cfg.DB = 3
			return cfg, o
		}},
		{"plain to a port that speaks TLS", "tls.expected", diagnose.Critical, "rediss://", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(sane(t, tieredtest.WithTLS(t)).Addr()), o
		}},
		{"TLS to a port that does not", "tls.not_spoken", diagnose.Critical, "no TLS", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			cfg = to(sane(t).Addr())
			cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			return cfg, o
		}},
		{"an unknown authority", "tls.certificate", diagnose.Critical, "authority", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			cfg = to(sane(t, tieredtest.WithTLS(t)).Addr())
			cfg.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
			return cfg, o
		}},
		{"a certificate of another name", "tls.certificate", diagnose.Critical, "another name than cache.example: localhost", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t, tieredtest.WithTLS(t))
			cfg = to(server.Addr())
			cfg.TLS = server.TLSConfig()
			cfg.TLS.ServerName = "cache.example"
			return cfg, o
		}},
		{"no client certificate", "tls.failed", diagnose.Critical, "client's certificate", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t, tieredtest.WithTLS(t))
			cfg = to(server.Addr())
			cfg.TLS = server.TLSConfig()
			cfg.TLS.Certificates = nil
			return cfg, o
		}},
		{"an ACL that denies", "connection.acl", diagnose.Critical, "PUBLISH to rt:*, SET on crewbeat:*", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t, tieredtest.WithUsers(tieredtest.User{Name: "app", Password: password, Rules: strings.Fields("~cb:* ~rt:* &cb:* &rt:* +@all -publish")}))
			cfg = to(server.Addr())
			cfg.Username, cfg.Password = "app", password
			return cfg, o
		}},
		{"a replica", "connection.read_only", diagnose.Critical, "replica", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(follower(t, sane(t)).Addr()), o
		}},
		{"a replica that is behind", "replication.behind", diagnose.Warning, "KiB behind", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			master := sane(t)
			replica := follower(t, master)
			replica.Stop(t)
			t.Cleanup(func() { replica.Cont(t) })
			must(t, master.Client(t).Set(t.Context(), "cb:1", strings.Repeat("x", 3<<20), time.Hour).Err())
			return to(master.Addr()), o
		}},
		{"a full memory", "memory.full", diagnose.Critical, "its memory is full", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(sane(t, tieredtest.WithArgs("--maxmemory", "1mb", "--maxmemory-policy", "noeviction")).Addr()), o
		}},
		{"no eviction", "memory.noeviction", diagnose.Warning, "noeviction", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(sane(t, tieredtest.WithArgs("--maxmemory-policy", "noeviction")).Addr()), o
		}},
		{"no limit", "memory.no_limit", diagnose.Warning, "maxmemory", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(sane(t, tieredtest.WithArgs("--maxmemory", "0")).Addr()), o
		}},
		{"a big key", "memory.big_keys", diagnose.Warning, "the largest 3.", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t)
			must(t, server.Client(t).Set(t.Context(), "cb:"+password, strings.Repeat("x", 3<<20+200<<10), time.Hour).Err())
			return to(server.Addr()), o
		}},
		{"keys that never expire", "memory.eternal_keys", diagnose.Warning, "others (20)", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t)
			for i := range 20 {
				must(t, server.Client(t).Set(t.Context(), fmt.Sprint("others:", password, i), "v", 0).Err())
			}
			return to(server.Addr()), o
		}},
		{"a slow command", "performance.slow_log", diagnose.Warning, "EVAL (1)", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			server := sane(t, tieredtest.WithArgs("--slowlog-log-slower-than", "100000"))
			c := server.Options()
			c.ReadTimeout = 20 * time.Second
			client := redis.NewClient(c)
			defer client.Close()
			busy := `local begin = redis.call('TIME') local function us(t) return t[1] * 1000000 + t[2] end
				while us(redis.call('TIME')) - us(begin) < 150000 do end return ARGV[1]`
			must(t, client.Eval(t.Context(), busy, nil, password).Err())
			return to(server.Addr()), o
		}},
		{"a network that is slow", "performance.far", diagnose.Warning, "PING takes", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			proxy := tieredtest.StartProxy(t, sane(t).Addr())
			proxy.Slow(30*time.Millisecond, 0)
			return to(proxy.Addr()), o
		}},
		{"a snapshot that failed", "persistence.snapshot", diagnose.Critical, "snapshot", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(unsaved(t, "").Addr()), o
		}},
		{"MISCONF", "persistence.refusing", diagnose.Critical, "MISCONF", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(unsaved(t, "3600 1").Addr()), o
		}},
		{"clocks that differ", "connection.clock", diagnose.Warning, "1m0s behind", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			o.Now = func() time.Time { return time.Now().Add(time.Minute) }
			return to(sane(t).Addr()), o
		}},
		{"a server that is loading", "connection.loading", diagnose.Critical, "loading", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return to(loading(t).Addr()), o
		}},
		{"a Sentinel that is gone", "connection.sentinel", diagnose.Warning, "refused", func(t *testing.T) (cfg redisconn.Config, o diagnose.Options) {
			return redisconn.Config{Mode: redisconn.Sentinel, Addrs: []string{freeAddr(t)}, MasterName: "crew"}, o
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg, opts := tt.fault(t)
			r := diagnose.Diagnose(t.Context(), cfg, opts)
			b, err := json.MarshalIndent(r, "", " ")
			must(t, err)
			if strings.Contains(string(b), password) {
				t.Errorf("a secret is shown: %s", b)
			}
			// Whose cause is known is not told as unknown besides.
			if slices.ContainsFunc(r.Findings, func(f diagnose.Finding) bool { return strings.Contains(f.Seen, string(redisconn.CauseUnknown)) }) {
				t.Errorf("something fails, and nobody knows why:\n%s", b)
			}
			for _, f := range r.Findings {
				if f.ID == tt.id && f.Severity == tt.severity && len(f.Causes) > 0 && len(f.Next) > 0 && f.Node != "" &&
					strings.Contains(f.Seen+strings.Join(append(f.Causes, f.Next...), " "), tt.seen) {
					return
				}
			}
			t.Errorf("want %s %s, %q in:\n%s", tt.severity, tt.id, tt.seen, b)
		})
	}
}

// follower is a replica that has its master's data.
func follower(t *testing.T, master *tieredtest.Redis) *tieredtest.Redis {
	t.Helper()
	must(t, master.Client(t).ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err())
	host, port, err := net.SplitHostPort(master.Addr())
	must(t, err)
	replica := sane(t, tieredtest.WithArgs("--replicaof", host, port))
	client := replica.Client(t)
	until(t, "the replica follows", func() bool {
		return strings.Contains(client.Info(t.Context(), "replication").Val(), "master_link_status:up")
	})
	until(t, "the master knows", func() bool {
		return strings.Contains(master.Client(t).Info(t.Context(), "replication").Val(), "state=online")
	})
	return replica
}

// unsaved is a server whose last snapshot failed, since its folder is gone.
func unsaved(t *testing.T, save string) *tieredtest.Redis {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "redis")
	must(t, os.Mkdir(dir, 0o700))
	server, err := tieredtest.LaunchRedis(dir, tieredtest.WithArgs("--maxmemory", "64mb"))
	must(t, err)
	t.Cleanup(server.Close)
	client := server.Client(t)
	must(t, client.ConfigSet(t.Context(), "save", save).Err())
	must(t, os.RemoveAll(dir))
	_ = client.BgSave(t.Context()).Err()
	until(t, "the snapshot fails", func() bool {
		return strings.Contains(client.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
	return server
}

// loading is a server that reads its data again, slowly, and answers LOADING
// meanwhile.
func loading(t *testing.T) *tieredtest.Redis {
	t.Helper()
	server := sane(t, tieredtest.WithSlowLoading())
	server.Load(t, 7000)
	return server
}

func TestOnlyTheAreasAskedForAreLookedAt(t *testing.T) {
	server := tieredtest.StartRedis(t) // without a limit
	r := diagnose.Diagnose(t.Context(), to(server.Addr()), diagnose.Options{Areas: []diagnose.Area{diagnose.Performance}})
	if r.Has("memory.no_limit") || len(r.Looked) != 2 {
		t.Errorf("report = %+v", r)
	}
	r = diagnose.Diagnose(t.Context(), to(server.Addr()), diagnose.Options{Areas: []diagnose.Area{diagnose.Memory}})
	if !r.Has("memory.no_limit") || r.Worst() != diagnose.Warning {
		t.Errorf("report = %+v", r)
	}
}

func TestWhatMayNotBeAskedIsLeftOut(t *testing.T) {
	server := sane(t, tieredtest.WithUsers(tieredtest.User{Name: "app", Password: password, Rules: strings.Fields(
		"~cb:* ~rt:* ~crewbeat:* resetchannels &cb:* &rt:* -@all +@read +@write +@pubsub +@scripting +@connection +@transaction -@dangerous +time")}))
	cfg := to(server.Addr())
	cfg.Username, cfg.Password = "app", password
	r := diagnose.Diagnose(t.Context(), cfg, diagnose.Options{})
	if r.Worst() == diagnose.Critical {
		t.Errorf("report = %+v", r)
	}
}
