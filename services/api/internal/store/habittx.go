package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/db"
)

var _ habit.Tx = (*tx)(nil)

func (t *tx) Habit(ctx context.Context, id string) (habit.Habit, error) {
	var row habitRow
	err := t.forUpdate(t.bun.NewSelect().Model(&row).Where("h.id = ?", id)).Scan(ctx)
	if err != nil {
		return habit.Habit{}, fmt.Errorf("read habit %s: %w", id, found(err))
	}
	h := row.habit()
	if h.Visibility != habit.Named {
		return h, nil
	}
	// A statement of its own: the one that waited for the lock still sees the
	// teams of before the wait.
	err = t.bun.NewSelect().Table("habit_teams").Column("team_id").
		Where("habit_id = ?", id).Order("team_id").Scan(ctx, &h.TeamIDs)
	if err != nil {
		return habit.Habit{}, fmt.Errorf("read teams of habit %s: %w", id, err)
	}
	return h, nil
}

func (t *tx) CreateHabit(ctx context.Context, h habit.Habit) error {
	if _, err := t.bun.NewInsert().Model(rowOfHabit(h)).Exec(ctx); err != nil {
		return fmt.Errorf("create habit %s: %w", h.ID, err)
	}
	return t.shareHabit(ctx, h)
}

func (t *tx) SaveHabit(ctx context.Context, h habit.Habit) error {
	r, err := t.bun.NewUpdate().Model(rowOfHabit(h)).ExcludeColumn("id", "user_id", "created_at").
		Where("id = ? AND version = ?", h.ID, h.Version-1).Exec(ctx)
	if err := saved(ctx, t.bun, "habits", h.ID, r, err); err != nil {
		return fmt.Errorf("save habit %s: %w", h.ID, err)
	}
	_, err = t.bun.NewDelete().Table("habit_teams").Where("habit_id = ?", h.ID).Exec(ctx)
	if err != nil {
		return fmt.Errorf("clear teams of habit %s: %w", h.ID, err)
	}
	return t.shareHabit(ctx, h)
}

// shareHabit writes the teams of a habit that has none yet.
func (t *tx) shareHabit(ctx context.Context, h habit.Habit) error {
	if h.Visibility != habit.Named || len(h.TeamIDs) == 0 {
		return nil
	}
	type row struct {
		bun.BaseModel `bun:"table:habit_teams"`

		HabitID string
		TeamID  string
	}
	rows := make([]row, len(h.TeamIDs))
	for i, id := range h.TeamIDs {
		rows[i] = row{HabitID: h.ID, TeamID: id}
	}
	_, err := t.bun.NewInsert().Model(&rows).On("CONFLICT DO NOTHING").Exec(ctx)
	if db.IsForeignKey(err) {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("share habit %s with teams: %w", h.ID, err)
	}
	return nil
}

func (t *tx) SaveRevision(ctx context.Context, habitID string, r habit.Revision) error {
	_, err := t.bun.NewInsert().Model(&revisionRow{
		HabitID: habitID, EffectiveDay: r.EffectiveDay,
		Sched: r.Schedule.Type, WeekdaysMask: r.Schedule.Weekdays, N: r.Schedule.N,
		TargetType: r.TargetType, TargetMilli: r.TargetMilli,
	}).On("CONFLICT (habit_id, effective_day) DO UPDATE").
		Set("sched = EXCLUDED.sched, weekdays_mask = EXCLUDED.weekdays_mask, n = EXCLUDED.n").
		Set("target_type = EXCLUDED.target_type, target_milli = EXCLUDED.target_milli").
		Exec(ctx)
	if err != nil {
		return fmt.Errorf("save revision of habit %s: %w", habitID, err)
	}
	return nil
}

func (t *tx) NextPosition(ctx context.Context, userID string) (int, error) {
	// Two habits made at once wait here for each other, or both get the place.
	if err := t.lock(ctx, "users", userID); err != nil {
		return 0, fmt.Errorf("read user %s: %w", userID, err)
	}
	var next int
	err := t.bun.NewSelect().Table("habits").ColumnExpr("COALESCE(MAX(position) + 1, 0)").
		Where("user_id = ?", userID).Scan(ctx, &next)
	if err != nil {
		return 0, fmt.Errorf("read positions of user %s: %w", userID, err)
	}
	return next, nil
}

func (t *tx) Record(ctx context.Context, habitID string, day civil.Day) (habit.Record, bool, error) {
	var row recordRow
	err := found(t.bun.NewSelect().Model(&row).Where("habit_id = ? AND day = ?", habitID, day).Scan(ctx))
	switch {
	case errors.Is(err, fault.ErrNotFound):
		return habit.Record{}, false, nil
	case err != nil:
		return habit.Record{}, false, fmt.Errorf("read record of habit %s on %s: %w", habitID, day, err)
	}
	return row.record(), true, nil
}

func (t *tx) PutRecord(ctx context.Context, r habit.Record) error {
	_, err := t.bun.NewInsert().Model(&recordRow{
		HabitID: r.HabitID, Day: r.Day, State: r.State, ValueMilli: r.ValueMilli, Note: r.Note,
		RecordedAt: r.RecordedAt.UnixMilli(), TZ: r.TZ, Source: r.Source,
	}).On("CONFLICT (habit_id, day) DO UPDATE").
		Set("state = EXCLUDED.state, value_milli = EXCLUDED.value_milli, note = EXCLUDED.note").
		Set("recorded_at = EXCLUDED.recorded_at, tz = EXCLUDED.tz, source = EXCLUDED.source").
		Exec(ctx)
	if db.IsForeignKey(err) {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("put record of habit %s on %s: %w", r.HabitID, r.Day, err)
	}
	return nil
}

func (t *tx) DeleteRecord(ctx context.Context, habitID string, day civil.Day) error {
	_, err := t.bun.NewDelete().Model((*recordRow)(nil)).Where("habit_id = ? AND day = ?", habitID, day).Exec(ctx)
	if err != nil {
		return fmt.Errorf("delete record of habit %s on %s: %w", habitID, day, err)
	}
	return nil
}

type opRow struct {
	bun.BaseModel `bun:"table:record_ops"`

	UserID     string `bun:",pk"`
	ClientOpID string `bun:",pk"`
	Result     []byte
	CreatedAt  int64
}

func (t *tx) Op(ctx context.Context, userID, opID string) (result []byte, first bool, err error) {
	// On PostgreSQL this waits until another transaction with the same id has
	// ended, one way or the other.
	n, err := affected(t.bun.NewInsert().
		Model(&opRow{UserID: userID, ClientOpID: opID, CreatedAt: t.s.now().UnixMilli()}).
		On("CONFLICT (user_id, client_op_id) DO NOTHING").Exec(ctx))
	if err != nil {
		return nil, false, fmt.Errorf("claim operation of user %s: %w", userID, err)
	}
	if n == 1 {
		return nil, true, nil
	}
	var row opRow
	err = t.bun.NewSelect().Model(&row).Where("user_id = ? AND client_op_id = ?", userID, opID).Scan(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("read operation of user %s: %w", userID, err)
	}
	return row.Result, false, nil
}

func (t *tx) SetOp(ctx context.Context, userID, opID string, result []byte) error {
	n, err := affected(t.bun.NewUpdate().Model((*opRow)(nil)).Set("result = ?", result).
		Where("user_id = ? AND client_op_id = ?", userID, opID).Exec(ctx))
	if err == nil && n == 0 {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("store result of operation of user %s: %w", userID, err)
	}
	return nil
}

func (t *tx) TeamsOf(ctx context.Context, userID string) ([]string, error) {
	var ids []string
	err := t.bun.NewSelect().Table("memberships").Column("team_id").
		Where("user_id = ?", userID).Order("team_id").Scan(ctx, &ids)
	if err != nil {
		return nil, fmt.Errorf("read teams of user %s: %w", userID, err)
	}
	return ids, nil
}
