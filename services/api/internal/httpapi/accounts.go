package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// User is a person with an account.
type User struct {
	ID          string    `json:"id" format:"uuid"`
	Email       string    `json:"email" format:"email"`
	Name        string    `json:"name"`
	TZ          string    `json:"tz" doc:"IANA zone." example:"Europe/Berlin"`
	DayStartMin int       `json:"day_start_min" minimum:"0" maximum:"720" doc:"Minutes after midnight at which the person's day begins."`
	WeekStart   int       `json:"week_start" minimum:"0" maximum:"6" doc:"First day of the week, 0 is Sunday."`
	Locale      string    `json:"locale"`
	IsAdmin     bool      `json:"is_admin"`
	Version     int64     `json:"version" doc:"Also the ETag."`
	Today       Date      `json:"today" doc:"The day it is for this person, now."`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
}

func (s *server) user(u account.User) User {
	return User{
		ID: u.ID, Email: u.Email, Name: u.Name, TZ: u.TZ, DayStartMin: u.DayStartMin,
		WeekStart: int(u.WeekStart), Locale: u.Locale, IsAdmin: u.IsAdmin, Version: u.Version,
		Today: Date{s.Accounts.Today(u)}, CreatedAt: u.CreatedAt.UTC(), UpdatedAt: u.UpdatedAt.UTC(),
	}
}

// Registration asks for an account.
type Registration struct {
	Email    string `json:"email" minLength:"3" maxLength:"254" doc:"Used to sign in; upper and lower case are the same." example:"mira@example.org"`
	Name     string `json:"name" minLength:"1" maxLength:"80" doc:"What team-mates see." example:"Mira"`
	Password string `json:"password" minLength:"10" maxLength:"200" doc:"At least ten characters; any."`
	TZ       string `json:"tz" minLength:"1" maxLength:"64" doc:"IANA zone." example:"Europe/Berlin"`
}

// Login asks for a session.
type Login struct {
	Email    string `json:"email" minLength:"1" maxLength:"254"`
	Password string `json:"password" minLength:"1" maxLength:"200"`
}

// UserChange is what a person may change about the own account. What is left
// out stays.
type UserChange struct {
	Name        *string `json:"name,omitempty" minLength:"1" maxLength:"80"`
	TZ          *string `json:"tz,omitempty" minLength:"1" maxLength:"64" doc:"IANA zone." example:"America/Santiago"`
	DayStartMin *int    `json:"day_start_min,omitempty" minimum:"0" maximum:"720"`
	WeekStart   *int    `json:"week_start,omitempty" minimum:"0" maximum:"6" doc:"0 is Sunday."`
}

// PasswordChange replaces the password.
type PasswordChange struct {
	Current string `json:"current" minLength:"1" maxLength:"200" doc:"The password until now."`
	New     string `json:"new" minLength:"10" maxLength:"200" doc:"The password from now on, at least ten characters."`
}

// Session is a sign-in that has not ended.
type Session struct {
	ID         string    `json:"id"`
	CreatedAt  time.Time `json:"created_at"`
	LastSeenAt time.Time `json:"last_seen_at"`
	ExpiresAt  time.Time `json:"expires_at"`
	IP         string    `json:"ip"`
	UserAgent  string    `json:"user_agent"`
	Current    bool      `json:"current" doc:"It is the one that asks."`
}

// SignedIn is the answer to a sign-in.
type SignedIn struct {
	User User `json:"user"`
}

type signIn struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
	ETag      string      `header:"ETag"`
	Body      SignedIn
}

type me struct {
	ETag string `header:"ETag" doc:"The version."`
	Body User
}

type sessions struct{ Body items[Session] }

type cookieOnly struct {
	SetCookie http.Cookie `header:"Set-Cookie"`
}

func (s *server) accounts() {
	register(s, op{id: "register", route: "POST /auth/register", tag: "account", open: true, limit: signingIn, status: http.StatusCreated,
		summary: "Make an account and sign in", errors: []int{http.StatusConflict, http.StatusServiceUnavailable}},
		func(ctx context.Context, in *struct{ Body Registration }) (*signIn, error) {
			if err := s.attempt(ctx, "register", account.NormalizeEmail(in.Body.Email)); err != nil {
				return nil, err
			}
			u, err := s.Accounts.Register(ctx, account.Registration{
				Email: in.Body.Email, Name: in.Body.Name, Password: in.Body.Password, TZ: in.Body.TZ,
			})
			if err != nil {
				return nil, err
			}
			return s.signIn(ctx, u)
		})
	register(s, op{id: "login", route: "POST /auth/login", tag: "account", open: true, limit: signingIn,
		summary: "Sign in", errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable}},
		func(ctx context.Context, in *struct{ Body Login }) (*signIn, error) {
			if err := s.attempt(ctx, "login", account.NormalizeEmail(in.Body.Email)); err != nil {
				return nil, err
			}
			u, err := s.Accounts.Authenticate(ctx, in.Body.Email, in.Body.Password)
			if err != nil {
				return nil, err
			}
			return s.signIn(ctx, u)
		})
	register(s, op{id: "logout", route: "POST /auth/logout", tag: "account", status: http.StatusNoContent,
		summary: "Sign out of this session"},
		func(ctx context.Context, _ *none) (*cookieOnly, error) {
			a := asker(ctx)
			if err := s.revoke(ctx, a.user.ID, a.session.ID); err != nil {
				return nil, err
			}
			return &cookieOnly{*s.Sessions.Expired()}, nil
		})
	register(s, op{id: "getMe", route: "GET /me", tag: "account", limit: askedFirst, summary: "The own account"},
		func(ctx context.Context, _ *none) (*me, error) {
			u := asker(ctx).user
			return &me{etag(u.Version), s.user(u)}, nil
		})
	register(s, op{id: "updateMe", route: "PATCH /me", tag: "account", summary: "Change the own account",
		errors: []int{http.StatusPreconditionFailed, http.StatusPreconditionRequired}},
		func(ctx context.Context, in *struct {
			Condition
			Body UserChange
		},
		) (*me, error) {
			v, err := in.version()
			if err != nil {
				return nil, err
			}
			u, err := s.Accounts.Update(ctx, asker(ctx).user.ID, v, account.Change{
				Name: in.Body.Name, TZ: in.Body.TZ, DayStartMin: in.Body.DayStartMin, WeekStart: weekday(in.Body.WeekStart),
			})
			if err != nil {
				return nil, err
			}
			return &me{etag(u.Version), s.user(u)}, nil
		})
	register(s, op{id: "changePassword", route: "POST /me/password", tag: "account", status: http.StatusNoContent,
		summary: "Change the password", doc: "Ends every other session of the account, and gives this one a new cookie."},
		func(ctx context.Context, in *struct{ Body PasswordChange }) (*cookieOnly, error) {
			return s.changePassword(ctx, in.Body)
		})
	register(s, op{id: "listSessions", route: "GET /me/sessions", tag: "account", summary: "The own sessions"},
		func(ctx context.Context, _ *none) (*sessions, error) {
			a := asker(ctx)
			all, err := s.Sessions.List(ctx, a.user.ID)
			if err != nil {
				return nil, err
			}
			return &sessions{items[Session]{list(all, func(x session.Session) Session {
				return Session{
					ID: x.ID, CreatedAt: x.CreatedAt.UTC(), LastSeenAt: x.LastSeenAt.UTC(), ExpiresAt: x.ExpiresAt().UTC(),
					IP: x.IP, UserAgent: x.UserAgent, Current: x.ID == a.session.ID,
				}
			})}}, nil
		})
	register(s, op{id: "revokeSessions", route: "DELETE /me/sessions", tag: "account", status: http.StatusNoContent,
		summary: "Sign out everywhere", doc: "Ends every session of the account, this one too."},
		func(ctx context.Context, _ *none) (*cookieOnly, error) {
			if err := s.revokeAll(ctx, asker(ctx).user.ID, ""); err != nil {
				return nil, err
			}
			return &cookieOnly{*s.Sessions.Expired()}, nil
		})
	register(s, op{id: "revokeSession", route: "DELETE /me/sessions/{id}", tag: "account", status: http.StatusNoContent,
		summary: "End one of the own sessions", errors: []int{http.StatusNotFound}},
		func(ctx context.Context, in *struct {
			ID string `path:"id" maxLength:"64" pattern:"^[0-9A-Za-z-]+$" patternDescription:"an id"`
		},
		) (*none, error) {
			return nil, s.revoke(ctx, asker(ctx).user.ID, in.ID)
		})
}

func weekday(n *int) *time.Weekday {
	if n == nil {
		return nil
	}
	return new(time.Weekday(*n))
}
