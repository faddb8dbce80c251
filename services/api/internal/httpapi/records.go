package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// Record is what a person noted for a habit and a day.
type Record struct {
	Day        Date      `json:"day"`
	State      string    `json:"state" enum:"done,skip,note" doc:"note says something and counts for nothing."`
	ValueMilli int64     `json:"value_milli" doc:"Thousandths of the habit's unit."`
	Note       string    `json:"note"`
	RecordedAt time.Time `json:"recorded_at"`
	Source     string    `json:"source" doc:"How it got here." example:"web"`
}

func recordOf(r habit.Record) Record {
	return Record{
		Day: Date{r.Day}, State: r.State, ValueMilli: r.ValueMilli, Note: r.Note,
		RecordedAt: r.RecordedAt.UTC(), Source: r.Source,
	}
}

func recordOrNull(r *habit.Record) Nullable[Record] {
	if r == nil {
		return nullable[Record](nil)
	}
	return nullable(new(recordOf(*r)))
}

// Streak is how often in a row a habit was kept.
type Streak struct {
	Current int    `json:"current"`
	Best    int    `json:"best"`
	Unit    string `json:"unit" enum:"day,week,month,time" doc:"What is counted: due days, weeks, months, or times."`
}

func streakOf(s habit.Streak) Streak { return Streak{s.Current, s.Best, s.Unit} }

// RecordPut says what a day's record is to be.
type RecordPut struct {
	State      string `json:"state,omitempty" enum:"done,skip,note" default:"done"`
	ValueMilli *int64 `json:"value_milli,omitempty" minimum:"0" maximum:"1000000000000" doc:"Thousandths of the unit; the target if left out."`
	Note       string `json:"note,omitempty" maxLength:"500"`
	ClientOpID string `json:"client_op_id" minLength:"8" maxLength:"64" pattern:"^[A-Za-z0-9._:-]+$" patternDescription:"letters, digits and . _ : -" doc:"Your id of this change. Repeat it only to retry the same change: it is made once."`
}

// RecordAdd adds to a day's amount.
type RecordAdd struct {
	DeltaMilli int64  `json:"delta_milli" minimum:"-1000000000000" maximum:"1000000000000" doc:"Thousandths of the unit; the sum stops at zero."`
	ClientOpID string `json:"client_op_id" minLength:"8" maxLength:"64" pattern:"^[A-Za-z0-9._:-]+$" patternDescription:"letters, digits and . _ : -" doc:"Your id of this change."`
}

// RecordResult is a day after a change, and what follows from it.
type RecordResult struct {
	Record    Nullable[Record] `json:"record"`
	Streak    Streak           `json:"streak"`
	Strength  float64          `json:"strength" minimum:"0" maximum:"1"`
	Due       bool             `json:"due" doc:"The habit is due on the day."`
	Done      bool             `json:"done" doc:"The day's target is met."`
	Duplicate bool             `json:"duplicate" doc:"The operation was made before; this is what it did then, with the streak and strength of now."`
}

// Stats is what follows from all records of a habit.
type Stats struct {
	Streak     Streak  `json:"streak"`
	Strength   float64 `json:"strength" minimum:"0" maximum:"1"`
	TotalDone  int     `json:"total_done" doc:"Days on which the target was met."`
	TotalMilli int64   `json:"total_milli" doc:"Sum of all amounts."`
	FirstDay   Date    `json:"first_day" doc:"The day it began, or of the first record if that is earlier."`
	LastDone   *Date   `json:"last_done" nullable:"true"`
}

// Week is a week of all habits in use.
type Week struct {
	Day    Date        `json:"day" doc:"The day asked for."`
	Today  Date        `json:"today"`
	TZ     string      `json:"tz"`
	Days   []Date      `json:"days" minItems:"7" maxItems:"7"`
	Habits []WeekHabit `json:"habits"`
}

// WeekHabit is a week of a habit.
type WeekHabit struct {
	Habit    Habit              `json:"habit"`
	Due      []bool             `json:"due" minItems:"7" maxItems:"7"`
	Done     []bool             `json:"done" minItems:"7" maxItems:"7"`
	Records  []Nullable[Record] `json:"records" minItems:"7" maxItems:"7"`
	Streak   Streak             `json:"streak"`
	Strength float64            `json:"strength" minimum:"0" maximum:"1"`
}

// Position is where the events of a channel stood just before an answer was
// read, so that a page that resumes from there misses nothing.
type Position struct {
	At string `header:"X-Realtime-Position" doc:"channel=offset: subscribe from there. Missing while no events can be had."`
}

// RecordPath names a day of a habit.
type RecordPath struct {
	ID  string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id" doc:"The habit."`
	Day Date   `path:"day" doc:"In the user's zone; not after today."`
}

type recordAnswer struct{ Body RecordResult }

func answerRecord(r habit.Result, err error) (*recordAnswer, error) {
	if err != nil {
		return nil, err
	}
	return &recordAnswer{RecordResult{
		Record: recordOrNull(r.Record), Streak: streakOf(r.Streak), Strength: r.Strength,
		Due: r.Due, Done: r.Done, Duplicate: r.Duplicate,
	}}, nil
}

func (s *server) records() {
	errs := []int{http.StatusNotFound, http.StatusConflict}
	register(s, op{id: "listRecords", route: "GET /habits/{id}/records", tag: "habits", summary: "The records of a habit",
		errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id"`
			From Date   `query:"from" required:"true" doc:"First day."`
			To   Date   `query:"to" required:"true" doc:"The day after the last; at most 1100 days after from."`
		},
		) (*struct{ Body items[Record] }, error) {
			all, err := s.Habits.Records(ctx, asker(ctx).user, in.ID, in.From.Day, in.To.Day)
			if err != nil {
				return nil, err
			}
			return &struct{ Body items[Record] }{items[Record]{list(all, recordOf)}}, nil
		})
	register(s, op{id: "putRecord", route: "PUT /habits/{id}/records/{day}", tag: "habits", summary: "Record a day", errors: errs,
		doc: "Sets the day's record, whatever it was. Safe to repeat with the same client_op_id."},
		func(ctx context.Context, in *struct {
			RecordPath
			Body RecordPut
		},
		) (*recordAnswer, error) {
			return answerRecord(s.Habits.Put(ctx, asker(ctx).user, habit.Tick{
				HabitID: in.ID, Day: in.Day.Day, OpID: in.Body.ClientOpID, Source: source(ctx),
				State: in.Body.State, ValueMilli: in.Body.ValueMilli, Note: in.Body.Note,
			}))
		})
	register(s, op{id: "addToRecord", route: "PATCH /habits/{id}/records/{day}", tag: "habits", summary: "Add to a day's amount", errors: errs},
		func(ctx context.Context, in *struct {
			RecordPath
			Body RecordAdd
		},
		) (*recordAnswer, error) {
			return answerRecord(s.Habits.Add(ctx, asker(ctx).user, habit.Tick{
				HabitID: in.ID, Day: in.Day.Day, OpID: in.Body.ClientOpID, Source: source(ctx), ValueMilli: &in.Body.DeltaMilli,
			}))
		})
	register(s, op{id: "clearRecord", route: "DELETE /habits/{id}/records/{day}", tag: "habits", summary: "Take a day's record back", errors: errs,
		doc: "Also takes it out of the feeds of teams."},
		func(ctx context.Context, in *struct {
			RecordPath
			ClientOpID string `query:"client_op_id" required:"true" minLength:"8" maxLength:"64" pattern:"^[A-Za-z0-9._:-]+$" patternDescription:"letters, digits and . _ : -" doc:"Your id of this change."`
		},
		) (*recordAnswer, error) {
			return answerRecord(s.Habits.Clear(ctx, asker(ctx).user, habit.Tick{
				HabitID: in.ID, Day: in.Day.Day, OpID: in.ClientOpID,
			}))
		})
	register(s, op{id: "getStats", route: "GET /habits/{id}/stats", tag: "habits", summary: "Streak, strength and totals of a habit",
		errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *HabitPath) (*struct{ Body Stats }, error) {
			st, err := s.Habits.Stats(ctx, asker(ctx).user, in.ID)
			if err != nil {
				return nil, err
			}
			return &struct{ Body Stats }{Stats{
				Streak: streakOf(st.Streak), Strength: st.Strength, TotalDone: st.TotalDone, TotalMilli: st.TotalMilli,
				FirstDay: Date{st.FirstDay}, LastDone: date(st.LastDone),
			}}, nil
		})
	register(s, op{id: "getDashboard", route: "GET /dashboard", tag: "habits", summary: "A week of all habits"},
		s.dashboard)
}

type dashboard struct {
	Position
	Body Week
}

func (s *server) dashboard(ctx context.Context, in *struct {
	Day Date `query:"day" doc:"A day of the week; today if left out."`
},
) (*dashboard, error) {
	u := asker(ctx).user
	pos := s.position(ctx, habit.Channel(u.ID)) // before the query: never past what was read
	w, err := s.Habits.Week(ctx, u, in.Day.Day)
	if err != nil {
		return nil, err
	}
	out := Week{Day: Date{w.Day}, Today: Date{w.Today}, TZ: u.TZ, Days: make([]Date, 7)}
	for i := range out.Days {
		out.Days[i] = Date{w.First + civil.Day(i)}
	}
	out.Habits = list(w.Habits, func(h habit.WeekHabit) WeekHabit {
		return WeekHabit{
			Habit: habitOf(h.Habit), Due: h.Due[:], Done: h.Done[:], Records: list(h.Records[:], recordOrNull),
			Streak: streakOf(h.Streak), Strength: h.Strength,
		}
	})
	return &dashboard{pos, out}, nil
}

// position asks where a channel stands. Without an answer the page still
// loads; it then reads once more when events can be had again.
func (s *server) position(ctx context.Context, channel string) Position {
	if s.Position == nil {
		return Position{}
	}
	offset, err := s.Position(ctx, channel)
	if err != nil || offset == "" {
		return Position{}
	}
	return Position{channel + "=" + offset}
}
