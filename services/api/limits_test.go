package api_test

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// usual leaves the limits as they are.
func usual(*api.Config) {}

// behind trusts the proxy that tests are, so that they can be many addresses.
func behind(c *api.Config) { c.TrustedProxies = []string{"127.0.0.1"} }

const forwarded = "X-Forwarded-For"

// wantRefused checks the whole answer to one call too many.
func (r reply) wantRefused(t *testing.T, limit, reset, retry int) {
	t.Helper()
	r.wantProblem(t, http.StatusTooManyRequests, "quota-exceeded")
	r.wantQuota(t, limit, 0, reset)
	if got := r.header.Get("Retry-After"); got != strconv.Itoa(retry) {
		t.Errorf("Retry-After = %q, want %d seconds", got, retry)
	}
}

func (r reply) wantQuota(t *testing.T, limit, remaining, reset int) {
	t.Helper()
	for name, want := range map[string]int{"Limit": limit, "Remaining": remaining, "Reset": reset} {
		if got := r.header.Get("X-RateLimit-" + name); got != strconv.Itoa(want) {
			t.Errorf("X-RateLimit-%s = %q, want %d", name, got, want)
		}
	}
}

func TestAStrangerMayAskAHundredTimesAnHour(t *testing.T) {
	w := newWorldOf(t, sqlite(t), usual)
	p := w.stranger(t)
	for i := range 100 {
		p.do(t, "GET", "/habits", nil).wantProblem(t, 401, "unauthenticated").wantQuota(t, 100, 99-i, 3600)
	}
	w.clock.Advance(time.Minute)
	r := p.do(t, "GET", "/habits", nil)
	r.wantRefused(t, 100, 3540, 3540)
	if got := r.header.Get("RateLimit-Policy"); got != `"anonymous";q=100;w=3600` {
		t.Errorf("RateLimit-Policy = %s", got)
	}
	if got := r.header.Get("RateLimit"); got != `"anonymous";r=0;t=3540` {
		t.Errorf("RateLimit = %s", got)
	}
	p.do(t, "POST", "/invites/lookup", object{"token": "x"}).wantRefused(t, 100, 3540, 3540)

	// Whoever is signed in at the same address is somebody else.
	w.join(t, "Mira", "Europe/Berlin").do(t, "GET", "/habits", nil).want(t, 200)
	w.clock.Advance(59 * time.Minute)
	p.do(t, "GET", "/habits", nil).wantProblem(t, 401, "unauthenticated")
}

// What probes and pages ask all the time, and what a page asks before anybody
// has signed in, is not to use up the hour of a whole house.
func TestOpeningThePageUsesUpNothing(t *testing.T) {
	w := newWorldOf(t, sqlite(t), func(c *api.Config) { c.Limits.Anonymous = 1 })
	p := w.stranger(t)
	for range 5 {
		for _, path := range []string{"/api/health", "/openapi.json", "/docs"} {
			if r := p.do(t, "GET", path, nil).want(t, 200); r.header.Get("X-RateLimit-Limit") != "" {
				t.Errorf("%s is counted", path)
			}
		}
		p.do(t, "GET", "/me", nil).wantProblem(t, 401, "unauthenticated")
	}
	// A cookie that is no good is a guess, and has to be looked up.
	forged := []string{"Cookie", "crewbeat.sid=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}
	p.do(t, "GET", "/me", nil, forged...).wantProblem(t, 401, "unauthenticated")
	p.do(t, "GET", "/me", nil, forged...).wantRefused(t, 1, 3600, 3600)
	p.do(t, "GET", "/me", nil).wantProblem(t, 401, "unauthenticated")
}

func TestAPersonMayAskSixHundredTimesAMinute(t *testing.T) {
	w := newWorldOf(t, sqlite(t), usual)
	mira, jonas := w.join(t, "Mira", "Europe/Berlin"), w.join(t, "Jonas", "Europe/Berlin")
	for i := range 600 {
		r := mira.do(t, "GET", "/me", nil).want(t, 200)
		if got := r.header.Get("X-RateLimit-Remaining"); got != strconv.Itoa(599-i) {
			t.Fatalf("remaining after %d = %s", i+1, got)
		}
	}
	mira.do(t, "GET", "/me", nil).wantRefused(t, 600, 60, 1)
	mira.signIn(t) // a new session is the same person
	mira.do(t, "GET", "/me", nil).wantRefused(t, 600, 60, 1)
	jonas.do(t, "GET", "/me", nil).want(t, 200)
	w.clock.Advance(time.Second)
	mira.do(t, "GET", "/me", nil).want(t, 200)
}

func TestAPasswordMayBeTriedFiveTimesAMinute(t *testing.T) {
	w := newWorldOf(t, sqlite(t), behind)
	mira := w.join(t, "Mira", "Europe/Berlin")
	p := w.stranger(t)
	try := func(email, password, from string) reply {
		return p.do(t, "POST", "/auth/login", object{"email": email, "password": password}, forwarded, from)
	}
	for i := range 5 {
		email := []string{mira.user.Email, " " + mira.user.Email, "MIRA" + mira.user.Email[len("mira"):]}[i%3]
		try(email, "wrong", "192.0.2.1").wantProblem(t, 401, "credentials-wrong").wantQuota(t, 5, 4-i, 60)
	}
	r := try(mira.user.Email, password, "192.0.2.1")
	r.wantRefused(t, 5, 60, 60)
	if got := r.header.Get("RateLimit-Policy"); got != `"sign-in-address";q=30;w=60, "sign-in-account";q=5;w=60` {
		t.Errorf("RateLimit-Policy = %s", got)
	}
	try(mira.user.Email, password, "192.0.2.2").want(t, 200)
	w.clock.Advance(time.Minute)
	try(mira.user.Email, password, "192.0.2.1").want(t, 200)
}

func TestAnAddressMayTryThirtyAccountsAMinute(t *testing.T) {
	w := newWorldOf(t, sqlite(t), behind)
	p := w.stranger(t)
	// The whole of a /64 is one address; what cannot be read counts too.
	for i := range 30 {
		from := "2001:db8:0:1::" + strconv.Itoa(i)
		p.do(t, "POST", "/auth/"+[]string{"login", "register"}[i%2], `{`, forwarded, from).want(t, 400)
	}
	p.do(t, "POST", "/auth/login", `{`, forwarded, "2001:db8:0:1:ffff::").wantRefused(t, 30, 60, 60)
	p.do(t, "POST", "/auth/register", `{`, forwarded, "2001:db8:0:1:ffff::").wantRefused(t, 30, 60, 60)
	p.do(t, "POST", "/auth/login", `{`, forwarded, "2001:db8:0:2::").want(t, 400)
}

func TestNobodyChoosesTheOwnAddress(t *testing.T) {
	w := newWorldOf(t, sqlite(t), func(c *api.Config) { c.Limits.Anonymous = 2 })
	p := w.stranger(t)
	for i := range 2 {
		p.do(t, "GET", "/habits", nil, forwarded, "192.0.2."+strconv.Itoa(i)).want(t, 401)
	}
	p.do(t, "GET", "/habits", nil, forwarded, "192.0.2.9", "X-Real-Ip", "192.0.2.9").wantRefused(t, 2, 3600, 3600)
}

// Two nodes on one Redis are one limit; and with Redis killed it holds.
func TestLimitsHoldOverNodesAndWithoutRedis(t *testing.T) {
	server := tieredtest.StartRedis(t)
	node := func() *person {
		conn, err := redisconn.Open(t.Context(), redisconn.Config{Addrs: []string{server.Addr()}, MaxConnections: 10}, redisconn.Options{})
		must(t, err)
		t.Cleanup(func() { must(t, conn.Close()) })
		return newWorldOf(t, sqlite(t), func(c *api.Config) {
			c.Redis, c.Limits.Anonymous, c.Secret = conn, 5, "one for both"
		}).stranger(t)
	}
	a, b := node(), node()
	for _, p := range []*person{a, b, a, b, a} {
		p.do(t, "GET", "/habits", nil).wantProblem(t, 401, "unauthenticated")
	}
	a.do(t, "GET", "/habits", nil).wantProblem(t, 429, "quota-exceeded")
	b.do(t, "GET", "/habits", nil).wantProblem(t, 429, "quota-exceeded")

	server.Kill()
	// This one has itself admitted three of five.
	for range 2 {
		a.do(t, "GET", "/habits", nil).wantProblem(t, 401, "unauthenticated")
	}
	for range 3 {
		a.do(t, "GET", "/habits", nil).wantProblem(t, 429, "quota-exceeded")
	}
}
