package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/oklog/ulid/v2"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// askerKey is the context key of who asks.
type askerKey struct{}

// askerInfo is who asks, and in which session.
type askerInfo struct {
	user    account.User
	session session.Session
}

// asker returns who asks. Only operations that need a session may call it.
func asker(ctx context.Context) askerInfo {
	a, _ := ctx.Value(askerKey{}).(askerInfo)
	return a
}

// signedIn lets an operation that needs a session have one, or answers 401.
func (s *server) signedIn(c huma.Context, next func(huma.Context)) {
	if len(c.Operation().Security) == 0 {
		next(c)
		return
	}
	ctx := c.Context()
	a, cookie, err := s.find(ctx, c)
	if cookie != nil {
		c.AppendHeader("Set-Cookie", cookie.String())
	}
	switch {
	case errors.Is(err, session.ErrNone):
		if over := s.strange(c); over != nil {
			err = over
		}
	case err == nil:
		err = take(ctx, s.limits.user, a.user.ID)
	}
	if err == nil && c.Operation().Metadata["admin"] == true {
		err = s.mayRun(ctx, a.user.ID)
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	// Answers belong to one person: no shared cache may keep them.
	c.SetHeader("Cache-Control", "private, no-store")
	next(huma.WithValue(c, askerKey{}, a))
}

// mayRun refuses who is no admin.
func (s *server) mayRun(ctx context.Context, userID string) error {
	isAdmin, err := s.Accounts.Admin(ctx, userID)
	if err == nil && !isAdmin {
		return errAdminsOnly
	}
	return err
}

// find returns who asks, and the cookie to send along: a session that is used
// lives on, and one that is over is forgotten by the browser too.
func (s *server) find(ctx context.Context, c huma.Context) (askerInfo, *http.Cookie, error) {
	r := &http.Request{Header: http.Header{"Cookie": {c.Header("Cookie")}}}
	token, found, err := s.Sessions.FromRequest(ctx, r)
	if errors.Is(err, session.ErrReplaced) {
		return s.resume(ctx, r)
	}
	if err != nil {
		return askerInfo{}, s.forget(r, err), err
	}
	u, err := s.owner(ctx, found)
	if err != nil {
		return askerInfo{}, nil, err
	}
	if found.Renew {
		token, fresh, err := s.Sessions.Exchange(ctx, found)
		switch {
		case err == nil:
			return askerInfo{u, fresh}, s.Sessions.Cookie(token, fresh), nil
		case errors.Is(err, session.ErrReplaced):
			return s.resume(ctx, r) // another request of the page was faster
		case errors.Is(err, session.ErrNone):
			return askerInfo{}, nil, err
		}
		// It is asked for again next time; rights are read from the database
		// for every request, so that nothing is allowed by it.
		s.Log.WarnContext(ctx, "session not rotated", "error", err)
	}
	touched, renewed, err := s.Sessions.Touch(ctx, found)
	if err != nil {
		// It stays valid for what is left of it; no reason to refuse work.
		s.Log.WarnContext(ctx, "session not renewed", "error", err)
		return askerInfo{u, found}, nil, nil
	}
	if !renewed {
		return askerInfo{u, found}, nil, nil
	}
	return askerInfo{u, touched}, s.Sessions.Cookie(token, touched), nil
}

// resume is find for who has a token that is over. The answer with the new one
// may have been lost on its way: it is sent again, until it is used.
func (s *server) resume(ctx context.Context, r *http.Request) (askerInfo, *http.Cookie, error) {
	token, found, err := s.Sessions.Resume(ctx, r)
	if err != nil {
		return askerInfo{}, nil, err // no end to the cookie: the new one may arrive before this answer
	}
	u, err := s.owner(ctx, found)
	if err != nil {
		return askerInfo{}, nil, err
	}
	return askerInfo{u, found}, s.Sessions.Cookie(token, found), nil
}

func (s *server) owner(ctx context.Context, found session.Session) (account.User, error) {
	u, err := s.Accounts.User(ctx, found.UserID)
	if errors.Is(err, fault.ErrNotFound) {
		err = session.ErrNone // the account is gone, and the sign-in with it
	}
	return u, err
}

// forget returns a cookie that ends the one sent, if that can never work again.
func (s *server) forget(r *http.Request, err error) *http.Cookie {
	expired := s.Sessions.Expired()
	if _, none := r.Cookie(expired.Name); none != nil || !errors.Is(err, session.ErrNone) {
		return nil
	}
	return expired
}

// rotate gives a session a new token, and returns the cookie that carries it.
func (s *server) rotate(ctx context.Context, old session.Session) (session.Session, *http.Cookie, error) {
	token, fresh, err := s.Sessions.Rotate(ctx, old)
	if err != nil {
		return session.Session{}, nil, err
	}
	return fresh, s.Sessions.Cookie(token, fresh), nil
}

// rightsChanged has the sessions of a person rotated at their next use. The
// rights have changed by now, and count whether this works or not.
func (s *server) rightsChanged(ctx context.Context, userID string) {
	if err := s.Sessions.Renew(ctx, userID); err != nil {
		s.Log.WarnContext(ctx, "sessions not renewed after a change of rights", "user_id", userID, "error", err)
	}
}

// refuse writes the problem of err where a handler does not get its turn.
func (s *server) refuse(c huma.Context, err error) {
	p := *problem(err)
	p.TraceID = traceID(c.Context())
	if p.Status >= 500 {
		s.Log.ErrorContext(c.Context(), "session not found out", "operation", c.Operation().OperationID, "error", err)
	}
	c.SetHeader("Content-Type", p.ContentType(""))
	c.SetStatus(p.Status)
	// The asker may have gone; there is nobody else to tell.
	_ = json.NewEncoder(c.BodyWriter()).Encode(p)
}

// signIn starts a session for u, and ends the one that the browser came with:
// a session that was there before knows nothing of what comes after.
func (s *server) signIn(ctx context.Context, u account.User) (*signIn, error) {
	from := callerOf(ctx)
	r := &http.Request{Header: http.Header{"Cookie": {from.cookie}}}
	_, old, err := s.Sessions.FromRequest(ctx, r)
	var token string
	var started session.Session
	switch {
	case errors.Is(err, session.ErrNone):
		token, started, err = s.Sessions.Create(ctx, u.ID, from.ip, from.agent)
	case err == nil:
		token, started, err = s.Sessions.Replace(ctx, old, u.ID, from.ip, from.agent)
	}
	if err != nil {
		return nil, err
	}
	return &signIn{*s.Sessions.Cookie(token, started), etag(u.Version), SignedIn{s.user(u)}}, nil
}

// revoke ends a session, and tells the pages that are open in it.
func (s *server) revoke(ctx context.Context, userID, sessionID string) error {
	if err := s.Sessions.Revoke(ctx, userID, sessionID); err != nil {
		if errors.Is(err, session.ErrNone) {
			return fault.ErrNotFound
		}
		return err
	}
	return s.tellRevoked(ctx, userID, sessionID)
}

func (s *server) tellRevoked(ctx context.Context, userID string, ids ...string) error {
	if s.Emit == nil || len(ids) == 0 {
		return nil
	}
	events := make([]event.Event, 0, len(ids))
	for _, id := range ids {
		data, err := json.Marshal(map[string]string{"session_id": id})
		if err != nil {
			return err
		}
		events = append(events, event.Event{
			ID: ulid.Make().String(), Channel: account.Channel(userID), Name: "session_revoked",
			Class: event.Durable, Data: data, At: time.Now(),
		})
	}
	return s.Emit(ctx, events...)
}

// revokeAll ends all sessions of a person but one, which may be none.
func (s *server) revokeAll(ctx context.Context, userID, exceptID string) error {
	ids, err := s.Sessions.RevokeAll(ctx, userID, exceptID)
	if err != nil {
		return err
	}
	return s.tellRevoked(ctx, userID, ids...)
}

// changePassword sets a new password and ends all other sessions: who knew
// the old one is out. This one goes on under a new token, in case the old one
// was known too.
func (s *server) changePassword(ctx context.Context, c PasswordChange) (*cookieOnly, error) {
	a := asker(ctx)
	if err := s.attempt(ctx, "password", a.user.ID); err != nil {
		return nil, err
	}
	if err := s.Accounts.SetPassword(ctx, a.user.ID, c.Current, c.New); err != nil {
		return nil, err
	}
	if err := s.revokeAll(ctx, a.user.ID, a.session.ID); err != nil {
		return nil, err
	}
	_, cookie, err := s.rotate(ctx, a.session)
	if err != nil {
		return nil, err
	}
	return &cookieOnly{*cookie}, nil
}
