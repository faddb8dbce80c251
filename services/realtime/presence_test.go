package realtime_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// quickPresence makes what takes a minute take a second or two.
func quickPresence(c *realtime.Config) {
	l := &c.Limits
	l.Lease, l.Renew, l.Linger, l.Batch, l.Grace = 2*time.Second, 500*time.Millisecond, 400*time.Millisecond, 50*time.Millisecond, time.Second
}

// here returns who is here by what a client was told, and how often somebody
// was told to have left.
func (c *client) here(channel string) (users []string, left int) {
	c.t.Helper()
	now := map[string]bool{}
	count := 0
	for _, m := range c.messages() {
		if m.Type != "presence" || m.Ch != channel {
			continue
		}
		if m.Users != nil {
			gone := maps.Clone(now)
			clear(now)
			for _, u := range m.Users {
				now[u] = true
				delete(gone, u)
			}
			left += len(gone)
		}
		for _, u := range m.Joined {
			now[u] = true
		}
		for _, u := range m.Left {
			delete(now, u)
			left++
		}
		if count = m.Count; count != len(now) {
			c.t.Errorf("%d are said to be here, and %v were named", count, now)
		}
	}
	return slices.Sorted(maps.Keys(now)), left
}

func (c *client) awaitHere(want ...string) {
	c.t.Helper()
	c.wait("who is here", func() bool {
		got, _ := c.here(team)
		return slices.Equal(got, want)
	})
}

func TestWhoFollowsATeamIsToldWhoOfItIsHere(t *testing.T) {
	n := start(t, nil, quickPresence)
	mira := n.connect("mira")
	mira.subscribe(team, "")
	mira.awaitHere("mira")
	jonas := n.connect("jonas") // is here without following anything
	mira.awaitHere("jonas", "mira")
	again := n.connect("jonas")
	_ = jonas.ws.CloseNow()
	again.subscribe(team, "")
	again.awaitHere("jonas", "mira")
	first := again.await("presence", func(m message) bool { return m.Type == "presence" })
	if first.Users == nil || first.Joined != nil {
		t.Errorf("the first message is %+v, want all who are here", first)
	}
	_ = again.ws.CloseNow()
	mira.awaitHere("mira")
	if _, left := mira.here(team); left != 1 {
		t.Errorf("told %d times that somebody left, want once", left)
	}
	// Asked for, it is told anew.
	before := len(mira.messages())
	mira.say(`{"type":"presence","id":"9","channels":["` + team + `","user:mira:habits"]}`)
	mira.awaitAfter(before, "all who are here", func(m message) bool { return m.Type == "presence" && slices.Equal(m.Users, []string{"mira"}) })
	mira.awaitAfter(before, "a refusal", func(m message) bool {
		return m.Type == "error" && m.Code == "not_followed" && m.Ch == "user:mira:habits" && m.ID == "9"
	})
}

func TestOnlyMembersOfATeamAreToldWhoIsHere(t *testing.T) {
	n := start(t, nil, quickPresence)
	mira, lena, jonas := n.connect("mira"), n.connect("lena"), n.connect("jonas")
	mira.subscribe(team, "")
	mira.awaitHere("jonas", "mira") // and not lena, who is of another team
	for _, ch := range []string{team, "team:harbor:presence"} {
		lena.say(`{"type":"subscribe","channels":["` + ch + `"]}`)
		lena.await("a refusal", func(m message) bool { return m.Type == "error" && m.Ch == ch && m.Code == "forbidden" })
		lena.say(`{"type":"presence","channels":["` + ch + `"]}`)
		lena.await("a refusal", func(m message) bool { return m.Type == "error" && m.Ch == ch && m.Code == "not_followed" })
	}
	mira.say(`{"type":"subscribe","channels":["team:harbor:presence"]}`)
	mira.await("a refusal", func(m message) bool {
		return m.Type == "error" && m.Ch == "team:harbor:presence" && m.Code == "forbidden"
	})
	jonas.subscribe(team, "")
	jonas.awaitHere("jonas", "mira")

	// Who is removed is neither seen nor told any more.
	if _, err := n.db.SQL().ExecContext(t.Context(), `DELETE FROM memberships WHERE user_id = 'jonas'`); err != nil {
		t.Fatal(err)
	}
	n.emit(event.Event{ID: "gone", Channel: team, Name: "member_left", Data: []byte(`{"user_id":"jonas"}`), At: time.Now()})
	mira.awaitHere("mira")
	jonas.await("the end", func(m message) bool { return m.Type == "error" && m.Ch == team })
	told := len(jonas.messages())
	second := n.connect("mira")
	_ = second.ws.CloseNow()
	_ = mira.ws.CloseNow()
	third := n.connect("mira")
	third.subscribe(team, "")
	third.awaitHere("mira")
	for _, c := range []*client{jonas, lena} {
		after := c.messages()
		if c == jonas {
			after = after[told:]
		}
		if slices.ContainsFunc(after, func(m message) bool { return m.Type == "presence" }) {
			t.Errorf("a stranger was told %+v", after)
		}
	}

	// And who joins is seen.
	if _, err := n.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ('harbor', 'lena', 'member')`); err != nil {
		t.Fatal(err)
	}
	n.emit(event.Event{ID: "new", Channel: team, Name: "member_joined", Data: []byte(`{"user_id":"lena"}`), At: time.Now()})
	third.awaitHere("lena", "mira")
}

func TestStreamsAreToldWhoIsHereWithoutMovingTheirCursor(t *testing.T) {
	n := start(t, nil, quickPresence)
	token, _ := n.signIn("jonas")
	e := n.follow(n.front(t, false), token, "channels="+team, "")
	n.connect("mira")
	got := e.until("mira", func(s sent) bool {
		return s.Type == "presence" && (slices.Contains(s.Users, "mira") || slices.Contains(s.Joined, "mira"))
	})
	cursor := ""
	for _, s := range got {
		if s.Type == "subscribed" {
			cursor = s.cursor
		}
		if s.Type == "presence" && s.cursor != cursor {
			t.Errorf("the cursor is %q, and was %q", s.cursor, cursor)
		}
	}
}

// TestASlowReaderIsToldOfTheLastOfManyChanges has a client that does not read
// while people come and go.
func TestASlowReaderIsToldOfTheLastOfManyChanges(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) {
		quickPresence(c)
		c.Limits.Batch = time.Millisecond
	})
	slow, resume := n.slow("jonas")
	for i := range 300 { // 1.2 MB that do not fit
		n.emit(bulky("user:jonas:habits", i))
	}
	mira := n.connect("mira")
	mira.subscribe(team, "")
	const changes = 20
	for i := range changes {
		if i%2 == 1 {
			if _, err := n.db.SQL().ExecContext(t.Context(), `DELETE FROM memberships WHERE user_id = 'lena' AND team_id = 'harbor'`); err != nil {
				t.Fatal(err)
			}
			n.emit(event.Event{ID: "left", Channel: team, Name: "member_left", Class: event.Ephemeral, Data: []byte(`{"user_id":"lena"}`), At: time.Now()})
			mira.awaitHere("jonas", "mira")
			continue
		}
		if _, err := n.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ('harbor', 'lena', 'member')`); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			n.connect("lena")
		}
		n.emit(event.Event{ID: "joined", Channel: team, Name: "member_joined", Class: event.Ephemeral, Data: []byte(`{"user_id":"lena"}`), At: time.Now()})
		mira.awaitHere("jonas", "lena", "mira")
	}
	resume()
	slow.awaitHere("jonas", "mira")
	told := 0
	for _, m := range slow.messages() {
		if m.Type == "presence" {
			told++
		}
	}
	if told > 4 {
		t.Errorf("told %d times, want the state before and the last one", told)
	}
}

// twoNodes are on one Redis, each with a client of its own.
func twoNodes(t *testing.T, server *tieredtest.Redis) (one, two *node, client *redis.Client) {
	t.Helper()
	one = start(t, newRedis(t, server), func(c *realtime.Config) {
		quickPresence(c)
		c.Redis = server.Client(t)
	})
	client = server.Client(t)
	two = second(t, one.db, one.sessions, newRedis(t, server), func(c *realtime.Config) {
		quickPresence(c)
		c.Redis = client
	})
	return one, two, client
}

func TestPeopleOfANodeThatIsKilledLeaveByTime(t *testing.T) {
	one, two, client := twoNodes(t, tieredtest.StartRedis(t))
	mira := one.connect("mira")
	mira.subscribe(team, "")
	two.connect("jonas")
	mira.awaitHere("jonas", "mira")
	_ = client.Close() // so much for the leases of that node
	mira.awaitHere("mira")
	if _, left := mira.here(team); left != 1 {
		t.Errorf("told %d times that somebody left", left)
	}
}

func TestNobodyLeavesWhileRedisIsAwayNorWhenItIsBackEmpty(t *testing.T) {
	server := tieredtest.StartRedis(t)
	one, two, _ := twoNodes(t, server)
	mira, jonas := one.connect("mira"), two.connect("jonas")
	mira.subscribe(team, "")
	jonas.subscribe(team, "")
	for _, c := range []*client{mira, jonas} {
		c.awaitHere("jonas", "mira")
	}
	server.Kill()
	for _, c := range []*client{mira, jonas} {
		c.await("degraded", func(m message) bool { return m.Type == "status" && m.Status == "degraded" })
	}
	away := time.NewTimer(3 * time.Second) // longer than leases last
	defer away.Stop()
	until(t, "leases would be over", func() bool {
		select {
		case <-away.C:
			return true
		default:
			return false
		}
	})
	before := len(mira.messages())
	server.Restart(t)
	// Everybody is on the board again, and somebody new is seen by both.
	mira.awaitAfter(before, "ok", func(m message) bool { return m.Type == "status" && m.Status == "ok" })
	if _, err := one.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ('harbor', 'lena', 'member')`); err != nil {
		t.Fatal(err)
	}
	lena := two.connect("lena")
	for _, c := range []*client{mira, jonas} {
		c.awaitHere("jonas", "lena", "mira")
		if _, left := c.here(team); left != 0 {
			t.Errorf("told %d times that somebody left", left)
		}
	}
	_ = lena.ws.CloseNow()
	for _, c := range []*client{mira, jonas} {
		c.awaitHere("jonas", "mira")
	}
}

// TestARestartOfNodesInTurnMakesNobodyLeave replaces three nodes one by one,
// under clients that do as the protocol says.
func TestARestartOfNodesInTurnMakesNobodyLeave(t *testing.T) {
	server := tieredtest.StartRedis(t)
	config := func(c *realtime.Config) {
		quickPresence(c)
		c.Limits.Linger = 2 * time.Second
		c.DrainWindow = 200 * time.Millisecond
		c.Redis = server.Client(t)
	}
	first := start(t, newRedis(t, server), config)
	nodes := []*node{first, second(t, first.db, first.sessions, newRedis(t, server), config), second(t, first.db, first.sessions, newRedis(t, server), config)}
	stays := second(t, first.db, first.sessions, newRedis(t, server), config)
	watcher := stays.connect("mira")
	watcher.subscribe(team, "")
	var crew []string
	on := make([]map[string]*client, len(nodes))
	for i := range 12 {
		user := string(rune('a'+i)) + "-crew"
		crew = append(crew, user)
		if _, err := first.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ('harbor', $1, 'member')`, user); err != nil {
			t.Fatal(err)
		}
		if on[i%3] == nil {
			on[i%3] = map[string]*client{}
		}
		on[i%3][user] = nodes[i%3].connect(user)
	}
	all := append(slices.Clone(crew), "mira")
	slices.SortFunc(all, strings.Compare)
	watcher.awaitHere(all...)
	for i, n := range nodes {
		next := (i + 1) % len(nodes)
		drained := make(chan error, 1)
		go func() { drained <- n.server.Drain(t.Context()) }()
		for user, c := range on[i] {
			c.await("drain", func(m message) bool { return m.Type == "drain" })
			on[next][user] = nodes[next].connect(user)
			_ = c.ws.CloseNow()
		}
		if err := <-drained; err != nil {
			t.Error(err)
		}
		_ = n.server.Close()
		on[i] = map[string]*client{}
		nodes[i] = second(t, first.db, first.sessions, newRedis(t, server), config)
	}
	// Long enough for anybody to leave who would.
	extra := stays.connect("jonas")
	watcher.wait("jonas", func() bool { got, _ := watcher.here(team); return slices.Contains(got, "jonas") })
	_ = extra.ws.CloseNow()
	watcher.awaitHere(all...)
	if _, left := watcher.here(team); left != 1 { // jonas
		t.Errorf("told %d times that somebody left, want once", left)
	}
}
