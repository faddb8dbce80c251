package realtime

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
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

// known is the context key of who a request was found to be from.
type known struct{}

// limited counts a try, by the person whose session comes with it, or else by
// address, and lets refuse answer one too many. Who shows a ticket is a stranger
// still: tickets are good for once, and counted where they are made.
//
// Only so many requests are answered at a time. Each holds stacks and buffers,
// and asks the database: thousands that come at once, as after an outage, are
// not answered sooner for all being begun. What next returns, if not nil, waits
// for the end of an answer that lasts, when others have their turn.
func (s *Server) limited(next func(http.ResponseWriter, *http.Request) (wait func()), refuse http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if wait := s.inTurn(w, r, next, refuse); wait != nil {
			wait()
		}
	}
}

func (s *Server) inTurn(w http.ResponseWriter, r *http.Request, next func(http.ResponseWriter, *http.Request) (wait func()), refuse http.HandlerFunc) (wait func()) {
	select {
	case s.turns <- struct{}{}:
		defer func() { <-s.turns }()
	case <-r.Context().Done():
		return nil // it has left
	}
	who := []string{"address", ratelimit.Address(s.c.proxies.Client(r).String())}
	if token, session, err := s.c.Sessions.FromRequest(r.Context(), r); err == nil {
		who = []string{"user", session.UserID}
		r = r.WithContext(context.WithValue(r.Context(), known{}, identity(token, session)))
	}
	d := s.attempts.Take(r.Context(), who...)
	if d.Allowed {
		return next(w, r)
	}
	for _, h := range ratelimit.Headers(d) {
		w.Header().Set(h[0], h[1])
	}
	refuse(w, r)
	return nil
}

// turns returns the places of requests that are answered at once: some wait for
// the database while the processors work for others.
func turns() chan struct{} { return make(chan struct{}, max(16, 4*runtime.GOMAXPROCS(0))) }

// atOnce is a handler that is done when it returns.
func atOnce(h http.HandlerFunc) func(http.ResponseWriter, *http.Request) func() {
	return func(w http.ResponseWriter, r *http.Request) func() { h(w, r); return nil }
}

// afterwards is a handler that begins when others have their turn: it reads
// what a client sends, however slowly.
func afterwards(h http.HandlerFunc) func(http.ResponseWriter, *http.Request) func() {
	return func(w http.ResponseWriter, r *http.Request) func() { return func() { h(w, r) } }
}

func refuseAttempt(w http.ResponseWriter, _ *http.Request) {
	socket.Problem(w, http.StatusTooManyRequests, "quota-exceeded", "Too many tries to connect",
		"Wait for as many seconds as the header Retry-After says, then connect again.")
}
