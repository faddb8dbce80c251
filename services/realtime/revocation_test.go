package realtime_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// promised is what the protocol promises for every end of a right.
const promised = time.Second

// stopwatch measures how long something takes, and how late this machine was
// meanwhile with what is due at once: a promise of one second is one of a machine
// that runs what is due. What is due is a step that goes the same way, over
// Redis where that takes part, every few milliseconds.
type stopwatch struct {
	began time.Time
	stop  chan struct{}
	late  chan time.Duration
}

func startWatch(step func()) *stopwatch {
	w := &stopwatch{began: time.Now(), stop: make(chan struct{}), late: make(chan time.Duration)}
	go func() {
		var sum time.Duration
		const every = 5 * time.Millisecond
		t := time.NewTicker(every)
		defer t.Stop()
		for last := time.Now(); ; {
			select {
			case <-w.stop:
				w.late <- sum
				return
			case <-t.C:
			}
			step()
			now := time.Now()
			sum += max(0, now.Sub(last)-2*every)
			last = now
		}
	}()
	return w
}

// within ends the measurement, and fails if it took longer than limit and the
// time for which the machine was late.
func (w *stopwatch) within(t testing.TB, what string, limit time.Duration) {
	t.Helper()
	took := time.Since(w.began)
	close(w.stop)
	late := <-w.late
	t.Logf("%s took %v; the machine was late by %v", what, took, late)
	if took > limit+late {
		t.Errorf("%s took %v, want at most %v", what, took, limit+late)
	}
}

// TestWhoIsRemovedGetsNothingMoreInAnyWay removes somebody from a team that
// never stops: what is published behind the removal arrives on no connection of
// theirs, of either kind, on either node, nor by resuming, nor late from a queue.
func TestWhoIsRemovedGetsNothingMoreInAnyWay(t *testing.T) {
	server := tieredtest.StartRedis(t)
	one := start(t, newRedis(t, server), func(c *realtime.Config) { c.Limits.QueueBytes = 64 << 10 })
	two := second(t, one.db, one.sessions, newRedis(t, server), nil)
	web := one.front(t, false)

	token, _ := one.signIn("jonas")
	here, there, mira := one.connect("jonas"), two.connect("jonas"), two.connect("mira")
	offset := here.subscribe(team, "").Offset
	there.subscribe(team, "")
	mira.subscribe(team, "")
	slow, resume := one.slow("jonas")
	stream := one.follow(web, token, "channels="+team+","+habits, "")
	stream.untilSubscribed(2)

	// A member ticks without end. The ids tell what came behind the removal.
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	var mu sync.Mutex
	removed, published := false, 0
	wg.Go(func() {
		pace := time.NewTicker(4 * time.Millisecond)
		defer pace.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			mu.Lock()
			e := bulky(team, n)
			if removed {
				e = numbered(team, n)
				e.ID = fmt.Sprint("behind", n)
			}
			_, err := one.broker.Publish(ctx, e)
			for err != nil && ctx.Err() == nil { // a loaded machine's Redis may take its time
				_, err = one.broker.Publish(ctx, e)
			}
			published++
			mu.Unlock()
		}
	})
	so := func(n int) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return published >= n }
	}
	until(t, "the slow reader's buffers are full", so(150))
	// Who reads only now is slow, too: the stream reads up to here.
	mu.Lock()
	latest := fmt.Sprint("e", published-1)
	mu.Unlock()
	stream.until("it keeps up", func(s sent) bool { return s.ID == latest })
	mu.Lock()
	one.leave("jonas")
	removed, published = true, 0
	mu.Unlock()
	line := server.Client(t)
	w := startWatch(func() { line.Ping(t.Context()) })
	over := func(m message) bool { return m.Code == "forbidden" && m.Ch == team }
	here.await("the end of the channel", over)
	there.await("the end of the channel", over)
	got := stream.until("the end of the channel", func(s sent) bool { return over(s.message) })
	w.within(t, "the end of the channel on two nodes and a stream", promised)
	until(t, "the team goes on", so(50))

	// By resuming, on both transports, before and behind the removal.
	again := two.connect("jonas")
	for _, since := range []string{"", offset} {
		n := len(again.messages())
		again.say(fmt.Sprintf(`{"type":"subscribe","channels":[{"ch":%q,"since":%q}]}`, team, since))
		again.awaitAfter(n, "a refusal", over)
	}
	for _, cursor := range []string{"", stream.cursor} {
		e := one.follow(web, token, "channels="+team+"@"+offset, cursor)
		got = append(got, e.until("a refusal", func(s sent) bool { return over(s.message) })...)
		_ = e.resp.Body.Close()
	}
	// From what waited.
	resume()
	slow.await("the end of the channel", over)
	cancel()
	wg.Wait()
	for _, c := range []*client{here, there, again, slow} {
		c.say(`{"type":"ping"}`)
		c.await("what comes last", func(m message) bool { return m.Type == "pong" })
		for _, m := range c.messages() {
			got = append(got, sent{message: m})
		}
		all := c.messages()
		if i := slices.IndexFunc(all, over); slices.ContainsFunc(all[i:], func(m message) bool { return m.Channel == team }) {
			t.Errorf("something of the team came behind the end of the channel")
		}
	}
	for _, s := range got {
		if id, _ := s.ID.(string); strings.HasPrefix(id, "behind") {
			t.Errorf("%s arrived", id)
		}
	}
	mira.wait("the others get it", func() bool {
		return slices.ContainsFunc(mira.events(), func(id string) bool { return strings.HasPrefix(id, "behind") })
	})
}

// What is published in one breath with the removal is behind it, too.
func TestARemovalEndsTheChannelBeforeTheNextEvent(t *testing.T) {
	for name, broker := range map[string]func() event.Broker{
		"memory": func() event.Broker { return nil },
		"redis":  func() event.Broker { return newRedis(t, tieredtest.StartRedis(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			n := start(t, broker(), nil)
			mira, jonas := n.connect("mira"), n.connect("jonas")
			mira.subscribe(team, "")
			jonas.subscribe(team, "")
			if _, err := n.db.SQL().ExecContext(t.Context(), `DELETE FROM memberships WHERE user_id = 'jonas'`); err != nil {
				t.Fatal(err)
			}
			left := numbered(team, 0)
			left.ID, left.Name, left.Data = "left", "member_left", []byte(`{"user_id":"jonas"}`)
			burst := []event.Event{numbered(team, 1), numbered(team, 2), left}
			for i := range 100 {
				burst = append(burst, numbered(team, 3+i))
			}
			for _, out := range n.broker.PublishAll(t.Context(), burst) {
				if out.Err != nil {
					t.Fatal(out.Err)
				}
			}
			mira.wait("everything", func() bool { return len(mira.events()) == len(burst) })
			jonas.await("the end of the channel", func(m message) bool { return m.Code == "forbidden" && m.Ch == team })
			jonas.say(`{"type":"ping"}`)
			jonas.await("what comes last", func(m message) bool { return m.Type == "pong" })
			jonas.awaitEvents("e1", "e2", "left")
		})
	}
}

// The history may be ahead of the event that takes the right to read it: who
// reads on after having been slow is asked for again.
func TestWhoIsNoMemberIsNotCaughtUp(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.QueueBytes = 16 << 10 })
	slow, resume := n.slow("jonas")
	const total = 1500
	for i := range total {
		n.emit(bulky(team, i))
	}
	if _, err := n.db.SQL().ExecContext(t.Context(), `DELETE FROM memberships WHERE user_id = 'jonas'`); err != nil {
		t.Fatal(err)
	}
	resume()
	slow.await("the end of the channel", func(m message) bool { return m.Code == "forbidden" && m.Ch == team })
	n.emit(numbered(habits, 9000))
	slow.wait("what is still theirs", func() bool { return slices.Contains(slow.events(), "e9000") })
	if got := len(slow.events()); got >= total {
		t.Errorf("got %d events", got)
	}
}

// A connection may move to another session just as that ends.
func TestASessionThatEndsWhileAConnectionMovesToItEndsIt(t *testing.T) {
	hold := &holding{at: make(chan struct{}), on: make(chan struct{})}
	n := start(t, nil, func(c *realtime.Config) { hold.Sessions, c.Sessions = c.Sessions, hold })
	c := n.connect("mira")
	newer, id := n.signIn("mira")
	tk, _ := n.ticket(newer, nil)
	hold.token(newer)
	c.say(`{"type":"refresh","ticket":"` + tk + `"}`)
	<-hold.at // it has been looked up
	if err := n.sessions.Revoke(t.Context(), "mira", id); err != nil {
		t.Fatal(err)
	}
	close(hold.on)
	if code := c.awaitClose(); code != 4004 && code != 4505 {
		t.Errorf("closed with %d", code)
	}
}

// holding keeps the answer of one lookup back.
type holding struct {
	realtime.Sessions
	mu     sync.Mutex
	held   string
	at, on chan struct{}
}

func (h *holding) token(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held = s
}

func (h *holding) Lookup(ctx context.Context, token string) (session.Session, error) {
	s, err := h.Sessions.Lookup(ctx, token)
	h.mu.Lock()
	held := h.held == token
	if held {
		h.held = ""
	}
	h.mu.Unlock()
	if held {
		close(h.at)
		<-h.on
	}
	return s, err
}

// TestARevokedSessionIsCutWithinASecond is without any event that says so: the
// database is looked at twice a second. Redis is there, or not.
func TestARevokedSessionIsCutWithinASecond(t *testing.T) {
	server := tieredtest.StartRedis(t)
	n := start(t, newRedis(t, server), nil)
	elsewhere, err := session.New(session.Config{DB: n.db.SQL(), Secrets: []string{"a secret that is only used in tests"}})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(n.server.Handler())
	t.Cleanup(func() {
		_ = n.server.Close()
		web.Close()
	})
	for _, away := range []bool{false, true} {
		if away {
			server.Kill()
		}
		for range 3 {
			token, id := n.signIn("jonas")
			other, _ := n.signIn("jonas")
			stays := n.connectAs(dialing{token: other})
			c := n.connectAs(dialing{token: token})
			e := n.follow(web, token, "channels="+habits, "")
			e.until("the beginning", func(s sent) bool { return s.Type == "status" })
			if err := elsewhere.Revoke(t.Context(), "jonas", id); err != nil {
				t.Fatal(err)
			}
			w := startWatch(func() { _, _ = elsewhere.Lookup(t.Context(), other) })
			// 4004 where a recheck of the connection came first.
			if code := c.awaitClose(); code != 4505 && code != 4004 {
				t.Errorf("closed with %d", code)
			}
			last := e.until("the end", func(s sent) bool { return s.Type == "close" })
			w.within(t, fmt.Sprintf("the end of a socket and a stream, Redis away %v,", away), promised)
			if got := fmt.Sprint(last[len(last)-1].Code); got != "4505" && got != "4004" {
				t.Errorf("the stream ended with %s", got)
			}
			stays.say(`{"type":"ping"}`)
			stays.await("an answer", func(m message) bool { return m.Type == "pong" })
			_ = stays.ws.CloseNow()
		}
	}
}
