package session

import (
	"context"
	"errors"
	"net/http"
	"time"
)

const hostPrefix = "__Host-"

// Cookie returns the cookie that carries token. It ends with the session, so
// it is to be sent again whenever [Sessions.Touch] has put that end off.
func (s *Sessions) Cookie(token string, row Session) *http.Cookie {
	return s.cookie(token, max(1, int(row.IdleExpiresAt.Sub(s.clock())/time.Second)))
}

// Expired returns the cookie that makes a browser forget its token.
func (s *Sessions) Expired() *http.Cookie {
	return s.cookie("", -1)
}

func (s *Sessions) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // Secure is false only where the public URL is plain HTTP
		Name:     s.config.CookieName,
		Value:    value,
		Path:     "/",
		MaxAge:   maxAge,
		HttpOnly: true,
		Secure:   s.config.Secure,
		SameSite: http.SameSiteLaxMode,
	}
}

// FromRequest returns the token of a request and its session, as
// [Sessions.Lookup] does. Of several cookies of the name the first that is
// good counts: a browser may send one that was set for a path long ago.
func (s *Sessions) FromRequest(ctx context.Context, r *http.Request) (token string, _ Session, err error) {
	none := ErrNone
	for _, c := range r.CookiesNamed(s.config.CookieName) {
		row, err := s.Lookup(ctx, c.Value)
		if errors.Is(err, ErrReplaced) {
			none = err
		}
		if errors.Is(err, ErrNone) {
			continue
		}
		return c.Value, row, err
	}
	return "", Session{}, none
}
