package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime"
)

const team = "team:harbor:activity"

func TestHelloComesFirstThenTheStatus(t *testing.T) {
	n := start(t, nil, nil)
	c := n.connect("mira")
	c.await("status", func(m message) bool { return m.Type == "status" })
	got := c.messages()
	if got[0].Type != "hello" || got[0].Conn == "" || got[0].PingMs != 25_000 || got[1].Status != "ok" {
		t.Fatalf("got %+v", got)
	}
}

func TestAnEventReachesWhoeverFollowsItsChannel(t *testing.T) {
	n := start(t, nil, nil)
	mira, jonas, lena := n.connect("mira"), n.connect("jonas"), n.connect("lena")
	s := mira.subscribe(team, "")
	jonas.subscribe(team, "")
	lena.subscribe("user:lena:habits", "")
	if s.ID != "1" || s.Offset == "" || s.Epoch == "" || s.Recovered || s.Replayed != 0 {
		t.Fatalf("subscribed %+v", s)
	}
	n.publish(team, 1, 20)
	n.publish("user:lena:habits", 21, 21)
	mira.awaitEvents(names(1, 20)...)
	jonas.awaitEvents(names(1, 20)...)
	lena.awaitEvents("e21")
	m := mira.lastEvent()
	if m.Type != "" || m.Channel != team || m.Class != "durable" || m.Offset == "" || string(m.Data) != `{"n":20}` {
		t.Fatalf("got %+v", m)
	}
}

func TestUnsubscribingEndsIt(t *testing.T) {
	n := start(t, nil, nil)
	c := n.connect("mira")
	c.subscribe(team, "")
	c.subscribe("user:mira:habits", "")
	c.say(`{"type":"unsubscribe","id":7,"channels":["` + team + `"]}`)
	m := c.await("unsubscribed", func(m message) bool { return m.Type == "unsubscribed" })
	if m.ID != float64(7) || m.Ch != team {
		t.Errorf("got %+v", m)
	}
	n.publish(team, 1, 1)
	n.publish("user:mira:habits", 2, 2)
	c.awaitEvents("e2")
	c.subscribe(team, "")
	n.publish(team, 3, 3)
	c.awaitEvents("e2", "e3")
}

func TestResumingReplaysWhatWasMissedOnce(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	first := n.connectAs(dialing{token: token})
	empty := first.subscribe(team, "") // of an empty channel
	n.publish(team, 1, 5)
	first.awaitEvents(names(1, 5)...)
	last := first.await("the last event", func(m message) bool { return m.ID == "e5" })
	_ = first.ws.CloseNow()
	n.publish(team, 6, 400) // more than a page

	t.Run("FromTheLastEvent", func(t *testing.T) {
		c := n.connectAs(dialing{token: token})
		s := c.subscribe(team, last.Offset)
		if !s.Recovered || s.Replayed == 0 || s.Offset != last.Offset {
			t.Errorf("subscribed %+v", s)
		}
		c.awaitEvents(names(6, 400)...)
	})
	t.Run("FromAnEmptyChannel", func(t *testing.T) {
		c := n.connectAs(dialing{token: token})
		if s := c.subscribe(team, empty.Offset); !s.Recovered {
			t.Errorf("subscribed %+v", s)
		}
		c.awaitEvents(names(1, 400)...)
	})
	t.Run("FromTheEnd", func(t *testing.T) {
		c := n.connectAs(dialing{token: token})
		at, err := n.broker.Position(t.Context(), team)
		if err != nil {
			t.Fatal(err)
		}
		if s := c.subscribe(team, at.String()); !s.Recovered || s.Replayed != 0 {
			t.Errorf("subscribed %+v", s)
		}
		n.publish(team, 401, 401)
		c.awaitEvents("e401")
	})
	for name, since := range map[string]string{
		"FromAnotherEpoch":    "abcdef.1700000000000-0",
		"FromSomethingMadeUp": "not a position",
		"FromTheFuture":       empty.Epoch + ".99999999999999-0",
	} {
		t.Run(name, func(t *testing.T) {
			c := n.connectAs(dialing{token: token})
			s := c.subscribe(team, since)
			r := c.await("reset", func(m message) bool { return m.Type == "reset" && m.Ch == team })
			if s.Recovered || r.Offset == "" || r.Offset != s.Offset || r.Reason == "" {
				t.Errorf("subscribed %+v, reset %+v", s, r)
			}
			n.publish(team, 500+len(name), 500+len(name))
			c.awaitEvents(fmt.Sprint("e", 500+len(name)))
		})
	}
}

func TestResumingAmidPublishingIsGapless(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	c := n.connectAs(dialing{token: token})
	offset := c.subscribe(team, "").Offset
	stop, done := make(chan struct{}), make(chan int)
	go func() {
		i := 0
		pace := time.NewTicker(100 * time.Microsecond)
		defer pace.Stop()
		for ; ; i++ {
			select {
			case <-stop:
				done <- i
				return
			default:
				if _, err := n.broker.Publish(t.Context(), numbered(team, i)); err != nil {
					t.Errorf("publish: %v", err)
				}
				<-pace.C
			}
		}
	}()
	var all []string
	for range 15 {
		_ = c.ws.CloseNow()
		c = n.connectAs(dialing{token: token})
		if s := c.subscribe(team, offset); !s.Recovered {
			t.Errorf("subscribed %+v", s)
		}
		c.wait("some events", func() bool { return len(c.events()) >= 20 })
		got := c.messages()
		for _, m := range got {
			if m.Event != "" {
				all, offset = append(all, m.ID.(string)), m.Offset
			}
		}
	}
	close(stop)
	total := <-done
	c = n.connectAs(dialing{token: token})
	c.subscribe(team, offset)
	c.wait("the rest", func() bool { return len(all)+len(c.events()) >= total })
	if all = append(all, c.events()...); !slices.Equal(all, names(0, total-1)) {
		t.Fatalf("got %d events, want %d, each once and in order", len(all), total)
	}
}

func TestNobodyFollowsWhatIsNotTheirs(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerSecond = 1000 })
	c := n.connect("jonas")
	for _, tt := range []struct{ ch, code string }{
		{"user:mira:habits", "forbidden"},
		{"user:mira:session", "forbidden"},
		{"user:jonas:secrets", "forbidden"},
		{"user:jonas", "forbidden"},
		{"team:other:activity", "forbidden"},
		{"team:harbor:chat", "forbidden"},
		{"team:none:activity", "forbidden"},
		{"ops:alerts", "forbidden"},
		{"team:*:activity", "bad_channel"},
		{"team:harbor:activity:x", "bad_channel"},
		{"team::activity", "bad_channel"},
		{"{team:harbor:activity}", "bad_channel"},
		{"", "bad_channel"},
		{strings.Repeat("x", 5000), "bad_channel"},
	} {
		n := len(c.messages())
		b, _ := json.Marshal(map[string]any{"type": "subscribe", "id": 3, "channels": []map[string]string{{"ch": tt.ch}}})
		c.say(string(b))
		m := c.awaitAfter(n, "an error for "+tt.ch[:min(40, len(tt.ch))], func(m message) bool { return m.Type == "error" })
		if m.Code != tt.code || m.ID != float64(3) || !strings.HasPrefix(tt.ch, m.Ch) {
			t.Errorf("%q: got %+v, want %s", tt.ch, m, tt.code)
		}
	}
}

func TestWhoIsRemovedFromATeamGetsNothingMore(t *testing.T) {
	n := start(t, nil, nil)
	mira, jonas := n.connect("mira"), n.connect("jonas")
	mira.subscribe(team, "")
	offset := jonas.subscribe(team, "").Offset
	jonas.subscribe("user:jonas:habits", "")
	n.publish(team, 1, 1)
	jonas.awaitEvents("e1")
	n.leave("jonas")
	jonas.await("the end of the channel", func(m message) bool { return m.Type == "error" && m.Code == "forbidden" && m.Ch == team })
	n.publish(team, 2, 5)
	n.publish("user:jonas:habits", 6, 6)
	mira.awaitEvents("e1", "left", "e2", "e3", "e4", "e5")
	jonas.awaitEvents("e1", "left", "e6")
	// Nor by resuming.
	jonas.say(fmt.Sprintf(`{"type":"subscribe","channels":[{"ch":%q,"since":%q}]}`, team, offset))
	jonas.wait("a second refusal", func() bool {
		n := 0
		for _, m := range jonas.messages() {
			if m.Code == "forbidden" {
				n++
			}
		}
		return n == 2
	})
	jonas.awaitEvents("e1", "left", "e6")
}

// gate is a broker at which subscribing takes until it is opened.
type gate struct {
	event.Broker
	asked, open chan struct{}
}

func (g *gate) Subscribe(ctx context.Context, channel string, s event.Subscriber) (event.Position, func(), error) {
	if channel == team {
		close(g.asked)
		<-g.open
	}
	return g.Broker.Subscribe(ctx, channel, s)
}

func TestARemovalWhileTheChannelIsBeingSubscribedIsNotMissed(t *testing.T) {
	memory, err := event.NewMemory(event.Options{})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{Broker: memory, asked: make(chan struct{}), open: make(chan struct{})}
	n := start(t, g, nil)
	c := n.connect("jonas")
	c.say(`{"type":"subscribe","channels":["` + team + `"]}`)
	<-g.asked
	n.leave("jonas") // nobody hears the event: this node does not follow the channel yet
	close(g.open)
	c.await("a refusal", func(m message) bool { return m.Code == "forbidden" && m.Ch == team })
}

// leave removes somebody from the team, as the API does.
func (n *node) leave(user string) {
	n.t.Helper()
	if _, err := n.db.SQL().ExecContext(n.t.Context(), `DELETE FROM memberships WHERE team_id = 'harbor' AND user_id = $1`, user); err != nil {
		n.t.Fatal(err)
	}
	e := numbered(team, 0)
	e.ID, e.Name, e.Data = "left", "member_left", []byte(`{"user_id":"`+user+`"}`)
	n.emit(e)
}

func TestARevokedSessionIsCutAndOnlyThat(t *testing.T) {
	n := start(t, nil, nil)
	token, id := n.signIn("mira")
	phone, laptop := n.connectAs(dialing{token: token}), n.connect("mira")
	laptop.subscribe(team, "")
	phone.subscribe(team, "")
	until(t, "revocations are heard of", func() bool {
		e := numbered("user:mira:session", int(time.Now().UnixNano()%1e9))
		e.Name, e.Data = "session_revoked", []byte(`{"session_id":"`+id+`"}`)
		n.emit(e)
		phone.mu.Lock()
		defer phone.mu.Unlock()
		return phone.err != nil
	})
	if code := phone.awaitClose(); code != 4505 {
		t.Fatalf("closed with %d", code)
	}
	n.publish(team, 1, 1)
	laptop.awaitEvents("e1")
}

func TestASessionThatEndedUnheardIsFoundByTheRecheck(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.Recheck = 30 * time.Millisecond })
	token, id := n.signIn("mira")
	c, other := n.connectAs(dialing{token: token}), n.connect("jonas")
	other.subscribe(team, "")
	if _, err := n.db.SQL().ExecContext(t.Context(), `DELETE FROM sessions WHERE id = $1`, id); err != nil {
		t.Fatal(err)
	}
	if code := c.awaitClose(); code != 4004 {
		t.Fatalf("closed with %d", code)
	}
	if _, err := n.db.SQL().ExecContext(t.Context(), `DELETE FROM memberships WHERE user_id = 'jonas'`); err != nil {
		t.Fatal(err)
	}
	other.await("the end of the channel", func(m message) bool { return m.Code == "forbidden" && m.Ch == team })
}

func TestWhoIsNotSignedInIsToldByACloseCode(t *testing.T) {
	n := start(t, nil, nil)
	token, id := n.signIn("mira")
	if err := n.sessions.Revoke(t.Context(), "mira", id); err != nil {
		t.Fatal(err)
	}
	for name, cookie := range map[string]string{"none": "", "forged": strings.Repeat("A", len(token)), "revoked": token, "nonsense": "x"} {
		c, _, err := n.dial(dialing{token: cookie})
		if err != nil {
			t.Errorf("%s: the handshake failed: %v", name, err)
			continue
		}
		if code := c.awaitClose(); code != 4501 {
			t.Errorf("%s: closed with %d, want 4501", name, code)
		}
	}
	if n.server.Connections() != 0 {
		t.Errorf("%d connections are kept", n.server.Connections())
	}
}

func TestBadMessagesCloseWithTheirCode(t *testing.T) {
	n := start(t, nil, nil)
	big := `{"type":"ack","x":"` + strings.Repeat("x", 9<<10) + `"}`
	for _, tt := range []struct {
		name string
		kind websocket.MessageType
		text string
		code int
	}{
		{"too big", websocket.MessageText, big, 4503},
		{"binary", websocket.MessageBinary, `{"type":"pong"}`, 4500},
		{"not JSON", websocket.MessageText, `{`, 4500},
		{"no type", websocket.MessageText, `{}`, 4500},
		{"an array", websocket.MessageText, `[]`, 4500},
		{"channels of the wrong type", websocket.MessageText, `{"type":"subscribe","channels":5}`, 4500},
		{"not UTF-8", websocket.MessageText, "{\"type\":\"\xff\"}", 1007},
	} {
		c := n.connect("mira")
		if err := c.ws.Write(t.Context(), tt.kind, []byte(tt.text)); err != nil {
			t.Fatal(err)
		}
		if code := c.awaitClose(); code != tt.code {
			t.Errorf("%s: closed with %d, want %d", tt.name, code, tt.code)
		}
	}
	c := n.connect("mira")
	c.say(`{"type":"dance","id":"9"}`)
	if m := c.await("an error", func(m message) bool { return m.Type == "error" }); m.Code != "unknown_type" || m.ID != "9" {
		t.Errorf("an unknown type: %+v", m)
	}
	if c, _, err := n.dial(dialing{token: mustToken(n), query: "?v=2"}); err != nil || c.awaitClose() != 4504 {
		t.Errorf("another version of the protocol: %v", err)
	}
}

func mustToken(n *node) string { t, _ := n.signIn("mira"); return t }

func TestLimitsAreHeld(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerUser = 3 })
	t.Run("MessagesASecond", func(t *testing.T) {
		c := n.connect("mira")
		for range 40 {
			if err := c.ws.Write(t.Context(), websocket.MessageText, []byte(`{"type":"ack"}`)); err != nil {
				break
			}
		}
		if code := c.awaitClose(); code != 4006 {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("PingsCountToo", func(t *testing.T) {
		c := n.connect("mira")
		go func() {
			for range 60 {
				if c.ws.Ping(t.Context()) != nil {
					return
				}
			}
		}()
		if code := c.awaitClose(); code != 4006 {
			t.Errorf("closed with %d", code)
		}
	})
	t.Run("Channels", func(t *testing.T) {
		var in []string
		for i := range 65 {
			in = append(in, fmt.Sprintf(`"team:%d:activity"`, i))
			if _, err := n.db.SQL().ExecContext(t.Context(), `INSERT INTO memberships VALUES ($1, 'tomas', 'member')`, fmt.Sprint(i)); err != nil {
				t.Fatal(err)
			}
		}
		c := n.connect("tomas")
		c.say(`{"type":"subscribe","channels":[` + strings.Join(in, ",") + `]}`)
		c.wait("64 subscriptions", func() bool {
			n := 0
			for _, m := range c.messages() {
				if m.Type == "subscribed" {
					n++
				}
			}
			return n == 64
		})
		c.await("a refusal", func(m message) bool { return m.Code == "too_many_channels" })
	})
	t.Run("ConnectionsOfAUser", func(t *testing.T) {
		for range 3 {
			n.connect("aylin")
		}
		token, _ := n.signIn("aylin")
		c, _, err := n.dial(dialing{token: token})
		if err != nil || c.awaitClose() != 4502 {
			t.Errorf("a fourth connection: %v", err)
		}
	})
}

func TestSilentClientsAreCutAndOthersKept(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) {
		c.Limits.PingEvery, c.Limits.PongWithin, c.Limits.Tick = 40*time.Millisecond, 100*time.Millisecond, 5*time.Millisecond
	})
	alive := n.connect("mira")
	token, _ := n.signIn("jonas")
	dead := n.connectAs(dialing{token: token, mute: true})
	if code := dead.awaitClose(); code != 4003 {
		t.Fatalf("closed with %d", code)
	}
	alive.wait("several pings", func() bool {
		n := 0
		for _, m := range alive.messages() {
			if m.Type == "ping" {
				n++
			}
		}
		return n >= 6
	})
}

func TestOldConnectionsAreAskedToComeAgain(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) {
		c.Limits.MaxAge, c.Limits.PingEvery, c.Limits.Tick = 100*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
	})
	if code := n.connect("mira").awaitClose(); code != 4008 {
		t.Fatalf("closed with %d", code)
	}
}

func TestOneMessageIsOneSpanHoweverManyGetIt(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	tp := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	broker, err := event.NewMemory(event.Options{Tracer: tp})
	if err != nil {
		t.Fatal(err)
	}
	n := start(t, broker, func(c *realtime.Config) { c.Tracer = tp })
	var clients []*client
	for range 5 {
		c := n.connect("mira")
		c.subscribe(team, "")
		clients = append(clients, c)
	}
	e := numbered(team, 1)
	e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	n.emit(e)
	for _, c := range clients {
		c.awaitEvents("e1")
	}
	byName := map[string][]sdktrace.ReadOnlySpan{}
	until(t, "the spans have ended", func() bool {
		clear(byName)
		for _, s := range spans.Ended() {
			byName[s.Name()] = append(byName[s.Name()], s)
		}
		return len(byName["process "+"team:{id}:activity"]) > 0
	})
	publish, process, broadcast := byName["publish team:{id}:activity"], byName["process team:{id}:activity"], byName["ws.broadcast"]
	if len(publish) != 1 || len(process) != 1 || len(broadcast) != 1 {
		t.Fatalf("%d, %d and %d spans, want one of each", len(publish), len(process), len(broadcast))
	}
	if l := process[0].Links(); len(l) != 1 || l[0].SpanContext.SpanID() != publish[0].SpanContext().SpanID() {
		t.Errorf("the consumer is not linked to the producer: %v", l)
	}
	if broadcast[0].Parent().SpanID() != process[0].SpanContext().SpanID() {
		t.Errorf("the broadcast is not below the consumer")
	}
	if a := broadcast[0].Attributes(); len(a) != 1 || a[0].Value.AsInt64() != 5 {
		t.Errorf("the broadcast says %v, want 5 recipients", a)
	}
	m := clients[0].lastEvent()
	if !strings.Contains(m.Trace, "4bf92f3577b34da6a3ce929d0e0e4736") {
		t.Errorf("the envelope's trace is %q", m.Trace)
	}
}

func TestOtherRequestsAreToldWhatToDo(t *testing.T) {
	n := start(t, nil, nil)
	for path, want := range map[string]int{"/rt/v1/ws": 426, "/rt/v1/events": 400, "/rt/v1/ticket": 405, "/rt/v1/else": 404} {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, n.http.URL+path, nil)
		req.Header.Set("Origin", n.http.URL)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		var p struct{ Code, Detail string }
		if err := json.NewDecoder(resp.Body).Decode(&p); err != nil || resp.StatusCode != want || p.Code == "" || p.Detail == "" {
			t.Errorf("%s: %d %+v, %v", path, resp.StatusCode, p, err)
		}
		_ = resp.Body.Close()
	}
	http.DefaultClient.CloseIdleConnections()
}
