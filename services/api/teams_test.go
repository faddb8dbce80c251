package api_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestJoiningByALink(t *testing.T) {
	w := newWorld(t, sqlite(t))
	owner, guest := w.join(t, "Mira", "Europe/Berlin"), w.join(t, "Jonas", "Europe/Berlin")
	team := owner.crew(t, nil)
	made := owner.do(t, "POST", "/teams/"+team+"/invites", object{}).want(t, 201)
	token := made.at(t, "token").(string)
	if got, want := made.at(t, "link"), "https://crew.example.org/join#"+token; got != want {
		t.Errorf("link = %v, want %s", got, want)
	}
	if got, want := made.at(t, "expires_at"), w.clock.Now().Add(7*24*time.Hour).Format(time.RFC3339); got != want {
		t.Errorf("expires = %v, want %s", got, want)
	}
	if n := w.count(t, "SELECT count(*) FROM invites WHERE token_hash = $1 OR token_hash LIKE '%' || $1 || '%'", token); n != 0 {
		t.Error("the token is stored")
	}

	info := w.stranger(t).do(t, "POST", "/invites/lookup", object{"token": token}).want(t, 200)
	for field, want := range map[string]string{"team_name": "Harbor Crew", "inviter_name": "Mira", "role": "member"} {
		if got := info.at(t, field); got != want {
			t.Errorf("lookup says %s %v, want %s", field, got, want)
		}
	}
	guest.do(t, "GET", "/teams/"+team, nil).wantProblem(t, 404, "not-found")
	joined := guest.do(t, "POST", "/invites/accept", object{"token": token}).want(t, 200)
	if joined.at(t, "role") != "member" || len(joined.at(t, "members").([]any)) != 2 {
		t.Errorf("joined = %s", joined.body)
	}
	// The owner's next read has the new member, though it was cached.
	if n := len(owner.do(t, "GET", "/teams/"+team, nil).at(t, "members").([]any)); n != 2 {
		t.Errorf("the owner sees %d members, want 2", n)
	}
	guest.do(t, "POST", "/invites/accept", object{"token": token}).want(t, 200) // again: nothing happens
	if n := w.emitted(t, "team_joined"); n != 2 {
		t.Errorf("%d people were told of their new team, want 2", n)
	}
	if n := w.emitted(t, "member_joined"); n != 2 {
		t.Errorf("%d joined, want the owner and the guest", n)
	}
	// A link neither raises nor lowers who is there already.
	owner.do(t, "POST", "/invites/accept", object{"token": token}).want(t, 200)
	if got := owner.do(t, "GET", "/teams/"+team, nil).at(t, "role"); got != "owner" {
		t.Errorf("the owner is now %v", got)
	}
}

func TestALinkEnds(t *testing.T) {
	w := newWorld(t, sqlite(t))
	owner, guest := w.join(t, "Mira", "Europe/Berlin"), w.join(t, "Jonas", "Europe/Berlin")
	team := owner.crew(t, nil)
	invite := func(days int) (id, token string) {
		r := owner.do(t, "POST", "/teams/"+team+"/invites", object{"expires_in_days": days}).want(t, 201)
		return r.at(t, "id").(string), r.at(t, "token").(string)
	}
	id, token := invite(7)
	if n := len(owner.do(t, "GET", "/teams/"+team+"/invites", nil).at(t, "items").([]any)); n != 1 {
		t.Errorf("%d links, want 1", n)
	}
	owner.do(t, "DELETE", "/teams/"+team+"/invites/"+id, nil).want(t, 204)
	guest.do(t, "POST", "/invites/accept", object{"token": token}).wantProblem(t, 404, "invite-invalid")
	owner.do(t, "DELETE", "/teams/"+team+"/invites/"+id, nil).wantProblem(t, 404, "not-found")

	_, token = invite(1)
	w.clock.Advance(24*time.Hour - time.Second)
	w.stranger(t).do(t, "POST", "/invites/lookup", object{"token": token}).want(t, 200)
	w.clock.Advance(time.Second)
	w.stranger(t).do(t, "POST", "/invites/lookup", object{"token": token}).wantProblem(t, 404, "invite-invalid")
	owner.signIn(t) // a day has passed
	if n := len(owner.do(t, "GET", "/teams/"+team+"/invites", nil).want(t, 200).at(t, "items").([]any)); n != 0 {
		t.Errorf("%d links, want none that work", n)
	}
}

func TestATeamKeepsAnOwner(t *testing.T) {
	w := newWorld(t, sqlite(t))
	owner, other := w.join(t, "Mira", "Europe/Berlin"), w.join(t, "Jonas", "Europe/Berlin")
	team := owner.crew(t, map[*person]string{other: "member"})
	role := func(p *person) string { return "/teams/" + team + "/members/" + p.user.ID + "/role" }
	owner.do(t, "DELETE", "/teams/"+team+"/members/"+owner.user.ID, nil).wantProblem(t, 409, "last-owner")
	owner.do(t, "PUT", role(owner), object{"role": "member"}).wantProblem(t, 409, "last-owner")
	owner.do(t, "PUT", role(other), object{"role": "owner"}).want(t, 200)
	owner.do(t, "DELETE", "/teams/"+team+"/members/"+owner.user.ID, nil).want(t, 204)
	owner.do(t, "GET", "/teams/"+team, nil).wantProblem(t, 404, "not-found")
	if n := w.emitted(t, "member_left"); n != 1 {
		t.Errorf("%d left, want 1", n)
	}
}

// What is private never leaves its owner: not by the feed, not by events, not
// when it was shared before.
func TestAPrivateHabitReachesNoTeam(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p, mate, other := w.join(t, "Mira", "Europe/Berlin"), w.join(t, "Jonas", "Europe/Berlin"), w.join(t, "Lena", "Europe/Berlin")
		team := p.crew(t, map[*person]string{mate: "member"})
		second := p.crew(t, map[*person]string{other: "member"})
		const secret = "Therapy at nine"
		feed := func(who *person, team string) string {
			return string(who.do(t, "GET", "/teams/"+team+"/activity", nil).want(t, 200).body)
		}
		told := func(channel string) (all string) {
			rows, err := w.db.SQL().QueryContext(t.Context(), "SELECT payload FROM outbox WHERE channel = $1", channel)
			must(t, err)
			defer rows.Close()
			for rows.Next() {
				var data string
				must(t, rows.Scan(&data))
				all += data
			}
			must(t, rows.Err())
			return all
		}

		private := p.habit(t, object{"name": secret, "start_day": "2026-11-01"})
		p.tick(t, private, "2026-11-18")
		p.do(t, "PATCH", "/habits/"+private, object{"color": "rose"}, "If-Match", "*").want(t, 200)
		p.do(t, "DELETE", "/habits/"+private+"/records/2026-11-18?client_op_id="+op(), nil).want(t, 200)
		for _, id := range []string{team, second} {
			if got := told("team:" + id + ":activity"); strings.Contains(got, private) || strings.Contains(got, secret) {
				t.Errorf("team %s was told of it: %s", id, got)
			}
		}
		if got := feed(mate, team); strings.Contains(got, secret) || strings.Contains(got, private) {
			t.Errorf("the feed has it: %s", got)
		}

		// Shared with one team: the other one hears nothing.
		p.do(t, "PATCH", "/habits/"+private, object{"visibility": "named", "team_ids": []string{team}}, "If-Match", "*").want(t, 200)
		p.tick(t, private, "2026-11-17")
		if got := feed(mate, team); !strings.Contains(got, secret) {
			t.Errorf("the team it is shared with does not see it: %s", got)
		}
		if got := feed(other, second) + told("team:"+second+":activity"); strings.Contains(got, secret) || strings.Contains(got, private) {
			t.Errorf("the team it is not shared with was told: %s", got)
		}

		// Shared with all, then with one: the line of the other goes.
		p.do(t, "PATCH", "/habits/"+private, object{"visibility": "team"}, "If-Match", "*").want(t, 200)
		p.tick(t, private, "2026-11-16")
		p.do(t, "PATCH", "/habits/"+private, object{"visibility": "named", "team_ids": []string{team}}, "If-Match", "*").want(t, 200)
		if got := feed(other, second); strings.Contains(got, secret) {
			t.Errorf("the feed of a team it is no longer shared with has it: %s", got)
		}
		if got := feed(mate, team); !strings.Contains(got, "2026-11-16") || !strings.Contains(got, "2026-11-17") {
			t.Errorf("the feed of the team it is still shared with lost it: %s", got)
		}

		// Private again: it is taken back where it was seen.
		p.do(t, "PATCH", "/habits/"+private, object{"visibility": "private"}, "If-Match", "*").want(t, 200)
		if got := feed(mate, team); strings.Contains(got, secret) {
			t.Errorf("the feed still has it: %s", got)
		}
		if n := strings.Count(told("team:"+team+":activity"), `"day": "2026-11-17"`) + strings.Count(told("team:"+team+":activity"), `"day":"2026-11-17"`); n != 2 {
			t.Errorf("the team was told %d times of the 17th, want of its coming and its going", n)
		}
		for _, path := range []string{"/habits/" + private, "/habits/" + private + "/stats", "/habits/" + private + "/records?from=2026-11-01&to=2026-12-01"} {
			mate.do(t, "GET", path, nil).wantProblem(t, 404, "not-found")
		}
		mate.do(t, "PUT", "/habits/"+private+"/records/2026-11-18", object{"client_op_id": op()}).wantProblem(t, 404, "not-found")
	})
}

func TestAFeedIsReadPageByPage(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	team := p.crew(t, nil)
	habit := p.habit(t, object{"visibility": "team", "start_day": "2026-11-01"})
	for day := 1; day <= 7; day++ {
		p.tick(t, habit, fmt.Sprintf("2026-11-%02d", day))
		w.clock.Advance(time.Second)
	}
	var days []string
	before := ""
	for range 4 {
		r := p.do(t, "GET", "/teams/"+team+"/activity?limit=3"+before, nil).want(t, 200)
		for _, item := range r.at(t, "items").([]any) {
			days = append(days, item.(map[string]any)["day"].(string)[8:])
		}
		next, ok := r.at(t, "next_before").(string)
		if !ok {
			break
		}
		before = "&before=" + next
	}
	if got, want := strings.Join(days, " "), "07 06 05 04 03 02 01"; got != want {
		t.Errorf("days = %s, want %s", got, want)
	}
}

func TestWhoLeavesATeamIsToldNoMore(t *testing.T) {
	w := newWorld(t, sqlite(t))
	owner, mate := w.join(t, "Mira", "Europe/Berlin"), w.join(t, "Jonas", "Europe/Berlin")
	team := owner.crew(t, map[*person]string{mate: "member"})
	habit := mate.habit(t, object{"visibility": "team"})
	owner.do(t, "DELETE", "/teams/"+team+"/members/"+mate.user.ID, nil).want(t, 204)
	mate.tick(t, habit, "2026-11-18")
	if n := w.emitted(t, "member_habit_completed"); n != 0 {
		t.Errorf("%d ticks of somebody who left were told to the team", n)
	}
	mate.do(t, "GET", "/teams/"+team+"/activity", nil).wantProblem(t, 404, "not-found")
}

func TestTwoTeamsMayHaveOneName(t *testing.T) {
	databases(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		p := w.join(t, "Mira", "Europe/Berlin")
		slugs := map[any]bool{}
		for range 3 {
			r := p.do(t, "POST", "/teams", object{"name": "Été à Łódź"}).want(t, http.StatusCreated)
			slugs[r.at(t, "team.slug")] = true
		}
		if len(slugs) != 3 {
			t.Errorf("slugs = %v, want three different ones", slugs)
		}
	})
}

func TestATeamChangesOnlyFromItsLastState(t *testing.T) {
	w := newWorld(t, sqlite(t))
	p := w.join(t, "Mira", "Europe/Berlin")
	team := p.crew(t, nil)
	r := p.do(t, "GET", "/teams/"+team, nil).want(t, 200)
	tag := r.header.Get("ETag")
	r = p.do(t, "PATCH", "/teams/"+team, object{"name": "Dock Crew"}, "If-Match", tag).want(t, 200)
	if r.at(t, "team.name") != "Dock Crew" || r.header.Get("ETag") == tag {
		t.Errorf("answer = %s %s", r.header.Get("ETag"), r.body)
	}
	p.do(t, "PATCH", "/teams/"+team, object{"name": "Old"}, "If-Match", tag).wantProblem(t, 412, "stale")
	p.do(t, "PATCH", "/teams/"+team, object{"name": "None"}).wantProblem(t, 428, "if-match-missing")
}
