package alert_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pressly/goose/v3"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Tests{M: m}) }

// onBoth runs a test with SQLite and with PostgreSQL.
func onBoth(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newWorld(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))) })
	t.Run("postgres", func(t *testing.T) { test(t, newWorld(t, pgtest.Database(t))) })
}

// world is a database, a clock that the test moves, and what is measured.
type world struct {
	db    *sql.DB
	now   atomic.Int64 // ms
	value map[string]*reading
	rules []alert.Rule
}

type reading struct{ bits atomic.Int64 } // thousandths; below 0: none

func (r *reading) set(v float64) { r.bits.Store(int64(v * 1000)) }

func newWorld(t *testing.T, url string) *world {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	dialect, folder := goose.DialectPostgres, "postgres"
	if d.Dialect() == db.SQLite {
		dialect, folder = goose.DialectSQLite3, "sqlite"
	}
	p, err := goose.NewProvider(dialect, d.SQL(), os.DirFS("../../api/internal/store/migrations/"+folder))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	rules, err := alert.Rules()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{db: d.SQL(), value: map[string]*reading{}, rules: rules}
	for _, r := range rules {
		w.value[r.Signal] = &reading{}
	}
	w.now.Store(time.Date(2026, time.March, 2, 6, 0, 0, 0, time.UTC).UnixMilli())
	return w
}

func (w *world) clock() time.Time        { return time.UnixMilli(w.now.Load()) }
func (w *world) wait(d time.Duration)    { w.now.Add(d.Milliseconds()) }
func (w *world) set(s string, v float64) { w.value[s].set(v) }
func (w *world) signals() map[string]alert.Signal {
	all := map[string]alert.Signal{}
	for name, r := range w.value {
		all[name] = func() (float64, bool) {
			v := float64(r.bits.Load()) / 1000
			return v, v >= 0
		}
	}
	return all
}

// node is one of the replicas.
func (w *world) node(t *testing.T, name string, sinks ...alert.Sink) *alert.Engine {
	t.Helper()
	e, err := alert.New(alert.Config{DB: w.db, Node: name, Signals: w.signals(), Sinks: sinks, Now: w.clock, Site: "https://crew.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// pass lets minutes pass, in each of which the node measures and sends.
func (w *world) pass(t *testing.T, e *alert.Engine, minutes int) {
	t.Helper()
	for range minutes {
		w.wait(alert.Interval)
		step(t, e)
	}
}

func step(t *testing.T, e *alert.Engine) {
	t.Helper()
	if err := errors.Join(e.Measure(t.Context()), e.Send(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// ear is a sink that remembers.
type ear struct {
	name string
	mu   sync.Mutex
	told []string
	ids  []string
	fail error
	hang bool // until the context ends
}

func (s *ear) Name() string { return s.name }

func (s *ear) Send(ctx context.Context, n alert.Notice) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ids = append(s.ids, n.ID)
	if s.hang {
		<-ctx.Done()
		return ctx.Err()
	}
	if s.fail != nil {
		return s.fail
	}
	s.told = append(s.told, fmt.Sprintf("%s %s %s", n.Kind, n.Alert.Name, n.Alert.Severity))
	return nil
}

func (s *ear) expect(t *testing.T, want ...string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Equal(s.told, want) {
		t.Errorf("%s was told %q, want %q", s.name, s.told, want)
	}
}

func TestAnAlertFiresWhenItLastsAndEndsWhenItIsLongOver(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear"}
		e := w.node(t, "a", s)
		w.pass(t, e, 30) // a good past must not matter, nor a bad one
		w.set("redis_memory_ratio", 0.85)
		w.pass(t, e, 10)
		s.expect(t) // the threshold itself is not beyond it
		w.set("redis_memory_ratio", 0.9)
		w.pass(t, e, 2)
		s.expect(t) // for a minute only
		w.pass(t, e, 1)
		s.expect(t, "firing redis_memory warning")
		w.pass(t, e, 30)
		s.expect(t, "firing redis_memory warning") // once
		w.set("redis_memory_ratio", 0.5)
		w.pass(t, e, 4)
		s.expect(t, "firing redis_memory warning")
		w.pass(t, e, 1)
		s.expect(t, "firing redis_memory warning", "resolved redis_memory warning")
		list, err := e.List(t.Context(), 10)
		if err != nil || len(list) != 1 || list[0].ResolvedAt == nil || list[0].Value != 0.9 || list[0].Subject != "a" ||
			list[0].Summary != "Redis's memory is nearly full: 90.0 % (threshold 85.0 %)" {
			t.Errorf("the history is %+v, %v", list, err)
		}
	})
}

func TestAShortBadTimeIsNoAlert(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear"}
		e := w.node(t, "a", s)
		for range 10 { // every other minute, so never for two
			w.set("redis_command_p95_ms", 5000)
			w.pass(t, e, 1)
			w.set("redis_command_p95_ms", 10)
			w.pass(t, e, 1)
		}
		// Bad before a silence and after it is not bad all the while.
		w.set("redis_command_p95_ms", 5000)
		w.pass(t, e, 1)
		w.wait(time.Hour)
		step(t, e)
		s.expect(t)
	})
}

// In the guide one cooldown was for all: a warning muted what was critical.
func TestAWarningDoesNotMuteACriticalAlert(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear"}
		e := w.node(t, "a", s)
		w.set("redis_memory_ratio", 0.9)
		w.pass(t, e, 3)
		w.set("redis_memory_ratio", 0.99)
		w.set("redis_consecutive_failures", 3)
		w.pass(t, e, 1)
		s.expect(t, "firing redis_memory warning", "firing redis_away critical")
		w.pass(t, e, 2)
		s.expect(t, "firing redis_memory warning", "firing redis_away critical", "firing redis_memory critical")
	})
}

func TestWhatComesAndGoesIsToldOncePerCooldown(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear"}
		e := w.node(t, "a", s)
		w.set("redis_consecutive_failures", 3)
		w.pass(t, e, 1)
		if _, err := w.db.ExecContext(t.Context(), "UPDATE alerts SET resolved_at = $1", w.now.Load()); err != nil {
			t.Fatal(err) // ended at once, as with a shorter KeepFiring
		}
		w.pass(t, e, 4)
		s.expect(t, "firing redis_away critical")
		w.pass(t, e, 1)
		s.expect(t, "firing redis_away critical", "firing redis_away critical")
	})
}

func TestOfManyNodesOneTells(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear"}
		nodes := make([]*alert.Engine, 6)
		for i := range nodes {
			nodes[i] = w.node(t, fmt.Sprint("node", i), s)
		}
		all := func() {
			t.Helper()
			var wg sync.WaitGroup
			for _, e := range nodes {
				wg.Go(func() {
					if err := errors.Join(e.Measure(t.Context()), e.Send(t.Context())); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		}
		w.set("redis_consecutive_failures", 4)
		for range 4 {
			w.wait(alert.Interval)
			all()
		}
		s.expect(t, "firing redis_away critical")
		w.set("redis_consecutive_failures", 0)
		for range 7 {
			w.wait(alert.Interval)
			all()
		}
		s.expect(t, "firing redis_away critical", "resolved redis_away critical")
	})
}

// One node that is ill suffices, and one that is gone does not hold on.
func TestOneSickNodeIsAnAlertUntilItIsWellOrGone(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear"}
		well := w.node(t, "well", s)
		w.set("redis_consecutive_failures", 3)
		w.pass(t, w.node(t, "sick", s), 1)
		w.set("redis_consecutive_failures", 0)
		w.pass(t, well, 2)
		s.expect(t, "firing redis_away critical")
		w.pass(t, well, 8)
		s.expect(t, "firing redis_away critical", "resolved redis_away critical")
	})
}

func TestASinkThatFailsIsAnAlertToTheOthers(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		good, bad := &ear{name: "good"}, &ear{name: "bad", fail: errors.New("no route")}
		e := w.node(t, "a", good, bad)
		w.set("redis_consecutive_failures", 3)
		w.pass(t, e, 2)
		good.expect(t, "firing redis_away critical")
		w.pass(t, e, 3)
		good.expect(t, "firing redis_away critical", "firing alert_sink_bad warning")
		tries := len(bad.ids)
		for range 30 {
			w.wait(time.Second)
			step(t, e)
		}
		if n := len(bad.ids); n > tries+3 {
			t.Errorf("tried %d times within 30 s, want ever longer pauses", n-tries)
		}
		bad.fail = nil
		w.pass(t, e, 20)
		bad.expect(t, "firing redis_away critical")
		if slices.Compact(slices.Clone(bad.ids))[0] != bad.ids[len(bad.ids)-1] {
			t.Error("a notice that is sent again has another id")
		}
		good.expect(t, "firing redis_away critical", "firing alert_sink_bad warning", "resolved alert_sink_bad warning")
	})
}

func TestWhatANodeDiedSendingAnotherSends(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		s := &ear{name: "ear", hang: true}
		dying := w.node(t, "dying", s)
		w.set("redis_consecutive_failures", 3)
		if err := dying.Measure(t.Context()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := dying.Send(ctx); err != nil {
			t.Fatal(err)
		}
		s.hang = false
		heir := w.node(t, "heir", s)
		w.wait(30 * time.Second)
		step(t, heir)
		s.expect(t) // it may be under way still
		w.wait(31 * time.Second)
		step(t, heir)
		s.expect(t, "firing redis_away critical")
		if len(s.ids) != 2 || s.ids[0] != s.ids[1] {
			t.Errorf("the ids are %v, want the same twice", s.ids)
		}
	})
}

func TestAnAlertIsAcknowledgedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		e := w.node(t, "a", &ear{name: "ear"})
		w.set("redis_consecutive_failures", 3)
		w.pass(t, e, 1)
		list, err := e.List(t.Context(), 10)
		if err != nil || len(list) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
		for i, want := range []bool{true, false} {
			if ok, err := e.Acknowledge(t.Context(), list[0].ID, "mira"); ok != want || err != nil {
				t.Errorf("try %d: %v, %v, want %v", i+1, ok, err, want)
			}
		}
		if list, _ = e.List(t.Context(), 10); list[0].AckedBy != "mira" || list[0].AckedAt == nil {
			t.Errorf("%+v, want it acknowledged by Mira", list[0])
		}
	})
}

func TestTheRulesAreTheGuides(t *testing.T) {
	rules, err := alert.Rules()
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{
		"redis_slow warning": 100, "redis_slow critical": 1000, "redis_errors critical": 0.05, "redis_memory warning": 0.85, "redis_memory critical": 0.95, "redis_away critical": 3,
	}
	for _, r := range rules {
		id := r.Name + " " + string(r.Severity)
		if want[id] != r.Threshold {
			t.Errorf("%s is %v, want %v", id, r.Threshold, want[id])
		}
		delete(want, id)
	}
	if len(want) > 0 {
		t.Errorf("there is no rule for %v", want)
	}
	if alert.Interval != time.Minute || alert.KeepFiring != 5*time.Minute || alert.Cooldown != 5*time.Minute {
		t.Errorf("read every %v, kept for %v, told every %v", alert.Interval, alert.KeepFiring, alert.Cooldown)
	}
}

// The page is as GitHub shows it: a heading's anchor is its text.
func TestTheManualSaysWhatToDoAboutEveryAlert(t *testing.T) {
	rules, err := alert.Rules()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"alert_sink_slack"}
	for _, r := range rules {
		names = append(names, r.Name)
	}
	for _, name := range names {
		link := alert.Runbook(name)
		file, anchor, _ := strings.Cut(strings.TrimPrefix(link, "https://github.com/crewbeat/crewbeat/blob/main/"), "#")
		page, err := os.ReadFile(filepath.Join("../../..", file))
		if err != nil || anchor == "" {
			t.Errorf("%s: %v", link, err)
			continue
		}
		if _, says, found := strings.Cut(string(page), "\n### "+anchor+"\n"); !found || len(strings.TrimSpace(strings.SplitN(says, "\n#", 2)[0])) < 200 {
			t.Errorf("%s: the page says nothing of it under such a heading", link)
		}
	}
}

func TestBadRulesAndSinksAreRefused(t *testing.T) {
	good := alert.Rule{Name: "a", Severity: alert.Warning, Signal: "s", Comparison: alert.Above}
	with := func(change func(*alert.Rule)) []alert.Rule {
		r := good
		change(&r)
		return []alert.Rule{r}
	}
	for name, tt := range map[string]struct {
		rules []alert.Rule
		sinks []alert.Sink
		want  string
	}{
		"name":       {rules: with(func(r *alert.Rule) { r.Name = "A b" }), want: "lower-case"},
		"severity":   {rules: with(func(r *alert.Rule) { r.Severity = "bad" }), want: "warning or critical"},
		"comparison": {rules: with(func(r *alert.Rule) { r.Comparison = "<" }), want: "above or at_least"},
		"time":       {rules: with(func(r *alert.Rule) { r.ForSeconds = -1 }), want: "0 or more"},
		"twice":      {rules: []alert.Rule{good, good}, want: "two of severity"},
		"sinks":      {rules: []alert.Rule{good}, sinks: []alert.Sink{&ear{name: "x"}, &ear{name: "x"}}, want: "a name of its own"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := alert.New(alert.Config{DB: &sql.DB{}, Rules: tt.rules, Sinks: tt.sinks})
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want it to say %q", err, tt.want)
			}
		})
	}
}
