package httpapi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
)

// Team is a group of people who see each other's shared habits.
type Team struct {
	ID        string    `json:"id" format:"uuid"`
	Name      string    `json:"name"`
	Slug      string    `json:"slug" doc:"The name for addresses; unique."`
	TZ        string    `json:"tz" doc:"IANA zone."`
	WeekStart int       `json:"week_start" minimum:"0" maximum:"6" doc:"0 is Sunday."`
	Version   int64     `json:"version" doc:"Also the ETag."`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func teamOf(t team.Team) Team {
	return Team{t.ID, t.Name, t.Slug, t.TZ, int(t.WeekStart), t.Version, t.CreatedAt.UTC(), t.UpdatedAt.UTC()}
}

// Member is a person in a team.
type Member struct {
	UserID   string    `json:"user_id" format:"uuid"`
	Name     string    `json:"name"`
	Role     string    `json:"role" enum:"owner,manager,member,viewer"`
	JoinedAt time.Time `json:"joined_at"`
}

func memberOf(m team.Member) Member { return Member{m.UserID, m.Name, m.Role, m.JoinedAt.UTC()} }

// TeamSummary is a team with the own role and the number of its members.
type TeamSummary struct {
	Team    Team   `json:"team"`
	Role    string `json:"role" enum:"owner,manager,member,viewer" doc:"The asker's."`
	Members int    `json:"members" doc:"How many."`
}

// TeamDetail is a team with the own role and its members.
type TeamDetail struct {
	Team    Team     `json:"team"`
	Role    string   `json:"role" enum:"owner,manager,member,viewer" doc:"The asker's."`
	Members []Member `json:"members" doc:"By name."`
}

// TeamDraft asks for a team.
type TeamDraft struct {
	Name string `json:"name" minLength:"1" maxLength:"60" example:"Harbor Crew"`
	TZ   string `json:"tz,omitempty" maxLength:"64" doc:"IANA zone; the own one if left out."`
}

// TeamChange changes a team; what is left out stays.
type TeamChange struct {
	Name *string `json:"name,omitempty" minLength:"1" maxLength:"60"`
	TZ   *string `json:"tz,omitempty" minLength:"1" maxLength:"64"`
}

// RoleChange gives a member a role.
type RoleChange struct {
	Role string `json:"role" enum:"owner,manager,member,viewer"`
}

// Activity is a line of a team's feed: a member has done a habit on a day.
type Activity struct {
	ID        string    `json:"id" doc:"Also the id of the event that told it."`
	UserID    string    `json:"user_id" format:"uuid"`
	UserName  string    `json:"user_name"`
	HabitID   string    `json:"habit_id" format:"uuid"`
	HabitName string    `json:"habit_name"`
	Day       Date      `json:"day"`
	At        time.Time `json:"at"`
}

// ActivityPage is a part of a feed, newest first.
type ActivityPage struct {
	Items      []Activity `json:"items"`
	NextBefore *string    `json:"next_before" doc:"Send as before for the next page; null at the end."`
}

type oneTeam struct {
	ETag string `header:"ETag" doc:"The team's version."`
	Body TeamDetail
}

func answerTeam(o team.Overview, err error) (*oneTeam, error) {
	if err != nil {
		return nil, err
	}
	return &oneTeam{etag(o.Team.Version), TeamDetail{teamOf(o.Team), o.Role, list(o.Members, memberOf)}}, nil
}

// TeamPath names a team.
type TeamPath struct {
	ID string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id" doc:"The team."`
}

// MemberPath names a member of a team.
type MemberPath struct {
	TeamPath
	UserID string `path:"user_id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id" doc:"The member."`
}

func (s *server) teams() {
	register(s, op{id: "listTeams", route: "GET /teams", tag: "teams", summary: "The own teams"},
		func(ctx context.Context, _ *none) (*struct{ Body items[TeamSummary] }, error) {
			all, err := s.Teams.List(ctx, asker(ctx).user)
			if err != nil {
				return nil, err
			}
			return &struct{ Body items[TeamSummary] }{items[TeamSummary]{list(all, func(m team.Membership) TeamSummary {
				return TeamSummary{teamOf(m.Team), m.Role, m.Members}
			})}}, nil
		})
	register(s, op{id: "createTeam", route: "POST /teams", tag: "teams", summary: "Make a team, as its owner", status: http.StatusCreated},
		func(ctx context.Context, in *struct{ Body TeamDraft }) (*oneTeam, error) {
			return answerTeam(s.Teams.Create(ctx, asker(ctx).user, in.Body.Name, in.Body.TZ))
		})
	register(s, op{id: "getTeam", route: "GET /teams/{id}", tag: "teams", summary: "A team and its members", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *TeamPath) (*oneTeam, error) {
			return answerTeam(s.Teams.Team(ctx, asker(ctx).user, in.ID))
		})
	register(s, op{id: "updateTeam", route: "PATCH /teams/{id}", tag: "teams", summary: "Change a team",
		errors: []int{http.StatusNotFound, http.StatusPreconditionFailed, http.StatusPreconditionRequired}},
		func(ctx context.Context, in *struct {
			TeamPath
			Condition
			Body TeamChange
		},
		) (*oneTeam, error) {
			v, err := in.version()
			if err != nil {
				return nil, err
			}
			return answerTeam(s.Teams.Update(ctx, asker(ctx).user, in.ID, v, team.Change{Name: in.Body.Name, TZ: in.Body.TZ}))
		})
	register(s, op{id: "setMemberRole", route: "PUT /teams/{id}/members/{user_id}/role", tag: "teams", summary: "Give a member a role",
		errors: []int{http.StatusNotFound, http.StatusConflict}},
		func(ctx context.Context, in *struct {
			MemberPath
			Body RoleChange
		},
		) (*oneTeam, error) {
			o, err := s.Teams.SetRole(ctx, asker(ctx).user, in.ID, in.UserID, in.Body.Role)
			if err == nil {
				s.rightsChanged(ctx, in.UserID)
			}
			return answerTeam(o, err)
		})
	register(s, op{id: "removeMember", route: "DELETE /teams/{id}/members/{user_id}", tag: "teams", status: http.StatusNoContent,
		summary: "Leave a team, or take somebody out of it", errors: []int{http.StatusNotFound, http.StatusConflict}},
		func(ctx context.Context, in *MemberPath) (*none, error) {
			if err := s.Teams.Remove(ctx, asker(ctx).user, in.ID, in.UserID); err != nil {
				return nil, err
			}
			s.rightsChanged(ctx, in.UserID)
			return nil, nil
		})
	register(s, op{id: "listActivity", route: "GET /teams/{id}/activity", tag: "teams", summary: "The feed of a team, newest first",
		errors: []int{http.StatusNotFound}}, s.activity)
}

type activityPage struct {
	Position
	Body ActivityPage
}

func (s *server) activity(ctx context.Context, in *struct {
	TeamPath
	Before string `query:"before" maxLength:"26" pattern:"^[0-9A-HJKMNP-TV-Z]{26}$" patternDescription:"an id of this feed" doc:"Only lines older than the one with this id."`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"30"`
},
) (*activityPage, error) {
	pos := s.position(ctx, team.Channel(in.ID)) // before the query: never past what was read
	lines, next, err := s.Teams.Feed(ctx, asker(ctx).user, in.ID, in.Before, in.Limit)
	if err != nil {
		return nil, err
	}
	out := &activityPage{Position: pos}
	out.Body.Items = list(lines, func(a habit.Activity) Activity {
		return Activity{a.ID, a.UserID, a.UserName, a.HabitID, a.HabitName, Date{a.Day}, a.At.UTC()}
	})
	if next != "" {
		out.Body.NextBefore = &next
	}
	return out, nil
}

// InviteDraft asks for a link that lets people join.
type InviteDraft struct {
	Role          string `json:"role,omitempty" enum:"manager,member,viewer" default:"member" doc:"The role of those who join with it."`
	ExpiresInDays int    `json:"expires_in_days,omitempty" minimum:"1" maximum:"30" default:"7"`
}

// NewInvite is a link that lets people join. Token and link are shown this
// once; only their hash is kept.
type NewInvite struct {
	ID        string    `json:"id" format:"uuid"`
	Role      string    `json:"role" enum:"manager,member,viewer"`
	Token     string    `json:"token"`
	Link      string    `json:"link" format:"uri"`
	ExpiresAt time.Time `json:"expires_at"`
}

// Invite is a link that still works.
type Invite struct {
	ID          string    `json:"id" format:"uuid"`
	Role        string    `json:"role" enum:"manager,member,viewer"`
	InviterName string    `json:"inviter_name"`
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
}

// InviteToken is the secret of a link.
type InviteToken struct {
	Token string `json:"token" minLength:"10" maxLength:"100"`
}

// InviteInfo tells the holder of a link what it is for.
type InviteInfo struct {
	TeamName    string    `json:"team_name"`
	InviterName string    `json:"inviter_name"`
	Role        string    `json:"role" enum:"manager,member,viewer"`
	ExpiresAt   time.Time `json:"expires_at"`
}

func (s *server) invites() {
	register(s, op{id: "createInvite", route: "POST /teams/{id}/invites", tag: "teams", summary: "Make a link that lets people join",
		status: http.StatusCreated, errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			TeamPath
			Body InviteDraft
		},
		) (*struct{ Body NewInvite }, error) {
			inv, token, err := s.Teams.Invite(ctx, asker(ctx).user, in.ID, in.Body.Role, time.Duration(in.Body.ExpiresInDays)*24*time.Hour)
			if err != nil {
				return nil, err
			}
			// After the #, so that no server and no proxy logs it.
			link := strings.TrimRight(s.PublicURL, "/") + "/join#" + token
			return &struct{ Body NewInvite }{NewInvite{inv.ID, inv.Role, token, link, inv.ExpiresAt.UTC()}}, nil
		})
	register(s, op{id: "listInvites", route: "GET /teams/{id}/invites", tag: "teams", summary: "The links that still work", errors: []int{http.StatusNotFound, http.StatusForbidden}},
		func(ctx context.Context, in *TeamPath) (*struct{ Body items[Invite] }, error) {
			all, err := s.Teams.Invites(ctx, asker(ctx).user, in.ID)
			if err != nil {
				return nil, err
			}
			return &struct{ Body items[Invite] }{items[Invite]{list(all, func(i team.Invite) Invite {
				return Invite{i.ID, i.Role, i.Inviter, i.CreatedAt.UTC(), i.ExpiresAt.UTC()}
			})}}, nil
		})
	register(s, op{id: "revokeInvite", route: "DELETE /teams/{id}/invites/{invite_id}", tag: "teams", status: http.StatusNoContent,
		summary: "Make a link stop working", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			TeamPath
			InviteID string `path:"invite_id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id"`
		},
		) (*none, error) {
			return nil, s.Teams.Revoke(ctx, asker(ctx).user, in.ID, in.InviteID)
		})
	register(s, op{id: "lookupInvite", route: "POST /invites/lookup", tag: "teams", open: true, summary: "What a link is for", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct{ Body InviteToken }) (*struct{ Body InviteInfo }, error) {
			i, err := s.Teams.Lookup(ctx, in.Body.Token)
			if err != nil {
				return nil, err
			}
			return &struct{ Body InviteInfo }{InviteInfo{i.TeamName, i.Inviter, i.Role, i.ExpiresAt.UTC()}}, nil
		})
	register(s, op{id: "acceptInvite", route: "POST /invites/accept", tag: "teams", summary: "Join a team by a link", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct{ Body InviteToken }) (*oneTeam, error) {
			return answerTeam(s.Teams.Accept(ctx, asker(ctx).user, in.Body.Token))
		})
}

func (s *server) health() {
	register(s, op{id: "getHealth", route: "GET /api/health", tag: "health", open: true, limit: unlimited, summary: "How the parts are"},
		func(context.Context, *none) (*struct {
			CacheControl string `header:"Cache-Control"`
			Body         Health
		}, error,
		) {
			return &struct {
				CacheControl string `header:"Cache-Control"`
				Body         Health
			}{"no-store", s.Health()}, nil
		})
}
