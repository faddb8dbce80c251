package services_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/crewbeat/crewbeat/"

// rule says what the packages below a folder may import beyond the standard
// library. The longest folder that fits a package rules it. An entry of ours
// is written from the repository's root; "std" alone means nothing else.
type rule struct {
	folder string
	ours   []string // packages of this repository
	others []string // modules of others, as path prefixes
}

const (
	otel      = "go.opentelemetry.io/otel"
	goredis   = "github.com/redis/go-redis/v9"
	wholeTree = "*"
)

// rules is the table of the architecture: see ARCHITECTURE.md.
var rules = []rule{
	{folder: "pkg/tiered",
		others: []string{
			"github.com/dgraph-io/ristretto/v2", goredis, "github.com/sony/gobreaker/v2", "golang.org/x/sync",
			"github.com/klauspost/compress", "github.com/vmihailenco/msgpack/v5", "github.com/cespare/xxhash/v2",
			otel, "github.com/google/uuid",
		}},
	{folder: "services/internal/civil"},
	{folder: "services/internal/env"},
	{folder: "services/internal/guides"},
	{folder: "services/internal/serve"},
	{folder: "services/internal/event", others: []string{goredis, otel, "github.com/oklog/ulid/v2"}},
	{folder: "services/internal/redisconn", ours: []string{"services/internal/env"}, others: []string{goredis, otel}},
	{folder: "services/internal/session", ours: []string{"pkg/tiered", "services/internal/caching"}, others: []string{goredis, otel, "github.com/google/uuid"}},
	{folder: "services/internal/caching", ours: []string{"pkg/tiered"}},
	{folder: "services/internal/ratelimit", ours: []string{"services/internal/caching"}, others: []string{goredis, otel}},
	{folder: "services/internal/alert", ours: []string{"services/internal/env"}, others: []string{
		"github.com/getsentry/sentry-go", "github.com/wneessen/go-mail", "github.com/google/uuid", otel,
	}},
	{folder: "services/internal/db", others: []string{
		"github.com/uptrace/bun", "github.com/jackc/pgx/v5", "modernc.org/sqlite", "github.com/exaring/otelpgx",
		"github.com/XSAM/otelsql", otel,
	}},
	{folder: "services/internal/pgtest", others: []string{"github.com/jackc/pgx/v5"}},
	{folder: "services/internal/telemetry", ours: []string{"services/internal/traceview"},
		others: []string{"go.opentelemetry.io", "github.com/prometheus/client_golang"}},
	{folder: "services/internal/traceview", others: []string{"go.opentelemetry.io", "google.golang.org/protobuf"}},

	{folder: "services/api/internal/fault"},
	{folder: "services/api/internal/account", ours: []string{"pkg/tiered", "services/internal/caching", "services/internal/civil", "services/internal/event", "services/api/internal/fault"},
		others: []string{"golang.org/x/crypto", "golang.org/x/sync", "golang.org/x/text", "github.com/google/uuid", "github.com/oklog/ulid/v2", otel}},
	{folder: "services/api/internal/habit", ours: []string{"pkg/tiered", "services/internal/caching", "services/internal/civil", "services/internal/event", "services/api/internal/fault", "services/api/internal/account"},
		others: []string{"github.com/google/uuid", "github.com/oklog/ulid/v2", otel}},
	{folder: "services/api/internal/team", ours: []string{"pkg/tiered", "services/internal/caching", "services/internal/civil", "services/internal/event", "services/api/internal/fault", "services/api/internal/account", "services/api/internal/habit"},
		others: []string{"github.com/google/uuid", "github.com/oklog/ulid/v2", otel}},
	{folder: "services/api/internal/admin", ours: []string{
		"pkg/tiered", "services/internal/caching", "services/internal/redisconn", "services/internal/redisconn/diagnose", "services/internal/redisconn/monitor",
		"services/internal/redisconn/profile", "services/internal/alert", "services/api/internal/fault",
	}},
	{folder: "services/api/internal/store", ours: []string{
		"services/internal/db", "services/internal/civil", "services/internal/event",
		"services/api/internal/fault", "services/api/internal/account", "services/api/internal/admin", "services/api/internal/habit", "services/api/internal/team",
	}, others: []string{"github.com/uptrace/bun", "github.com/jackc/pgx/v5", "modernc.org/sqlite", "github.com/pressly/goose/v3", "github.com/oklog/ulid/v2", "github.com/google/uuid", otel}},
	{folder: "services/api/internal/httpapi", ours: []string{
		"services/internal/session", "services/internal/ratelimit", "services/internal/civil", "services/internal/event", "services/internal/telemetry",
		"services/internal/redisconn/diagnose",
		"services/api/internal/fault", "services/api/internal/account", "services/api/internal/admin", "services/api/internal/habit", "services/api/internal/team",
	}, others: []string{"github.com/gin-gonic/gin", "github.com/danielgtaylor/huma/v2", "github.com/oklog/ulid/v2", otel}},

	{folder: "services/realtime/internal/feed", ours: []string{"services/internal/event", "services/realtime/internal/hub"}, others: []string{otel}},
	{folder: "services/realtime/internal/hub", ours: []string{"services/internal/event"}, others: []string{otel}},
	{folder: "services/realtime/internal/socket", ours: []string{"services/internal/event", "services/internal/session", "services/internal/ratelimit", "services/realtime/internal/hub", "services/realtime/internal/presence", "services/realtime/internal/quota"},
		others: []string{"github.com/gobwas/ws", otel, "golang.org/x/sys"}},

	{folder: "services/realtime/internal/quota", ours: []string{"services/internal/caching"}, others: []string{goredis}},
	{folder: "services/realtime/internal/presence", others: []string{goredis, otel}},
	{folder: "services/realtime/internal/ticket", others: []string{goredis}},

	// The three programs put the parts together: they may use all of ours.
	{folder: "services/api", ours: []string{wholeTree}, others: []string{otel, "github.com/google/uuid", "github.com/oklog/ulid/v2"}},
	{folder: "services/realtime", ours: []string{wholeTree}, others: []string{otel, goredis}},
	{folder: "services/crewbeat", ours: []string{wholeTree}, others: []string{otel}},
	{folder: "services/crewbeat/page", others: []string{"github.com/andybalholm/brotli"}},
}

// TestImportsFollowTheRules reads every file that is compiled into the
// programs. It reads them in this process, so that the test cache notices a
// change.
func TestImportsFollowTheRules(t *testing.T) {
	root := ".."
	seen := map[string]bool{}
	for _, top := range []string{"services", "pkg/tiered"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if name := d.Name(); name == "testdata" || name == "bench" || name == "tieredtest" || name == "node_modules" {
					return fs.SkipDir
				}
				return nil
			}
			if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return nil
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			folder := filepath.ToSlash(filepath.Dir(rel))
			if folder == "services" {
				return nil // only its doc
			}
			r, ok := ruleFor(folder)
			if !ok {
				t.Errorf("%s: no rule says what this package may import; add one to services/arch_test.go", folder)
				return nil
			}
			seen[r.folder] = true
			src, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			f, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
			if err != nil {
				return err
			}
			for _, spec := range f.Imports {
				imported, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				if !r.allows(folder, imported) {
					t.Errorf("%s imports %q, which the rule for %s does not allow", rel, imported, r.folder)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range rules {
		if !seen[r.folder] {
			t.Errorf("the rule for %s rules nothing; remove it", r.folder)
		}
	}
}

func TestRulesTellAllowedFromForbidden(t *testing.T) {
	for _, tt := range []struct {
		folder, imported string
		want             bool
	}{
		{"services/internal/civil", "time", true},
		{"services/internal/civil", goredis, false},
		{"services/api/internal/habit", module + "pkg/tiered", true},
		{"services/api/internal/habit", module + "services/api/internal/store", false},
		{"services/api/internal/habit", "github.com/gin-gonic/gin", false},
		{"services/api/internal/httpapi", "github.com/uptrace/bun", false},
		{"services/realtime/internal/hub", module + "services/realtime/internal/socket", false},
		{"pkg/tiered", module + "services/internal/event", false},
		{"pkg/tiered/internal/x", module + "pkg/tiered", true},
		{"services/api", module + "services/realtime", false},
		{"services/crewbeat", module + "services/realtime", true},
	} {
		r, ok := ruleFor(tt.folder)
		if !ok {
			t.Fatalf("no rule for %s", tt.folder)
		}
		if got := r.allows(tt.folder, tt.imported); got != tt.want {
			t.Errorf("%s importing %s: allowed %v, want %v", tt.folder, tt.imported, got, tt.want)
		}
	}
}

func ruleFor(folder string) (rule, bool) {
	var best rule
	found := false
	for _, r := range rules {
		if under(folder, r.folder) && (!found || len(r.folder) > len(best.folder)) {
			best, found = r, true
		}
	}
	return best, found
}

func (r rule) allows(folder, imported string) bool {
	ours, isOurs := strings.CutPrefix(imported, module)
	switch {
	case isOurs && under(ours, r.folder) && under(folder, r.folder):
		return true // within the same part
	case isOurs && slices.Contains(r.ours, wholeTree):
		// The two services are put together by the program alone.
		return under(folder, "services/crewbeat") || !crosses(folder, ours)
	case isOurs:
		return slices.ContainsFunc(r.ours, func(p string) bool { return under(ours, p) })
	case !strings.Contains(strings.SplitN(imported, "/", 2)[0], "."):
		return true // the standard library
	}
	return slices.ContainsFunc(r.others, func(p string) bool { return under(imported, p) })
}

// crosses reports an import from one service into the other, or into the program.
func crosses(folder, imported string) bool {
	parts := []string{"services/api", "services/realtime", "services/crewbeat"}
	for _, p := range parts {
		if under(imported, p) && !under(folder, p) {
			return true
		}
	}
	return false
}

func under(path, folder string) bool {
	return path == folder || strings.HasPrefix(path, folder+"/")
}
