package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// spanBatches a minute are taken from one person, or from one address without
// a session: a page sends what it has every few seconds.
const spanBatches = 120

// tracesHandler shows traces to people who are signed in. Everybody may send
// spans: pages do so before their sign-in, and the view bounds what it takes
// from all together.
func (s *stack) tracesHandler() (http.Handler, error) {
	limits, err := ratelimit.New(ratelimit.Options{
		Client: s.redis.Client(), Secret: s.limitSecret(), Log: s.log, Meter: s.telemetry.MeterProvider(),
	})
	if err != nil {
		return nil, fmt.Errorf("set up limits: %w", err)
	}
	batches, err := limits.Limiter(ratelimit.Policy{Name: "spans", Algorithm: ratelimit.GCRA, Limit: spanBatches, Window: time.Minute})
	if err != nil {
		return nil, fmt.Errorf("set up limits: %w", err)
	}
	proxies, err := ratelimit.ParseProxies(s.TrustedProxies)
	if err != nil {
		return nil, fmt.Errorf("TRUSTED_PROXIES: %w", err)
	}
	traces := s.traces.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, row, err := s.sessions.FromRequest(r.Context(), r)
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			who := []string{"address", ratelimit.Address(proxies.Client(r).String())}
			if err == nil {
				who = []string{"user", row.UserID}
			}
			d := batches.Take(r.Context(), who...)
			for _, h := range ratelimit.Headers(d) {
				w.Header().Set(h[0], h[1])
			}
			if !d.Allowed {
				http.Error(w, "spans come too often: send more of them at once", http.StatusTooManyRequests)
				return
			}
			traces.ServeHTTP(w, r)
			return
		}
		switch {
		case errors.Is(err, session.ErrNone) && strings.Contains(r.Header.Get("Accept"), "text/html"):
			http.Redirect(w, r, "/login", http.StatusSeeOther)
			return
		case errors.Is(err, session.ErrNone):
			http.Error(w, "sign in to see traces", http.StatusUnauthorized)
			return
		case err != nil:
			s.log.ErrorContext(r.Context(), "cannot tell who asks for traces", "error", err)
			http.Error(w, "cannot tell who you are just now; try again", http.StatusServiceUnavailable)
			return
		}
		if row, touched, err := s.sessions.Touch(r.Context(), row); err != nil {
			s.log.WarnContext(r.Context(), "session not renewed", "error", err)
		} else if touched {
			http.SetCookie(w, s.sessions.Cookie(token, row))
		}
		traces.ServeHTTP(w, r)
	}), nil
}
