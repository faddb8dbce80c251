package api_test

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/env"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

// admin is somebody who runs the installation.
func (w *world) admin(t *testing.T) *person {
	t.Helper()
	p := w.join(t, "Admin", "UTC")
	must(t, w.store.Accounts().SetAdmin(t.Context(), p.user.ID, true))
	p.signIn(t)
	return p
}

// onRedis gives an API a cache over a real Redis.
func onRedis(t *testing.T, r *tieredtest.Redis, c *api.Config) {
	t.Helper()
	onRedisAt(t, r.URL(), c)
}

// onRedisAt does so by an address that may hold a password.
func onRedisAt(t *testing.T, url string, c *api.Config) {
	t.Helper()
	settings := map[string]string{"REDIS_URL": url, "REDIS_HEALTH_CHECK_INTERVAL": "200"}
	reader := env.New(func(name string) string { return settings[name] })
	cfg := redisconn.FromEnv(reader)
	must(t, reader.Err())
	conn, err := redisconn.Open(t.Context(), cfg, redisconn.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, conn.Close()) })
	watch, err := monitor.New(conn, monitor.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, watch.Close()) })
	store, err := tiered.Open(t.Context(), tiered.WithL1(16<<20), tiered.WithPrefix("cb"), tiered.WithRedis(conn.Client()))
	must(t, err)
	t.Cleanup(func() { _ = store.Close(t.Context()) }) // complains if Redis was killed
	c.Redis, c.Monitor, c.Cache, c.Limits.Login = conn, watch, store, 500
}

// eventually waits for what a real server does in its own time.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(30 * time.Second)
	for !done() {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("%s: not within half a minute", what)
		}
	}
}

func TestOfManyFirstAccountsExactlyOneRunsTheInstallation(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.stranger(t)
		var all sync.WaitGroup
		for _, name := range []string{"a", "b", "c", "d"} {
			all.Go(func() {
				r, err := p.try(t.Context(), "POST", "/auth/register", registration(name+"@example.org"))
				if err != nil || r.status != http.StatusCreated {
					t.Errorf("%d %s, %v", r.status, r.body, err)
				}
			})
		}
		all.Wait()
		if n := w.count(t, "SELECT count(*) FROM users WHERE is_admin"); n != 1 {
			t.Errorf("%d admins, want 1", n)
		}
		if r := w.stranger(t).do(t, "POST", "/auth/register", registration("late@example.org")); r.at(t, "user.is_admin") != false {
			t.Errorf("a later account: %s", r.body)
		}
	})
}

// The right is in the database and not in a cache or in a sign-in.
func TestTheRightToRunTheInstallationComesAndGoesAtOnce(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.join(t, "First", "UTC")
		p := w.join(t, "Mira", "UTC")
		p.do(t, "GET", "/admin/redis", nil).wantProblem(t, 403, "admins-only")
		change := func(isAdmin bool) {
			t.Helper()
			if found, err := api.SetAdmin(t.Context(), w.db, " "+strings.ToUpper(p.user.Email), isAdmin); !found || err != nil {
				t.Fatalf("%v, %v", found, err)
			}
		}
		login := func() reply {
			t.Helper()
			return p.do(t, "POST", "/auth/login", object{"email": p.user.Email, "password": password}).want(t, 200)
		}
		change(true)
		if n := w.count(t, "SELECT count(*) FROM sessions WHERE user_id = $1 AND revoked_at IS NULL", p.user.ID); n != 0 {
			t.Errorf("%d sessions from before the grant live on", n)
		}
		login()
		if me := p.do(t, "GET", "/me", nil).want(t, 200); me.at(t, "is_admin") != true {
			t.Errorf("after the sign-in: %s", me.body)
		}
		p.do(t, "GET", "/admin/redis", nil).want(t, 200)
		must(t, w.store.Accounts().SetAdmin(t.Context(), p.user.ID, false))
		p.signIn(t) // the account is cached as an admin's
		p.do(t, "GET", "/admin/redis", nil).wantProblem(t, 403, "admins-only")
		change(true)
		login()
		log := p.do(t, "GET", "/admin/audit", nil).want(t, 200)
		if log.at(t, "items.0.action") != "admin.grant" || log.at(t, "items.1.action") != "admin.revoke" || log.at(t, "items.0.subject") != "user:"+p.user.ID {
			t.Errorf("audit = %s", log.body)
		}
		if found, err := api.SetAdmin(t.Context(), w.db, "nobody@example.org", true); found || err != nil {
			t.Errorf("nobody: %v, %v", found, err)
		}
	})
}

func TestWhatIsInvalidatedIsGoneInBothTiersAndNoted(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		r := tieredtest.StartRedis(t)
		w := newWorldOf(t, url, func(c *api.Config) { onRedis(t, r, c) })
		admin := w.admin(t)
		admin.habit(t, nil)
		id := admin.user.ID
		verdict := func(namespace, key string) any {
			t.Helper()
			return admin.do(t, "GET", "/admin/cache/inspect?namespace="+namespace+"&key="+key, nil).want(t, 200).at(t, "verdict")
		}
		for _, tt := range []struct {
			name, namespace, key string
			body                 object
			subject              string
		}{
			{"a tag", "habits", id, object{"tag": "habits:" + id}, "tag:habits:" + id},
			{"a key", "habits", id, object{"namespace": "habits", "key": id}, "key:habits:" + id},
			{"a prefix", "habits", id, object{"namespace": "habits", "prefix": id[:8]}, "prefix:habits:" + id[:8]},
			{"a namespace", "habits", id, object{"namespace": "habits", "all": true}, "namespace:habits"},
		} {
			admin.do(t, "GET", "/habits", nil).want(t, 200)
			eventually(t, tt.name+" is cached", func() bool { return verdict(tt.namespace, tt.key) == "hit_l1" })
			in := admin.do(t, "GET", "/admin/cache/inspect?namespace="+tt.namespace+"&key="+tt.key, nil)
			if in.at(t, "l2.servable") != true || in.at(t, "l1.tags.1.tag") != "habits:"+id || strings.Contains(string(in.body), `Run`) {
				t.Errorf("%s: %s: want both tiers, its tags, and not its value", tt.name, in.body)
			}
			done := admin.do(t, "POST", "/admin/cache/invalidate", tt.body).want(t, 200)
			if done.at(t, "subject") != tt.subject || done.at(t, "recovery_queue") != 0.0 {
				t.Errorf("%s: %s", tt.name, done.body)
			}
			if got := verdict(tt.namespace, tt.key); got != "miss" {
				t.Errorf("%s: then %v, want a miss", tt.name, got)
			}
			log := admin.do(t, "GET", "/admin/audit?limit=1", nil).want(t, 200)
			if log.at(t, "items.0.action") != "cache.invalidate" || log.at(t, "items.0.subject") != tt.subject ||
				log.at(t, "items.0.user_id") != id || log.at(t, "items.0.user_name") != "Admin" || log.at(t, "items.0.ip") != "127.0.0.1" {
				t.Errorf("%s: audit = %s", tt.name, log.body)
			}
		}
		// The log is read page by page.
		var seen []any
		for next := "0"; ; {
			page := admin.do(t, "GET", "/admin/audit?limit=2&before="+next, nil).want(t, 200)
			for _, e := range page.doc(t)["items"].([]any) {
				seen = append(seen, e.(object)["subject"])
			}
			if next = number(page.at(t, "next")); next == "0" {
				break
			}
		}
		if len(seen) != 5 || seen[4] != "user:"+id {
			t.Errorf("the whole log: %v", seen)
		}
	})
}

func TestWhatCannotBeInvalidatedIsToldWhatToSend(t *testing.T) {
	w := newWorld(t, sqlite(t))
	admin := w.admin(t)
	before := w.count(t, "SELECT count(*) FROM audit_log")
	for _, tt := range []struct {
		body object
		says string
	}{
		{object{}, "send a tag, or a namespace"},
		{object{"namespace": "user"}, "send one of key, prefix or all"},
		{object{"namespace": "user", "key": "a", "all": true}, "not 2 of them"},
		{object{"tag": "a", "namespace": "user"}, "send it alone"},
		{object{"namespace": "users", "all": true}, "send one of dashboard, habits"},
		{object{"tag": "a\x00b"}, "plain text"},
		{object{"tag": strings.Repeat("x", 65)}, "64"},
	} {
		r := admin.do(t, "POST", "/admin/cache/invalidate", tt.body).wantProblem(t, 422, "validation-failed")
		if !strings.Contains(r.at(t, "detail").(string), tt.says) {
			t.Errorf("%v: %s, want it to say %q", tt.body, r.body, tt.says)
		}
	}
	r := admin.do(t, "GET", "/admin/cache/inspect?namespace=users&key=x", nil).wantProblem(t, 422, "validation-failed")
	if !strings.Contains(string(r.body), "dashboard, habits") {
		t.Errorf("an unknown namespace: %s", r.body)
	}
	if n := w.count(t, "SELECT count(*) FROM audit_log"); n != before {
		t.Errorf("%d entries for what was refused", n-before)
	}
}

// Redis dies while somebody looks: everything is still shown, and says so.
func TestTheStateIsToldWithoutRedisToo(t *testing.T) {
	r := tieredtest.StartRedis(t)
	w := newWorldOf(t, sqlite(t), func(c *api.Config) { onRedis(t, r, c) })
	admin := w.admin(t)
	get := func(path string) reply { t.Helper(); return admin.do(t, "GET", path, nil).want(t, 200) }
	eventually(t, "Redis is healthy", func() bool { return get("/admin/redis").at(t, "health.status") == "healthy" })
	up := get("/admin/redis")
	if up.at(t, "state") != "up" || up.at(t, "cause") != "" || up.at(t, "health.metrics.memory_usage.used_bytes").(float64) < 1e5 || up.at(t, "pool.max").(float64) < 1 {
		t.Errorf("up: %s", up.body)
	}
	if prof := get("/admin/redis/profile"); prof.at(t, "commands.0.count").(float64) < 1 || strings.Contains(string(prof.body), admin.user.ID) {
		t.Errorf("profile: %s: want commands, by name only", prof.body)
	}
	since := get("/admin/redis/profile").at(t, "since")
	admin.do(t, "POST", "/admin/redis/profile/reset", nil).want(t, 204)
	if got := get("/admin/redis/profile").at(t, "since"); got == since {
		t.Errorf("after a reset the profile still begins at %v", got)
	}
	if log := get("/admin/audit?limit=1"); log.at(t, "items.0.action") != "redis.profile.reset" {
		t.Errorf("audit: %s", log.body)
	}
	r.Kill()
	eventually(t, "Redis is down", func() bool { return get("/admin/redis").at(t, "state") == "down" })
	down := get("/admin/redis")
	if down.at(t, "cause") != "connection refused" || !strings.Contains(down.at(t, "check").(string), "REDIS_URL") {
		t.Errorf("down: %s", down.body)
	}
	if in := get("/admin/cache/inspect?namespace=user&key=" + admin.user.ID); in.at(t, "l2.why") != "Redis does not answer" {
		t.Errorf("inspected: %s", in.body)
	}
	// A tag waits for Redis; a prefix cannot, and says so.
	tag := admin.do(t, "POST", "/admin/cache/invalidate", object{"tag": "team:x"}).want(t, 200)
	if tag.at(t, "recovery_queue").(float64) < 1 {
		t.Errorf("a tag: %s", tag.body)
	}
	admin.do(t, "POST", "/admin/cache/invalidate", object{"namespace": "user", "prefix": "0"}).wantProblem(t, 503, "invalidation-incomplete")
	log := get("/admin/audit")
	if log.at(t, "items.0.action") != "cache.invalidate.failed" || log.at(t, "items.1.action") != "cache.invalidate" {
		t.Errorf("audit: %s", log.body)
	}
	for _, path := range []string{"/admin/redis", "/admin/cache", "/admin/audit"} {
		if s := string(get(path).body); strings.Contains(s, "argon2") || strings.Contains(s, "redis://") {
			t.Errorf("%s: %s", path, s)
		}
	}
}

func TestWithoutRedisThereIsMemoryOnly(t *testing.T) {
	w := newWorld(t, sqlite(t))
	admin := w.admin(t)
	redis := admin.do(t, "GET", "/admin/redis", nil).want(t, 200)
	cache := admin.do(t, "GET", "/admin/cache", nil).want(t, 200)
	alerts := admin.do(t, "GET", "/admin/alerts", nil).want(t, 200)
	if redis.at(t, "state") != "off" || cache.at(t, "health.redis") != false || cache.at(t, "health.status") != "healthy" || alerts.at(t, "watching") != false {
		t.Errorf("%s\n%s\n%s", redis.body, cache.body, alerts.body)
	}
	if n := len(cache.doc(t)["namespaces"].([]any)); n < 5 || cache.at(t, "namespaces.0.holds") == "" {
		t.Errorf("%d namespaces: %s", n, cache.body)
	}
	if in := admin.do(t, "GET", "/admin/cache/inspect?namespace=user&key="+admin.user.ID, nil).want(t, 200); in.at(t, "verdict") != "hit_l1" || in.at(t, "l2.present") != false {
		t.Errorf("inspected: %s", in.body)
	}
}

func TestAnAlertIsAcknowledgedOnce(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		d, err := db.Open(t.Context(), db.Config{URL: url})
		must(t, err)
		t.Cleanup(func() { must(t, d.Close()) })
		failures := 3.0
		engine, err := alert.New(alert.Config{DB: d.SQL(), Node: "host/api", Signals: map[string]alert.Signal{
			"redis_consecutive_failures": func() (float64, bool) { return failures, true },
		}})
		must(t, err)
		w := newWorldOf(t, url, func(c *api.Config) { c.Alerts = engine })
		admin := w.admin(t)
		must(t, engine.Measure(t.Context()))
		list := admin.do(t, "GET", "/admin/alerts", nil).want(t, 200)
		id, ok := list.at(t, "items.0.id").(string)
		if !ok || list.at(t, "watching") != true || list.at(t, "items.0.subject") != "host/api" || list.at(t, "items.0.acked_at") != nil {
			t.Fatalf("alerts = %s", list.body)
		}
		admin.do(t, "POST", "/admin/alerts/"+id+"/acknowledge", nil).want(t, 204)
		admin.do(t, "POST", "/admin/alerts/"+id+"/acknowledge", nil).wantProblem(t, 409, "alert-settled")
		list = admin.do(t, "GET", "/admin/alerts?limit=1", nil).want(t, 200)
		if list.at(t, "items.0.acked_by") != admin.user.ID || list.at(t, "items.0.acked_at") == nil {
			t.Errorf("alerts = %s", list.body)
		}
		if log := admin.do(t, "GET", "/admin/audit", nil).want(t, 200); log.at(t, "items.0.action") != "alert.acknowledge" || log.at(t, "items.0.subject") != "alert:"+id {
			t.Errorf("audit = %s", log.body)
		}
	})
}
