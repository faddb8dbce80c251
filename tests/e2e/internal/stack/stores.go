package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a running PostgreSQL.
type Postgres struct {
	URL string // of its only database

	t testing.TB
}

// StartPostgres makes a database cluster in a temporary folder and runs it.
func StartPostgres(t testing.TB) *Postgres {
	t.Helper()
	bin := postgresBin(t)
	dir, err := os.MkdirTemp("", "crewbeat-pg-") //nolint:usetesting // PostgreSQL runs as another user, and t.TempDir lies in folders of this one
	if err != nil {
		t.Fatalf("make folder: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	cred := unprivileged(t, dir)
	data, port := filepath.Join(dir, "data"), FreePort(t)
	env := []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "HOME=" + dir}

	initdb := exec.CommandContext(t.Context(), filepath.Join(bin, "initdb"), "-D", data, "-U", "crewbeat", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	initdb.Env, initdb.Dir = env, dir
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("make a database cluster: %v\n%s", err, out)
	}
	p, err := launch(filepath.Join(dir, "log"), env, cred, filepath.Join(bin, "postgres"), "-D", data,
		"-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="+dir,
		"-c", "fsync=off", "-c", "max_connections=60", "-c", "shared_buffers=64MB")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// SIGINT is PostgreSQL's fast shutdown: clients are cut off.
		if err := p.signal(syscall.SIGINT, 20*time.Second); err != nil {
			t.Errorf("stop PostgreSQL: %v\n%s", err, p.tail())
		}
	})
	pg := &Postgres{t: t, URL: fmt.Sprintf("postgres://crewbeat@%s/postgres?sslmode=disable", address(port))}
	Eventually(t, 30*time.Second, "PostgreSQL answers", func(ctx context.Context) error {
		if p.ended() {
			t.Fatalf("PostgreSQL ended: %v\n%s", p.err, p.tail())
		}
		conn, err := pgx.Connect(ctx, pg.URL)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		defer func() { _ = conn.Close(ctx) }()
		return conn.Ping(ctx)
	})
	return pg
}

// postgresBin is the folder of PostgreSQL's programs, of the newest version if
// there are several.
func postgresBin(t testing.TB) string {
	t.Helper()
	return filepath.Dir(postgresProgram(t, "initdb"))
}

func postgresProgram(t testing.TB, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin/", "/usr/local/opt/postgresql*/bin/", "/opt/homebrew/opt/postgresql*/bin/"} {
		if found, _ := filepath.Glob(pattern + name); len(found) > 0 {
			return slices.Max(found)
		}
	}
	t.Fatalf("no PostgreSQL here (%s): apt-get install postgresql, or brew install postgresql", name)
	return ""
}

// unprivileged returns whom to run PostgreSQL as, which refuses to run as root,
// and gives that user the folder. Nil: as the user of this test.
func unprivileged(t testing.TB, dir string) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errU := strconv.ParseUint(u.Uid, 10, 32)
		gid, errG := strconv.ParseUint(u.Gid, 10, 32)
		if errU != nil || errG != nil {
			continue
		}
		if err := os.Chown(dir, int(uid), int(gid)); err != nil {
			t.Fatalf("give the folder to %s: %v", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	t.Fatal("PostgreSQL refuses to run as root, and there is neither a user postgres nor nobody")
	return nil
}

// Redis is a redis-server that can be killed and started again on the same
// port with the same data.
type Redis struct {
	URL  string
	Port int

	t    testing.TB
	dir  string
	args []string
	log  string
	p    *process
}

// StartRedis runs a redis-server that writes down what it acknowledges, as the
// one of compose.yaml and of the chart does. The arguments are redis-server's.
func StartRedis(t testing.TB, args ...string) *Redis {
	t.Helper()
	r := NewRedis(t)
	r.args = append(r.args, args...)
	r.Start()
	return r
}

// NewRedis is StartRedis without starting it: the port is free until then.
func NewRedis(t testing.TB) *Redis {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("no redis-server here: apt-get install redis-server, or brew install redis")
	}
	dir, port := t.TempDir(), FreePort(t)
	r := &Redis{
		URL: "redis://" + address(port) + "/0", Port: port, t: t, dir: dir, log: filepath.Join(dir, "log"),
		args: []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--dir", dir, "--appendonly", "yes", "--save", ""},
	}
	t.Cleanup(r.Kill)
	return r
}

// Start starts it; again, if it was killed.
func (r *Redis) Start() {
	r.t.Helper()
	p, err := launch(r.log, nil, nil, redisServer(), r.args...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.p = p
	Eventually(r.t, 20*time.Second, "redis-server answers", func(ctx context.Context) error {
		if p.ended() {
			r.t.Fatalf("redis-server ended: %v\n%s", p.err, p.tail())
		}
		return dialed(ctx, r.Port)
	})
}

// Kill ends it at once, as a machine that fails does.
func (r *Redis) Kill() {
	if r.p == nil {
		return
	}
	_ = r.p.signal(syscall.SIGKILL, 10*time.Second) // "signal: killed" is what is wanted
	r.p = nil
}

func redisServer() string {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return "redis-server"
	}
	return path
}

// environment is this process's, without what would steer Crewbeat.
func environment(set map[string]string) []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		for _, prefix := range []string{"REDIS_", "OTEL_", "DATABASE_", "SESSION_", "PUBLIC_", "ALLOWED_", "CREWBEAT_", "LOG_", "METRICS_"} {
			if strings.HasPrefix(name, prefix) {
				return true
			}
		}
		return false
	})
	for name, value := range set {
		env = append(env, name+"="+value)
	}
	return env
}
