package team

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
)

// Invite makes a link by which people join a team in a role until it expires,
// and returns its token. Only the token's hash is kept.
func (ts *Teams) Invite(ctx context.Context, by account.User, teamID, role string, life time.Duration) (Invite, string, error) {
	mine, err := ts.may(ctx, by, teamID, "invite")
	if err != nil {
		return Invite{}, "", err
	}
	switch {
	case !slices.Contains([]string{Manager, Regular, Viewer}, role):
		return Invite{}, "", fault.Invalidf("role", "%q cannot be given by a link: send one of manager, member, viewer", role)
	case role == Manager && mine != Owner:
		return Invite{}, "", fmt.Errorf("invite a manager: %w", fault.ErrForbidden)
	case life <= 0 || life > 30*24*time.Hour:
		return Invite{}, "", fault.Invalidf("expires_in_days", "send 1 to 30")
	}
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return Invite{}, "", fmt.Errorf("read random bytes: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(secret)
	now := ts.now().Truncate(time.Millisecond)
	in := Invite{
		ID: uuid.Must(uuid.NewV7()).String(), TeamID: teamID, InvitedBy: by.ID, Inviter: by.Name, Role: role,
		TokenHash: hashToken(token), CreatedAt: now, ExpiresAt: now.Add(life),
	}
	if err := ts.store.Change(ctx, func(ctx context.Context, tx Tx) error { return tx.CreateInvite(ctx, in) }); err != nil {
		return Invite{}, "", fmt.Errorf("create invite: %w", err)
	}
	return in, token, nil
}

// Invites returns the links to a team that still work, newest first.
func (ts *Teams) Invites(ctx context.Context, by account.User, teamID string) ([]Invite, error) {
	if _, err := ts.may(ctx, by, teamID, "invite"); err != nil {
		return nil, err
	}
	all, err := ts.store.Invites(ctx, teamID)
	if err != nil {
		return nil, fmt.Errorf("list invites of team %s: %w", teamID, err)
	}
	all = slices.DeleteFunc(all, func(in Invite) bool { return !in.works(ts.now()) })
	slices.SortFunc(all, func(a, b Invite) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return all, nil
}

// Revoke makes a link stop working.
func (ts *Teams) Revoke(ctx context.Context, by account.User, teamID, inviteID string) error {
	if _, err := ts.may(ctx, by, teamID, "invite"); err != nil {
		return err
	}
	err := ts.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		return tx.RevokeInvite(ctx, teamID, inviteID, ts.now())
	})
	if err != nil {
		return fmt.Errorf("revoke invite %s: %w", inviteID, err)
	}
	return nil
}

// Lookup returns the invitation of a token; [ErrInvite] if it does not work.
func (ts *Teams) Lookup(ctx context.Context, token string) (Invite, error) {
	in, err := ts.store.InviteByHash(ctx, hashToken(token))
	switch {
	case errors.Is(err, fault.ErrNotFound):
		return Invite{}, ErrInvite
	case err != nil:
		return Invite{}, fmt.Errorf("find invite: %w", err)
	case !in.works(ts.now()):
		return Invite{}, ErrInvite
	}
	return in, nil
}

// Accept makes by a member of the team that the token is for. Who is one
// already stays one, in the same role.
func (ts *Teams) Accept(ctx context.Context, by account.User, token string) (Overview, error) {
	in, err := ts.Lookup(ctx, token)
	if err != nil {
		return Overview{}, err
	}
	now := ts.now().Truncate(time.Millisecond)
	role := in.Role
	err = ts.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		members, err := tx.Members(ctx, in.TeamID)
		if err != nil {
			return err
		}
		role = in.Role
		if m := find(members, by.ID); m.UserID != "" {
			role = m.Role
			return nil
		}
		if _, err := tx.AddMember(ctx, in.TeamID, by.ID, role, now); err != nil {
			return err
		}
		return ts.tellJoined(ctx, tx, in.TeamID, by, role, now)
	})
	if err != nil {
		return Overview{}, fmt.Errorf("join team %s: %w", in.TeamID, err)
	}
	ts.forget(ctx, in.TeamID)
	return ts.overview(ctx, in.TeamID, role)
}

func (in Invite) works(now time.Time) bool { return in.RevokedAt == nil && now.Before(in.ExpiresAt) }

// hashToken needs no key: tokens are 32 random bytes, which nobody guesses.
func hashToken(token string) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}
