package realtime_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// bulky is an event that fills socket buffers quickly.
func bulky(channel string, n int) event.Event {
	e := numbered(channel, n)
	e.Data = []byte(`{"x":"` + strings.Repeat("x", 4000) + `"}`)
	return e
}

func TestASlowReaderGetsEverythingAndSlowsNobodyDown(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.QueueBytes = 32 << 10 })
	slow, resume := n.slow("jonas")
	quick := n.connect("mira")
	quick.subscribe(team, "")
	const total = 600 // 2.4 MB: the kernel takes a part, the queue 32 KiB
	for i := range total {
		n.emit(bulky(team, i))
		if i%60 == 0 {
			n.emit(numbered("user:jonas:habits", 1000+i))
		}
	}
	quick.awaitEvents(names(0, total-1)...)
	resume()
	want := total + total/60
	slow.wait("everything", func() bool { return len(slow.events()) >= want })
	var activity, habits []string
	for _, m := range slow.messages() {
		switch m.Channel {
		case team:
			activity = append(activity, m.ID.(string))
		case "user:jonas:habits":
			habits = append(habits, m.ID.(string))
		}
		if m.Type == "reset" {
			t.Errorf("reset %+v", m)
		}
	}
	if !slices.Equal(activity, names(0, total-1)) || len(habits) != total/60 {
		t.Fatalf("got %d and %d events", len(activity), len(habits))
	}
	// It is live again.
	n.publish(team, 5000, 5000)
	slow.wait("the next event", func() bool { return slices.Contains(slow.events(), "e5000") })
}

func TestAReaderPastTheHistoryIsReset(t *testing.T) {
	broker, err := event.NewMemory(event.Options{Keep: 20})
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, broker, func(c *realtime.Config) { c.Limits.QueueBytes = 32 << 10 })
	slow, resume := n.slow("jonas")
	for i := range 1500 {
		n.emit(bulky(team, i))
	}
	resume()
	r := slow.await("a reset", func(m message) bool { return m.Type == "reset" })
	if r.Ch != team || r.Reason != event.ResetTrimmed || r.Offset == "" {
		t.Fatalf("got %+v", r)
	}
	// Another reset may be on its way, and cover what is published before it.
	next := 5000
	until(t, "it is live again", func() bool {
		next++
		n.publish(team, next, next)
		return slices.ContainsFunc(slow.events(), func(id string) bool { return len(id) == 5 && id > "e5000" })
	})
	if got := slow.events(); len(got) != len(slices.Compact(slices.Clone(got))) {
		t.Errorf("something came twice")
	}
}

func TestAReaderThatNeverReadsIsCut(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.SlowAfter = 200 * time.Millisecond })
	_, resume := n.slow("jonas")
	defer resume()
	for i := range 1500 {
		n.emit(bulky(team, i))
	}
	until(t, "it is cut", func() bool { return n.server.Connections() == 0 })
}

func TestOfLatestEventsASlowReaderGetsTheNewestAndDurableOnesStayExact(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.QueueBytes = 512 << 10; c.Limits.QueueLen = 64 })
	slow, resume := n.slow("jonas")
	var durable []string
	for i := range 2000 {
		e := bulky("user:jonas:habits", i)
		switch {
		case i%100 == 0:
			e.Channel = team
			durable = append(durable, e.ID)
		case i%2 == 0:
			e.Class, e.Name = event.Ephemeral, "typing"
		default:
			e.Class, e.Name = event.Latest, "leaderboard_updated"
		}
		n.emit(e)
	}
	resume()
	slow.wait("the newest", func() bool { return slices.Contains(slow.events(), "e1999") })
	var got []string
	latest, ephemeral := 0, 0
	for _, m := range slow.messages() {
		switch m.Class {
		case "durable":
			got = append(got, m.ID.(string))
		case "latest":
			latest++
		case "ephemeral":
			ephemeral++
		}
	}
	if !slices.Equal(got, durable) {
		t.Errorf("durable events are %v, want %v", got, durable)
	}
	if latest == 990 || ephemeral == 990 {
		t.Errorf("%d latest and %d ephemeral events came through a full queue", latest, ephemeral)
	}
}

func TestRevocationTakesWhatWaits(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.QueueBytes = 1 << 20 })
	slow, resume := n.slow("jonas")
	const total = 250 // more than the kernel takes, less than the queue
	for i := range total {
		n.emit(bulky(team, i))
	}
	n.leave("jonas")
	until(t, "the team is no longer followed", func() bool { return n.server.Channels() <= 2 })
	resume()
	slow.await("the end of the channel", func(m message) bool { return m.Code == "forbidden" && m.Ch == team })
	seen := len(slow.events())
	n.emit(numbered("user:jonas:habits", 9000))
	slow.wait("what is still theirs", func() bool { return slices.Contains(slow.events(), "e9000") })
	if got := slow.events(); len(got) != seen+1 || seen >= total {
		t.Errorf("%d events after the revocation, %d before", len(got)-seen, seen)
	}
}

func TestADrainSpreadsClientsAndEndsWhenTheyAreGone(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.DrainWindow = 20 * time.Second; c.Limits.PerUser = 1000 })
	token, _ := n.signIn("mira")
	var clients []*client
	for range 60 {
		clients = append(clients, n.connectAs(dialing{token: token}))
	}
	drained := make(chan error, 1)
	began := time.Now()
	go func() { drained <- n.server.Drain(t.Context()) }()
	var delays []int64
	for _, c := range clients {
		m := c.await("drain", func(m message) bool { return m.Type == "drain" })
		if m.After < 0 || m.After > 20_000 || m.Deadline < m.After {
			t.Errorf("got %+v", m)
		}
		delays = append(delays, m.After)
		_ = c.ws.Close(websocket.StatusNormalClosure, "")
	}
	if err := <-drained; err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("the drain took %s though everybody had left", d)
	}
	slices.Sort(delays)
	if delays[0] > 1000 || delays[59] < 19_000 || delays[30] < 8000 || delays[30] > 12_000 {
		t.Errorf("delays are not uniform: %v", delays)
	}
	if _, resp, err := n.dial(dialing{token: token}); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a new connection was taken while draining: %v", err)
	}
}

func TestWhoStaysBeyondTheDrainIsClosed(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.DrainWindow = 40 * time.Millisecond })
	c := n.connect("mira")
	if err := n.server.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code := c.awaitClose(); code != 4001 {
		t.Fatalf("closed with %d", code)
	}
}

func TestHundredsOfReadersGetABurst(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerUser, c.Limits.Attempts = 1000, 1000 })
	token, _ := n.signIn("mira")
	var clients []*client
	for range 300 {
		c := n.connectAs(dialing{token: token})
		c.subscribe(team, "")
		clients = append(clients, c)
	}
	n.publish(team, 1, 32)
	for i, c := range clients {
		c.wait(fmt.Sprintf("the burst at %d", i), func() bool { return len(c.events()) == 32 })
		if !slices.Equal(c.events(), names(1, 32)) {
			t.Fatalf("client %d got %v", i, c.events())
		}
	}
}
