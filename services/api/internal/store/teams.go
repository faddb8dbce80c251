package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
)

type teams struct{ s *Store }

type teamRow struct {
	bun.BaseModel `bun:"table:teams,alias:t"`

	ID        string `bun:",pk"`
	Name      string
	Slug      string
	TZ        string `bun:"tz"`
	WeekStart time.Weekday
	Version   int64
	CreatedAt int64
	UpdatedAt int64
}

func rowOfTeam(t team.Team) *teamRow {
	return &teamRow{
		ID: t.ID, Name: t.Name, Slug: t.Slug, TZ: t.TZ, WeekStart: t.WeekStart,
		Version: t.Version, CreatedAt: t.CreatedAt.UnixMilli(), UpdatedAt: t.UpdatedAt.UnixMilli(),
	}
}

func (r *teamRow) team() team.Team {
	return team.Team{
		ID: r.ID, Name: r.Name, Slug: r.Slug, TZ: r.TZ, WeekStart: r.WeekStart,
		Version: r.Version, CreatedAt: fromMS(r.CreatedAt), UpdatedAt: fromMS(r.UpdatedAt),
	}
}

type inviteRow struct {
	bun.BaseModel `bun:"table:invites,alias:i"`

	ID        string `bun:",pk"`
	TeamID    string
	InvitedBy string
	Role      string
	TokenHash string
	CreatedAt int64
	ExpiresAt int64
	RevokedAt *int64

	TeamName string `bun:",scanonly"`
	Inviter  string `bun:",scanonly"`
}

func (r *inviteRow) invite() team.Invite {
	return team.Invite{
		ID: r.ID, TeamID: r.TeamID, TeamName: r.TeamName, InvitedBy: r.InvitedBy, Inviter: r.Inviter,
		Role: r.Role, TokenHash: r.TokenHash,
		CreatedAt: fromMS(r.CreatedAt), ExpiresAt: fromMS(r.ExpiresAt), RevokedAt: timeOf(r.RevokedAt),
	}
}

func (ts teams) Team(ctx context.Context, id string) (team.Team, error) {
	var row teamRow
	if err := ts.s.db.Conn(ctx).NewSelect().Model(&row).Where("id = ?", id).Scan(ctx); err != nil {
		return team.Team{}, fmt.Errorf("read team %s: %w", id, found(err))
	}
	return row.team(), nil
}

func (ts teams) TeamsOf(ctx context.Context, userID string) ([]team.Membership, error) {
	var rows []struct {
		teamRow `bun:",extend"`

		Role    string
		Members int
	}
	err := ts.s.db.Conn(ctx).NewSelect().TableExpr("teams AS t").
		ColumnExpr("t.id, t.name, t.slug, t.tz, t.week_start, t.version, t.created_at, t.updated_at, m.role").
		ColumnExpr("(SELECT COUNT(*) FROM memberships c WHERE c.team_id = t.id) AS members").
		Join("JOIN memberships AS m ON m.team_id = t.id").Where("m.user_id = ?", userID).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("read teams of user %s: %w", userID, err)
	}
	list := make([]team.Membership, len(rows))
	for i := range rows {
		list[i] = team.Membership{Team: rows[i].team(), Role: rows[i].Role, Members: rows[i].Members}
	}
	slices.SortFunc(list, func(a, b team.Membership) int { return byName(a.Team.Name, b.Team.Name, a.Team.ID, b.Team.ID) })
	return list, nil
}

func (ts teams) Members(ctx context.Context, teamID string) ([]team.Member, error) {
	return members(ctx, ts.s.db.Conn(ctx), teamID)
}

func members(ctx context.Context, conn bun.IDB, teamID string) ([]team.Member, error) {
	var rows []struct {
		UserID   string
		Name     string
		Role     string
		JoinedAt int64
	}
	err := conn.NewSelect().TableExpr("memberships AS m").ColumnExpr("m.user_id, u.name, m.role, m.joined_at").
		Join("JOIN users AS u ON u.id = m.user_id").Where("m.team_id = ?", teamID).Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("read members of team %s: %w", teamID, err)
	}
	list := make([]team.Member, len(rows))
	for i, r := range rows {
		list[i] = team.Member{UserID: r.UserID, Name: r.Name, Role: r.Role, JoinedAt: fromMS(r.JoinedAt)}
	}
	slices.SortFunc(list, func(a, b team.Member) int { return byName(a.Name, b.Name, a.UserID, b.UserID) })
	return list, nil
}

// byName orders by name without case, then by id. It is done here and not in
// the database so that both databases and every locale give one order.
func byName(nameA, nameB, idA, idB string) int {
	return cmp.Or(strings.Compare(strings.ToLower(nameA), strings.ToLower(nameB)), strings.Compare(idA, idB))
}

func (ts teams) Role(ctx context.Context, teamID, userID string) (string, error) {
	var role string
	err := ts.s.db.Conn(ctx).NewSelect().Table("memberships").Column("role").
		Where("team_id = ? AND user_id = ?", teamID, userID).Scan(ctx, &role)
	if err != nil {
		return "", fmt.Errorf("read role of user %s in team %s: %w", userID, teamID, found(err))
	}
	return role, nil
}

func selectInvites(conn bun.IDB, dest any) *bun.SelectQuery {
	return conn.NewSelect().Model(dest).ColumnExpr("?TableColumns").
		ColumnExpr("t.name AS team_name, u.name AS inviter").
		Join("JOIN teams AS t ON t.id = i.team_id").Join("JOIN users AS u ON u.id = i.invited_by")
}

// InviteByHash returns expired and revoked invitations too; whether one may
// still be used is for the domain to say.
func (ts teams) InviteByHash(ctx context.Context, tokenHash string) (team.Invite, error) {
	var row inviteRow
	if err := selectInvites(ts.s.db.Conn(ctx), &row).Where("i.token_hash = ?", tokenHash).Scan(ctx); err != nil {
		return team.Invite{}, fmt.Errorf("read invitation: %w", found(err))
	}
	return row.invite(), nil
}

// Invites returns the invitations of a team that are not revoked, newest first.
func (ts teams) Invites(ctx context.Context, teamID string) ([]team.Invite, error) {
	var rows []inviteRow
	err := selectInvites(ts.s.db.Conn(ctx), &rows).Where("i.team_id = ? AND i.revoked_at IS NULL", teamID).
		Order("i.created_at DESC", "i.id DESC").Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("read invitations of team %s: %w", teamID, err)
	}
	list := make([]team.Invite, len(rows))
	for i := range rows {
		list[i] = rows[i].invite()
	}
	return list, nil
}

func (ts teams) Feed(ctx context.Context, teamID, before string, limit int) ([]habit.Activity, error) {
	var rows []activityRow
	q := ts.s.db.Conn(ctx).NewSelect().Model(&rows).ColumnExpr("?TableColumns").ColumnExpr("u.name AS user_name").
		Join("JOIN users AS u ON u.id = a.user_id").Where("a.team_id = ?", teamID)
	if before != "" {
		q = q.Where("a.id < ?", before)
	}
	if err := q.Order("a.id DESC").Limit(int64(limit)).Scan(ctx); err != nil {
		return nil, fmt.Errorf("read feed of team %s: %w", teamID, err)
	}
	return activities(rows), nil
}

func (ts teams) Change(ctx context.Context, f func(ctx context.Context, tx team.Tx) error) error {
	return ts.s.change(ctx, func(ctx context.Context, t *tx) error { return f(ctx, t) })
}
