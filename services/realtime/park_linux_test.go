package realtime_test

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/realtime"
)

// TestNobodyWaitsForAClientThatSaysNothing: the memory of an idle connection is
// that of its goroutine, or it has none. It has none again after it has spoken.
func TestNobodyWaitsForAClientThatSaysNothing(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerUser = 1000 })
	token, _ := n.signIn("mira")
	var all []*client
	for range 20 {
		all = append(all, n.connectAs(dialing{token: token}))
	}
	streams := []*events{n.follow(n.http, token, "channels=user:mira:habits", "")}
	streams[0].untilSubscribed(1)
	nobody := func() {
		t.Helper()
		until(t, "nobody waits", func() bool {
			var b bytes.Buffer
			if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
				t.Fatal(err)
			}
			return !strings.Contains(b.String(), "socket.(*conn).serve")
		})
	}
	for range 3 {
		nobody()
		for _, c := range all {
			before := len(c.messages())
			c.say(`{"type":"ping"}`)
			c.awaitAfter(before, "an answer", func(m message) bool { return m.Type == "pong" })
		}
	}
	nobody()
	n.publish("user:mira:habits", 1, 1)
	streams[0].untilEvents(1)
	nobody()
}

// TestWhoIgnoresACloseIsLetGo: nothing comes from these clients any more that
// would wake whoever reads from them.
func TestWhoIgnoresACloseIsLetGo(t *testing.T) {
	t.Run("WhileItIsIdle", func(t *testing.T) {
		n := start(t, nil, nil)
		token, id := n.signIn("mira")
		for range 5 {
			upgrade(t, n, token) // stays open, and is not read from
		}
		until(t, "they are connected", func() bool { return n.server.Connections() == 5 })
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for range 5 { // they fall idle
			<-tick.C
		}
		if err := n.sessions.Revoke(t.Context(), "mira", id); err != nil {
			t.Fatal(err)
		}
		until(t, "they are let go", func() bool { return n.server.Connections() == 0 })
	})
	t.Run("AsItBegins", func(t *testing.T) {
		var over endedSessions
		n := start(t, nil, func(c *realtime.Config) {
			over.Sessions = c.Sessions
			c.Sessions = &over
		})
		token, _ := n.signIn("mira")
		over.ended.Store(true) // after each handshake
		for range 5 {
			upgrade(t, n, token)
		}
		until(t, "all were looked up again", func() bool { return over.asked.Load() >= 5 })
		until(t, "they are let go", func() bool { return n.server.Connections() == 0 })
	})
}
