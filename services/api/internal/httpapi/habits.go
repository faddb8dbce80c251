package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
)

// Schedule says when a habit is due.
type Schedule struct {
	Type     string `json:"type" enum:"daily,weekdays,n_per_week,n_per_month,every_n_days"`
	Weekdays []int  `json:"weekdays,omitempty" required:"false" minimum:"0" maximum:"6" maxItems:"7" uniqueItems:"true" doc:"For weekdays: the days it is due on, 0 is Sunday."`
	N        int    `json:"n,omitempty" minimum:"0" maximum:"365" doc:"For n_per_week (1 to 7), n_per_month (1 to 28) and every_n_days (2 to 365)."`
}

// HabitSchedule says when a habit is due, every part filled.
type HabitSchedule struct {
	Type     string `json:"type" enum:"daily,weekdays,n_per_week,n_per_month,every_n_days"`
	Weekdays []int  `json:"weekdays" minimum:"0" maximum:"6" doc:"The days it is due on, 0 is Sunday; empty unless type is weekdays."`
	N        int    `json:"n" doc:"For n_per_week, n_per_month and every_n_days; else 0."`
}

// Habit is something a person wants to do, or not to do, again and again.
type Habit struct {
	ID          string        `json:"id" format:"uuid"`
	Name        string        `json:"name"`
	Kind        string        `json:"kind" enum:"yesno,count,duration"`
	TargetType  string        `json:"target_type" enum:"at_least,at_most"`
	TargetMilli int64         `json:"target_milli" doc:"Thousandths of the unit; 1000 for yesno."`
	Unit        string        `json:"unit" doc:"What is counted; empty for yesno, \"min\" for duration."`
	Schedule    HabitSchedule `json:"schedule"`
	AssumeZero  bool          `json:"assume_zero" doc:"For at_most: a day without a record counts as zero."`
	Visibility  string        `json:"visibility" enum:"private,team,named" doc:"Who sees it: nobody else, all own teams, or the teams in team_ids."`
	TeamIDs     []string      `json:"team_ids"`
	StartDay    Date          `json:"start_day"`
	EndDay      *Date         `json:"end_day" nullable:"true"`
	Color       string        `json:"color"`
	Icon        string        `json:"icon"`
	Position    int           `json:"position" doc:"Order on the page, ascending."`
	ArchivedAt  *time.Time    `json:"archived_at"`
	Version     int64         `json:"version" doc:"Also the ETag."`
	CreatedAt   time.Time     `json:"created_at"`
	UpdatedAt   time.Time     `json:"updated_at"`
}

func habitOf(h habit.Habit) Habit {
	out := Habit{
		ID: h.ID, Name: h.Name, Kind: h.Kind, TargetType: h.TargetType, TargetMilli: h.TargetMilli, Unit: h.Unit,
		Schedule:   HabitSchedule{Type: h.Schedule.Type, Weekdays: h.Schedule.Days(), N: h.Schedule.N},
		AssumeZero: h.AssumeZero, Visibility: h.Visibility, TeamIDs: append([]string{}, h.TeamIDs...),
		StartDay: Date{h.StartDay}, EndDay: date(h.EndDay), Color: h.Color, Icon: h.Icon, Position: h.Position,
		Version: h.Version, CreatedAt: h.CreatedAt.UTC(), UpdatedAt: h.UpdatedAt.UTC(),
	}
	if h.ArchivedAt != nil {
		out.ArchivedAt = new(h.ArchivedAt.UTC())
	}
	return out
}

// HabitDraft asks for a habit.
type HabitDraft struct {
	Name        string   `json:"name" minLength:"1" maxLength:"80" example:"Read ten pages"`
	Kind        string   `json:"kind,omitempty" enum:"yesno,count,duration" default:"yesno"`
	TargetType  string   `json:"target_type,omitempty" enum:"at_least,at_most" default:"at_least"`
	TargetMilli *int64   `json:"target_milli,omitempty" maximum:"1000000000000" doc:"Thousandths of the unit, above zero (zero only for at_most). Required for count and duration."`
	Unit        string   `json:"unit,omitempty" maxLength:"24" doc:"What is counted, for count." example:"pages"`
	Schedule    Schedule `json:"schedule"`
	AssumeZero  *bool    `json:"assume_zero,omitempty" doc:"For at_most; true if left out."`
	Visibility  string   `json:"visibility,omitempty" enum:"private,team,named" default:"private"`
	TeamIDs     []string `json:"team_ids,omitempty" required:"false" maxItems:"50" uniqueItems:"true" doc:"For visibility named: teams you belong to."`
	StartDay    *Date    `json:"start_day,omitempty" doc:"Today if left out."`
	EndDay      *Date    `json:"end_day,omitempty" doc:"The last day; none if left out."`
	Color       string   `json:"color,omitempty" maxLength:"24"`
	Icon        string   `json:"icon,omitempty" maxLength:"32"`
}

// HabitChange changes a habit; what is left out stays. A new schedule or
// target counts from today on and leaves earlier days as they were.
type HabitChange struct {
	Name        *string        `json:"name,omitempty" minLength:"1" maxLength:"80"`
	TargetType  *string        `json:"target_type,omitempty" enum:"at_least,at_most"`
	TargetMilli *int64         `json:"target_milli,omitempty" maximum:"1000000000000"`
	Unit        *string        `json:"unit,omitempty" maxLength:"24"`
	Schedule    *Schedule      `json:"schedule,omitempty"`
	AssumeZero  *bool          `json:"assume_zero,omitempty"`
	Visibility  *string        `json:"visibility,omitempty" enum:"private,team,named"`
	TeamIDs     *[]string      `json:"team_ids,omitempty" required:"false" maxItems:"50" uniqueItems:"true"`
	StartDay    *Date          `json:"start_day,omitempty"`
	EndDay      Optional[Date] `json:"end_day,omitzero" doc:"null: it never ends."`
	Color       *string        `json:"color,omitempty" maxLength:"24"`
	Icon        *string        `json:"icon,omitempty" maxLength:"32"`
	Position    *int           `json:"position,omitempty" minimum:"0" maximum:"1000000"`
	Archived    *bool          `json:"archived,omitempty" doc:"false takes it back from the archive."`
}

type oneHabit struct {
	ETag string `header:"ETag" doc:"The version."`
	Body Habit
}

func answerHabit(h habit.Habit) *oneHabit { return &oneHabit{etag(h.Version), habitOf(h)} }

type habitList struct{ Body items[Habit] }

// HabitPath names a habit.
type HabitPath struct {
	ID string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id" doc:"The habit."`
}

func (s *server) habits() {
	register(s, op{id: "listHabits", route: "GET /habits", tag: "habits", summary: "The own habits, archived ones too"},
		func(ctx context.Context, _ *none) (*habitList, error) {
			all, err := s.Habits.List(ctx, asker(ctx).user)
			if err != nil {
				return nil, err
			}
			return &habitList{items[Habit]{list(all, habitOf)}}, nil
		})
	register(s, op{id: "createHabit", route: "POST /habits", tag: "habits", summary: "Make a habit", status: http.StatusCreated},
		func(ctx context.Context, in *struct{ Body HabitDraft }) (*oneHabit, error) {
			h, err := s.Habits.Create(ctx, asker(ctx).user, in.Body.draft())
			if err != nil {
				return nil, err
			}
			return answerHabit(h), nil
		})
	register(s, op{id: "getHabit", route: "GET /habits/{id}", tag: "habits", summary: "A habit", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *HabitPath) (*oneHabit, error) {
			h, err := s.Habits.Habit(ctx, asker(ctx).user, in.ID)
			if err != nil {
				return nil, err
			}
			return answerHabit(h), nil
		})
	register(s, op{id: "updateHabit", route: "PATCH /habits/{id}", tag: "habits", summary: "Change a habit",
		errors: []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusPreconditionRequired}},
		func(ctx context.Context, in *struct {
			HabitPath
			Condition
			Body HabitChange
		},
		) (*oneHabit, error) {
			return s.changeHabit(ctx, asker(ctx).user, in.ID, in.Condition, in.Body.change())
		})
	register(s, op{id: "archiveHabit", route: "DELETE /habits/{id}", tag: "habits", summary: "Put a habit into the archive",
		doc: "Its records are kept; PATCH with archived false takes it back.", status: http.StatusNoContent,
		errors: []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusPreconditionRequired}},
		func(ctx context.Context, in *struct {
			HabitPath
			Condition
		},
		) (*none, error) {
			_, err := s.changeHabit(ctx, asker(ctx).user, in.ID, in.Condition, habit.Change{Archived: new(true)})
			return nil, err
		})
}

func (s *server) changeHabit(ctx context.Context, by account.User, id string, m Condition, c habit.Change) (*oneHabit, error) {
	v, err := m.version()
	if err != nil {
		return nil, err
	}
	h, err := s.Habits.Update(ctx, by, id, v, c)
	if err != nil {
		return nil, err
	}
	return answerHabit(h), nil
}

func (d HabitDraft) draft() habit.Draft {
	return habit.Draft{
		Name: d.Name, Kind: d.Kind, TargetType: d.TargetType, TargetMilli: d.TargetMilli, Unit: d.Unit,
		Schedule: d.Schedule.plan(), AssumeZero: d.AssumeZero, Visibility: d.Visibility, TeamIDs: d.TeamIDs,
		StartDay: day(d.StartDay), EndDay: day(d.EndDay), Color: d.Color, Icon: d.Icon,
	}
}

func (c HabitChange) change() habit.Change {
	out := habit.Change{
		Name: c.Name, TargetType: c.TargetType, TargetMilli: c.TargetMilli, Unit: c.Unit,
		AssumeZero: c.AssumeZero, Visibility: c.Visibility, TeamIDs: c.TeamIDs, StartDay: day(c.StartDay),
		Color: c.Color, Icon: c.Icon, Position: c.Position, Archived: c.Archived,
	}
	if c.Schedule != nil {
		out.Schedule = new(c.Schedule.plan())
	}
	if c.EndDay.Sent {
		out.EndDay = new(day(c.EndDay.Value))
	}
	return out
}

func (s Schedule) plan() habit.Plan {
	return habit.Plan{Type: s.Type, Weekdays: s.Weekdays, N: s.N}
}
