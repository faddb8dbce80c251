package store

import (
	"context"
	"fmt"
	"strings"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

type habits struct{ s *Store }

type habitRow struct {
	bun.BaseModel `bun:"table:habits,alias:h"`

	ID           string `bun:",pk"`
	UserID       string
	Name         string
	Kind         string
	TargetType   string
	TargetMilli  int64
	Unit         string
	Sched        string
	WeekdaysMask uint8
	N            int
	AssumeZero   bool
	Visibility   string
	StartDay     civil.Day
	EndDay       *civil.Day
	Color        string
	Icon         string
	Position     int
	ArchivedAt   *int64
	Version      int64
	CreatedAt    int64
	UpdatedAt    int64

	TeamIDs string `bun:"team_ids,scanonly"` // joined by commas
}

func rowOfHabit(h habit.Habit) *habitRow {
	return &habitRow{
		ID: h.ID, UserID: h.UserID, Name: h.Name, Kind: h.Kind,
		TargetType: h.TargetType, TargetMilli: h.TargetMilli, Unit: h.Unit,
		Sched: h.Schedule.Type, WeekdaysMask: h.Schedule.Weekdays, N: h.Schedule.N,
		AssumeZero: h.AssumeZero, Visibility: h.Visibility, StartDay: h.StartDay, EndDay: h.EndDay,
		Color: h.Color, Icon: h.Icon, Position: h.Position, ArchivedAt: msOf(h.ArchivedAt),
		Version: h.Version, CreatedAt: h.CreatedAt.UnixMilli(), UpdatedAt: h.UpdatedAt.UnixMilli(),
	}
}

func (r *habitRow) habit() habit.Habit {
	h := habit.Habit{
		ID: r.ID, UserID: r.UserID, Name: r.Name, Kind: r.Kind,
		TargetType: r.TargetType, TargetMilli: r.TargetMilli, Unit: r.Unit,
		Schedule:   habit.Schedule{Type: r.Sched, Weekdays: r.WeekdaysMask, N: r.N},
		AssumeZero: r.AssumeZero, Visibility: r.Visibility, StartDay: r.StartDay, EndDay: r.EndDay,
		Color: r.Color, Icon: r.Icon, Position: r.Position, ArchivedAt: timeOf(r.ArchivedAt),
		Version: r.Version, CreatedAt: fromMS(r.CreatedAt), UpdatedAt: fromMS(r.UpdatedAt),
	}
	if r.TeamIDs != "" {
		h.TeamIDs = strings.Split(r.TeamIDs, ",")
	}
	return h
}

type recordRow struct {
	bun.BaseModel `bun:"table:habit_records,alias:r"`

	HabitID    string    `bun:",pk"`
	Day        civil.Day `bun:",pk"`
	State      string
	ValueMilli int64
	Note       string
	RecordedAt int64
	TZ         string `bun:"tz"`
	Source     string
}

func (r *recordRow) record() habit.Record {
	return habit.Record{
		HabitID: r.HabitID, Day: r.Day, State: r.State, ValueMilli: r.ValueMilli, Note: r.Note,
		RecordedAt: fromMS(r.RecordedAt), TZ: r.TZ, Source: r.Source,
	}
}

type revisionRow struct {
	bun.BaseModel `bun:"table:habit_revisions,alias:v"`

	HabitID      string    `bun:",pk"`
	EffectiveDay civil.Day `bun:",pk"`
	Sched        string
	WeekdaysMask uint8
	N            int
	TargetType   string
	TargetMilli  int64
}

// selectHabits reads habits with the teams they are shared with, in one query.
func selectHabits(conn bun.IDB, dest any) *bun.SelectQuery {
	return conn.NewSelect().Model(dest).ColumnExpr("?TableColumns").ColumnExpr(
		"COALESCE((SELECT string_agg(ht.team_id, ',' ORDER BY ht.team_id) FROM habit_teams ht WHERE ht.habit_id = h.id), '') AS team_ids")
}

func (hs habits) Habit(ctx context.Context, id string) (habit.Habit, error) {
	var row habitRow
	if err := selectHabits(hs.s.db.Conn(ctx), &row).Where("h.id = ?", id).Scan(ctx); err != nil {
		return habit.Habit{}, fmt.Errorf("read habit %s: %w", id, found(err))
	}
	return row.habit(), nil
}

func (hs habits) HabitsOf(ctx context.Context, userID string) ([]habit.Habit, error) {
	var rows []habitRow
	err := selectHabits(hs.s.db.Conn(ctx), &rows).Where("h.user_id = ?", userID).Order("h.position", "h.id").Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("read habits of user %s: %w", userID, err)
	}
	list := make([]habit.Habit, len(rows))
	for i := range rows {
		list[i] = rows[i].habit()
	}
	return list, nil
}

func (hs habits) Records(ctx context.Context, habitIDs []string, from, to civil.Day) ([]habit.Record, error) {
	if len(habitIDs) == 0 || from >= to {
		return nil, nil
	}
	var rows []recordRow
	err := hs.s.db.Conn(ctx).NewSelect().Model(&rows).
		Where("habit_id IN (?)", bun.List(habitIDs)).Where("day >= ? AND day < ?", from, to).
		Order("habit_id", "day").Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("read records of %d habits: %w", len(habitIDs), err)
	}
	list := make([]habit.Record, len(rows))
	for i := range rows {
		list[i] = rows[i].record()
	}
	return list, nil
}

func (hs habits) Revisions(ctx context.Context, habitIDs []string) (map[string][]habit.Revision, error) {
	if len(habitIDs) == 0 {
		return nil, nil
	}
	var rows []revisionRow
	err := hs.s.db.Conn(ctx).NewSelect().Model(&rows).
		Where("habit_id IN (?)", bun.List(habitIDs)).Order("habit_id", "effective_day").Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("read revisions of %d habits: %w", len(habitIDs), err)
	}
	byHabit := make(map[string][]habit.Revision, len(habitIDs))
	for _, r := range rows {
		byHabit[r.HabitID] = append(byHabit[r.HabitID], habit.Revision{
			EffectiveDay: r.EffectiveDay,
			Schedule:     habit.Schedule{Type: r.Sched, Weekdays: r.WeekdaysMask, N: r.N},
			TargetType:   r.TargetType, TargetMilli: r.TargetMilli,
		})
	}
	return byHabit, nil
}

func (hs habits) Change(ctx context.Context, f func(ctx context.Context, tx habit.Tx) error) error {
	return hs.s.change(ctx, func(ctx context.Context, t *tx) error { return f(ctx, t) })
}
