package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// Limits are how often one asker may ask. Zero means the default.
type Limits struct {
	Anonymous int // an hour, by address, without being signed in: 100
	User      int // a minute, by person: 600
	// Login is how often a minute a password may be tried, by account and
	// address: 5. An address may try six times as often over all accounts.
	Login int
}

// limiters hold askers to the limits.
type limiters struct{ anonymous, user, account, address *ratelimit.Limiter }

func newLimiters(limits *ratelimit.Limits, l Limits) (limiters, error) {
	login, user := cmp.Or(l.Login, 5), cmp.Or(l.User, 600)
	var all limiters
	for _, p := range []struct {
		into   **ratelimit.Limiter
		policy ratelimit.Policy
	}{
		// Addresses are many and strangers': one number each.
		{&all.anonymous, ratelimit.Policy{Name: "anonymous", Algorithm: ratelimit.Fixed, Limit: cmp.Or(l.Anonymous, 100), Window: time.Hour}},
		// A page asks in bursts, and should never wait for the end of a minute.
		// The requests of a burst need not all ask Redis.
		{&all.user, ratelimit.Policy{Name: "user", Algorithm: ratelimit.GCRA, Limit: user, Window: time.Minute, Lease: min(20, user/10)}},
		// Guessing has to meet an exact limit.
		{&all.account, ratelimit.Policy{Name: "sign-in-account", Algorithm: ratelimit.Sliding, Limit: login, Window: time.Minute}},
		{&all.address, ratelimit.Policy{Name: "sign-in-address", Algorithm: ratelimit.Sliding, Limit: 6 * login, Window: time.Minute}},
	} {
		var err error
		if *p.into, err = limits.Limiter(p.policy); err != nil {
			return limiters{}, fmt.Errorf("make limits: %w", err)
		}
	}
	return all, nil
}

// limit says what a call of an operation counts as. What needs a session
// counts for the person, or, without one, for the address.
type limit string

const (
	limited    limit = ""            // as said
	unlimited  limit = "unlimited"   // probes ask it, and pages all the time
	askedFirst limit = "asked first" // by a page that does not know yet whether anybody is signed in
	signingIn  limit = "signing in"  // for the address here, and for the account once that is read
)

// quota is what was decided on one request.
type quota struct {
	set       func(name, value string) // a header of the answer
	decisions []ratelimit.Decision
}

type quotaKey struct{}

// take counts a call, and tells in the headers how much is left. Its error is
// errQuota if there was too little.
func take(ctx context.Context, l *ratelimit.Limiter, who ...string) error {
	d := l.Take(ctx, who...)
	if q, ok := ctx.Value(quotaKey{}).(*quota); ok {
		q.decisions = append(q.decisions, d)
		for _, h := range ratelimit.Headers(q.decisions...) {
			q.set(h[0], h[1])
		}
	}
	if !d.Allowed {
		return errQuota
	}
	return nil
}

// opened counts calls of operations that need no session, by address; those
// of the others are counted where it is known who asks.
func (s *server) opened(c huma.Context, next func(huma.Context)) {
	c = huma.WithValue(c, quotaKey{}, &quota{set: c.SetHeader})
	var err error
	switch o := c.Operation(); {
	case len(o.Security) > 0 || limitOf(o) == unlimited:
	case limitOf(o) == signingIn:
		err = take(c.Context(), s.limits.address, addressOf(c.Context()))
	default:
		err = take(c.Context(), s.limits.anonymous, addressOf(c.Context()))
	}
	if err != nil {
		s.refuse(c, err)
		return
	}
	next(c)
}

// strange counts a call without a session of an operation that needs one. A
// page without a cookie that asks who is signed in costs nothing to answer,
// and counts for nothing: or a family, or a firm behind one address, would
// have used up its hour by opening the page. A cookie that is no good counts.
func (s *server) strange(c huma.Context) error {
	if limitOf(c.Operation()) == askedFirst && !s.hasCookie(c) {
		return nil
	}
	return take(c.Context(), s.limits.anonymous, addressOf(c.Context()))
}

func (s *server) hasCookie(c huma.Context) bool {
	r := &http.Request{Header: http.Header{"Cookie": {c.Header("Cookie")}}}
	_, err := r.Cookie(s.Sessions.Expired().Name)
	return err == nil
}

// attempt counts one try of a password of an account, whether it is right or
// not: for who is to be kept out, a guess is a guess.
func (s *server) attempt(ctx context.Context, operation, account string) error {
	return take(ctx, s.limits.account, operation, account, addressOf(ctx))
}

// addressOf is the asker as far as an address tells: gin has made sure that
// nobody but a trusted proxy has said which.
func addressOf(ctx context.Context) string { return ratelimit.Address(callerOf(ctx).ip) }

func limitOf(o *huma.Operation) limit {
	l, _ := o.Metadata["limit"].(limit)
	return l
}
