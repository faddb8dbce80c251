package main

import (
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/env"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// watched is a Redis behind a proxy, and the alerts that fire about it, after
// minutes that pass at once.
type watched struct {
	conn *redisconn.Conn
	way  *tieredtest.Proxy
	now  time.Time
	e    *alert.Engine
}

func watch(t *testing.T, vars map[string]string) *watched {
	t.Helper()
	w := &watched{way: tieredtest.StartProxy(t, tieredtest.StartRedis(t).Addr()), now: time.Now()}
	vars["REDIS_URL"] = "redis://" + w.way.Addr()
	r := env.New(func(name string) string { return vars[name] })
	var err error
	if w.conn, err = redisconn.Open(t.Context(), redisconn.FromEnv(r), redisconn.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close() })
	d, err := db.Open(t.Context(), db.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "c.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if _, _, err := api.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	signals := map[string]alert.Signal{}
	for name, measure := range w.conn.Signals() {
		signals[name] = measure
	}
	if w.e, err = alert.New(alert.Config{DB: d.SQL(), Signals: signals, Now: func() time.Time { return w.now }}); err != nil {
		t.Fatal(err)
	}
	return w
}

// firing is what fires after three minutes, as name and severity.
func (w *watched) firing(t *testing.T) []string {
	t.Helper()
	for range 4 {
		if err := w.e.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(alert.Interval)
	}
	list, err := w.e.List(t.Context(), 100)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, a := range list {
		if a.Runbook != alert.Runbook(a.Name) || a.Runbook == "" {
			t.Errorf("%s: see %q", a.Name, a.Runbook)
		}
		names = append(names, a.Name+" "+string(a.Severity))
	}
	slices.Sort(names)
	return names
}

// ask has so many commands answered, all at once. Errors are as good.
func (w *watched) ask(t *testing.T, n int) {
	t.Helper()
	var all sync.WaitGroup
	for range n {
		all.Go(func() { _ = w.conn.Client().Get(t.Context(), "k").Err() })
	}
	all.Wait()
}

func TestASlowRedisIsAnAlert(t *testing.T) {
	for _, tt := range []struct {
		name string
		vars map[string]string
		each time.Duration // way
		want []string
	}{
		{"fast enough", map[string]string{"REDIS_COMMAND_TIMEOUT": "5s"}, 0, nil},
		{"slow within the default time-out", map[string]string{}, 60 * time.Millisecond, []string{"redis_slow warning"}},
		{
			"slower than a second, where that is allowed", map[string]string{"REDIS_COMMAND_TIMEOUT": "20s", "REDIS_CONNECT_TIMEOUT": "20s"},
			600 * time.Millisecond, []string{"redis_slow critical", "redis_slow warning"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.vars["REDIS_POOL_TIMEOUT"] = "20s"
			w := watch(t, tt.vars)
			w.ask(t, 1)
			w.way.Slow(tt.each, 0)
			for range 3 {
				w.ask(t, 20)
			}
			// Of the rest, a busy machine may add what it likes.
			got := slices.DeleteFunc(w.firing(t), func(s string) bool { return !strings.HasPrefix(s, "redis_slow") })
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v fire, want %v; the signal: %v", got, tt.want, func() any { v, _ := w.conn.Signals()["redis_command_p95_ms"](); return v }())
			}
		})
	}
}

// TestPrometheusIsGivenWhatTheRulesAskFor looks at the metrics of a program
// that has been used, and whose Redis takes nothing any more: without an error
// nobody sees how errors are labelled.
func TestPrometheusIsGivenWhatTheRulesAskFor(t *testing.T) {
	redis := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "64mb"))
	site := start(t, map[string]string{"REDIS_URL": redis.URL()}, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--demo=false")
	if err := redis.Client(t).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	rules, err := alert.Rules()
	if err != nil {
		t.Fatal(err)
	}
	missing := map[string]bool{}
	name := regexp.MustCompile(`[a-z_]+\{[^}]*\}`)
	label := regexp.MustCompile(`([a-z_]+)(=|!=|=~|!~)"`)
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		clear(missing)
		fetch(t, site.url+"/api/v1/habits") // is counted against a limit
		lines := fetch(t, site.url+"/metrics")
		for _, r := range rules {
			selectors := name.FindAllString(strings.ReplaceAll(r.PromQL, "$selector", ""), -1)
			if len(selectors) == 0 {
				t.Errorf("%s asks for nothing: %s", r.Name, r.PromQL)
			}
			for _, s := range selectors {
				metric, matchers, _ := strings.Cut(s, "{")
				found := slices.ContainsFunc(lines, func(line string) bool {
					if !strings.HasPrefix(line, metric+"{") && !strings.HasPrefix(line, metric+" ") {
						return false
					}
					for _, l := range label.FindAllStringSubmatch(matchers, -1) {
						if l[2] == "=" && !strings.Contains(line, l[0]) || !strings.Contains(line, l[1]+`="`) {
							return false
						}
					}
					return true
				})
				if !found {
					missing[s] = true
				}
			}
		}
		if len(missing) == 0 {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("there is no such metric: %v", slices.Collect(maps.Keys(missing)))
		}
	}
}

// fetch returns the lines of an answer.
func fetch(t *testing.T, url string) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := browser(t).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(string(b), "\n")
}
