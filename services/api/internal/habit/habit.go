// Package habit holds habits, what was recorded for them, and what follows
// from the records: streaks and strength.
package habit

import (
	"context"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// Kinds, targets, rhythms, visibilities and states as they are stored.
const (
	YesNo    = "yesno"
	Count    = "count"
	Duration = "duration" // in minutes

	AtLeast = "at_least"
	AtMost  = "at_most"

	Daily      = "daily"
	Weekdays   = "weekdays"
	NPerWeek   = "n_per_week"
	NPerMonth  = "n_per_month"
	EveryNDays = "every_n_days"

	Private = "private"
	Team    = "team"  // all teams of its owner
	Named   = "named" // the teams in TeamIDs

	Done = "done"
	Skip = "skip"
	Note = "note" // says something, counts for nothing
)

// Schedule says when a habit is due.
type Schedule struct {
	Type     string // Daily, Weekdays, …
	Weekdays uint8  // bit 0 is Sunday; for Weekdays
	N        int    // for NPerWeek, NPerMonth and EveryNDays
}

// Habit is something a person wants to do, or not to do, again and again.
type Habit struct {
	ID          string
	UserID      string
	Name        string
	Kind        string
	TargetType  string
	TargetMilli int64 // thousandths of Unit; 1000 for yes/no
	Unit        string
	Schedule    Schedule
	AssumeZero  bool
	Visibility  string
	TeamIDs     []string // for Named
	StartDay    civil.Day
	EndDay      *civil.Day
	Color       string
	Icon        string
	Position    int
	ArchivedAt  *time.Time
	Version     int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Revision is the schedule and target of a habit from a day on.
type Revision struct {
	EffectiveDay civil.Day
	Schedule     Schedule
	TargetType   string
	TargetMilli  int64
}

// Record is what a person noted for a habit and a day.
type Record struct {
	HabitID    string
	Day        civil.Day
	State      string
	ValueMilli int64
	Note       string
	RecordedAt time.Time
	TZ         string // the zone the day was decided in
	Source     string // "web", "api", "seed"
}

// Activity is a line of a team's feed: a member has done a habit on a day.
type Activity struct {
	ID        string // ULID, the id of the event that announced it
	TeamID    string
	UserID    string
	UserName  string
	HabitID   string
	HabitName string
	Day       civil.Day
	At        time.Time
}

// Store keeps habits and records.
type Store interface {
	Habit(ctx context.Context, id string) (Habit, error)
	// HabitsOf returns a user's habits by position, then id; archived ones too.
	HabitsOf(ctx context.Context, userID string) ([]Habit, error)
	// Records returns the records of some habits with from ≤ day < to, by
	// habit and day.
	Records(ctx context.Context, habitIDs []string, from, to civil.Day) ([]Record, error)
	// Revisions returns the revisions of some habits by effective day.
	Revisions(ctx context.Context, habitIDs []string) (map[string][]Revision, error)
	// Change runs f in one transaction. What f emits is published after the
	// commit, and only then. f may run again if the database asks for it.
	Change(ctx context.Context, f func(ctx context.Context, tx Tx) error) error
}

// Tx is one transaction over habits.
type Tx interface {
	// Habit reads a habit and holds it against other transactions.
	Habit(ctx context.Context, id string) (Habit, error)
	CreateHabit(ctx context.Context, h Habit) error
	// SaveHabit stores h if its stored version is h.Version-1, else fault.ErrStale.
	SaveHabit(ctx context.Context, h Habit) error
	// SaveRevision adds or replaces the revision of its effective day.
	SaveRevision(ctx context.Context, habitID string, r Revision) error
	// NextPosition returns a position after all of the user's habits.
	NextPosition(ctx context.Context, userID string) (int, error)

	// Record returns the record of a day; false if there is none.
	Record(ctx context.Context, habitID string, day civil.Day) (Record, bool, error)
	PutRecord(ctx context.Context, r Record) error
	DeleteRecord(ctx context.Context, habitID string, day civil.Day) error

	// Op claims an operation id of a user. If it was claimed before, by this
	// or a committed transaction, it returns the stored result and false.
	// Concurrent claims wait for each other.
	Op(ctx context.Context, userID, opID string) (result []byte, first bool, err error)
	// SetOp stores the result of a claimed operation.
	SetOp(ctx context.Context, userID, opID string, result []byte) error

	// TeamsOf returns the ids of the teams the user is a member of.
	TeamsOf(ctx context.Context, userID string) ([]string, error)
	AddActivity(ctx context.Context, a Activity) error
	// RemoveActivity takes the lines of a habit and day out of every feed and
	// returns them.
	RemoveActivity(ctx context.Context, habitID string, day civil.Day) ([]Activity, error)

	Emit(ctx context.Context, e event.Event) error
}
