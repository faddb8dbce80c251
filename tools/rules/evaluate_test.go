package rules_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

// spans are the minutes in which alerts fire, by name and severity: the first
// and the last.
type spans map[string][2]int

// evaluate has the manager of Prometheus go by the chart's rules, each minute
// of what was scraped.
func evaluate(t *testing.T, scraped string, minutes int) spans {
	t.Helper()
	store := promqltest.LoadedStorage(t, scraped)
	t.Cleanup(func() { _ = store.Close() })
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, chartRules(t), 0o600); err != nil {
		t.Fatal(err)
	}
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, promqltest.DefaultMaxSamplesPerQuery)
	m := rules.NewManager(&rules.ManagerOptions{
		Context: t.Context(), Appendable: store, Queryable: store, QueryFunc: rules.EngineQueryFunc(engine, store),
		NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	})
	groups, errs := m.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, file)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	seen := spans{}
	for minute := range minutes {
		for _, g := range groups {
			g.Eval(t.Context(), time.Unix(0, 0).Add(time.Duration(minute)*time.Minute))
			for _, r := range g.AlertingRules() {
				if err := r.LastError(); err != nil {
					t.Fatalf("%s: %v", r.Name(), err)
				}
				for _, a := range r.ActiveAlerts() {
					if a.State != rules.StateFiring {
						continue
					}
					if ns := a.Labels.Get("namespace"); ns != "crew" {
						t.Errorf("%s does not say whose it is: %s", r.Name(), a.Labels)
					}
					name := r.Name() + " " + a.Labels.Get("severity")
					span, ok := seen[name]
					if !ok {
						span[0] = minute
					}
					span[1] = minute
					seen[name] = span
				}
			}
		}
	}
	return seen
}

// scrape is how often Prometheus reads, unless a test says otherwise.
const scrape = 30 * time.Second

// phase is what a pod did for some minutes: commands between two scrapes, by
// how long they took and how they ended.
type phase struct {
	minutes                          int
	fast, slow, slower, failed, fine int // 1 ms, 250 ms, 2 s; failed and fine take 1 ms
}

// bounds are some of those that the program has, and what phases fill.
var bounds = []string{"0.001", "0.1", "0.25", "1", "2.5", "+Inf"}

// commands are the histogram of a pod, by what it did.
func commands(pod string, every time.Duration, phases ...phase) string {
	var all [2][]([6]int) // that went well, and that failed; cumulative
	var now [2][6]int
	note := func(p phase) {
		for i, n := range [6]int{p.fast + p.fine, 0, p.slow, 0, p.slower, 0} {
			for le := i; le < 6; le++ {
				now[0][le] += n
			}
		}
		for le := range 6 {
			now[1][le] += p.failed
		}
		all[0], all[1] = append(all[0], now[0]), append(all[1], now[1])
	}
	note(phase{})
	for _, p := range phases {
		for range int(time.Duration(p.minutes) * time.Minute / every) {
			note(p)
		}
	}
	var text strings.Builder
	for i, kind := range []string{"", `, error_type="timeout"`} {
		own := fmt.Sprintf(`namespace="crew", pod=%q, container="crewbeat", db_system_name="redis", db_operation_name="get"%s`, pod, kind)
		for le, bound := range bounds {
			fmt.Fprintf(&text, "  db_client_operation_duration_seconds_bucket{%s, le=%q} %s\n", own, bound, column(all[i], le))
		}
		fmt.Fprintf(&text, "  db_client_operation_duration_seconds_count{%s} %s\n", own, column(all[i], len(bounds)-1))
	}
	return text.String()
}

func column(rows [][6]int, i int) string {
	words := make([]string, len(rows))
	for at, row := range rows {
		words[at] = fmt.Sprint(row[i])
	}
	return strings.Join(words, " ")
}

// gauge is one that has each value for so many minutes.
func gauge(name, own string, minutes int, values ...string) string {
	words := make([]string, 0, len(values)*minutes*2)
	for _, v := range values {
		for range minutes * int(time.Minute/scrape) {
			words = append(words, v)
		}
	}
	return fmt.Sprintf("  %s{namespace=\"crew\", pod=\"api-1\"%s} %s\n", name, own, strings.Join(words, " "))
}

func memory(limit string, used ...string) string {
	return gauge("redis_memory_used_bytes", "", 10, used...) + gauge("redis_memory_limit_bytes", "", 10*len(used), limit)
}

func TestEachAlertFiresOnWhatIsBadAndOnNothingElse(t *testing.T) {
	well := phase{minutes: 10, fast: 500, failed: 2}
	long := phase{minutes: 30, fast: 500}
	const none = -1
	for _, tt := range []struct {
		name    string
		scraped string
		want    spans // the first minute and, unless none, the last
	}{
		{name: "nothing is scraped", scraped: ""},
		{name: "all is well", scraped: commands("api-1", scrape, long) + memory("1000", "500", "800", "840") + gauge("app_dependency_failures", `, dependency="redis"`, 10, "0", "2", "0")},
		{name: "nobody asks anything", scraped: commands("api-1", scrape, phase{minutes: 30})},
		{
			name: "slow for ten minutes", scraped: commands("api-1", scrape, well, phase{minutes: 10, slow: 500}, well),
			want: spans{"redis_slow warning": {13, 26}},
		},
		{
			name: "slower than a second", scraped: commands("api-1", scrape, well, phase{minutes: 10, slower: 500}, well),
			want: spans{"redis_slow warning": {13, none}, "redis_slow critical": {13, none}},
		},
		{name: "six in a hundred are slow", scraped: commands("api-1", scrape, well, phase{minutes: 10, fast: 470, slow: 30}), want: spans{"redis_slow warning": {14, none}}},
		{name: "four in a hundred are slow", scraped: commands("api-1", scrape, well, phase{minutes: 10, fast: 480, slow: 20})},
		{
			name: "one of many pods is slow", scraped: commands("api-1", scrape, long) + commands("api-2", scrape, long) + commands("api-3", scrape, well, phase{minutes: 20, slow: 50}),
			want: spans{"redis_slow warning": {13, none}},
		},
		{name: "one minute was slow", scraped: commands("api-1", scrape, well, phase{minutes: 1, slow: 500}, well)},
		{
			name: "six in a hundred fail", scraped: commands("api-1", scrape, well, phase{minutes: 10, fine: 470, failed: 30}, well),
			want: spans{"redis_errors critical": {14, 25}},
		},
		{name: "four in a hundred fail", scraped: commands("api-1", scrape, well, phase{minutes: 10, fine: 480, failed: 20})},
		{
			name: "one of many pods fails", scraped: commands("api-1", scrape, long) + commands("api-2", scrape, long) + commands("api-3", scrape, well, phase{minutes: 20, fine: 45, failed: 5}),
			want: spans{"redis_errors critical": {14, none}},
		},
		{name: "half of what a pod that hardly asks does fails", scraped: commands("api-1", scrape, phase{minutes: 30, fine: 1, failed: 1})},
		{name: "all that a pod that hardly asks does is slow", scraped: commands("api-1", scrape, phase{minutes: 30, slower: 2})},
		{
			name: "half of what a pod that asks a little does is slow and fails", scraped: commands("api-1", scrape, phase{minutes: 30, slower: 2, failed: 2}),
			want: spans{"redis_slow warning": {4, none}, "redis_slow critical": {4, none}, "redis_errors critical": {4, none}},
		},
		{name: "as a scrape each minute sees it", scraped: "load 1m\n" + commands("api-1", time.Minute, well, phase{minutes: 10, slow: 500, failed: 100}, well), want: spans{"redis_slow warning": {13, none}, "redis_errors critical": {13, none}}},
		{name: "the memory is at its first threshold", scraped: memory("1000", "850")},
		{name: "the memory is nearly full", scraped: memory("1000", "500", "900", "500"), want: spans{"redis_memory warning": {12, 24}}},
		{name: "the memory is full", scraped: memory("1000", "500", "960", "500"), want: spans{"redis_memory warning": {12, 24}, "redis_memory critical": {12, 24}}},
		{name: "the memory has no limit", scraped: memory("0", "500", "1e12")},
		{
			name: "Redis is away", scraped: gauge("app_dependency_failures", `, dependency="redis"`, 10, "0", "3", "0"),
			want: spans{"redis_away critical": {10, 24}},
		},
		{name: "something else is away", scraped: gauge("app_dependency_failures", `, dependency="postgres"`, 10, "0", "90")},
		{name: "another installation is ill", scraped: strings.ReplaceAll(
			commands("api-1", scrape, phase{minutes: 30, slower: 500, failed: 500})+memory("1000", "999")+gauge("app_dependency_failures", `, dependency="redis"`, 10, "9"),
			`namespace="crew"`, `namespace="other"`)},
		{
			name: "the pod that saw it is gone", scraped: gauge("app_dependency_failures", `, dependency="redis"`, 10, "9") + commands("api-2", scrape, long),
			want: spans{"redis_away critical": {0, 19}}, // five minutes of stale readings, five of being kept
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.scraped != "" && !strings.HasPrefix(tt.scraped, "load") {
				tt.scraped = fmt.Sprintf("load %v\n", scrape) + tt.scraped
			}
			got := evaluate(t, tt.scraped, 35)
			for name, span := range got {
				if want, ok := tt.want[name]; !ok || want[1] == none {
					got[name] = [2]int{span[0], none}
				}
			}
			if !maps.Equal(got, tt.want) {
				t.Errorf("fires in the minutes %v, want %v", got, tt.want)
			}
		})
	}
}
