package process_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// The user that docs/operations.md tells operators to make suffices, and can do
// no more harm than it says.
func TestTheRedisUserOfTheRunbookSuffices(t *testing.T) {
	line := runbookLine(t, "user crewbeat on >PASSWORD ")
	acl := filepath.Join(t.TempDir(), "users.acl")
	if err := os.WriteFile(acl, []byte("user default on nopass ~* &* +@all\n"+strings.Replace(line, ">PASSWORD", ">open-sesame", 1)+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t, "--aclfile", acl)
	_, _, site := pair(t, stack.Settings(pg, map[string]string{
		"REDIS_URL": redis.URL, "REDIS_USERNAME": "crewbeat", "REDIS_PASSWORD": "open-sesame", "REDIS_REQUIRED": "true",
	}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := crew.Story(ctx, site, "acl", t.Logf); err != nil {
		t.Fatal(err)
	}
	if log := redis.CLI("ACL", "LOG"); log != "" {
		t.Errorf("redis has denied something:\n%s", log)
	}

	for _, command := range []string{"FLUSHALL", "KEYS *", "CONFIG GET requirepass", "GET somebody-elses", "PUBLISH others x", "SHUTDOWN", "ACL LIST"} {
		args := append([]string{"--user", "crewbeat", "--pass", "open-sesame", "--no-auth-warning"}, strings.Fields(command)...)
		if said := redis.CLI(args...); !strings.HasPrefix(said, "NOPERM") {
			t.Errorf("%s: %q, want it refused", command, said)
		}
	}
}

// runbookLine is the line of docs/operations.md that begins like this.
func runbookLine(t *testing.T, prefix string) string {
	t.Helper()
	b, err := os.ReadFile("../../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if strings.HasPrefix(line, prefix) {
			return strings.TrimSpace(line)
		}
	}
	t.Fatalf("docs/operations.md has no line that begins with %q", prefix)
	return ""
}
