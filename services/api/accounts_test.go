package api_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestRegisteringSignsIn(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.stranger(t)
		r := p.do(t, "POST", "/auth/register", object{
			"email": "  Mira@Example.ORG ", "name": " Mira ", "password": "correct horse", "tz": "Europe/Berlin",
		}).want(t, http.StatusCreated)
		if got := fmt.Sprint(r.at(t, "user.email"), " ", r.at(t, "user.name"), " ", r.at(t, "user.today")); got != "mira@example.org Mira 2026-11-18" {
			t.Errorf("user = %s", got)
		}
		cookie := r.header.Get("Set-Cookie")
		for _, want := range []string{"HttpOnly", "SameSite=Lax", "Path=/"} {
			if !strings.Contains(cookie, want) {
				t.Errorf("cookie = %q, want %s", cookie, want)
			}
		}
		me := p.do(t, "GET", "/me", nil).want(t, 200)
		if me.at(t, "id") != r.at(t, "user.id") || me.header.Get("ETag") != `"1"` {
			t.Errorf("me = %v %s", me.header, me.body)
		}
		// Upper and lower case are the same account.
		w.stranger(t).do(t, "POST", "/auth/register", object{
			"email": "MIRA@example.org", "name": "Other", "password": "another password", "tz": "UTC",
		}).wantProblem(t, 409, "email-taken")
		w.stranger(t).do(t, "POST", "/auth/login", object{"email": "MIRA@example.org", "password": "correct horse"}).want(t, 200)
		w.stranger(t).do(t, "POST", "/auth/login", object{"email": "mira@example.org", "password": "Correct horse"}).wantProblem(t, 401, "credentials-wrong")
	})
}

func TestOfManyRegistrationsOfAnAddressOneSucceeds(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.stranger(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		for range 8 {
			all.Go(func() {
				r, err := p.try(t.Context(), "POST", "/auth/register", registration("mira@example.org"))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[r.status]++
			})
		}
		all.Wait()
		if got[201] != 1 || got[409] != 7 {
			t.Errorf("answers = %v, want one 201 and seven 409", got)
		}
	})
}

// Whether an address is known cannot be told from the answer, nor from how
// long it takes.
func TestAWrongAddressIsLikeAWrongPassword(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	try := func(email string) (reply, time.Duration) {
		start := time.Now()
		r := w.stranger(t).do(t, "POST", "/auth/login", object{"email": email, "password": "wrong password"})
		return r.wantProblem(t, 401, "credentials-wrong"), time.Since(start)
	}
	known, k := try(p.user.Email)
	unknown, u := try("nobody@example.org")
	malformed, m := try("nobody")
	if string(known.body) != string(unknown.body) || string(known.body) != string(malformed.body) {
		t.Errorf("answers differ: %s, %s, %s", known.body, unknown.body, malformed.body)
	}
	// A hash takes some 20 ms and a look-up none: a tenth of it is no hash.
	for _, other := range []time.Duration{u, m} {
		if other < k/10 {
			t.Errorf("a known address takes %v, another one %v", k, other)
		}
	}
}

func TestChangingThePasswordEndsAllOtherSessions(t *testing.T) {
	w := newWorld(t, sqlite(t))
	here := w.join(t, "Mira", "UTC")
	there := w.stranger(t)
	there.user = here.user
	there.signIn(t)
	there.do(t, "GET", "/me", nil).want(t, 200)
	if n := len(here.do(t, "GET", "/me/sessions", nil).want(t, 200).at(t, "items").([]any)); n != 2 {
		t.Fatalf("%d sessions, want 2", n)
	}
	here.do(t, "POST", "/me/password", object{"current": password, "new": "another good horse"}).want(t, 204)
	there.do(t, "GET", "/me", nil).wantProblem(t, 401, "unauthenticated")
	sessions := here.do(t, "GET", "/me/sessions", nil).want(t, 200)
	if n := len(sessions.at(t, "items").([]any)); n != 1 || sessions.at(t, "items.0.current") != true {
		t.Errorf("sessions = %s, want this one", sessions.body)
	}
	if n := w.emitted(t, "session_revoked"); n != 1 {
		t.Errorf("%d sessions were told of their end, want 1", n)
	}
	w.stranger(t).do(t, "POST", "/auth/login", object{"email": here.user.Email, "password": password}).wantProblem(t, 401, "credentials-wrong")
	w.stranger(t).do(t, "POST", "/auth/login", object{"email": here.user.Email, "password": "another good horse"}).want(t, 200)
}

func TestSigningOutEndsTheSessionForGood(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	req, err := http.NewRequest(http.MethodGet, w.url, nil)
	must(t, err)
	kept := p.client.Jar.Cookies(req.URL)[0]
	r := p.do(t, "POST", "/auth/logout", nil).want(t, 204)
	if got := r.header.Get("Set-Cookie"); !strings.Contains(got, "Max-Age=0") {
		t.Errorf("cookie = %q, want it to end", got)
	}
	thief := w.stranger(t)
	thief.do(t, "GET", "/me", nil, "Cookie", kept.Name+"="+kept.Value).wantProblem(t, 401, "unauthenticated")
}

func TestNobodyEndsTheSessionsOfOthers(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p, other := w.join(t, "Mira", "UTC"), w.join(t, "Jonas", "UTC")
	other.do(t, "DELETE", "/me/sessions/"+p.session.ID, nil).wantProblem(t, 404, "not-found")
	p.do(t, "GET", "/me", nil).want(t, 200)
}

// A session that is used lives on, and the browser's cookie with it.
func TestUsingASessionRenewsItsCookie(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	if r := p.do(t, "GET", "/me", nil).want(t, 200); r.header.Get("Set-Cookie") != "" {
		t.Error("the cookie is sent again although nothing has changed")
	}
	for range 5 {
		w.clock.Advance(20 * time.Hour) // less than the 24 h of idleness
		if r := p.do(t, "GET", "/me", nil).want(t, 200); r.header.Get("Set-Cookie") == "" {
			t.Fatal("the cookie is not renewed")
		}
	}
	w.clock.Advance(24*time.Hour + time.Second)
	r := p.do(t, "GET", "/me", nil).wantProblem(t, 401, "unauthenticated")
	if got := r.header.Get("Set-Cookie"); !strings.Contains(got, "Max-Age=0") {
		t.Errorf("cookie = %q, want the browser to forget it", got)
	}
}

func TestAChangeOfTheAccountIsSeenByTheNextRead(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	for version := 1; version < 6; version++ {
		name := fmt.Sprint("Mira ", version)
		r := p.do(t, "PATCH", "/me", object{"name": name, "week_start": version % 7}, "If-Match", fmt.Sprintf(`"%d"`, version)).want(t, 200)
		if got := p.do(t, "GET", "/me", nil).want(t, 200); string(got.body) != string(r.body) || got.at(t, "name") != name {
			t.Fatalf("changed to %s, read %s", r.body, got.body)
		}
	}
	if n := w.emitted(t, "user_updated"); n != 5 {
		t.Errorf("%d user_updated, want 5", n)
	}
}

// Two changes from one state: the later one is told to read again.
func TestOfTwoChangesFromOneStateOneWins(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.join(t, "Mira", "UTC")
		habit := p.habit(t, nil)
		var all sync.WaitGroup
		var mu sync.Mutex
		got := map[int]int{}
		for i := range 10 {
			all.Go(func() {
				r, err := p.try(t.Context(), "PATCH", "/habits/"+habit, object{"name": fmt.Sprint("Run ", i)}, "If-Match", `"1"`)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				got[r.status]++
			})
		}
		all.Wait()
		if got[200] != 1 || got[412] != 9 {
			t.Errorf("answers = %v, want one 200 and nine 412", got)
		}
	})
}

func TestNoAnswerHoldsAPasswordOrItsHash(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	for _, path := range []string{"/me", "/me/sessions", "/dashboard", "/habits", "/teams"} {
		r := p.do(t, "GET", path, nil).want(t, 200)
		if s := string(r.body); strings.Contains(s, "argon2") || strings.Contains(s, "password") || strings.Contains(s, "hash") {
			t.Errorf("%s: %s", path, s)
		}
	}
	if strings.Contains(w.log.String(), "argon2") || strings.Contains(w.log.String(), password) {
		t.Error("the log holds a secret")
	}
}

func TestWhoGivesUpWaitingIsNoErrorOfOurs(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.try(ctx, "GET", "/dashboard", nil); err == nil {
		t.Fatal("a request that was given up was answered")
	}
	p.do(t, "GET", "/dashboard", nil).want(t, 200)
	if strings.Contains(w.log.String(), "level=ERROR") {
		t.Errorf("log:\n%s", w.log)
	}
}
