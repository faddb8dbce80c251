package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/api"
)

func TestTheDemoIsBelievable(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		start := time.Now()
		created, err := api.Seed(t.Context(), w.db, api.SeedOptions{Now: w.clock.Now()})
		must(t, err)
		if !created {
			t.Fatal("nothing was created")
		}
		t.Logf("seeded in %v", time.Since(start))
		if n := w.count(t, "SELECT count(*) FROM outbox"); n != 0 {
			t.Errorf("%d events, want none: nobody was there to watch", n)
		}
		if n := w.count(t, "SELECT count(*) FROM habit_records WHERE day > $1", "2026-11-18"); n != 0 {
			t.Errorf("%d records in the future", n)
		}
		if n := w.count(t, "SELECT count(*) FROM habit_records WHERE recorded_at > $1", w.clock.Now().UnixMilli()); n != 0 {
			t.Errorf("%d records made later than now", n)
		}
		for _, who := range []string{"mira", "jonas", "aylin", "tomas", "lena"} {
			p := w.stranger(t)
			p.do(t, "POST", "/auth/login", object{"email": who + "@demo.crewbeat.example", "password": "crewbeat-demo"}).want(t, 200)
			teams := p.do(t, "GET", "/teams", nil).want(t, 200)
			if teams.at(t, "items.0.team.name") != "Harbor Crew" || teams.at(t, "items.0.members") != 5.0 {
				t.Errorf("%s is in %s", who, teams.body)
			}
			week := p.do(t, "GET", "/dashboard", nil).want(t, 200)
			var d struct {
				Habits []struct {
					Habit    struct{ Name, Visibility string }
					Strength float64
					Streak   struct{ Current, Best int }
				}
			}
			must(t, json.Unmarshal(week.body, &d))
			if n := len(d.Habits); n < 2 || n > 3 {
				t.Errorf("%s has %d habits", who, n)
			}
			for _, h := range d.Habits {
				t.Logf("%-6s %-26s %-8s strength %.2f streak %d best %d", who, h.Habit.Name, h.Habit.Visibility, h.Strength, h.Streak.Current, h.Streak.Best)
				if h.Strength < .25 || h.Strength > .99 || h.Streak.Best < 2 {
					t.Errorf("%s: %+v is no history of 60 days", who, h)
				}
			}
			feed := p.do(t, "GET", "/teams/"+teams.at(t, "items.0.team.id").(string)+"/activity?limit=100", nil).want(t, 200)
			items := feed.at(t, "items").([]any)
			if len(items) < 20 || len(items) > 90 {
				t.Errorf("%d lines in the feed of seven days", len(items))
			}
			for _, private := range []string{"journal", "Coffee", "quiet", "Call home", "Lights out"} {
				if strings.Contains(string(feed.body), private) {
					t.Errorf("the feed tells of a private habit: %s", private)
				}
			}
		}
	})
}

func TestSeedingAgainDoesNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	census := func() string {
		return fmt.Sprint(w.count(t, "SELECT count(*) FROM users"), w.count(t, "SELECT count(*) FROM habits"), w.count(t, "SELECT count(*) FROM habit_records"))
	}
	for i, want := range []bool{true, false, false} {
		created, err := api.Seed(t.Context(), w.db, api.SeedOptions{Now: w.clock.Now().AddDate(0, 0, i)})
		must(t, err)
		if created != want {
			t.Errorf("run %d: created = %v", i, created)
		}
	}
	if got := census(); !strings.HasPrefix(got, "5 14 ") {
		t.Errorf("users, habits, records = %s", got)
	}
}

func TestTheDemoIsTheSameEveryTime(t *testing.T) {
	digest := func() string {
		w := newWorld(t, sqlite(t))
		_, err := api.Seed(t.Context(), w.db, api.SeedOptions{Now: w.clock.Now()})
		must(t, err)
		rows, err := w.db.SQL().QueryContext(t.Context(), "SELECT habit_id || day || state || value_milli || note || recorded_at FROM habit_records ORDER BY 1")
		must(t, err)
		defer rows.Close()
		var all strings.Builder
		for rows.Next() {
			var line string
			must(t, rows.Scan(&line))
			all.WriteString(line + "\n")
		}
		must(t, rows.Err())
		return all.String()
	}
	if first, second := digest(), digest(); first != second {
		t.Error("two seeds of one day differ")
	}
}

// A failed seed leaves nothing behind.
func TestASeedIsAllOrNothing(t *testing.T) {
	w := newWorld(t, sqlite(t))
	_, err := w.db.SQL().ExecContext(t.Context(), `INSERT INTO teams (id, name, slug, tz, version, created_at, updated_at) VALUES ('t', 'Other', 'harbor-crew', 'UTC', 1, 0, 0)`)
	must(t, err)
	if _, err := api.Seed(context.WithoutCancel(t.Context()), w.db, api.SeedOptions{Now: w.clock.Now()}); err == nil {
		t.Fatal("want an error: the name of the team is taken")
	}
	if n := w.count(t, "SELECT count(*) FROM users"); n != 0 {
		t.Errorf("%d users are left", n)
	}
}
