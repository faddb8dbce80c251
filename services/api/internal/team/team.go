// Package team holds teams, who belongs to them, and how one joins.
package team

import (
	"context"
	"errors"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// ErrInvite reports an invitation that is unknown, used up, expired or revoked.
var ErrInvite = errors.New("this invitation is not valid (any more)")

// ErrLastOwner reports that a team would be left without an owner.
var ErrLastOwner = errors.New("a team needs an owner")

// The roles, from most to least rights.
const (
	Owner   = "owner"
	Manager = "manager"
	Regular = "member"
	Viewer  = "viewer"
)

// Team is a group of people who see each other's shared habits.
type Team struct {
	ID        string
	Name      string
	Slug      string
	TZ        string
	WeekStart time.Weekday
	Version   int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Member is a person in a team.
type Member struct {
	UserID   string
	Name     string
	Role     string
	JoinedAt time.Time
}

// Membership is a team with the role somebody has in it.
type Membership struct {
	Team    Team
	Role    string
	Members int
}

// Invite lets people who hold its token join a team.
type Invite struct {
	ID        string
	TeamID    string
	TeamName  string // filled when read
	InvitedBy string // user id
	Inviter   string // name, filled when read
	Role      string
	TokenHash string
	CreatedAt time.Time
	ExpiresAt time.Time
	RevokedAt *time.Time
}

// Store keeps teams.
type Store interface {
	Team(ctx context.Context, id string) (Team, error)
	// TeamsOf returns the user's teams by name.
	TeamsOf(ctx context.Context, userID string) ([]Membership, error)
	// Members returns the members of a team by name.
	Members(ctx context.Context, teamID string) ([]Member, error)
	// Role returns the user's role; fault.ErrNotFound if not a member.
	Role(ctx context.Context, teamID, userID string) (string, error)
	InviteByHash(ctx context.Context, tokenHash string) (Invite, error)
	Invites(ctx context.Context, teamID string) ([]Invite, error)
	// Feed returns lines of a team's feed, newest first, with ids below
	// before (empty: from the newest).
	Feed(ctx context.Context, teamID, before string, limit int) ([]habit.Activity, error)
	// Change runs f in one transaction, as habit.Store does.
	Change(ctx context.Context, f func(ctx context.Context, tx Tx) error) error
}

// Tx is one transaction over teams.
type Tx interface {
	// CreateTeam fails with fault.ErrConflict if the slug is taken.
	CreateTeam(ctx context.Context, t Team) error
	// SaveTeam stores t if its stored version is t.Version-1, else fault.ErrStale.
	SaveTeam(ctx context.Context, t Team) error
	// Members returns the members and holds the team against other changes.
	Members(ctx context.Context, teamID string) ([]Member, error)
	// AddMember reports false if the user was a member already.
	AddMember(ctx context.Context, teamID, userID, role string, at time.Time) (bool, error)
	SetRole(ctx context.Context, teamID, userID, role string) error
	RemoveMember(ctx context.Context, teamID, userID string) error
	CreateInvite(ctx context.Context, in Invite) error
	RevokeInvite(ctx context.Context, teamID, inviteID string, at time.Time) error
	Emit(ctx context.Context, e event.Event) error
}
