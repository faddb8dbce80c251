package stack

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary builds Crewbeat once for all tests of a package.
var binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("CREWBEAT_BIN"); path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.MkdirTemp("", "crewbeat-bin-")
	if err != nil {
		return "", fmt.Errorf("make folder: %w", err)
	}
	path := filepath.Join(dir, "crewbeat")
	build := exec.Command("go", "build", "-o", path, "./crewbeat")
	build.Dir = "../../../services" // of the tests' folder
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build crewbeat: %w\n%s", err, out)
	}
	return path, nil
})

// Crewbeat is one running process of it.
type Crewbeat struct {
	URL  string
	Addr string

	t      testing.TB
	p      *process
	killed bool
}

// Settings are the variables that both services need.
func Settings(pg *Postgres, more map[string]string) map[string]string {
	set := map[string]string{
		"DATABASE_URL":   pg.URL,
		"SESSION_SECRET": "e2e-only-0123456789abcdef0123456789abcdef",
		"CREWBEAT_ENV":   "development", // plain http: cookies without Secure
		"LOG_LEVEL":      "info",
		"DRAIN_DELAY":    "100ms",
		// Probes at this pace keep the tests short.
		"REDIS_HEALTH_CHECK_INTERVAL": "250",
	}
	maps.Copy(set, more)
	return set
}

// Run runs a command of Crewbeat to its end and returns what it wrote and how
// it ended.
func Run(t testing.TB, within time.Duration, set map[string]string, args ...string) (string, error) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = environment(set)
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("crewbeat %v has not ended within %v:\n%s", args, within, out)
	}
	return string(out), err
}

// Migrate brings the database to the schema of this binary.
func Migrate(t testing.TB, set map[string]string) {
	t.Helper()
	if out, err := Run(t, time.Minute, set, "migrate"); err != nil {
		t.Fatalf("crewbeat migrate: %v\n%s", err, out)
	}
}

// Start runs a service and waits until it is ready. It is stopped with SIGTERM
// at the end of the test and has to end well.
func Start(t testing.TB, service string, set map[string]string) *Crewbeat {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	port := FreePort(t)
	c := &Crewbeat{t: t, Addr: address(port), URL: "http://" + address(port)}
	own := maps.Clone(set)
	own["METRICS_ADDR"] = address(FreePort(t))
	if own["PUBLIC_URL"] == "" {
		own["PUBLIC_URL"] = c.URL
	}
	c.p, err = launch(filepath.Join(t.TempDir(), service+".log"), environment(own), nil, path, service, "--addr", c.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.p.signal(syscall.SIGTERM, 40*time.Second); err != nil && !c.killed {
			t.Errorf("stop crewbeat %s: %v", service, err)
		}
		if t.Failed() {
			t.Logf("crewbeat %s wrote at last:\n%s", service, c.p.tail())
		}
	})
	Eventually(t, 30*time.Second, "crewbeat "+service+" is ready", func(ctx context.Context) error {
		if c.p.ended() {
			t.Fatalf("crewbeat %s ended: %v\n%s", service, c.p.err, c.p.tail())
		}
		status, body, err := c.Get(ctx, "/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/readyz answers %d: %s", status, body)
		}
		return err
	})
	return c
}

// Log is the end of what the process has written.
func (c *Crewbeat) Log() string { return c.p.tail() }

// Terminate sends SIGTERM and returns how the process ended: nil means with 0.
func (c *Crewbeat) Terminate(within time.Duration) error { return c.p.signal(syscall.SIGTERM, within) }

// Kill ends the process with SIGKILL: it has no time to say good-bye.
func (c *Crewbeat) Kill() {
	c.t.Helper()
	c.killed = true
	_ = c.p.signal(syscall.SIGKILL, 20*time.Second) // it ends badly
	if !c.p.ended() {
		c.t.Fatal("crewbeat has survived a SIGKILL")
	}
}

// Ended reports whether the process is gone.
func (c *Crewbeat) Ended() bool { return c.p.ended() }

// Get asks a path and returns the status and the body.
func (c *Crewbeat) Get(ctx context.Context, path string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.URL+path, nil)
	if err != nil {
		return 0, "", fmt.Errorf("make request: %w", err)
	}
	client := http.Client{Timeout: 5 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, "", fmt.Errorf("ask %s: %w", path, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, "", fmt.Errorf("read %s: %w", path, err)
	}
	return res.StatusCode, string(body), nil
}

// Readiness is the answer of /readyz.
type Readiness struct {
	HTTP   int    `json:"-"`
	Status string // ok, degraded, unavailable, draining
	Checks map[string]struct {
		Status   string
		Failures int // failed checks in a row
	}
}

// Ready asks /readyz.
func (c *Crewbeat) Ready(ctx context.Context) (Readiness, error) {
	status, body, err := c.Get(ctx, "/readyz")
	if err != nil {
		return Readiness{}, err
	}
	r := Readiness{HTTP: status}
	if err := json.Unmarshal([]byte(body), &r); err != nil {
		return Readiness{}, fmt.Errorf("decode /readyz %q: %w", body, err)
	}
	return r, nil
}
