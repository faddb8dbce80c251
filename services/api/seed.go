package api

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/store"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/db"
)

// The sign-in of the demo.
const (
	DemoEmail    = "mira@demo.crewbeat.example"
	DemoPassword = "crewbeat-demo"
)

const (
	demoDays = 60 // of history, today included
	feedDays = 7  // of them in the team's feed
)

// SeedOptions fit a seed; the zero value is what production uses.
type SeedOptions struct {
	Now time.Time // when the demo's last day is; time.Now if zero
}

// Seed fills an empty database with a team of five and 60 days of their
// habits, the same on every run of the same day. If the demo is there already
// it does nothing and reports false. The past emits no events: nobody was
// there to watch it.
func Seed(ctx context.Context, d *db.DB, o SeedOptions) (created bool, err error) {
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	st := store.New(d, store.Options{Now: func() time.Time { return now }})
	s := seed{store: st, rand: rand.New(rand.NewPCG(2026, 60)), now: now.Truncate(time.Millisecond)} //nolint:gosec // a story, no secret
	if _, _, err := st.Accounts().UserByEmail(ctx, DemoEmail); err == nil {
		return false, nil
	}
	hashes := make([]string, len(crew))
	for i := range hashes {
		if hashes[i], err = account.HashPassword(ctx, DemoPassword); err != nil {
			return false, fmt.Errorf("seed: %w", err)
		}
	}
	// One transaction, so that there is all of it or nothing.
	err = st.Habits().Change(ctx, func(ctx context.Context, tx habit.Tx) error {
		s.rand = rand.New(rand.NewPCG(2026, 60)) //nolint:gosec // as above; again, because this may run again
		return s.write(ctx, tx, hashes)
	})
	if errors.Is(err, account.ErrEmailTaken) {
		return false, nil // another process was faster
	}
	if err != nil {
		return false, fmt.Errorf("seed: %w", err)
	}
	return true, nil
}

// person is a member of the demo crew.
type person struct {
	name, email, tz, role string
	dayStart              int
	habits                []custom
}

// custom is a habit and how it is kept.
type custom struct {
	habit.Draft
	odds    int // in 100, that it is done when it is due
	weekend int // the same on Saturdays and Sundays
	low     int64
	high    int64 // amounts, in units
	notes   []string
}

var crew = []person{
	{"Mira Lindqvist", DemoEmail, "Europe/Stockholm", team.Owner, 0, []custom{
		{Draft: yesno("Morning run", "run", "coral", habit.Plan{Type: habit.NPerWeek, N: 3}, habit.Team), odds: 64, weekend: 72, notes: []string{"Harbor loop", "Headwind all the way"}},
		{Draft: amount(habit.Count, "Read 20 pages", "pages", "book", "blue", 20, habit.Plan{Type: habit.Daily}, habit.Team), odds: 82, weekend: 90, low: 8, high: 46},
		{Draft: yesno("Evening journal", "write", "violet", habit.Plan{Type: habit.Daily}, habit.Private), odds: 74, weekend: 62},
	}},
	{"Jonas Weber", "jonas@demo.crewbeat.example", "Europe/Berlin", team.Manager, 0, []custom{
		{Draft: yesno("Close the day's log", "check", "teal", habit.Plan{Type: habit.Weekdays, Weekdays: []int{1, 2, 3, 4, 5}}, habit.Team), odds: 91, weekend: 0},
		{Draft: limit("Coffee, two at most", "cups", "coffee", "amber", 2, habit.Private), odds: 94, weekend: 90, low: 0, high: 3},
		{Draft: yesno("Strength training", "strength", "rose", habit.Plan{Type: habit.NPerWeek, N: 2}, habit.Team), odds: 45, weekend: 40},
	}},
	{"Aylin Demir", "aylin@demo.crewbeat.example", "Europe/Istanbul", team.Regular, 180, []custom{
		{Draft: amount(habit.Duration, "Practice German", "min", "language", "green", 20, habit.Plan{Type: habit.Weekdays, Weekdays: []int{1, 2, 4, 5}}, habit.Team), odds: 84, weekend: 0, low: 12, high: 40},
		{Draft: yesno("Ten quiet minutes", "mind", "violet", habit.Plan{Type: habit.Daily}, habit.Private), odds: 68, weekend: 80},
	}},
	{"Tomás Rey", "tomas@demo.crewbeat.example", "America/Santiago", team.Regular, 0, []custom{
		{Draft: amount(habit.Count, "Walk 8,000 steps", "steps", "heart", "rose", 8000, habit.Plan{Type: habit.Daily}, habit.Team), odds: 88, weekend: 94, low: 5200, high: 14100},
		{Draft: yesno("Call home", "call", "amber", habit.Plan{Type: habit.EveryNDays, N: 4}, habit.Private), odds: 34, weekend: 46},
		{Draft: yesno("Bike to the dock", "bike", "teal", habit.Plan{Type: habit.Weekdays, Weekdays: []int{1, 3, 5}}, habit.Team), odds: 80, weekend: 0, notes: []string{"Rain, took the ferry instead", "New tyres"}},
	}},
	{"Lena Okafor", "lena@demo.crewbeat.example", "Europe/London", team.Regular, 0, []custom{
		{Draft: yesno("Stretch before the shift", "leaf", "green", habit.Plan{Type: habit.Daily}, habit.Named), odds: 86, weekend: 70},
		{Draft: yesno("Deep clean the galley", "check", "slate", habit.Plan{Type: habit.NPerMonth, N: 2}, habit.Named), odds: 14, weekend: 10},
		{Draft: yesno("Lights out by eleven", "sleep", "blue", habit.Plan{Type: habit.Weekdays, Weekdays: []int{0, 1, 2, 3, 4}}, habit.Private), odds: 66, weekend: 60},
	}},
}

func yesno(name, icon, color string, p habit.Plan, visibility string) habit.Draft {
	return habit.Draft{Name: name, Icon: icon, Color: color, Schedule: p, Visibility: visibility}
}

func amount(kind, name, unit, icon, color string, target int64, p habit.Plan, visibility string) habit.Draft {
	d := yesno(name, icon, color, p, visibility)
	d.Kind, d.Unit, d.TargetMilli = kind, unit, new(target*1000)
	return d
}

func limit(name, unit, icon, color string, target int64, visibility string) habit.Draft {
	d := amount(habit.Count, name, unit, icon, color, target, habit.Plan{Type: habit.Daily}, visibility)
	d.TargetType, d.AssumeZero = habit.AtMost, new(false)
	return d
}

// seed writes the demo.
type seed struct {
	store *store.Store
	rand  *rand.Rand
	now   time.Time
}

func (s *seed) write(ctx context.Context, tx habit.Tx, hashes []string) error {
	began := s.now.AddDate(0, 0, -demoDays)
	t := team.Team{
		ID: s.id(began), Name: "Harbor Crew", Slug: "harbor-crew", TZ: "Europe/Berlin", WeekStart: time.Monday,
		Version: 1, CreatedAt: began, UpdatedAt: began,
	}
	users := make([]account.User, len(crew))
	for i, p := range crew {
		users[i] = account.User{
			ID: s.id(began), Email: p.email, Name: p.name, TZ: p.tz, DayStartMin: p.dayStart, WeekStart: time.Monday,
			Locale: "en", IsAdmin: i == 0, Version: 1, CreatedAt: began, UpdatedAt: began,
		}
		// By the context of tx these are parts of its transaction.
		if err := s.store.Accounts().CreateUser(ctx, users[i], hashes[i]); err != nil {
			return err
		}
	}
	err := s.store.Teams().Change(ctx, func(ctx context.Context, tt team.Tx) error {
		if err := tt.CreateTeam(ctx, t); err != nil {
			return err
		}
		for i, p := range crew {
			if _, err := tt.AddMember(ctx, t.ID, users[i].ID, p.role, began.Add(time.Duration(i)*time.Hour)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, p := range crew {
		for position, c := range p.habits {
			if err := s.habit(ctx, tx, users[i], t.ID, position, c); err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
		}
	}
	return nil
}

// habit writes one habit with its history.
func (s *seed) habit(ctx context.Context, tx habit.Tx, u account.User, teamID string, position int, c custom) error {
	today := u.DayAt(s.now)
	first := today - demoDays + 1
	c.StartDay = &first
	if c.Visibility == habit.Named {
		c.TeamIDs = []string{teamID}
	}
	h, err := c.Habit(today)
	if err != nil {
		return err
	}
	at := s.now.AddDate(0, 0, -demoDays)
	h.ID, h.UserID, h.Position = s.id(at), u.ID, position
	h.Version, h.CreatedAt, h.UpdatedAt = 1, at, at
	if err := tx.CreateHabit(ctx, h); err != nil {
		return err
	}
	if err := tx.SaveRevision(ctx, h.ID, h.Revision(first)); err != nil {
		return err
	}
	var records []habit.Record
	for day := first; day <= today; day++ {
		r, ok := s.record(u, h, c, day)
		if !ok || habit.NewHistory(h, nil, records, day, u.WeekStart).Met(day) {
			continue
		}
		records = append(records, r)
		if err := tx.PutRecord(ctx, r); err != nil {
			return err
		}
		if h.Visibility == habit.Private || day <= today-feedDays || !habit.NewHistory(h, nil, records, today, u.WeekStart).Done(day) {
			continue
		}
		line := habit.Activity{
			ID: s.ulid(r.RecordedAt), TeamID: teamID, UserID: u.ID, UserName: u.Name,
			HabitID: h.ID, HabitName: h.Name, Day: day, At: r.RecordedAt,
		}
		if err := tx.AddActivity(ctx, line); err != nil {
			return err
		}
	}
	return nil
}

// record makes up what was recorded for a day, if anything was.
func (s *seed) record(u account.User, h habit.Habit, c custom, day civil.Day) (habit.Record, bool) {
	// Always the same draws, so that one answer does not change the next.
	luck, pace, minute, note := s.rand.IntN(100), s.rand.Float64(), s.rand.IntN(14*60), s.rand.IntN(24)
	loc, err := civil.LoadZone(u.TZ)
	if err != nil {
		loc = time.UTC
	}
	at := civil.StartOf(day, loc, u.DayStartMin).Add(7*time.Hour + time.Duration(minute)*time.Minute)
	r := habit.Record{HabitID: h.ID, Day: day, State: habit.Done, ValueMilli: h.TargetMilli, RecordedAt: at.UTC(), TZ: u.TZ, Source: "seed"}
	odds := c.odds
	if w := day.Weekday(); w == time.Saturday || w == time.Sunday {
		odds = c.weekend
	}
	switch {
	case at.After(s.now):
		return r, false // later today
	case h.Schedule.Type == habit.Weekdays && h.Schedule.Weekdays&(1<<day.Weekday()) == 0:
		return r, false
	case h.Kind != habit.YesNo:
		r.ValueMilli = (c.low + int64(pace*float64(c.high-c.low+1))) * 1000
	}
	if luck == 99 {
		r.State, r.ValueMilli, r.Note = habit.Skip, 0, "Under the weather"
		return r, true
	}
	if note < len(c.notes) {
		r.Note = c.notes[note]
	}
	return r, luck < odds
}

// id returns an UUIDv7 of an instant, from the seeded source.
func (s *seed) id(at time.Time) string {
	var b uuid.UUID
	binary.BigEndian.PutUint64(b[:8], uint64(at.UnixMilli())<<16|s.rand.Uint64()&0x0fff|0x7000)
	binary.BigEndian.PutUint64(b[8:], s.rand.Uint64()&^(3<<62)|2<<62)
	return b.String()
}

func (s *seed) ulid(at time.Time) string {
	var b ulid.ULID
	_ = b.SetTime(uint64(at.UnixMilli())) // before 10889
	binary.BigEndian.PutUint16(b[6:8], uint16(s.rand.Uint32()))
	binary.BigEndian.PutUint64(b[8:], s.rand.Uint64())
	return b.String()
}
