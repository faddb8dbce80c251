package main

import (
	"bytes"
	"database/sql"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	_ "modernc.org/sqlite"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/caching"
)

// Everything that Redis is ever told is in its append-only file, also what was
// deleted since. After people have done what people do, no secret is in there,
// nor in what Crewbeat has logged, and every key is one that is registered and
// ends.
func TestNoSecretReachesRedis(t *testing.T) {
	dir, data := t.TempDir(), t.TempDir()
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence(), tieredtest.WithArgs("--dir", dir))
	const sessionSecret = "planted-session-secret-0123456789abcdef"
	lap := start(t, map[string]string{"REDIS_URL": r.URL(), "SESSION_SECRET": sessionSecret, "LOG_LEVEL": "debug", "REDIS_DEBUG": "true"},
		"--addr", "127.0.0.1:0", "--data", data, "--demo=false")
	planted := map[string]string{"the session secret": sessionSecret}

	do := func(c *http.Client, want int, method, path string, body any) map[string]any {
		t.Helper()
		status, answer := call(t, c, method, lap.url+"/api/v1"+path, body)
		if status != want {
			t.Fatalf("%s %s: %d %v, want %d", method, path, status, answer, want)
		}
		return answer
	}
	type m = map[string]any
	mira, jonas := browser(t), browser(t)
	keep := func(name string, c *http.Client) {
		t.Helper()
		u, err := url.Parse(lap.url)
		if err != nil {
			t.Fatal(err)
		}
		cookies := c.Jar.Cookies(u)
		if len(cookies) != 1 {
			t.Fatalf("%s has %d cookies", name, len(cookies))
		}
		planted[name+"'s session token"] = cookies[0].Value
	}
	planted["a password"], planted["a new password"], planted["a wrong password"] = "planted-first-password", "planted-second-password", "planted-wrong-password"
	do(mira, 201, "POST", "/auth/register", m{"email": "mira@example.com", "name": "Mira", "password": planted["a password"], "tz": "Europe/Zurich"})
	keep("Mira", mira)
	do(jonas, 201, "POST", "/auth/register", m{"email": "jonas@example.com", "name": "Jonas", "password": planted["a password"], "tz": "Europe/Zurich"})
	keep("Jonas", jonas)
	team := do(mira, 201, "POST", "/teams", m{"name": "Harbor Crew"})["team"].(m)["id"].(string)
	invite := do(mira, 201, "POST", "/teams/"+team+"/invites", m{})
	planted["an invite's token"] = invite["token"].(string)
	do(jonas, 200, "POST", "/invites/lookup", m{"token": planted["an invite's token"]})
	do(jonas, 200, "POST", "/invites/accept", m{"token": planted["an invite's token"]})
	me := do(mira, 200, "GET", "/me", nil)
	habit := do(mira, 201, "POST", "/habits", m{"name": "Planted habit", "schedule": m{"type": "daily"}, "visibility": "named", "team_ids": []string{team}})["id"].(string)
	for range 2 { // written, and then read from the cache
		do(mira, 200, "PUT", "/habits/"+habit+"/records/"+me["today"].(string), m{"state": "done", "client_op_id": "op-planted-1"})
		for _, path := range []string{"/me", "/habits", "/dashboard", "/teams", "/teams/" + team, "/teams/" + team + "/activity", "/me/sessions", "/habits/" + habit + "/stats", "/admin/redis", "/admin/cache", "/admin/audit", "/admin/cache/inspect?namespace=user&key=" + me["id"].(string)} {
			do(mira, 200, "GET", path, nil)
		}
	}
	do(jonas, 200, "GET", "/teams/"+team, nil)
	do(mira, 204, "POST", "/me/password", m{"current": planted["a password"], "new": planted["a new password"]})
	do(browser(t), 401, "POST", "/auth/login", m{"email": "mira@example.com", "password": planted["a wrong password"]})
	again := browser(t)
	do(again, 200, "POST", "/auth/login", m{"email": "mira@example.com", "password": planted["a new password"]})
	keep("Mira again", again)
	do(again, 200, "GET", "/me", nil)
	do(jonas, 204, "POST", "/auth/logout", nil)

	for name, hash := range passwordHashes(t, filepath.Join(data, databaseFile)) {
		planted[name+"'s password hash"] = hash
	}
	registered(t, r.Client(t))
	written := appended(t, dir)
	if !bytes.Contains(written, []byte("Planted habit")) {
		t.Error("the habit's name is not in Redis's file: this test looks at the wrong thing")
	}
	for what, secret := range planted {
		if len(secret) < 16 {
			t.Fatalf("%s is %q: too short to be looked for", what, secret)
		}
		if bytes.Contains(written, []byte(secret)) {
			t.Errorf("%s was written to Redis", what)
		}
		if strings.Contains(lap.stderr.String(), secret) || strings.Contains(lap.stdout.String(), secret) {
			t.Errorf("%s was logged", what)
		}
	}
}

// registered demands of every key that it is in the register and ends.
func registered(t *testing.T, c *redis.Client) {
	t.Helper()
	var patterns []*regexp.Regexp
	for _, f := range caching.Families() {
		patterns = append(patterns, regexp.MustCompile("^(?:"+f.Pattern+")$"))
	}
	matched := map[*regexp.Regexp]bool{}
	keys := c.Scan(t.Context(), 0, "", 100).Iterator()
scan:
	for keys.Next(t.Context()) {
		key := keys.Val()
		if ttl, err := c.PTTL(t.Context(), key).Result(); err != nil || ttl == -1 {
			t.Errorf("%s never ends (%v)", key, err)
		}
		for _, p := range patterns {
			if p.MatchString(key) {
				matched[p] = true
				continue scan
			}
		}
		t.Errorf("%s is a key of no family in services/internal/caching", key)
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	if len(matched) < 8 {
		t.Errorf("keys of %d families were seen, want 8 or more", len(matched))
	}
}

func passwordHashes(t *testing.T, file string) map[string]string {
	t.Helper()
	d, err := sql.Open("sqlite", "file:"+file+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	rows, err := d.QueryContext(t.Context(), "SELECT name, password_hash FROM users")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]string{}
	for rows.Next() {
		var name, hash string
		if err := rows.Scan(&name, &hash); err != nil {
			t.Fatal(err)
		}
		all[name] = hash
	}
	if err := rows.Err(); err != nil || len(all) != 2 {
		t.Fatalf("%d people, %v", len(all), err)
	}
	return all
}

// appended is all of Redis's append-only files.
func appended(t *testing.T, dir string) []byte {
	t.Helper()
	var all []byte
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		all = append(all, b...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
