package api_test

import (
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

// What is planted in these tests and must never be shown.
const (
	plantedPassword = "planted-password-4711"
	plantedKey      = "planted-key-4711"
	plantedValue    = "planted-value-4711"
)

// guarded is a Redis behind a password, with slow commands about things that
// are nobody's business.
func guarded(t *testing.T) (server *tieredtest.Redis, client *redis.Client, url string) {
	t.Helper()
	server = tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "0", "--slowlog-log-slower-than", "0"))
	must(t, server.Client(t).ConfigSet(t.Context(), "requirepass", plantedPassword).Err())
	opts := server.Options()
	opts.Password = plantedPassword
	client = redis.NewClient(opts)
	t.Cleanup(func() { must(t, client.Close()) })
	must(t, client.Set(t.Context(), plantedKey, plantedValue, 0).Err())
	must(t, client.ConfigSet(t.Context(), "slowlog-log-slower-than", "-1").Err())
	return server, client, "redis://:" + plantedPassword + "@" + server.Addr() + "/0"
}

// keptSecret fails if an answer shows what was planted.
func keptSecret(t *testing.T, r reply) {
	t.Helper()
	for _, secret := range []string{plantedPassword, plantedKey, plantedValue, "redis://"} {
		if strings.Contains(string(r.body), secret) {
			t.Errorf("%q is shown: %s", secret, r.body)
		}
	}
}

// finding returns the finding of an id in a diagnosis, nil if it has none.
func finding(t *testing.T, diagnosis reply, id string) object {
	t.Helper()
	for _, f := range diagnosis.doc(t)["findings"].([]any) {
		if f.(object)["id"] == id {
			return f.(object)
		}
	}
	return nil
}

func TestADiagnosisSaysWhatIsWrongAndNeverAPassword(t *testing.T) {
	_, client, url := guarded(t)
	w := newWorldOf(t, sqlite(t), func(c *api.Config) { onRedisAt(t, url, c) })
	admin := w.admin(t)
	diagnose := func(area string) reply {
		t.Helper()
		r := admin.do(t, "GET", "/admin/redis/diagnose/"+area, nil).want(t, 200)
		keptSecret(t, r)
		return r
	}
	for _, tt := range []struct{ area, found, elsewhere string }{
		{"connection", "", "memory.no_limit"},
		{"memory", "memory.no_limit", "performance.slow_log"},
		{"performance", "performance.slow_log", "memory.no_limit"},
	} {
		d := diagnose(tt.area)
		if d.at(t, "looked.0") != "connection" || d.at(t, "address") == "" || d.at(t, "took_ms") == 0.0 {
			t.Errorf("%s: %s", tt.area, d.body)
		}
		if finding(t, d, tt.elsewhere) != nil {
			t.Errorf("%s: %s is found, which is another area's", tt.area, tt.elsewhere)
		}
		if tt.found == "" {
			continue
		}
		f := finding(t, d, tt.found)
		if f == nil || f["severity"] != "warning" || f["area"] != tt.area || len(f["causes"].([]any)) == 0 || len(f["next"].([]any)) == 0 {
			t.Errorf("%s: %s = %v, want a warning with causes and next steps", tt.area, tt.found, f)
		}
	}
	keys, err := client.Keys(t.Context(), "*doctor*").Result()
	if err != nil || len(keys) > 0 {
		t.Errorf("left behind: %v, %v", keys, err)
	}
	bad := admin.do(t, "GET", "/admin/redis/diagnose/everything", nil).wantProblem(t, 422, "validation-failed")
	if !strings.Contains(string(bad.body), "connection, memory, performance") {
		t.Errorf("an unknown area: %s", bad.body)
	}
	must(t, client.ConfigSet(t.Context(), "requirepass", plantedPassword+"-rotated").Err())
	rotated := diagnose("performance")
	if f := finding(t, rotated, "connection.auth"); f == nil || f["severity"] != "critical" || rotated.at(t, "worst") != "critical" || len(rotated.doc(t)["looked"].([]any)) != 1 {
		t.Errorf("with another password: %s", rotated.body)
	}
}

func TestADiagnosisOfADeadRedisNamesTheCause(t *testing.T) {
	r := tieredtest.StartRedis(t)
	w := newWorldOf(t, sqlite(t), func(c *api.Config) { onRedis(t, r, c) })
	admin := w.admin(t)
	r.Kill()
	d := admin.do(t, "GET", "/admin/redis/diagnose/memory", nil).want(t, 200)
	if f := finding(t, d, "connection.refused"); f == nil || f["severity"] != "critical" {
		t.Errorf("%s", d.body)
	}
}

func TestWithoutRedisThereIsNothingToDiagnose(t *testing.T) {
	w := newWorld(t, sqlite(t))
	admin := w.admin(t)
	d := admin.do(t, "GET", "/admin/redis/diagnose/memory", nil).want(t, 200)
	if len(d.doc(t)["looked"].([]any)) != 0 || len(d.doc(t)["findings"].([]any)) != 0 || d.at(t, "worst") != "" {
		t.Errorf("%s", d.body)
	}
	if r := admin.do(t, "GET", "/admin/redis", nil).want(t, 200); len(r.doc(t)["servers"].(object)["nodes"].([]any)) != 0 {
		t.Errorf("%s", r.body)
	}
}

func TestWhatTheMonitorSawIsShown(t *testing.T) {
	_, client, url := guarded(t)
	var watch *monitor.Monitor
	w := newWorldOf(t, sqlite(t), func(c *api.Config) { onRedisAt(t, url, c); watch = c.Monitor })
	admin := w.admin(t)
	before := admin.do(t, "GET", "/admin/redis", nil).want(t, 200)
	if servers := before.doc(t)["servers"].(object); len(servers["nodes"].([]any)) != 0 || servers["at"] != nil || servers["every_seconds"] != 15.0 {
		t.Errorf("before the first look: %v", servers)
	}
	must(t, client.Set(t.Context(), "cb:x", "y", 0).Err())
	watch.Look(t.Context())
	got := admin.do(t, "GET", "/admin/redis", nil).want(t, 200)
	keptSecret(t, got)
	for path, ok := range map[string]func(any) bool{
		"at":                               func(v any) bool { return v != nil },
		"mode":                             func(v any) bool { return v == "single" },
		"nodes.0.state":                    func(v any) bool { return v == "ok" },
		"nodes.0.role":                     func(v any) bool { return v == "master" },
		"nodes.0.memory.used_bytes":        func(v any) bool { return v.(float64) > 1e5 },
		"nodes.0.memory.used_ratio":        func(v any) bool { return v == nil },
		"nodes.0.clients.connected":        func(v any) bool { return v.(float64) >= 1 },
		"nodes.0.keyspace.databases":       func(v any) bool { return len(v.([]any)) == 1 },
		"nodes.0.keyspace.evicted":         func(v any) bool { return v == 0.0 },
		"nodes.0.slow_log.entries":         func(v any) bool { return len(v.([]any)) > 0 },
		"nodes.0.latency.events":           func(v any) bool { return v != nil },
		"nodes.0.sample.eternal":           func(v any) bool { return v.(float64) >= 2 },
		"nodes.0.replication.replicas":     func(v any) bool { return v != nil },
		"nodes.0.persistence.last_save_ok": func(v any) bool { return v == true },
	} {
		if v := got.at(t, "servers."+path); !ok(v) {
			t.Errorf("servers.%s = %v", path, v)
		}
	}
}
