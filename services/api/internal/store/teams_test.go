package store_test

import (
	"context"
	"reflect"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
)

func TestATeamIsReadAsItWasSaved(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		tm := f.team(t, "Crew", f.user(t, "mira"))
		if got, err := f.Teams().Team(t.Context(), tm.ID); err != nil || got != tm {
			t.Errorf("read %+v, %v, want %+v", got, err, tm)
		}
		tm.Name, tm.TZ, tm.WeekStart, tm.Version, tm.UpdatedAt = "Club", "UTC", time.Sunday, 2, dawn.Add(time.Hour)
		save := func(ctx context.Context, tx team.Tx) error { return tx.SaveTeam(ctx, tm) }
		f.inTeams(t, save)
		if got, err := f.Teams().Team(t.Context(), tm.ID); err != nil || got != tm {
			t.Errorf("read %+v, %v, want %+v", got, err, tm)
		}
		wantError(t, f.Teams().Change(t.Context(), save), fault.ErrStale)
		other := f.team(t, "Other")
		tm.Version, tm.Slug = 3, other.Slug
		wantError(t, f.Teams().Change(t.Context(), save), fault.ErrConflict)
		tm.ID = "none"
		wantError(t, f.Teams().Change(t.Context(), save), fault.ErrNotFound)
		_, err := f.Teams().Team(t.Context(), "none")
		wantError(t, err, fault.ErrNotFound)
	})
}

func TestATakenSlugLeavesTheTransactionAlive(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		taken := f.team(t, "Crew")
		second := taken
		second.ID = f.id()
		f.inTeams(t, func(ctx context.Context, tx team.Tx) error {
			wantError(t, tx.CreateTeam(ctx, second), fault.ErrConflict)
			second.Slug += "-2"
			return tx.CreateTeam(ctx, second)
		})
		if got, err := f.Teams().Team(t.Context(), second.ID); err != nil || got != second {
			t.Errorf("read %+v, %v, want %+v", got, err, second)
		}
	})
}

func TestMembersComeByName(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		zoe, aylin, omer := f.user(t, "zoe"), f.user(t, "Aylin"), f.user(t, "Ömer")
		crew := f.team(t, "crew", zoe, aylin, omer)
		club := f.team(t, "Club", aylin)
		want := []team.Member{
			{UserID: aylin.ID, Name: "Aylin", Role: team.Regular, JoinedAt: dawn},
			{UserID: zoe.ID, Name: "zoe", Role: team.Owner, JoinedAt: dawn},
			{UserID: omer.ID, Name: "Ömer", Role: team.Regular, JoinedAt: dawn},
		}
		if got, err := f.Teams().Members(t.Context(), crew.ID); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("members %+v, %v, want %+v", got, err, want)
		}
		teams := []team.Membership{{Team: club, Role: team.Owner, Members: 1}, {Team: crew, Role: team.Regular, Members: 3}}
		if got, err := f.Teams().TeamsOf(t.Context(), aylin.ID); err != nil || !reflect.DeepEqual(got, teams) {
			t.Errorf("teams %+v, %v, want %+v", got, err, teams)
		}
	})
}

func TestAMemberJoinsOnceChangesRoleAndLeaves(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira, jonas := f.user(t, "mira"), f.user(t, "jonas")
		crew := f.team(t, "Crew", mira)
		role := func(want string, wantErr error) {
			t.Helper()
			got, err := f.Teams().Role(t.Context(), crew.ID, jonas.ID)
			wantError(t, err, wantErr)
			if got != want {
				t.Errorf("role %q, want %q", got, want)
			}
		}
		role("", fault.ErrNotFound)
		f.inTeams(t, func(ctx context.Context, tx team.Tx) error {
			for _, wantAdded := range []bool{true, false} {
				if added, err := tx.AddMember(ctx, crew.ID, jonas.ID, team.Regular, dawn); added != wantAdded || err != nil {
					t.Errorf("added %t, %v, want %t", added, err, wantAdded)
				}
			}
			return nil
		})
		role(team.Regular, nil)
		f.inTeams(t, func(ctx context.Context, tx team.Tx) error { return tx.SetRole(ctx, crew.ID, jonas.ID, team.Manager) })
		role(team.Manager, nil)
		f.inTeams(t, func(ctx context.Context, tx team.Tx) error { return tx.RemoveMember(ctx, crew.ID, jonas.ID) })
		role("", fault.ErrNotFound)

		for name, change := range map[string]func(ctx context.Context, tx team.Tx) error{
			"remove who is not there": func(ctx context.Context, tx team.Tx) error { return tx.RemoveMember(ctx, crew.ID, jonas.ID) },
			"role of nobody":          func(ctx context.Context, tx team.Tx) error { return tx.SetRole(ctx, crew.ID, jonas.ID, team.Viewer) },
			"add nobody": func(ctx context.Context, tx team.Tx) error {
				_, err := tx.AddMember(ctx, crew.ID, "nobody", team.Viewer, dawn)
				return err
			},
			"members of no team": func(ctx context.Context, tx team.Tx) error {
				_, err := tx.Members(ctx, "none")
				return err
			},
		} {
			t.Run(name, func(t *testing.T) { wantError(t, f.Teams().Change(t.Context(), change), fault.ErrNotFound) })
		}
	})
}

// TestATeamIsNotLeftByBothOwnersAtOnce: each sees the other and goes. Only the
// lock that Members takes makes the second see that the first has left.
func TestATeamIsNotLeftByBothOwnersAtOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		for range 10 {
			a, b := f.user(t, f.id()), f.user(t, f.id())
			crew := f.team(t, "Crew", a, b)
			f.inTeams(t, func(ctx context.Context, tx team.Tx) error { return tx.SetRole(ctx, crew.ID, b.ID, team.Owner) })
			leave := func(id string) error {
				return f.Teams().Change(t.Context(), func(ctx context.Context, tx team.Tx) error {
					list, err := tx.Members(ctx, crew.ID)
					if err != nil {
						return err
					}
					if len(list) < 2 {
						return team.ErrLastOwner
					}
					return tx.RemoveMember(ctx, crew.ID, id)
				})
			}
			var both sync.WaitGroup
			for _, id := range []string{a.ID, b.ID} {
				both.Go(func() { _ = leave(id) })
			}
			both.Wait()
			if list, err := f.Teams().Members(t.Context(), crew.ID); len(list) != 1 || err != nil {
				t.Fatalf("%d members are left, %v", len(list), err)
			}
		}
	})
}

func TestAnInvitationIsFoundByItsHash(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "Mira")
		crew := f.team(t, "Crew", mira)
		invite := func(hash string, at time.Time) team.Invite {
			return team.Invite{
				ID: f.id(), TeamID: crew.ID, TeamName: "Crew", InvitedBy: mira.ID, Inviter: "Mira", Role: team.Regular,
				TokenHash: hash, CreatedAt: at, ExpiresAt: at.Add(time.Hour),
			}
		}
		older, newer := invite("hash 1", dawn), invite("hash 2", dawn.Add(time.Second))
		f.inTeams(t, func(ctx context.Context, tx team.Tx) error {
			if err := tx.CreateInvite(ctx, older); err != nil {
				return err
			}
			return tx.CreateInvite(ctx, newer)
		})
		if got, err := f.Teams().InviteByHash(t.Context(), "hash 1"); err != nil || !reflect.DeepEqual(got, older) {
			t.Errorf("%+v, %v, want %+v", got, err, older)
		}
		if got, err := f.Teams().Invites(t.Context(), crew.ID); err != nil || !reflect.DeepEqual(got, []team.Invite{newer, older}) {
			t.Errorf("all: %+v, %v", got, err)
		}
		revoke := func(ctx context.Context, tx team.Tx) error { return tx.RevokeInvite(ctx, crew.ID, older.ID, dawn) }
		f.inTeams(t, revoke)
		wantError(t, f.Teams().Change(t.Context(), revoke), fault.ErrNotFound)
		older.RevokedAt = new(dawn)
		if got, err := f.Teams().InviteByHash(t.Context(), "hash 1"); err != nil || !reflect.DeepEqual(got, older) {
			t.Errorf("revoked: %+v, %v, want %+v", got, err, older)
		}
		if got, err := f.Teams().Invites(t.Context(), crew.ID); err != nil || !reflect.DeepEqual(got, []team.Invite{newer}) {
			t.Errorf("after revoking: %+v, %v", got, err)
		}
		_, err := f.Teams().InviteByHash(t.Context(), "hash 3")
		wantError(t, err, fault.ErrNotFound)
		newer.TeamID = "none"
		wantError(t, f.Teams().Change(t.Context(), func(ctx context.Context, tx team.Tx) error {
			newer.ID, newer.TokenHash = f.id(), "hash 4"
			return tx.CreateInvite(ctx, newer)
		}), fault.ErrNotFound)
	})
}
