package realtime_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime"
)

const habits = "user:jonas:habits"

// front is a node behind HTTP/1.1 or HTTP/2, whose requests have little time.
func (n *node) front(t *testing.T, http2 bool) *httptest.Server {
	t.Helper()
	web := httptest.NewUnstartedServer(n.server.Handler())
	web.Config.WriteTimeout, web.Config.ReadTimeout = 300*time.Millisecond, 300*time.Millisecond
	web.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetWriteBuffer(32 << 10)
		}
		return ctx
	}
	web.EnableHTTP2 = http2
	if http2 {
		web.StartTLS()
	} else {
		web.Start()
	}
	t.Cleanup(func() {
		_ = n.server.Close() // its answers are requests of the web server
		web.Close()
	})
	return web
}

// sent is one event of a stream.
type sent struct {
	cursor string // its id, or that of the last that had one
	message
}

// events is a client of a stream. It reads when asked to.
type events struct {
	t      testing.TB
	resp   *http.Response
	lines  *bufio.Reader
	cursor string
	retry  string
	seen   int // comments
}

func (n *node) stream(web *httptest.Server, token, query, cursor string, header http.Header) (*events, error) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, web.URL+"/rt/v1/events?"+query, nil)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	if token != "" {
		req.Header.Set("Cookie", "crewbeat.sid="+token)
	}
	if cursor != "" {
		req.Header.Set("Last-Event-ID", cursor)
	}
	client := web.Client()
	tr := client.Transport.(*http.Transport).Clone()
	tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err == nil {
			_ = c.(*net.TCPConn).SetReadBuffer(32 << 10)
		}
		return c, err
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	body := resp.Body
	end := sync.OnceFunc(func() { _ = body.Close(); tr.CloseIdleConnections() })
	resp.Body = struct {
		io.Reader
		io.Closer
	}{body, closer(func() error { end(); return nil })}
	n.t.Cleanup(end)
	return &events{t: n.t, resp: resp, lines: bufio.NewReader(resp.Body)}, nil
}

type closer func() error

func (c closer) Close() error { return c() }

func (n *node) follow(web *httptest.Server, token, query, cursor string) *events {
	n.t.Helper()
	e, err := n.stream(web, token, query, cursor, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	if e.resp.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(e.resp.Body)
		n.t.Fatalf("%s %s", e.resp.Status, b)
	}
	return e
}

// next reads one event, as the HTML standard says; io.EOF at the end.
func (e *events) next() (sent, error) {
	var data strings.Builder
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return sent{}, io.EOF
		}
		switch field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); {
		case line == "\n" && data.Len() > 0:
			s := sent{cursor: e.cursor}
			if err := json.Unmarshal([]byte(data.String()), &s.message); err != nil {
				e.t.Fatalf("%q: %v", data.String(), err)
			}
			return s, nil
		case line == ":\n":
			e.seen++
		case field == "id":
			e.cursor = strings.TrimPrefix(value, " ")
		case field == "data":
			data.WriteString(strings.TrimPrefix(value, " "))
		case field == "retry":
			e.retry = strings.TrimSpace(value)
		case line != "\n":
			e.t.Fatalf("line %q", line)
		}
	}
}

// until reads until one is what is awaited, and returns all.
func (e *events) until(what string, is func(sent) bool) (all []sent) {
	e.t.Helper()
	timer := time.AfterFunc(20*time.Second, func() { _ = e.resp.Body.Close() })
	defer timer.Stop()
	for {
		s, err := e.next()
		if err != nil {
			e.t.Fatalf("waited in vain for %s; got %d messages: %+v", what, len(all), all[max(0, len(all)-3):])
		}
		if all = append(all, s); is(s) {
			return all
		}
	}
}

func (e *events) untilSubscribed(n int) []sent {
	e.t.Helper()
	return e.until("subscriptions", func(s sent) bool {
		if s.Type == "subscribed" {
			n--
		}
		return n == 0
	})
}

// untilEvents reads n events and returns their ids by channel.
func (e *events) untilEvents(n int) map[string][]string {
	e.t.Helper()
	got := map[string][]string{}
	if n == 0 {
		return got
	}
	e.until(fmt.Sprintf("%d events", n), func(s sent) bool {
		if s.Type == "reset" {
			e.t.Errorf("reset: %+v", s)
		}
		if s.Event != "" {
			got[s.Channel] = append(got[s.Channel], s.ID.(string))
			n--
		}
		return n == 0
	})
	return got
}

func onBothVersions(t *testing.T, test func(t *testing.T, http2 bool)) {
	t.Run("HTTP1", func(t *testing.T) { test(t, false) })
	t.Run("HTTP2", func(t *testing.T) { test(t, true) })
}

func TestAStreamResumesSeveralChannelsFromOneCursor(t *testing.T) {
	onBothVersions(t, func(t *testing.T, http2 bool) {
		n := start(t, nil, func(c *realtime.Config) {
			c.Limits.Comment, c.Limits.Tick = 20*time.Millisecond, 5*time.Millisecond
		})
		web := n.front(t, http2)
		token, _ := n.signIn("jonas")
		query := "channels=" + team + "," + habits
		e := n.follow(web, token, query, "")
		if h := e.resp.Header; h.Get("X-Accel-Buffering") != "no" || !strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") || !strings.Contains(h.Get("Cache-Control"), "no-store") {
			t.Errorf("header %v", h)
		}
		if e.resp.ProtoMajor == 2 != http2 {
			t.Fatalf("got %s", e.resp.Proto)
		}
		e.untilSubscribed(2)
		n.publish(team, 1, 3)
		e.untilEvents(3)
		if e.retry == "" || e.cursor == "" {
			t.Fatalf("retry %q, cursor %q", e.retry, e.cursor)
		}
		// Longer than the server's timeouts for requests allow.
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for range 60 {
			<-tick.C
		}
		n.publish(habits, 4, 4)
		e.untilEvents(1)
		if e.seen == 0 {
			t.Error("no comment kept the stream open")
		}
		_ = e.resp.Body.Close()
		until(t, "the node has noticed", func() bool { return n.server.Connections() == 0 })

		n.publish(team, 5, 6)
		n.publish(habits, 7, 9)
		// The cursor wins over a position in the query.
		again := n.follow(web, token, "channels="+habits+"@"+"nonsense,"+team, e.cursor)
		got := again.untilEvents(5)
		if !slices.Equal(got[team], names(5, 6)) || !slices.Equal(got[habits], names(7, 9)) {
			t.Errorf("got %v", got)
		}
		n.publish(team, 10, 10)
		if got := again.untilEvents(1); !slices.Equal(got[team], names(10, 10)) {
			t.Errorf("got %v", got)
		}
	})
}

func TestTheCursorOfEveryEventIsWhereTheClientStands(t *testing.T) {
	onBothVersions(t, func(t *testing.T, http2 bool) {
		n := start(t, nil, func(c *realtime.Config) { c.Limits.QueueBytes = 32 << 10 })
		web := n.front(t, http2)
		token, _ := n.signIn("jonas")
		query := "channels=" + team + "," + habits
		e := n.follow(web, token, query, "")
		e.untilSubscribed(2)
		// It reads nothing, so that what waits is forgotten and read again,
		// channel by channel, in another order than it happened.
		const total = 400
		for i := range total {
			n.emit(bulky([]string{team, habits}[i%2], i))
		}
		read := map[string][]string{}
		for _, some := range []int{1, 40, 90, 130, total - 261} {
			got := e.untilEvents(some)
			for ch, ids := range got {
				read[ch] = append(read[ch], ids...)
			}
			_ = e.resp.Body.Close()
			e = n.follow(web, token, query, e.cursor)
		}
		for i, ch := range []string{team, habits} {
			var want []string
			for k := i; k < total; k += 2 {
				want = append(want, fmt.Sprint("e", k))
			}
			if !slices.Equal(read[ch], want) {
				t.Errorf("%s: got %d events, want %d: %v", ch, len(read[ch]), len(want), read[ch])
			}
		}
		n.publish(team, 1000, 1000)
		if got := e.untilEvents(1); !slices.Equal(got[team], names(1000, 1000)) {
			t.Errorf("got %v", got)
		}
	})
}

func TestAStreamThatNeverReadsIsCut(t *testing.T) {
	onBothVersions(t, func(t *testing.T, http2 bool) {
		n := start(t, nil, func(c *realtime.Config) { c.Limits.SlowAfter = 300 * time.Millisecond })
		token, _ := n.signIn("jonas")
		e := n.follow(n.front(t, http2), token, "channels="+team, "")
		e.untilSubscribed(1)
		i := 0
		until(t, "it is cut", func() bool { // a client's window in HTTP/2 is of megabytes
			for range 100 {
				i++
				n.emit(bulky(team, i))
			}
			return n.server.Connections() == 0
		})
	})
}

func TestRightsEndOnStreamsToo(t *testing.T) {
	n := start(t, nil, nil)
	web := n.front(t, false)
	token, session := n.signIn("jonas")
	query := "channels=" + team + "," + habits + ",team:other:activity"
	e := n.follow(web, token, query, "")
	refused := e.until("a refusal and two subscriptions", func() func(sent) bool {
		left := 3
		return func(s sent) bool {
			if s.Type == "subscribed" || s.Code == "forbidden" && s.Ch == "team:other:activity" {
				left--
			}
			return left == 0
		}
	}())
	refused = slices.DeleteFunc(refused, func(s sent) bool { return s.Type == "presence" })
	if len(refused) > 5 {
		t.Errorf("got %+v", refused)
	}
	n.publish(team, 1, 1)
	e.untilEvents(1)
	old := e.cursor
	n.leave("jonas")
	e.until("the end of the channel", func(s sent) bool { return s.Code == "forbidden" && s.Ch == team })
	n.publish(team, 2, 3)
	n.publish(habits, 4, 4)
	if got := e.untilEvents(1); len(got[team]) > 0 {
		t.Errorf("got %v", got)
	}
	// Nor by resuming.
	again := n.follow(web, token, query, old)
	var denied, habit bool // in either order, as each channel subscribes by itself
	again.until("a refusal and the other channel's event", func(s sent) bool {
		if s.Event != "" && (s.Channel != habits || s.ID != "e4") {
			t.Errorf("got %+v", s)
		}
		denied = denied || s.Code == "forbidden" && s.Ch == team
		habit = habit || s.Event != ""
		return denied && habit
	})
	if err := n.sessions.Revoke(t.Context(), "jonas", session); err != nil {
		t.Fatal(err)
	}
	ev := numbered("user:jonas:session", 5)
	ev.Name, ev.Data = "session_revoked", []byte(`{"session_id":"`+session+`"}`)
	n.emit(ev)
	for _, e := range []*events{e, again} {
		last := e.until("the end", func(s sent) bool { return s.Type == "close" })
		if s := last[len(last)-1]; !strings.Contains(string(s.raw(t)), "4505") {
			t.Errorf("ended with %+v", s)
		}
		if _, err := e.next(); !errors.Is(err, io.EOF) {
			t.Error("something came after the end")
		}
	}
	// An EventSource comes again by itself, until it is told not to.
	gone, err := n.stream(web, token, query, old, nil)
	if err != nil || gone.resp.StatusCode != http.StatusNoContent {
		t.Errorf("got %v, %v", gone, err)
	}
}

func (m message) raw(t testing.TB) []byte {
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestStreamsAreEndedOneByOneByADrain(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) {
		c.DrainWindow, c.Limits.Tick = 300*time.Millisecond, 5*time.Millisecond
	})
	web := n.front(t, false)
	token, _ := n.signIn("jonas")
	var all []*events
	for range 10 {
		e := n.follow(web, token, "channels="+team, "")
		e.untilSubscribed(1)
		all = append(all, e)
	}
	drained := make(chan error, 1)
	began := time.Now()
	go func() { drained <- n.server.Drain(t.Context()) }()
	for _, e := range all {
		last := e.until("the end", func(s sent) bool { return s.Type == "close" })
		if !slices.ContainsFunc(last, func(s sent) bool { return s.Type == "drain" }) {
			t.Errorf("not told of the drain: %+v", last)
		}
	}
	if err := <-drained; err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("drained in %s: %v", time.Since(began), err)
	}
	// A 503 would keep an EventSource away for good.
	e := n.follow(web, token, "channels="+team, all[0].cursor)
	if got := e.until("the end", func(s sent) bool { return s.Type == "close" }); len(got) != 1 || e.retry == "" {
		t.Errorf("got %+v", got)
	}
}

func TestStreamRequestsAreChecked(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Origins = []string{"https://listed.example"}; c.Limits.PerUser = 1 })
	web := n.front(t, false)
	token, _ := n.signIn("jonas")
	var many []string
	for i := range 17 {
		many = append(many, fmt.Sprintf("team:t%d:activity", i))
	}
	for _, tt := range []struct {
		name, token, query string
		header             http.Header
		want               int
	}{
		{"no channels", token, "", nil, 400},
		{"an empty name", token, "channels=" + team + ",", nil, 400},
		{"17 channels", token, "channels=" + strings.Join(many, ","), nil, 400},
		{"a name with a line break", token, "channels=team:a%0Aid:activity", nil, 400},
		{"a name with a NUL", token, "channels=team:a%00:activity", nil, 400},
		{"a pattern", token, "channels=team:*:activity", nil, 400},
		{"another version", token, "channels=" + team + "&v=2", nil, 400},
		{"own that is neither", token, "own=yes", nil, 400},
		{"own of nobody", "", "own=1", nil, 401},
		{"own and an empty name", token, "own=1&channels=", nil, 400},
		{"a broken query", token, "channels=%zz", nil, 400},
		{"nobody", "", "channels=" + team, nil, 401},
		{"a token in the URL", "", "channels=" + team + "&token=" + token + "&ticket=" + token, nil, 401},
		{"another site", token, "channels=" + team, http.Header{"Origin": {"https://evil.example"}}, 403},
		{"another site, as the browser says", token, "channels=" + team, http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		{"a sibling", token, "channels=" + team, http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		{"null", token, "channels=" + team, http.Header{"Origin": {"null"}}, 403},
	} {
		e, err := n.stream(web, tt.token, tt.query, "", tt.header)
		if err != nil || e.resp.StatusCode != tt.want {
			t.Errorf("%s: %+v, %v, want %d", tt.name, e.resp, err, tt.want)
		}
	}
	e, err := n.stream(web, token, "channels="+team, "not a cursor", http.Header{"Origin": {"https://listed.example"}})
	if err != nil || e.resp.StatusCode != 200 || e.resp.Header.Get("Access-Control-Allow-Origin") != "https://listed.example" {
		t.Fatalf("%+v, %v", e, err)
	}
	// It was somewhere, and nobody knows where.
	e.until("a reset", func(s sent) bool {
		return s.Type == "reset" && s.Ch == team && s.Reason == event.ResetEpoch || s.Reason == event.ResetForeign
	})
	if e, err := n.stream(web, token, "channels="+team, "", nil); err != nil || e.resp.StatusCode != http.StatusTooManyRequests {
		t.Errorf("a second connection of one: %+v, %v", e, err)
	}
}

func TestLineBreaksCannotSplitAnEvent(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("jonas")
	e := n.follow(n.front(t, false), token, "channels="+team, "")
	e.untilSubscribed(1)
	for _, bad := range []string{"a\nid: x", "a\rb", "a\x00b", "a\u2028b", ""} {
		ev := numbered(team, 1)
		ev.ID = bad
		if _, err := n.broker.Publish(t.Context(), ev); err == nil {
			t.Errorf("the id %q was taken", bad)
		}
		ev = numbered(team, 1)
		ev.Name = bad
		if _, err := n.broker.Publish(t.Context(), ev); err == nil {
			t.Errorf("the name %q was taken", bad)
		}
	}
	ev := numbered(team, 2)
	ev.Data = []byte("{\r\n \"a\":\r\"b\\r\\n\\ndata: {}\\n\\nid: 9\\u0000\"\n}")
	n.emit(ev)
	n.publish(team, 3, 3)
	got := slices.DeleteFunc(e.until("the next", func(s sent) bool { return s.ID == "e3" }), func(s sent) bool { return s.Event == "" })
	if len(got) != 2 || string(got[0].Data) != `{"a":"b\r\n\ndata: {}\n\nid: 9\u0000"}` {
		t.Errorf("got %+v %s", got, got[0].Data)
	}
}
