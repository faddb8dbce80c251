package store

import (
	"context"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/db"
)

var _ team.Tx = (*tx)(nil)

func (t *tx) CreateTeam(ctx context.Context, tm team.Team) error {
	// Not an error of the database, so that the transaction lives and another
	// slug can be tried.
	n, err := affected(t.bun.NewInsert().Model(rowOfTeam(tm)).On("CONFLICT (slug) DO NOTHING").Exec(ctx))
	if err == nil && n == 0 {
		err = fault.ErrConflict
	}
	if err != nil {
		return fmt.Errorf("create team %s: %w", tm.ID, err)
	}
	return nil
}

func (t *tx) SaveTeam(ctx context.Context, tm team.Team) error {
	r, err := t.bun.NewUpdate().Model(rowOfTeam(tm)).ExcludeColumn("id", "created_at").
		Where("id = ? AND version = ?", tm.ID, tm.Version-1).Exec(ctx)
	if db.IsUnique(err) {
		err = fault.ErrConflict
	}
	if err := saved(ctx, t.bun, "teams", tm.ID, r, err); err != nil {
		return fmt.Errorf("save team %s: %w", tm.ID, err)
	}
	return nil
}

func (t *tx) Members(ctx context.Context, teamID string) ([]team.Member, error) {
	if err := t.lock(ctx, "teams", teamID); err != nil {
		return nil, fmt.Errorf("read team %s: %w", teamID, err)
	}
	return members(ctx, t.bun, teamID)
}

type memberRow struct {
	bun.BaseModel `bun:"table:memberships"`

	TeamID   string `bun:",pk"`
	UserID   string `bun:",pk"`
	Role     string
	JoinedAt int64
}

func (t *tx) AddMember(ctx context.Context, teamID, userID, role string, at time.Time) (bool, error) {
	n, err := affected(t.bun.NewInsert().
		Model(&memberRow{TeamID: teamID, UserID: userID, Role: role, JoinedAt: at.UnixMilli()}).
		On("CONFLICT (team_id, user_id) DO NOTHING").Exec(ctx))
	if db.IsForeignKey(err) {
		err = fault.ErrNotFound
	}
	if err != nil {
		return false, fmt.Errorf("add user %s to team %s: %w", userID, teamID, err)
	}
	return n == 1, nil
}

func (t *tx) SetRole(ctx context.Context, teamID, userID, role string) error {
	n, err := affected(t.bun.NewUpdate().Model((*memberRow)(nil)).Set("role = ?", role).
		Where("team_id = ? AND user_id = ?", teamID, userID).Exec(ctx))
	if err == nil && n == 0 {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("set role of user %s in team %s: %w", userID, teamID, err)
	}
	return nil
}

func (t *tx) RemoveMember(ctx context.Context, teamID, userID string) error {
	n, err := affected(t.bun.NewDelete().Model((*memberRow)(nil)).
		Where("team_id = ? AND user_id = ?", teamID, userID).Exec(ctx))
	if err == nil && n == 0 {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("remove user %s from team %s: %w", userID, teamID, err)
	}
	return nil
}

func (t *tx) CreateInvite(ctx context.Context, in team.Invite) error {
	_, err := t.bun.NewInsert().Model(&inviteRow{
		ID: in.ID, TeamID: in.TeamID, InvitedBy: in.InvitedBy, Role: in.Role, TokenHash: in.TokenHash,
		CreatedAt: in.CreatedAt.UnixMilli(), ExpiresAt: in.ExpiresAt.UnixMilli(), RevokedAt: msOf(in.RevokedAt),
	}).Exec(ctx)
	if db.IsForeignKey(err) {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("create invitation to team %s: %w", in.TeamID, err)
	}
	return nil
}

func (t *tx) RevokeInvite(ctx context.Context, teamID, inviteID string, at time.Time) error {
	n, err := affected(t.bun.NewUpdate().Model((*inviteRow)(nil)).Set("revoked_at = ?", at.UnixMilli()).
		Where("id = ? AND team_id = ? AND revoked_at IS NULL", inviteID, teamID).Exec(ctx))
	if err == nil && n == 0 {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("revoke invitation %s: %w", inviteID, err)
	}
	return nil
}

type activityRow struct {
	bun.BaseModel `bun:"table:activity,alias:a"`

	ID        string `bun:",pk"`
	TeamID    string `bun:",pk"`
	UserID    string
	HabitID   string
	HabitName string
	Day       civil.Day
	At        int64

	UserName string `bun:",scanonly"`
}

func activities(rows []activityRow) []habit.Activity {
	list := make([]habit.Activity, len(rows))
	for i, r := range rows {
		list[i] = habit.Activity{
			ID: r.ID, TeamID: r.TeamID, UserID: r.UserID, UserName: r.UserName,
			HabitID: r.HabitID, HabitName: r.HabitName, Day: r.Day, At: fromMS(r.At),
		}
	}
	return list
}

// AddActivity keeps one line for a habit and a day in a feed: a newer one
// takes the place of the older.
func (t *tx) AddActivity(ctx context.Context, a habit.Activity) error {
	_, err := t.bun.NewInsert().Model(&activityRow{
		ID: a.ID, TeamID: a.TeamID, UserID: a.UserID, HabitID: a.HabitID,
		HabitName: a.HabitName, Day: a.Day, At: a.At.UnixMilli(),
	}).On("CONFLICT (habit_id, day, team_id) DO UPDATE").
		Set("id = EXCLUDED.id, habit_name = EXCLUDED.habit_name, at = EXCLUDED.at").Exec(ctx)
	if db.IsForeignKey(err) {
		err = fault.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("add activity to team %s: %w", a.TeamID, err)
	}
	return nil
}

func (t *tx) RemoveActivity(ctx context.Context, habitID string, day civil.Day) ([]habit.Activity, error) {
	var rows []activityRow
	err := t.bun.NewRaw(`
		DELETE FROM activity WHERE habit_id = ? AND day = ?
		RETURNING id, team_id, user_id, habit_id, habit_name, day, at,
			(SELECT name FROM users WHERE users.id = activity.user_id) AS user_name`,
		habitID, day).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("remove activity of habit %s on %s: %w", habitID, day, err)
	}
	return activities(rows), nil
}
