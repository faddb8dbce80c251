package stack

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// StartLaptop starts all of Crewbeat in one process, with its data in a
// folder, and waits until it serves. Stop ends it; so does the end of the test.
func StartLaptop(t testing.TB, data string, args ...string) *Crewbeat {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	addr := address(FreePort(t))
	c := &Crewbeat{t: t, Addr: addr, URL: "http://" + addr}
	args = append([]string{"serve", "--addr", addr, "--data", data}, args...)
	if c.p, err = launch(filepath.Join(t.TempDir(), "serve.log"), environment(nil), nil, path, args...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	Eventually(t, 30*time.Second, "crewbeat serves", func(ctx context.Context) error {
		if c.p.ended() {
			t.Fatalf("crewbeat ended: %v\n%s", c.p.err, c.p.tail())
		}
		status, body, err := c.Get(ctx, "/readyz")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("/readyz answers %d: %s", status, body)
		}
		return err
	})
	return c
}

// Stop ends the program as an operator would, and waits until it has ended.
func (c *Crewbeat) Stop() {
	c.t.Helper()
	if err := c.p.signal(syscall.SIGTERM, 40*time.Second); err != nil {
		c.t.Errorf("stop crewbeat: %v\n%s", err, c.p.tail())
	}
}

// Resident returns the memory that the program occupies, in bytes (VmRSS of
// proc(5), so on Linux only).
func (c *Crewbeat) Resident() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("read the status of the process: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("read VmRSS: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("there is no VmRSS in %q", b)
}
