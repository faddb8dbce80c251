package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// 200 requests at once with one operation id are one change: one record, one
// event for the owner, one line in the team's feed.
func TestTheSameOperationSent200TimesAtOnceHappensOnce(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.join(t, "Mira", "Europe/Berlin")
		p.crew(t, nil)
		habit := p.habit(t, object{"visibility": "team"})
		body := object{"client_op_id": "the-one-operation"}

		var mu sync.Mutex
		var first int
		var all sync.WaitGroup
		for range 200 {
			all.Go(func() {
				r, err := p.try(t.Context(), "PUT", "/habits/"+habit+"/records/2026-11-18", body)
				if err != nil || r.status != http.StatusOK {
					t.Errorf("tick: %v, %d %s", err, r.status, r.body)
					return
				}
				var got struct {
					Record    struct{ Day, State string }
					Streak    struct{ Current int }
					Duplicate bool
				}
				if err := json.Unmarshal(r.body, &got); err != nil {
					t.Error(err)
				}
				if got.Record.Day != "2026-11-18" || got.Record.State != "done" || got.Streak.Current != 1 {
					t.Errorf("answer = %s", r.body)
				}
				if !got.Duplicate {
					mu.Lock()
					first++
					mu.Unlock()
				}
			})
		}
		all.Wait()
		if first != 1 {
			t.Errorf("%d requests were told that they were the first, want 1", first)
		}
		if n := w.count(t, "SELECT count(*) FROM habit_records"); n != 1 {
			t.Errorf("%d records, want 1", n)
		}
		for _, name := range []string{"habit_completed", "member_habit_completed"} {
			if n := w.emitted(t, name); n != 1 {
				t.Errorf("%d events %s, want 1", n, name)
			}
		}
		if n := w.emitted(t, "habit_record_changed"); n != 0 {
			t.Errorf("%d events habit_record_changed, want none", n)
		}
		if n := w.count(t, "SELECT count(*) FROM activity"); n != 1 {
			t.Errorf("%d lines in the feed, want 1", n)
		}

		// Setting a record twice is harmless by itself; adding to it is not.
		cups := p.habit(t, object{"kind": "count", "target_milli": 8000, "unit": "cups"})
		for range 200 {
			all.Go(func() {
				r, err := p.try(t.Context(), "PATCH", "/habits/"+cups+"/records/2026-11-18", object{"delta_milli": 1000, "client_op_id": "the-other-operation"})
				if err != nil || r.status != http.StatusOK {
					t.Errorf("add: %v, %d %s", err, r.status, r.body)
				}
			})
		}
		all.Wait()
		if n := w.count(t, "SELECT value_milli FROM habit_records WHERE habit_id = $1", cups); n != 1000 {
			t.Errorf("the sum of one addition sent 200 times = %d, want 1000", n)
		}
		if n := w.emitted(t, "habit_record_changed"); n != 1 {
			t.Errorf("%d events of one addition, want 1", n)
		}
	})
}

func TestFiftyDifferentOperationsAllHappen(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.join(t, "Mira", "Europe/Berlin")
		habit := p.habit(t, object{"kind": "count", "target_milli": 25000, "unit": "cups"})
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				r, err := p.try(t.Context(), "PATCH", "/habits/"+habit+"/records/2026-11-18", object{"delta_milli": 1000, "client_op_id": op()})
				if err != nil || r.status != http.StatusOK {
					t.Errorf("add: %v, %d %s", err, r.status, r.body)
				}
			})
		}
		all.Wait()
		if n := w.count(t, "SELECT value_milli FROM habit_records"); n != 50000 {
			t.Errorf("sum = %d, want 50000", n)
		}
		// One of them reached the target; the others changed the record.
		if done, changed := w.emitted(t, "habit_completed"), w.emitted(t, "habit_record_changed"); done != 1 || changed != 49 {
			t.Errorf("%d completed and %d changed, want 1 and 49", done, changed)
		}
	})
}

func TestTicksOfAnOfflinePhoneMayComeTwiceAndOutOfOrder(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	habit := p.habit(t, object{"kind": "count", "target_milli": 3000, "unit": "cups", "start_day": "2026-11-10"})
	type change struct{ day, op string }
	queue := []change{{"2026-11-15", "offline-a"}, {"2026-11-16", "offline-b"}, {"2026-11-15", "offline-c"}, {"2026-11-17", "offline-d"}}
	send := func(c change, duplicate bool) {
		t.Helper()
		r := p.do(t, "PATCH", "/habits/"+habit+"/records/"+c.day, object{"delta_milli": 3000, "client_op_id": c.op}).want(t, 200)
		if got := r.at(t, "duplicate"); got != duplicate {
			t.Errorf("%s: duplicate = %v, want %v", c.op, got, duplicate)
		}
	}
	for _, i := range []int{3, 1, 0, 2} {
		send(queue[i], false)
	}
	for _, i := range []int{0, 1, 2, 3, 3, 0} {
		send(queue[i], true)
	}
	r := p.do(t, "GET", "/habits/"+habit+"/records?from=2026-11-01&to=2026-12-01", nil).want(t, 200)
	if got, want := fmt.Sprint(r.at(t, "items.0.value_milli"), r.at(t, "items.1.value_milli"), r.at(t, "items.2.value_milli")), "6000 3000 3000"; got != want {
		t.Errorf("amounts = %s, want %s", got, want)
	}
	if got := p.do(t, "GET", "/habits/"+habit+"/stats", nil).want(t, 200).at(t, "streak.current"); got != 3.0 {
		t.Errorf("streak = %v, want 3", got)
	}
}

func TestATransitionIsToldOnceAndOnlyAsWhatItIs(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	habit := p.habit(t, object{"kind": "count", "target_milli": 10000, "unit": "pages"})
	path := "/habits/" + habit + "/records/2026-11-18"
	for _, step := range []struct {
		what, method    string
		body            object
		completed, rest int // events so far
	}{
		{"half of it", "PUT", object{"value_milli": 5000}, 0, 1},
		{"the other half", "PATCH", object{"delta_milli": 5000}, 1, 1},
		{"more than asked", "PATCH", object{"delta_milli": 5000}, 1, 2},
		{"the same again", "PUT", object{"value_milli": 15000}, 1, 2},
		{"a note to it", "PUT", object{"value_milli": 15000, "note": "a good one"}, 1, 3},
		{"less than asked", "PATCH", object{"delta_milli": -9000}, 1, 4},
		{"down to zero and no further", "PATCH", object{"delta_milli": -99000}, 1, 5},
		{"all of it", "PUT", object{}, 2, 5},
		{"skipped", "PUT", object{"state": "skip"}, 2, 6},
	} {
		step.body["client_op_id"] = op()
		p.do(t, step.method, path, step.body).want(t, 200)
		if done, rest := w.emitted(t, "habit_completed"), w.emitted(t, "habit_record_changed"); done != step.completed || rest != step.rest {
			t.Errorf("after %s: %d completed and %d changed, want %d and %d", step.what, done, rest, step.completed, step.rest)
		}
	}
}

func TestUndoRetractsEverywhere(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	team := p.crew(t, nil)
	habit := p.habit(t, object{"visibility": "team"})
	r := p.tick(t, habit, "2026-11-18")
	if r.at(t, "streak.current") != 1.0 || r.at(t, "done") != true || r.at(t, "due") != true {
		t.Errorf("tick answered %s", r.body)
	}
	feed := p.do(t, "GET", "/teams/"+team+"/activity", nil).want(t, 200)
	if got := feed.at(t, "items.0.habit_name"); got != "Run" {
		t.Fatalf("feed = %s", feed.body)
	}
	activity := feed.at(t, "items.0.id")

	r = p.do(t, "DELETE", "/habits/"+habit+"/records/2026-11-18?client_op_id="+op(), nil).want(t, 200)
	if r.at(t, "record") != nil || r.at(t, "streak.current") != 0.0 || r.at(t, "done") != false {
		t.Errorf("undo answered %s", r.body)
	}
	if feed := p.do(t, "GET", "/teams/"+team+"/activity", nil).want(t, 200); len(feed.at(t, "items").([]any)) != 0 {
		t.Errorf("feed after undo = %s", feed.body)
	}
	if got := p.do(t, "GET", "/dashboard", nil).want(t, 200).at(t, "habits.0.records.2"); got != nil {
		t.Errorf("dashboard still has %v", got)
	}
	var data string
	must(t, w.db.SQL().QueryRowContext(t.Context(), "SELECT payload FROM outbox WHERE event = 'member_habit_retracted'").Scan(&data))
	var told map[string]any
	must(t, json.Unmarshal([]byte(data), &told))
	if told["activity_id"] != activity || told["habit_id"] != habit || told["user_id"] != p.user.ID || told["day"] != "2026-11-18" {
		t.Errorf("retraction = %s", data)
	}
}

// What is cached is never older than what was answered.
func TestATickIsSeenByTheNextRead(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	habit := p.habit(t, object{"start_day": "2026-11-01"})
	for day := 1; day <= 18; day++ {
		p.tick(t, habit, fmt.Sprintf("2026-11-%02d", day))
		r := p.do(t, "GET", "/dashboard", nil).want(t, 200)
		if got := r.at(t, "habits.0.streak.best"); got != float64(day) {
			t.Fatalf("after %d ticks the dashboard says %v", day, got)
		}
	}
	p.do(t, "PATCH", "/habits/"+habit, object{"name": "Swim"}, "If-Match", "*").want(t, 200)
	if got := p.do(t, "GET", "/dashboard", nil).at(t, "habits.0.habit.name"); got != "Swim" {
		t.Errorf("after a new name the dashboard says %v", got)
	}
	if got := p.do(t, "GET", "/habits", nil).at(t, "items.0.name"); got != "Swim" {
		t.Errorf("after a new name the list says %v", got)
	}
}

// The day is the user's, not the server's: at 12:00 UTC it is still the 17th
// in Honolulu's night owl's day, and already the 19th on Kiritimati.
func TestTodayIsTheUsersDay(t *testing.T) {
	w := newWorld(t, sqlite(t))
	w.clock.Set(time.Date(2026, time.November, 18, 10, 30, 0, 0, time.UTC))
	for _, tt := range []struct {
		zone     string
		dayStart int
		today    string
		tomorrow string
	}{
		{"America/Guatemala", 0, "2026-11-18", "2026-11-19"},   // 04:30
		{"America/Guatemala", 300, "2026-11-17", "2026-11-18"}, // 04:30, the day begins at 5
		{"Pacific/Kiritimati", 0, "2026-11-19", "2026-11-20"},  // 00:30
		{"Pacific/Kiritimati", 60, "2026-11-18", "2026-11-19"}, // 00:30, the day begins at 1
		{"Pacific/Honolulu", 0, "2026-11-18", "2026-11-19"},    // 00:30
		{"Pacific/Honolulu", 31, "2026-11-17", "2026-11-18"},   // 00:30, the day begins at 00:31
	} {
		t.Run(fmt.Sprintf("%s/%d", strings.ReplaceAll(tt.zone, "/", "-"), tt.dayStart), func(t *testing.T) {
			p := w.join(t, "Owl", "UTC")
			p.do(t, "PATCH", "/me", object{"tz": tt.zone, "day_start_min": tt.dayStart}, "If-Match", `"1"`).want(t, 200)
			if got := p.do(t, "GET", "/me", nil).at(t, "today"); got != tt.today {
				t.Errorf("today = %v, want %s", got, tt.today)
			}
			habit := p.habit(t, nil)
			p.tick(t, habit, tt.today)
			p.do(t, "PUT", "/habits/"+habit+"/records/"+tt.tomorrow, object{"client_op_id": op()}).wantProblem(t, 422, "validation-failed")
			if got := p.do(t, "GET", "/dashboard", nil).at(t, "today"); got != tt.today {
				t.Errorf("the dashboard's today = %v, want %s", got, tt.today)
			}
		})
	}
}

func TestMovingToAnotherZoneRewritesNothing(t *testing.T) {
	w := newWorld(t, sqlite(t)) // 12:00 UTC on the 18th
	p := w.join(t, "Traveller", "Pacific/Kiritimati")
	habit := p.habit(t, object{"start_day": "2026-11-18"})
	p.tick(t, habit, "2026-11-18")
	p.tick(t, habit, "2026-11-19") // it is the 19th, 02:00, there
	p.do(t, "PATCH", "/me", object{"tz": "Pacific/Honolulu"}, "If-Match", `"1"`).want(t, 200)
	r := p.do(t, "GET", "/habits/"+habit+"/records?from=2026-11-01&to=2026-12-01", nil).want(t, 200)
	if n := len(r.at(t, "items").([]any)); n != 2 {
		t.Errorf("%d records, want both", n)
	}
	if got := p.do(t, "GET", "/dashboard", nil).want(t, 200).at(t, "today"); got != "2026-11-18" {
		t.Errorf("today = %v, want that of the new zone", got)
	}
	w.clock.Advance(24 * time.Hour)
	p.signIn(t)
	if got := p.do(t, "GET", "/habits/"+habit+"/stats", nil).want(t, 200).at(t, "streak.current"); got != 2.0 {
		t.Errorf("streak = %v, want 2", got)
	}
}

func TestAScheduleEditCountsFromTodayOn(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	habit := p.habit(t, object{"start_day": "2026-10-01", "schedule": object{"type": "weekdays", "weekdays": []int{1, 2, 3, 4, 5}}})
	for day := time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC); day.Before(time.Date(2026, 11, 18, 0, 0, 0, 0, time.UTC)); day = day.AddDate(0, 0, 1) {
		if wd := day.Weekday(); wd != time.Saturday && wd != time.Sunday {
			p.tick(t, habit, day.Format(time.DateOnly))
		}
	}
	before := p.do(t, "GET", "/habits/"+habit+"/stats", nil).want(t, 200)
	week := p.do(t, "GET", "/dashboard?day=2026-11-10", nil).want(t, 200)
	p.do(t, "PATCH", "/habits/"+habit, object{"schedule": object{"type": "n_per_week", "n": 2}}, "If-Match", "*").want(t, 200)
	after := p.do(t, "GET", "/habits/"+habit+"/stats", nil).want(t, 200)
	if before.at(t, "strength") != after.at(t, "strength") {
		t.Errorf("strength was %v and is %v", before.at(t, "strength"), after.at(t, "strength"))
	}
	again := p.do(t, "GET", "/dashboard?day=2026-11-10", nil).want(t, 200)
	if was, is := fmt.Sprint(week.at(t, "habits.0.due")), fmt.Sprint(again.at(t, "habits.0.due")); was != is {
		t.Errorf("last week was due on %s and is on %s", was, is)
	}
	if got := after.at(t, "streak.unit"); got != "week" {
		t.Errorf("streaks now count %v, want weeks", got)
	}
}

func TestAnArchivedHabitTakesNoRecords(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	habit := p.habit(t, nil)
	p.do(t, "DELETE", "/habits/"+habit, nil, "If-Match", `"1"`).want(t, 204)
	p.do(t, "PUT", "/habits/"+habit+"/records/2026-11-18", object{"client_op_id": "kept-by-phone"}).wantProblem(t, 409, "habit-archived")
	if n := len(p.do(t, "GET", "/dashboard", nil).at(t, "habits").([]any)); n != 0 {
		t.Errorf("%d habits on the dashboard, want none", n)
	}
	if got := p.do(t, "GET", "/habits", nil).at(t, "items.0.archived_at"); got == nil {
		t.Error("the list does not say that it is archived")
	}
	p.do(t, "PATCH", "/habits/"+habit, object{"archived": false}, "If-Match", `"2"`).want(t, 200)
	// The refused operation was not used up.
	if got := p.do(t, "PUT", "/habits/"+habit+"/records/2026-11-18", object{"client_op_id": "kept-by-phone"}).want(t, 200).at(t, "duplicate"); got != false {
		t.Errorf("duplicate = %v, want false", got)
	}
	if a, u := w.emitted(t, "habit_archived"), w.emitted(t, "habit_updated"); a != 1 || u != 1 {
		t.Errorf("%d archived and %d updated, want one of each", a, u)
	}
}

// The number of queries of a dashboard does not grow with the habits on it.
func TestADashboardTakesTheSameQueriesForAnyNumberOfHabits(t *testing.T) {
	spans, tracer := countQueries(t)
	w := newWorld(t, sqlite(t), tracer)
	p := w.join(t, "Mira", "Europe/Berlin")
	queries := func(habits int) int {
		t.Helper()
		for range habits {
			p.tick(t, p.habit(t, nil), "2026-11-18")
		}
		p.do(t, "GET", "/me", nil).want(t, 200) // session and user are cached from here
		before := spans.count()
		p.do(t, "GET", "/dashboard", nil).want(t, 200)
		return spans.count() - before
	}
	one, many := queries(1), queries(20)
	if one == 0 || one != many {
		t.Errorf("%d queries for 1 habit and %d for 21, want the same", one, many)
	}
	before := spans.count()
	p.do(t, "GET", "/dashboard", nil).want(t, 200)
	if n := spans.count() - before; n != 0 {
		t.Errorf("%d queries for a dashboard that nothing has changed, want none", n)
	}
}

// The positions are read before the answer, so that a page that resumes from
// there misses nothing; without a broker there is none, and the page loads.
func TestAnswersSayWhereTheirEventsStand(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	team := p.crew(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for path, channel := range map[string]string{
		"/dashboard":                   "user:" + p.user.ID + ":habits",
		"/teams/" + team + "/activity": "team:" + team + ":activity",
	} {
		at, err := w.broker.Position(ctx, channel)
		must(t, err)
		r := p.do(t, "GET", path, nil).want(t, 200)
		if got, want := r.header.Get("X-Realtime-Position"), channel+"="+at.String(); got != want {
			t.Errorf("%s: position = %q, want %q", path, got, want)
		}
		w.away.Store(true)
		r = p.do(t, "GET", path, nil).want(t, 200)
		if got, ok := r.header["X-Realtime-Position"]; ok {
			t.Errorf("%s: position = %q though events cannot be had", path, got)
		}
		w.away.Store(false)
	}
}

// What happens while an answer is put together is in the answer, or comes
// after its position. Were the position read last, this tick would be in
// neither.
func TestNothingIsLostBetweenAnAnswerAndItsPosition(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	team := p.crew(t, nil)
	for i, path := range []string{"/dashboard", "/teams/" + team + "/activity"} {
		habit := p.habit(t, object{"name": fmt.Sprint("Run ", i), "visibility": "team"})
		p.do(t, "GET", path, nil).want(t, 200)
		tick := func() { p.tick(t, habit, "2026-11-18") }
		w.asked.Store(&tick)
		r := p.do(t, "GET", path, nil).want(t, 200)
		if !strings.Contains(string(r.body), []string{`"state":"done"`, `"habit_name":"Run 1"`}[i]) {
			t.Errorf("%s lacks what happened before its position: %s", path, r.body)
		}
		if w.asked.Load() != nil {
			t.Errorf("%s asked for no position", path)
		}
	}
}
