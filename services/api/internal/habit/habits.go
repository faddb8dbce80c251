package habit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/caching"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

var (
	// ErrArchived reports a change to a habit that is in the archive.
	ErrArchived = errors.New("the habit is archived")
	// ErrOpReused reports an operation id that belongs to another change.
	ErrOpReused = errors.New("the operation id belongs to another change")
)

// Channel is where a user's habits are told about, to the user alone.
func Channel(userID string) string { return "user:" + userID + ":habits" }

// FeedChannel is where a team is told about what its members share.
func FeedChannel(teamID string) string { return "team:" + teamID + ":activity" }

// Config is what habits need.
type Config struct {
	Store Store
	Cache *tiered.Store
	Now   func() time.Time // time.Now if nil
}

// Habits are the habits of all people. Every method acts for somebody, and
// treats the habits of others as if there were none.
type Habits struct {
	store Store
	cache *tiered.Store
	lists *tiered.Cache[string, []Habit]
	weeks *tiered.Cache[string, Week]
	now   func() time.Time
}

// New returns the habits of a store.
func New(c Config) (*Habits, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	lists, err := caching.Open[[]Habit](c.Cache, caching.Habits)
	if err != nil {
		return nil, err
	}
	weeks, err := caching.Open[Week](c.Cache, caching.Weeks)
	if err != nil {
		return nil, err
	}
	return &Habits{c.Store, c.Cache, lists, weeks, c.Now}, nil
}

// Create makes a habit from a draft, for by.
func (hs *Habits) Create(ctx context.Context, by account.User, d Draft) (Habit, error) {
	now := hs.now().Truncate(time.Millisecond)
	h, err := d.Habit(by.DayAt(now))
	if err != nil {
		return Habit{}, err
	}
	h.ID, h.UserID = uuid.Must(uuid.NewV7()).String(), by.ID
	h.Version, h.CreatedAt, h.UpdatedAt = 1, now, now
	err = hs.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		if err := checkTeams(ctx, tx, h, h.TeamIDs); err != nil {
			return err
		}
		var err error
		if h.Position, err = tx.NextPosition(ctx, by.ID); err != nil {
			return err
		}
		if err := tx.CreateHabit(ctx, h); err != nil {
			return err
		}
		if err := tx.SaveRevision(ctx, h.ID, h.Revision(h.StartDay)); err != nil {
			return err
		}
		return hs.tellOwner(ctx, tx, h, "habit_created")
	})
	if err != nil {
		return Habit{}, fmt.Errorf("create habit: %w", err)
	}
	hs.forget(ctx, by.ID)
	return h, nil
}

// Habit returns one habit of by.
func (hs *Habits) Habit(ctx context.Context, by account.User, id string) (Habit, error) {
	h, err := hs.store.Habit(ctx, id)
	if err == nil && h.UserID != by.ID {
		err = fault.ErrNotFound
	}
	if err != nil {
		return Habit{}, fmt.Errorf("read habit %s: %w", id, err)
	}
	return h, nil
}

// List returns the habits of by in their order, archived ones too.
func (hs *Habits) List(ctx context.Context, by account.User) ([]Habit, error) {
	all, err := hs.lists.GetOrLoad(ctx, by.ID, func(ctx context.Context, id string, _ *tiered.Load[[]Habit]) ([]Habit, error) {
		return hs.store.HabitsOf(ctx, id)
	}, tiered.Tags(tag(by.ID)))
	if err != nil {
		return nil, fmt.Errorf("list habits of %s: %w", by.ID, err)
	}
	return all, nil
}

// Update changes a habit that was read with a version; 0 is any version. A
// new schedule or target counts from today on.
func (hs *Habits) Update(ctx context.Context, by account.User, id string, version int64, c Change) (Habit, error) {
	now := hs.now().Truncate(time.Millisecond)
	var records []Record // to take out of feeds, if it becomes less visible
	if c.Visibility != nil || c.TeamIDs != nil {
		var err error
		if records, err = hs.store.Records(ctx, []string{id}, 0, by.DayAt(now)+2); err != nil {
			return Habit{}, fmt.Errorf("update habit %s: %w", id, err)
		}
	}
	var h Habit
	err := hs.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		old, err := tx.Habit(ctx, id)
		if err != nil {
			return err
		}
		if old.UserID != by.ID {
			return fault.ErrNotFound
		}
		if version != 0 && version != old.Version {
			return fault.ErrStale
		}
		if h, err = c.apply(old, now); err != nil {
			return err
		}
		if c.TeamIDs != nil || c.Visibility != nil {
			if err := checkTeams(ctx, tx, h, added(old.TeamIDs, h.TeamIDs)); err != nil {
				return err
			}
		}
		h.Version, h.UpdatedAt = old.Version+1, now
		if err := tx.SaveHabit(ctx, h); err != nil {
			return err
		}
		if from := max(by.DayAt(now), h.StartDay); h.Revision(from) != old.Revision(from) {
			if err := tx.SaveRevision(ctx, id, h.Revision(from)); err != nil {
				return err
			}
		}
		if err := hs.narrow(ctx, tx, old, h, records); err != nil {
			return err
		}
		name := "habit_updated"
		if old.ArchivedAt == nil && h.ArchivedAt != nil {
			name = "habit_archived"
		}
		return hs.tellOwner(ctx, tx, h, name)
	})
	if err != nil {
		return Habit{}, fmt.Errorf("update habit %s: %w", id, err)
	}
	hs.forget(ctx, by.ID)
	return h, nil
}

// narrow takes a habit out of the feeds of teams that may not see it any more.
func (hs *Habits) narrow(ctx context.Context, tx Tx, old, h Habit, records []Record) error {
	before, err := audience(ctx, tx, old)
	if err != nil {
		return err
	}
	after, err := audience(ctx, tx, h)
	if err != nil {
		return err
	}
	if len(added(after, before)) == 0 {
		return nil
	}
	for _, r := range records {
		lines, err := tx.RemoveActivity(ctx, h.ID, r.Day)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if slices.Contains(after, line.TeamID) {
				err = tx.AddActivity(ctx, line)
			} else {
				err = hs.tellRetracted(ctx, tx, line)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Records returns the records of a habit of by with from ≤ day < to.
func (hs *Habits) Records(ctx context.Context, by account.User, id string, from, to civil.Day) ([]Record, error) {
	switch {
	case to < from:
		return nil, fault.Invalidf("to", "%s is before from: send a day after %s", to, from)
	case to-from > 1100:
		return nil, fault.Invalidf("to", "%d days are too many at once: ask for at most 1100", to-from)
	}
	if _, err := hs.Habit(ctx, by, id); err != nil {
		return nil, err
	}
	all, err := hs.store.Records(ctx, []string{id}, from, to)
	if err != nil {
		return nil, fmt.Errorf("list records of %s: %w", id, err)
	}
	return all, nil
}

// audience returns the ids of the teams that may see what is done for h.
func audience(ctx context.Context, tx Tx, h Habit) ([]string, error) {
	if h.Visibility == Private {
		return nil, nil
	}
	teams, err := tx.TeamsOf(ctx, h.UserID)
	if err != nil {
		return nil, err
	}
	if h.Visibility == Named {
		teams = slices.DeleteFunc(teams, func(id string) bool { return !slices.Contains(h.TeamIDs, id) })
	}
	return teams, nil
}

// checkTeams refuses teams that the owner of h does not belong to.
func checkTeams(ctx context.Context, tx Tx, h Habit, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	mine, err := tx.TeamsOf(ctx, h.UserID)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if !slices.Contains(mine, id) {
			return fault.Invalidf("team_ids", "you do not belong to a team %q: send ids of your own teams, see GET /api/v1/teams", id)
		}
	}
	return nil
}

// added returns what is in b and not in a.
func added(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(b), func(id string) bool { return slices.Contains(a, id) })
}

func tag(userID string) string { return "habits:" + userID }

// forget drops what is cached of a user's habits. It is called after a commit:
// if it fails, readers see the old state until its TTL; that is no reason to
// report a failed change. The caller may be gone; the cache must hear of it.
func (hs *Habits) forget(ctx context.Context, userID string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = hs.cache.InvalidateTags(ctx, tag(userID))
}

func (hs *Habits) tellOwner(ctx context.Context, tx Tx, h Habit, name string) error {
	return hs.tell(ctx, tx, ulid.Make().String(), Channel(h.UserID), name, h.UpdatedAt, map[string]any{"habit_id": h.ID})
}

func (hs *Habits) tellRetracted(ctx context.Context, tx Tx, a Activity) error {
	return hs.tell(ctx, tx, ulid.Make().String(), FeedChannel(a.TeamID), "member_habit_retracted", hs.now(), map[string]any{
		"activity_id": a.ID, "habit_id": a.HabitID, "user_id": a.UserID, "day": a.Day,
	})
}

func (hs *Habits) tell(ctx context.Context, tx Tx, id, channel, name string, at time.Time, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write event %s: %w", name, err)
	}
	return tx.Emit(ctx, event.Event{
		ID: id, Channel: channel, Name: name, Class: event.Durable, Data: raw, At: at,
	})
}

// histories reads all that is known of some habits of by in two queries.
func (hs *Habits) histories(ctx context.Context, by account.User, habits []Habit, to civil.Day) (map[string]*History, error) {
	ids := make([]string, len(habits))
	for i, h := range habits {
		ids[i] = h.ID
	}
	out := make(map[string]*History, len(habits))
	if len(ids) == 0 {
		return out, nil
	}
	records, err := hs.store.Records(ctx, ids, 0, to)
	if err != nil {
		return nil, fmt.Errorf("read records: %w", err)
	}
	revisions, err := hs.store.Revisions(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read revisions: %w", err)
	}
	today := by.DayAt(hs.now())
	of := make(map[string][]Record, len(habits))
	for _, r := range records {
		of[r.HabitID] = append(of[r.HabitID], r)
	}
	for _, h := range habits {
		last := today
		if h.ArchivedAt != nil {
			last = min(today, by.DayAt(*h.ArchivedAt))
		}
		out[h.ID] = NewHistory(h, revisions[h.ID], of[h.ID], last, by.WeekStart)
	}
	return out, nil
}
