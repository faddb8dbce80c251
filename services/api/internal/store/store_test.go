package store_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/store"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(pgtest.Tests{M: m}) }

// fixture is a migrated store with a clock that a test can set.
type fixture struct {
	*store.Store
	db    *db.DB
	clock atomic.Int64 // Unix milliseconds
	names atomic.Int64
}

var dawn = time.Date(2026, time.March, 2, 6, 0, 0, 0, time.UTC)

func (f *fixture) now() time.Time { return time.UnixMilli(f.clock.Load()).UTC() }

// id returns an id that no other call of this fixture returns; later ones are
// greater.
func (f *fixture) id() string { return fmt.Sprintf("id-%06d", f.names.Add(1)) }

// onBoth runs a test on SQLite and on PostgreSQL: one contract, one suite.
func onBoth(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, open(t, "sqlite:"+filepath.Join(t.TempDir(), "crewbeat.db"))) })
	t.Run("postgres", func(t *testing.T) { test(t, open(t, pgtest.Database(t))) })
}

func open(t *testing.T, url string) *fixture {
	t.Helper()
	d := openDB(t, url)
	if _, _, err := store.Migrate(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	f := &fixture{db: d}
	f.clock.Store(dawn.UnixMilli())
	f.Store = store.New(d, store.Options{Now: f.now})
	return f
}

func openDB(t *testing.T, url string) *db.DB {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func (f *fixture) user(t *testing.T, name string) account.User {
	t.Helper()
	u := account.User{
		ID: f.id(), Email: name + "@demo.crewbeat.example", Name: name, TZ: "Europe/Berlin",
		DayStartMin: 180, WeekStart: time.Monday, Locale: "de", Version: 1, CreatedAt: dawn, UpdatedAt: dawn,
	}
	if err := f.Accounts().CreateUser(t.Context(), u, "hash of "+name); err != nil {
		t.Fatal(err)
	}
	return u
}

func (f *fixture) habit(t *testing.T, owner account.User, change ...func(*habit.Habit)) habit.Habit {
	t.Helper()
	h := habit.Habit{
		ID: f.id(), UserID: owner.ID, Name: "Run", Kind: habit.YesNo, TargetType: habit.AtLeast, TargetMilli: 1000,
		Schedule: habit.Schedule{Type: habit.Daily}, Visibility: habit.Private, StartDay: day(1),
		Color: "teal", Icon: "run", Version: 1, CreatedAt: dawn, UpdatedAt: dawn,
	}
	for _, c := range change {
		c(&h)
	}
	f.inHabits(t, func(ctx context.Context, tx habit.Tx) error { return tx.CreateHabit(ctx, h) })
	return h
}

func (f *fixture) team(t *testing.T, name string, people ...account.User) team.Team {
	t.Helper()
	tm := team.Team{
		ID: f.id(), Name: name, Slug: "slug-" + f.id(), TZ: "Europe/Berlin", WeekStart: time.Monday,
		Version: 1, CreatedAt: dawn, UpdatedAt: dawn,
	}
	f.inTeams(t, func(ctx context.Context, tx team.Tx) error {
		if err := tx.CreateTeam(ctx, tm); err != nil {
			return err
		}
		role := team.Owner
		for _, u := range people {
			if added, err := tx.AddMember(ctx, tm.ID, u.ID, role, dawn); err != nil || !added {
				return fmt.Errorf("add %s: %t, %w", u.Name, added, err)
			}
			role = team.Regular
		}
		return nil
	})
	return tm
}

func (f *fixture) inHabits(t *testing.T, do func(ctx context.Context, tx habit.Tx) error) {
	t.Helper()
	if err := f.Habits().Change(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) inTeams(t *testing.T, do func(ctx context.Context, tx team.Tx) error) {
	t.Helper()
	if err := f.Teams().Change(t.Context(), do); err != nil {
		t.Fatal(err)
	}
}

// pending returns the outbox.
func (f *fixture) pending(t *testing.T) []event.Event {
	t.Helper()
	list, err := f.Outbox().Pending(t.Context(), 10_000)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// count returns how many rows a query counts.
func (f *fixture) count(t *testing.T, query string, args ...any) (n int) {
	t.Helper()
	if err := f.db.SQL().QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func day(n int) civil.Day { return civil.DayOf(2026, time.March, n) }

func record(h habit.Habit, d civil.Day) habit.Record {
	return habit.Record{
		HabitID: h.ID, Day: d, State: habit.Done, ValueMilli: 1000, Note: "it's done — 5 km?",
		RecordedAt: dawn.Add(123 * time.Millisecond), TZ: "Europe/Berlin", Source: "web",
	}
}

func wantError(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error is %v, want %v", err, want)
	}
}

var errDeliberate = errors.New("deliberate")
