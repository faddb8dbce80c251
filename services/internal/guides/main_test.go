package guides_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// shared is one server for all claims that do not harm it; each has keys of
// its own.
var shared *tieredtest.Redis

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "guides")
	if err != nil {
		slog.Error("no folder for redis", "error", err)
		return 1
	}
	defer os.RemoveAll(dir)
	if shared, err = tieredtest.LaunchRedis(dir); err != nil {
		slog.Error("no redis", "error", err)
		return 1
	}
	defer shared.Close()
	return m.Run()
}

// claim is what the code of a guide breaks. broken runs that code and says how
// it broke the claim; "" means that it held.
type claim struct {
	bug    string // as in docs/guides.md
	broken func(t *testing.T) string
}

// A test that the guides' code would pass is none of their bugs.
func TestTheGuidesCodeBreaksEachClaim(t *testing.T) {
	must(t, client(t, shared).FlushAll(t.Context()).Err()) // what another run has left
	for _, c := range claims() {
		t.Run(c.bug, func(t *testing.T) {
			t.Parallel()
			how := c.broken(t)
			if how == "" {
				t.Error("the guide's code holds this claim: the bug is not one")
			}
			t.Log(how)
		})
	}
}

func claims() []claim {
	var all []claim
	for _, some := range [][]claim{limits, sessions, queues, caches, publishing, connections, watching} {
		all = append(all, some...)
	}
	return all
}

// client waits for a busy machine: what is shown are no time-outs.
func client(t *testing.T, server *tieredtest.Redis) *redis.Client {
	t.Helper()
	o := server.Options()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = time.Minute, time.Minute, time.Minute, time.Minute
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// store is cacheService and cacheUtils: JSON with a TTL, whose failures are
// false and nothing.
type store struct{ r redis.UniversalClient }

func guide(t *testing.T) store { return store{client(t, shared)} }

func (s store) set(ctx context.Context, key string, v any, ttl time.Duration) bool {
	text, err := json.Marshal(v)
	return err == nil && s.r.Set(ctx, key, text, ttl).Err() == nil
}

func (s store) get(ctx context.Context, key string) (object, bool) {
	text, err := s.r.Get(ctx, key).Bytes()
	if err != nil {
		return nil, false
	}
	var v object
	return v, json.Unmarshal(text, &v) == nil
}

// object is any of JavaScript.
type object map[string]any

// with is { ...o, ...more }.
func (o object) with(more object) object {
	sum := object{}
	for _, one := range []object{o, more} {
		maps.Copy(sum, one)
	}
	return sum
}

var errAway = errors.New("the database is away")

// says is a claim's breach, or none.
func says(broken bool, format string, args ...any) string {
	if !broken {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
