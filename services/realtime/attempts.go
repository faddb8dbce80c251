package realtime

import (
	"fmt"
	"net/http"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

// attemptLimit bounds how often somebody tries to connect. A page comes again
// within seconds when it is cut off, with all its tabs, so bursts are well; but
// each try costs a look at sessions and places.
func (c Config) attemptLimit() (*ratelimit.Limiter, error) {
	limits, err := ratelimit.New(ratelimit.Options{Client: c.Redis, Secret: c.Secret, Timeout: c.Limits.Wait, Log: c.Log, Meter: c.Meter})
	if err != nil {
		return nil, fmt.Errorf("set up limits: %w", err)
	}
	l, err := limits.Limiter(ratelimit.Policy{Name: "connections", Algorithm: ratelimit.GCRA, Limit: c.Limits.Attempts, Window: time.Minute})
	if err != nil {
		return nil, fmt.Errorf("set up limits: %w", err)
	}
	return l, nil
}

// limited counts a try, by the person whose session comes with it, or else by
// address, and lets refuse answer one too many. Who shows a ticket is a stranger
// still: tickets are good for once, and counted where they are made.
func (s *Server) limited(next, refuse http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		who := []string{"address", ratelimit.Address(s.c.proxies.Client(r).String())}
		if _, session, err := s.c.Sessions.FromRequest(r.Context(), r); err == nil {
			who = []string{"user", session.UserID}
		}
		d := s.attempts.Take(r.Context(), who...)
		if d.Allowed {
			next(w, r)
			return
		}
		for _, h := range ratelimit.Headers(d) {
			w.Header().Set(h[0], h[1])
		}
		refuse(w, r)
	}
}

func refuseAttempt(w http.ResponseWriter, _ *http.Request) {
	socket.Problem(w, http.StatusTooManyRequests, "quota-exceeded", "Too many tries to connect",
		"Wait for as many seconds as the header Retry-After says, then connect again.")
}
