package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// token returns the session token that p's browser has; "" if none.
func (p *person) token(t *testing.T) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, p.w.url, nil)
	must(t, err)
	for _, c := range p.client.Jar.Cookies(r.URL) {
		if c.Name == "crewbeat.sid" {
			return c.Value
		}
	}
	return ""
}

// with asks who is signed in, with a token in place of p's own.
func (w *world) with(t *testing.T, token string) reply {
	t.Helper()
	return w.stranger(t).do(t, "GET", "/me", nil, "Cookie", "crewbeat.sid="+token)
}

// The attack: somebody has a token that works, or makes one up, and plants it
// in the victim's browser before the victim signs in there.
func TestATokenThatWasPlantedIsWorthNothingAfterTheSignIn(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		victim, thief := w.join(t, "Mira", "UTC"), w.join(t, "Jonas", "UTC")
		credentials := object{"email": victim.user.Email, "password": password}
		for _, planted := range []string{thief.token(t), strings.Repeat("A", 43)} {
			r := w.stranger(t).do(t, "POST", "/auth/login", credentials, "Cookie", "crewbeat.sid="+planted).want(t, 200)
			fresh, _, _ := strings.Cut(strings.TrimPrefix(r.header.Get("Set-Cookie"), "crewbeat.sid="), ";")
			if fresh == "" || fresh == planted {
				t.Errorf("signed in with %q, planted was %q", fresh, planted)
			}
			if got := w.with(t, fresh).want(t, 200).at(t, "id"); got != victim.user.ID {
				t.Errorf("the new token is %v's", got)
			}
			w.with(t, planted).wantProblem(t, 401, "unauthenticated")
		}
	})
}

func TestSigningInAgainReplacesTheSession(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	old := p.token(t)
	p.do(t, "POST", "/auth/login", object{"email": p.user.Email, "password": password}).want(t, 200)
	if p.token(t) == old {
		t.Error("the token is the same")
	}
	sessions := p.do(t, "GET", "/me/sessions", nil).want(t, 200)
	if n := len(sessions.at(t, "items").([]any)); n != 1 {
		t.Errorf("%d sessions after two sign-ins in one browser, want 1", n)
	}
	// What was under way with the old token must not take the new one away.
	if r := w.with(t, old).wantProblem(t, 401, "session-replaced"); r.header.Get("Set-Cookie") != "" {
		t.Errorf("the browser is to forget its cookie: %q", r.header.Get("Set-Cookie"))
	}
}

func TestChangingThePasswordGivesThisSessionANewToken(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	old := p.token(t)
	p.do(t, "POST", "/me/password", object{"current": "not this one", "new": "another good horse"}).want(t, 422)
	if p.token(t) != old {
		t.Error("a password that was not changed has rotated the session")
	}
	p.do(t, "POST", "/me/password", object{"current": password, "new": "another good horse"}).want(t, 204)
	if p.token(t) == old {
		t.Error("the token is the same")
	}
	p.do(t, "GET", "/me", nil).want(t, 200)
	w.with(t, old).wantProblem(t, 401, "session-replaced")
}

func TestAnotherRoleGivesEverySessionANewToken(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, owner *person, team, member string){
		"another role": func(t *testing.T, owner *person, team, member string) {
			owner.do(t, "PUT", "/teams/"+team+"/members/"+member+"/role", object{"role": "manager"}).want(t, 200)
		},
		"taken out": func(t *testing.T, owner *person, team, member string) {
			owner.do(t, "DELETE", "/teams/"+team+"/members/"+member, nil).want(t, 204)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, sqlite(t))
			owner, member := w.join(t, "Mira", "UTC"), w.join(t, "Jonas", "UTC")
			team := owner.crew(t, map[*person]string{member: "member"})
			phone := w.stranger(t)
			phone.user = member.user
			phone.signIn(t)
			before := map[*person]string{owner: owner.token(t), member: member.token(t), phone: phone.token(t)}
			for p := range before {
				p.do(t, "GET", "/me", nil).want(t, 200)
			}
			change(t, owner, team, member.user.ID)
			for p, old := range before {
				for range 2 {
					p.do(t, "GET", "/me", nil).want(t, 200)
				}
				if rotated := p.token(t) != old; rotated != (p != owner) {
					t.Errorf("%s's token is new: %v", p.user.Name, rotated)
				}
				if p != owner {
					w.with(t, old).wantProblem(t, 401, "session-replaced")
				}
			}
		})
	}
}

// A page breaks requests off, and a phone loses its network: that must not sign
// anybody out whose rights were changed meanwhile.
func TestTheAnswerWithTheNewTokenMayBeLost(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		owner, member := w.join(t, "Mira", "UTC"), w.join(t, "Jonas", "UTC")
		team := owner.crew(t, map[*person]string{member: "member"})
		old := member.token(t)
		for _, role := range []string{"manager", "member"} { // the second before the first is heard of
			owner.do(t, "PUT", "/teams/"+team+"/members/"+member.user.ID+"/role", object{"role": role}).want(t, 200)
			var cookies []string
			for range 3 {
				r := w.with(t, old).want(t, 200)
				if got := r.at(t, "id"); got != member.user.ID {
					t.Fatalf("asked as %v", got)
				}
				cookies = append(cookies, r.header.Get("Set-Cookie"))
			}
			fresh, _, _ := strings.Cut(strings.TrimPrefix(cookies[0], "crewbeat.sid="), ";")
			if fresh == "" || fresh == old || cookies[1] != cookies[0] || cookies[2] != cookies[0] {
				t.Fatalf("got %q", cookies)
			}
			if role == "manager" {
				continue
			}
			if r := w.with(t, fresh).want(t, 200); r.at(t, "id") != member.user.ID {
				t.Error("the new token is another's")
			}
			w.with(t, old).wantProblem(t, 401, "session-replaced")
		}
	})
}

// Who has changed the password, or signed in again, means what was there before
// to be over: a thief who has it gets nothing for it.
func TestATokenThatWasGivenUpIsNotExchanged(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	old := p.token(t)
	p.do(t, "POST", "/me/password", object{"current": password, "new": "another good horse"}).want(t, 204)
	w.with(t, old).wantProblem(t, 401, "session-replaced")
	old = p.token(t)
	p.do(t, "POST", "/auth/login", object{"email": p.user.Email, "password": "another good horse"}).want(t, 200)
	w.with(t, old).wantProblem(t, 401, "session-replaced")
}

func TestSigningOutEverywhereLeavesNoSession(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		here, other := w.join(t, "Mira", "UTC"), w.join(t, "Jonas", "UTC")
		there := w.stranger(t)
		there.user = here.user
		there.signIn(t)
		for _, p := range []*person{here, there, other} {
			p.do(t, "GET", "/me", nil).want(t, 200)
		}
		r := here.do(t, "DELETE", "/me/sessions", nil).want(t, 204)
		if got := r.header.Get("Set-Cookie"); !strings.Contains(got, "Max-Age=0") {
			t.Errorf("cookie = %q, want it to end", got)
		}
		for _, p := range []*person{here, there} {
			p.do(t, "GET", "/me", nil).wantProblem(t, 401, "unauthenticated")
		}
		other.do(t, "GET", "/me", nil).want(t, 200)
		if n := w.emitted(t, "session_revoked"); n != 2 {
			t.Errorf("%d sessions were told of their end, want 2", n)
		}
	})
}

// Every operation that needs a session is a use of it, not only GET /me.
func TestWhateverIsAskedPutsTheEndOff(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "UTC")
	habit := p.habit(t, nil)
	for _, ask := range [][2]string{
		{"GET", "/me"}, {"GET", "/habits"}, {"GET", "/dashboard"}, {"GET", "/teams"}, {"GET", "/me/sessions"},
		{"PUT", "/habits/" + habit + "/records/2026-11-18"}, {"DELETE", "/me/sessions/none"}, {"GET", "/habits/none"},
	} {
		w.clock.Advance(59 * time.Second)
		body := any(nil)
		if ask[0] == "PUT" {
			body = object{"client_op_id": op()}
		}
		if r := p.do(t, ask[0], ask[1], body); r.status == 401 || r.header.Get("Set-Cookie") != "" {
			t.Errorf("%v within a minute: %d, cookie %q", ask, r.status, r.header.Get("Set-Cookie"))
		}
		w.clock.Advance(time.Second)
		r := p.do(t, ask[0], ask[1], body)
		if got := r.header.Get("Set-Cookie"); !strings.Contains(got, "Max-Age=86400") {
			t.Errorf("%v after a minute: %d, cookie %q, want it to last a day more", ask, r.status, got)
		}
	}
}
