package team

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/caching"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// Channel is where a team is told about its members and what they share.
func Channel(teamID string) string { return habit.FeedChannel(teamID) }

// Config is what teams need.
type Config struct {
	Store Store
	Cache *tiered.Store
	Now   func() time.Time // time.Now if nil
}

// Teams are all teams. Every method acts for somebody, and treats teams that
// the person does not belong to as if there were none.
type Teams struct {
	store Store
	cache *tiered.Store
	teams *tiered.Cache[string, Overview]
	now   func() time.Time
}

// Overview is a team with its members, and the role of who asks.
type Overview struct {
	Team    Team
	Role    string
	Members []Member // by name
}

// New returns the teams of a store.
func New(c Config) (*Teams, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	teams, err := caching.Open[Overview](c.Cache, caching.Teams)
	if err != nil {
		return nil, err
	}
	return &Teams{c.Store, c.Cache, teams, c.Now}, nil
}

// rights says who may do what. A right that is not here is nobody's.
var rights = map[string][]string{
	"read":   {Owner, Manager, Regular, Viewer},
	"change": {Owner, Manager},
	"invite": {Owner, Manager},
	"roles":  {Owner},
}

// may returns the role of by in a team if it carries a right. The role comes
// from the store, not the cache: a rule needs the truth.
func (ts *Teams) may(ctx context.Context, by account.User, teamID, right string) (string, error) {
	role, err := ts.store.Role(ctx, teamID, by.ID)
	if err != nil {
		return "", fmt.Errorf("find role in team %s: %w", teamID, err)
	}
	if !slices.Contains(rights[right], role) {
		return "", fmt.Errorf("%s team %s as %s: %w", right, teamID, role, fault.ErrForbidden)
	}
	return role, nil
}

// Create makes a team that by owns. Without a zone it has that of by.
func (ts *Teams) Create(ctx context.Context, by account.User, name, tz string) (Overview, error) {
	name, err := cleanName(name)
	if err != nil {
		return Overview{}, err
	}
	if tz == "" {
		tz = by.TZ
	}
	if err := checkZone(tz); err != nil {
		return Overview{}, err
	}
	now := ts.now().Truncate(time.Millisecond)
	t := Team{
		ID: uuid.Must(uuid.NewV7()).String(), Name: name, Slug: slug(name), TZ: tz, WeekStart: by.WeekStart,
		Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	base := t.Slug
	for try := 0; ; try++ {
		err = ts.store.Change(ctx, func(ctx context.Context, tx Tx) error {
			if err := tx.CreateTeam(ctx, t); err != nil {
				return err
			}
			if _, err := tx.AddMember(ctx, t.ID, by.ID, Owner, now); err != nil {
				return err
			}
			return ts.tellJoined(ctx, tx, t.ID, by, Owner, now)
		})
		if !errors.Is(err, fault.ErrConflict) || try == 4 {
			break
		}
		t.Slug = base + "-" + strings.ToLower(ulid.Make().String()[20:])
	}
	if err != nil {
		return Overview{}, fmt.Errorf("create team: %w", err)
	}
	return Overview{t, Owner, []Member{{by.ID, by.Name, Owner, now}}}, nil
}

// List returns the teams of by, by name.
func (ts *Teams) List(ctx context.Context, by account.User) ([]Membership, error) {
	all, err := ts.store.TeamsOf(ctx, by.ID)
	if err != nil {
		return nil, fmt.Errorf("list teams of %s: %w", by.ID, err)
	}
	return all, nil
}

// Team returns a team of by.
func (ts *Teams) Team(ctx context.Context, by account.User, id string) (Overview, error) {
	role, err := ts.may(ctx, by, id, "read")
	if err != nil {
		return Overview{}, err
	}
	return ts.overview(ctx, id, role)
}

func (ts *Teams) overview(ctx context.Context, id, role string) (Overview, error) {
	o, err := ts.teams.GetOrLoad(ctx, id, func(ctx context.Context, id string, _ *tiered.Load[Overview]) (Overview, error) {
		t, err := ts.store.Team(ctx, id)
		if err != nil {
			return Overview{}, err
		}
		members, err := ts.store.Members(ctx, id)
		return Overview{Team: t, Members: members}, err
	}, tiered.Tags(tag(id)))
	if err != nil {
		return Overview{}, fmt.Errorf("read team %s: %w", id, err)
	}
	o.Role = role
	return o, nil
}

// Change is what is to be changed of a team; nil stays.
type Change struct {
	Name *string
	TZ   *string
}

// Update changes a team that was read with a version; 0 is any version.
func (ts *Teams) Update(ctx context.Context, by account.User, id string, version int64, c Change) (Overview, error) {
	role, err := ts.may(ctx, by, id, "change")
	if err != nil {
		return Overview{}, err
	}
	t, err := ts.store.Team(ctx, id)
	if err != nil {
		return Overview{}, fmt.Errorf("update team %s: %w", id, err)
	}
	if version != 0 && version != t.Version {
		return Overview{}, fmt.Errorf("update team %s: %w", id, fault.ErrStale)
	}
	if c.Name != nil {
		if t.Name, err = cleanName(*c.Name); err != nil {
			return Overview{}, err
		}
	}
	if c.TZ != nil {
		if err := checkZone(*c.TZ); err != nil {
			return Overview{}, err
		}
		t.TZ = *c.TZ
	}
	t.Version++
	t.UpdatedAt = ts.now().Truncate(time.Millisecond)
	err = ts.store.Change(ctx, func(ctx context.Context, tx Tx) error { return tx.SaveTeam(ctx, t) })
	if err != nil {
		return Overview{}, fmt.Errorf("save team %s: %w", id, err)
	}
	ts.forget(ctx, id)
	return ts.overview(ctx, id, role)
}

// SetRole gives a member another role. Only owners may, and one must remain.
func (ts *Teams) SetRole(ctx context.Context, by account.User, teamID, userID, role string) (Overview, error) {
	mine, err := ts.may(ctx, by, teamID, "roles")
	if err != nil {
		return Overview{}, err
	}
	if !slices.Contains([]string{Owner, Manager, Regular, Viewer}, role) {
		return Overview{}, fault.Invalidf("role", "%q is unknown: send one of owner, manager, member, viewer", role)
	}
	err = ts.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		members, err := tx.Members(ctx, teamID)
		if err != nil {
			return err
		}
		if find(members, by.ID).Role != Owner {
			return fault.ErrForbidden // it was taken from by a moment ago
		}
		switch m := find(members, userID); {
		case m.UserID == "":
			return fault.ErrNotFound
		case m.Role == Owner && role != Owner && owners(members) == 1:
			return ErrLastOwner
		}
		return tx.SetRole(ctx, teamID, userID, role)
	})
	if err != nil {
		return Overview{}, fmt.Errorf("set role in team %s: %w", teamID, err)
	}
	ts.forget(ctx, teamID)
	if userID == by.ID {
		mine = role
	}
	return ts.overview(ctx, teamID, mine)
}

// Remove takes a member out of a team: oneself, or, for owners, anybody, or,
// for managers, those who manage nothing. An owner must remain.
func (ts *Teams) Remove(ctx context.Context, by account.User, teamID, userID string) error {
	if _, err := ts.may(ctx, by, teamID, "read"); err != nil {
		return err
	}
	err := ts.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		members, err := tx.Members(ctx, teamID)
		if err != nil {
			return err
		}
		mine, gone := find(members, by.ID).Role, find(members, userID)
		switch {
		case mine == "" || gone.UserID == "":
			return fault.ErrNotFound
		case by.ID != userID && mine != Owner && (mine != Manager || gone.Role == Owner || gone.Role == Manager):
			return fault.ErrForbidden
		case gone.Role == Owner && owners(members) == 1:
			return ErrLastOwner
		}
		if err := tx.RemoveMember(ctx, teamID, userID); err != nil {
			return err
		}
		return ts.tell(ctx, tx, Channel(teamID), "member_left", ts.now(), map[string]any{"user_id": userID})
	})
	if err != nil {
		return fmt.Errorf("remove member of team %s: %w", teamID, err)
	}
	ts.forget(ctx, teamID)
	return nil
}

// Feed returns lines of a team's feed, newest first, and what to send as
// before for the next ones; empty at the end.
func (ts *Teams) Feed(ctx context.Context, by account.User, teamID, before string, limit int) ([]habit.Activity, string, error) {
	if _, err := ts.may(ctx, by, teamID, "read"); err != nil {
		return nil, "", err
	}
	limit = min(max(limit, 1), 100)
	lines, err := ts.store.Feed(ctx, teamID, before, limit+1)
	if err != nil {
		return nil, "", fmt.Errorf("read feed of team %s: %w", teamID, err)
	}
	if len(lines) <= limit {
		return lines, "", nil
	}
	return lines[:limit], lines[limit-1].ID, nil
}

// tellJoined tells the team of a new member, and the member, who may follow the
// team nowhere yet.
func (ts *Teams) tellJoined(ctx context.Context, tx Tx, teamID string, u account.User, role string, at time.Time) error {
	if err := ts.tell(ctx, tx, Channel(teamID), "member_joined", at, map[string]any{
		"user_id": u.ID, "user_name": u.Name, "role": role, "joined_at": at.UTC(),
	}); err != nil {
		return err
	}
	return ts.tell(ctx, tx, account.Channel(u.ID), "team_joined", at, map[string]any{"team_id": teamID, "role": role})
}

func (ts *Teams) tell(ctx context.Context, tx Tx, channel, name string, at time.Time, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return fmt.Errorf("write event %s: %w", name, err)
	}
	return tx.Emit(ctx, event.Event{
		ID: ulid.Make().String(), Channel: channel, Name: name, Class: event.Durable,
		Data: raw, At: at,
	})
}

// forget drops what is cached of a team. It is called after a commit: if it
// fails, readers see the old state until its TTL; that is no reason to report
// a failed change. The caller may be gone; the cache must hear of it.
func (ts *Teams) forget(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = ts.cache.InvalidateTags(ctx, tag(id))
}

func tag(teamID string) string { return "team:" + teamID }

func find(members []Member, userID string) Member {
	for _, m := range members {
		if m.UserID == userID {
			return m
		}
	}
	return Member{}
}

func owners(members []Member) (n int) {
	for _, m := range members {
		if m.Role == Owner {
			n++
		}
	}
	return n
}

func cleanName(s string) (string, error) {
	s = strings.TrimSpace(s)
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "", fault.Invalidf("name", "it holds characters that cannot be shown: send plain text")
	case n < 1 || n > 60:
		return "", fault.Invalidf("name", "it has %d characters: send 1 to 60", n)
	}
	return s, nil
}

func checkZone(name string) error {
	if _, err := civil.LoadZone(name); err != nil {
		return fault.Invalidf("tz", "%q is not a zone that is known here: send an IANA name like Europe/Berlin", name)
	}
	return nil
}

// slug returns a name as it may stand in an address.
func slug(name string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	if s := strings.Trim(b.String(), "-"); s != "" {
		return s
	}
	return "team"
}
