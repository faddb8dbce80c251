package realtime_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// subscribed returns the channels that a client was told to follow, with how
// often.
func (c *client) subscribed() []string {
	var list []string
	for _, m := range c.messages() {
		if m.Type == "subscribed" {
			list = append(list, m.Ch)
		}
	}
	slices.Sort(list)
	return list
}

func TestTheServerSubscribesWhatIsOnesOwn(t *testing.T) {
	n := start(t, nil, nil)
	first := n.connect("jonas")
	offset := first.subscribe(team, "").Offset
	n.publish(team, 1, 3) // missed
	jonas, mira := n.connect("jonas"), n.connect("mira")
	jonas.say(`{"type":"subscribe","id":"1","own":true,"channels":[{"ch":"` + team + `","since":"` + offset + `"}]}`)
	want := []string{team, "user:jonas:habits", "user:jonas:session"}
	jonas.wait("all that is Jonas's", func() bool { return slices.Equal(jonas.subscribed(), want) })
	jonas.awaitEvents(names(1, 3)...)
	n.publish("user:jonas:habits", 4, 4)
	jonas.awaitEvents(names(1, 4)...)
	mira.say(`{"type":"subscribe","own":true}`)
	mira.wait("all that is Mira's", func() bool {
		return slices.Equal(mira.subscribed(), []string{team, "user:mira:habits", "user:mira:session"})
	})

	// A team that is joined is followed, and one that is left no more.
	n.join("jonas", "other")
	jonas.wait("the new team", func() bool { return slices.Contains(jonas.subscribed(), "team:other:activity") })
	if got := jonas.subscribed(); len(got) != 4 {
		t.Errorf("subscribed to %v, want each once", got)
	}
	if slices.Contains(mira.subscribed(), "team:other:activity") || slices.Contains(first.subscribed(), "team:other:activity") {
		t.Error("somebody follows what they have not asked for")
	}
	n.publish("team:other:activity", 5, 5) // nobody here had followed it
	jonas.wait("an event of the new team", func() bool { return slices.Contains(jonas.events(), "e5") })
}

// join makes somebody a member, as the API does.
func (n *node) join(user, team string) {
	n.t.Helper()
	if _, err := n.db.SQL().ExecContext(n.t.Context(), `INSERT INTO memberships VALUES ($1, $2, 'member')`, team, user); err != nil {
		n.t.Fatal(err)
	}
	n.emit(event.Event{ID: "in-" + team, Channel: "team:" + team + ":activity", Name: "member_joined", Data: []byte(`{"user_id":"` + user + `"}`), At: time.Now()})
	n.emit(event.Event{ID: "to-" + team, Channel: "user:" + user + ":session", Name: "team_joined", Data: []byte(`{"team_id":"` + team + `"}`), At: time.Now()})
}

// part is the opposite of join.
func (n *node) part(user, team string) {
	n.t.Helper()
	if _, err := n.db.SQL().ExecContext(n.t.Context(), `DELETE FROM memberships WHERE team_id = $1 AND user_id = $2`, team, user); err != nil {
		n.t.Fatal(err)
	}
	n.emit(event.Event{ID: "out-" + team, Channel: "team:" + team + ":activity", Name: "member_left", Data: []byte(`{"user_id":"` + user + `"}`), At: time.Now()})
}

func TestAStreamFollowsAndResumesWhatIsOnesOwn(t *testing.T) {
	const other = "team:other:activity"
	onBothVersions(t, func(t *testing.T, http2 bool) {
		n := start(t, nil, nil)
		web := n.front(t, http2)
		token, _ := n.signIn("jonas")
		e := n.follow(web, token, "own=1", "")
		e.untilSubscribed(3)
		n.publish(team, 1, 2)
		n.publish(habits, 3, 4)
		if got := e.untilEvents(4); !slices.Equal(got[team], names(1, 2)) || !slices.Equal(got[habits], names(3, 4)) {
			t.Errorf("got %v", got)
		}
		_ = e.resp.Body.Close()
		n.publish(team, 5, 6)
		n.publish(habits, 7, 7)

		// Where it stood is in the cursor, by no name.
		e = n.follow(web, token, "own=1", e.cursor)
		if got := e.untilEvents(3); !slices.Equal(got[team], names(5, 6)) || !slices.Equal(got[habits], names(7, 7)) {
			t.Errorf("got %v", got)
		}
		// A team that is joined is followed, by the next stream from there on.
		n.join("jonas", "other")
		e.until("the new team", func(s sent) bool { return s.Type == "subscribed" && s.Ch == other })
		n.publish(other, 8, 8)
		e.untilEvents(1)
		_ = e.resp.Body.Close()
		n.publish(other, 9, 10)
		n.publish(habits, 11, 11)
		e = n.follow(web, token, "own=1&channels="+other, e.cursor)
		if got := e.untilEvents(3); !slices.Equal(got[other], names(9, 10)) || !slices.Equal(got[habits], names(11, 11)) {
			t.Errorf("got %v", got)
		}
	})
}

func TestRightsEndOnStreamsOfOnesOwnToo(t *testing.T) {
	n := start(t, nil, nil)
	web := n.front(t, false)
	token, _ := n.signIn("jonas")
	e := n.follow(web, token, "own=1&channels="+team, "")
	e.untilSubscribed(3)
	n.publish(team, 1, 1)
	e.untilEvents(1)
	old := e.cursor
	n.leave("jonas")
	e.until("the end of the channel", func(s sent) bool { return s.Code == "forbidden" && s.Ch == team })
	n.publish(team, 2, 3)
	n.publish(habits, 4, 4)
	again := n.follow(web, token, "own=1", old)
	for _, e := range []*events{e, again} {
		if got := e.untilEvents(1); len(got) != 1 || !slices.Equal(got[habits], names(4, 4)) {
			t.Errorf("got %v", got)
		}
	}
	// Back again, it is followed from then on.
	n.join("jonas", "harbor")
	e.until("the team again", func(s sent) bool { return s.Type == "subscribed" && s.Ch == team })
	n.publish(team, 5, 5)
	if got := e.untilEvents(1); !slices.Equal(got[team], names(5, 5)) {
		t.Errorf("got %v", got)
	}
}

func TestAStreamSaysWhatOfOnesOwnItHasNoRoomFor(t *testing.T) {
	n := start(t, nil, nil)
	web := n.front(t, false)
	token, _ := n.signIn("jonas")
	for i := range 20 {
		n.join("jonas", fmt.Sprintf("t%02d", i))
	}
	// What is named goes first.
	e := n.follow(web, token, "own=1&channels=team:t19:activity", "")
	var in, out []string
	e.until("an answer for each", func(s sent) bool {
		switch {
		case s.Type == "subscribed":
			in = append(in, s.Ch)
		case s.Code == "too_many_channels":
			out = append(out, s.Ch)
		}
		return len(in)+len(out) == 23
	})
	if len(in) != 16 || !slices.Contains(in, "team:t19:activity") || !slices.Contains(in, habits) || slices.Contains(out, "") {
		t.Fatalf("follows %v and has no room for %v", in, out)
	}
	// Another stream has.
	rest := n.follow(web, token, "channels="+strings.Join(out, ","), "")
	rest.untilSubscribed(len(out))
	n.publish(out[0], 1, 1)
	n.publish(in[15], 2, 2)
	rest.untilEvents(1)
	e.untilEvents(1)
	// So it is of one that is joined.
	n.join("jonas", "late")
	e.until("one too many", func(s sent) bool { return s.Code == "too_many_channels" && s.Ch == "team:late:activity" })
	_ = e.resp.Body.Close()
	n.publish("team:t19:activity", 3, 3)
	n.publish(team, 4, 4)
	e = n.follow(web, token, "own=1&channels=team:t19:activity", e.cursor)
	if got := e.untilEvents(2); !slices.Equal(got["team:t19:activity"], names(3, 3)) || !slices.Equal(got[team], names(4, 4)) {
		t.Errorf("got %v", got)
	}
}

func TestTheCursorForgetsWhatIsNoLongerFollowed(t *testing.T) {
	n := start(t, nil, nil)
	web := n.front(t, false)
	token, _ := n.signIn("jonas")
	e := n.follow(web, token, "own=1", "")
	e.untilSubscribed(3)
	for i := range 17 { // one more than a cursor has room for
		name := fmt.Sprintf("t%02d", i)
		n.join("jonas", name)
		e.until(name, func(s sent) bool { return s.Type == "subscribed" && s.Ch == "team:"+name+":activity" })
		n.part("jonas", name)
		e.until("its end", func(s sent) bool { return s.Code == "forbidden" })
	}
	n.publish(habits, 1, 1)
	e.untilEvents(1)
	_ = e.resp.Body.Close()
	n.publish(habits, 2, 2)
	e = n.follow(web, token, "own=1", e.cursor)
	if got := e.untilEvents(1); !slices.Equal(got[habits], names(2, 2)) { // and no reset
		t.Errorf("got %v", got)
	}
}

func TestAStreamThatCannotFollowWhatItShouldEndsAndComesAgain(t *testing.T) {
	n := start(t, nil, nil)
	web := n.front(t, false)
	token, _ := n.signIn("jonas")
	e := n.follow(web, token, "own=1", "")
	e.untilSubscribed(3)
	n.publish(team, 1, 1)
	e.untilEvents(1)
	_ = e.resp.Body.Close()
	rename := func(from, to string) {
		if _, err := n.db.SQL().ExecContext(t.Context(), `ALTER TABLE `+from+` RENAME TO `+to); err != nil {
			t.Fatal(err)
		}
	}
	rename("memberships", "away")
	n.publish(team, 2, 2)
	for _, query := range []string{"own=1", "channels=" + team + "," + habits} {
		broken := n.follow(web, token, query, e.cursor)
		last := broken.until("the end", func(s sent) bool { return s.Type == "close" })
		if s := last[len(last)-1]; fmt.Sprint(s.Code) != "4007" {
			t.Errorf("%s ended with %+v", query, s)
		}
		if _, err := broken.next(); !errors.Is(err, io.EOF) {
			t.Errorf("%s: something came after the end", query)
		}
	}
	rename("away", "memberships")
	e = n.follow(web, token, "own=1", e.cursor)
	if got := e.untilEvents(1); !slices.Equal(got[team], names(2, 2)) {
		t.Errorf("got %v", got)
	}
}
