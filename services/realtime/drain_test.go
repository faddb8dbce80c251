package realtime_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/realtime"
)

func TestADrainLeavesTimeForWhatStopsAfterIt(t *testing.T) {
	// The window is longer than there is time, and the client does not care.
	n := start(t, nil, nil)
	c := n.connect("mira")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := n.server.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ctx.Err(); err != nil {
		t.Errorf("no time is left: %v", err)
	}
	m := c.await("drain", func(m message) bool { return m.Type == "drain" })
	if m.Deadline > 1600 || m.After > m.Deadline*2/3 {
		t.Errorf("got %+v", m)
	}
	if code := c.awaitClose(); code != 4001 {
		t.Errorf("closed with %d", code)
	}
}

// An EventSource comes again by itself, and at once: when it does is for the
// server to say.
func TestADrainEndsEachStreamAtItsOwnTime(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) {
		c.DrainWindow, c.Limits.Tick = 30*time.Second, 5*time.Millisecond
	})
	token, _ := n.signIn("jonas")
	const streams = 15
	var all []*events
	for range streams {
		e := n.follow(n.http, token, "channels="+team, "")
		e.untilSubscribed(1)
		all = append(all, e)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- n.server.Drain(ctx) }()
	first, soonest := all[0], int64(30_000)
	for _, e := range all {
		told := e.until("the drain", func(s sent) bool { return s.Type == "drain" })
		if after := told[len(told)-1].After; after < soonest {
			first, soonest = e, after
		}
	}
	if soonest > 2000 {
		t.Errorf("the first is to leave after %d ms", soonest)
	}
	first.until("its end", func(s sent) bool { return s.Type == "close" })
	if left := n.server.Connections(); left == 0 {
		t.Error("all were ended with the first")
	}
	cancel() // the others' time is over sooner than they were told
	if err := <-drained; err != nil {
		t.Error(err)
	}
	for _, e := range all {
		if e != first {
			e.until("its end", func(s sent) bool { return s.Type == "close" })
		}
	}
}

// TestWhoLeavesADrainingNodeIsHereUntilTheyAreElsewhere: somebody else, who
// leaves a node that does not drain, has left by then.
func TestWhoLeavesADrainingNodeIsHereUntilTheyAreElsewhere(t *testing.T) {
	server := tieredtest.StartRedis(t)
	config := func(c *realtime.Config) {
		quickPresence(c)
		c.Limits.Lease, c.Limits.Renew, c.DrainWindow = 30*time.Second, 10*time.Second, 30*time.Second
		c.Redis = server.Client(t)
	}
	one := start(t, newRedis(t, server), config)
	two := second(t, one.db, one.sessions, newRedis(t, server), config)
	if _, err := one.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ('harbor', 'lena', 'member')`); err != nil {
		t.Fatal(err)
	}
	mira, jonas, lena := two.connect("mira"), one.connect("jonas"), two.connect("lena")
	mira.subscribe(team, "")
	mira.awaitHere("jonas", "lena", "mira")
	drained := make(chan error, 1)
	go func() { drained <- one.server.Drain(t.Context()) }()
	jonas.await("drain", func(m message) bool { return m.Type == "drain" })
	_ = jonas.ws.CloseNow()
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	_ = lena.ws.CloseNow()
	mira.wait("lena's leaving", func() bool { got, _ := mira.here(team); return !slices.Contains(got, "lena") })
	two.connect("jonas")
	again := two.connect("lena")
	mira.awaitHere("jonas", "lena", "mira")
	_ = again.ws.CloseNow()
	mira.awaitHere("jonas", "mira")
	if _, left := mira.here(team); left != 2 { // lena, twice
		t.Errorf("told %d times that somebody left, want lena twice", left)
	}
}
