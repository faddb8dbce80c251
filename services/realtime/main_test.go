package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/coder/websocket"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/realtime"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, dialling)
}

// schema is what realtime reads of the database.
const schema = `
CREATE TABLE sessions (
	id TEXT NOT NULL PRIMARY KEY, token_hash TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
	created_at BIGINT NOT NULL, last_seen_at BIGINT NOT NULL, idle_expires_at BIGINT NOT NULL,
	abs_expires_at BIGINT NOT NULL, ip TEXT NOT NULL DEFAULT '', ua TEXT NOT NULL DEFAULT '', revoked_at BIGINT,
	replaced_by TEXT, renew BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE memberships (team_id TEXT NOT NULL, user_id TEXT NOT NULL, role TEXT NOT NULL, PRIMARY KEY (team_id, user_id));
INSERT INTO memberships VALUES ('harbor', 'mira', 'owner'), ('harbor', 'jonas', 'member'), ('other', 'lena', 'owner');
`

// node is a realtime server with everything real below it.
type node struct {
	t        testing.TB
	db       *db.DB
	sessions *session.Sessions
	broker   event.Broker
	server   *realtime.Server
	http     *httptest.Server
}

func start(t testing.TB, broker event.Broker, change func(*realtime.Config)) *node {
	t.Helper()
	d, err := db.Open(t.Context(), db.Config{URL: "sqlite:" + filepath.Join(t.TempDir(), "test.db")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	if _, err := d.SQL().ExecContext(t.Context(), schema); err != nil {
		t.Fatal(err)
	}
	ss, err := session.New(session.Config{DB: d.SQL(), Secrets: []string{"a secret that is only used in tests"}})
	if err != nil {
		t.Fatal(err)
	}
	if broker == nil {
		if broker, err = event.NewMemory(event.Options{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = broker.Close() })
	}
	return second(t, d, ss, broker, change)
}

// second is another server on the same stores.
func second(t testing.TB, d *db.DB, ss *session.Sessions, broker event.Broker, change func(*realtime.Config)) *node {
	t.Helper()
	c := realtime.Config{DB: d, Sessions: ss, Broker: broker}
	if change != nil {
		change(&c)
	}
	s, err := realtime.New(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewUnstartedServer(s.Handler())
	web.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		_ = c.(*net.TCPConn).SetWriteBuffer(64 << 10) // so that slow readers are noticed soon
		return ctx
	}
	web.Start()
	t.Cleanup(func() {
		web.Close()
		_ = s.Close()
	})
	return &node{t: t, db: d, sessions: ss, broker: broker, server: s, http: web}
}

func (n *node) signIn(user string) (token string, id string) {
	n.t.Helper()
	token, s, err := n.sessions.Create(n.t.Context(), user, "127.0.0.1", "test")
	if err != nil {
		n.t.Fatal(err)
	}
	return token, s.ID
}

func (n *node) publish(channel string, from, to int) {
	n.t.Helper()
	for i := from; i <= to; i++ {
		n.emit(numbered(channel, i))
	}
}

func (n *node) emit(e event.Event) {
	n.t.Helper()
	if _, err := n.broker.Publish(n.t.Context(), e); err != nil {
		n.t.Fatal(err)
	}
}

func numbered(channel string, n int) event.Event {
	return event.Event{
		ID: "e" + strconv.Itoa(n), Channel: channel, Name: "member_habit_completed",
		Data: []byte(`{"n":` + strconv.Itoa(n) + `}`), At: time.Now(),
	}
}

func names(from, to int) []string {
	var s []string
	for n := from; n <= to; n++ {
		s = append(s, "e"+strconv.Itoa(n))
	}
	return s
}

// message is any message of the server.
type message struct {
	Type      string
	Event     string
	ID        any
	Channel   string
	Offset    string
	Epoch     string
	Trace     string
	Class     string
	Ch        string
	Recovered bool
	Replayed  int
	Reason    string
	Code      any
	Status    string
	Conn      string
	PingMs    int64 `json:"ping_ms"`
	After     int64 `json:"reconnect_after_ms"`
	Deadline  int64 `json:"deadline_ms"`
	Retry     int64 `json:"retry_after_ms"`
	Data      json.RawMessage
	Users     []string
	Joined    []string
	Left      []string
	Count     int
}

// client reads everything and answers pings, unless told otherwise.
type client struct {
	t       testing.TB
	ctx     context.Context
	ws      *websocket.Conn
	mu      sync.Mutex
	got     []message
	err     error // why reading ended
	changed chan struct{}
	stall   chan struct{} // once it has read another message, reading waits until this is closed
	mute    bool          // pings are not answered
}

type dialing struct {
	token  string
	header http.Header
	query  string
	small  bool // little of what is sent waits in the kernel
	mute   bool
	offers []string // subprotocols
}

// dial connects, with the Origin of the page.
func (n *node) dial(d dialing) (*client, *http.Response, error) {
	n.t.Helper()
	h := http.Header{"Origin": {n.http.URL}}
	for k, v := range d.header {
		if v == nil {
			delete(h, k)
		} else {
			h[k] = v
		}
	}
	if d.token != "" {
		h.Add("Cookie", "crewbeat.sid="+d.token)
	}
	dialer := net.Dialer{}
	tr := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, addr)
		if err == nil && d.small {
			_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		return c, err
	}}
	ws, resp, err := websocket.Dial(n.t.Context(), n.http.URL+"/rt/v1/ws"+d.query, &websocket.DialOptions{
		HTTPHeader: h, HTTPClient: &http.Client{Transport: tr}, Subprotocols: d.offers,
	})
	if err != nil {
		return nil, resp, err
	}
	ws.SetReadLimit(1 << 20)
	c := &client{t: n.t, ctx: n.t.Context(), ws: ws, changed: make(chan struct{}, 1), mute: d.mute}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.read()
	}()
	n.t.Cleanup(func() {
		_ = ws.CloseNow()
		<-done
	})
	return c, resp, nil
}

// connect is dial as a user, past hello and the first status.
func (n *node) connect(user string) *client {
	n.t.Helper()
	token, _ := n.signIn(user)
	return n.connectAs(dialing{token: token})
}

func (n *node) connectAs(d dialing) *client {
	n.t.Helper()
	c, _, err := n.dial(d)
	if err != nil {
		n.t.Fatal(err)
	}
	c.await("hello", func(m message) bool { return m.Type == "hello" })
	return c
}

func (c *client) read() {
	for {
		c.mu.Lock()
		stall := c.stall
		c.mu.Unlock()
		if stall != nil {
			select {
			case <-stall:
			case <-c.ctx.Done():
			}
		}
		_, b, err := c.ws.Read(c.ctx)
		var m message
		if err == nil {
			err = json.Unmarshal(b, &m)
		}
		if err == nil && m.Type == "ping" && !c.mute {
			err = c.ws.Write(c.ctx, websocket.MessageText, []byte(`{"type":"pong"}`))
		}
		c.mu.Lock()
		if err != nil {
			c.err = err
		} else {
			c.got = append(c.got, m)
		}
		c.mu.Unlock()
		select {
		case c.changed <- struct{}{}:
		default:
		}
		if err != nil {
			return
		}
	}
}

// slow is a client that follows the team and its own habits, and stops reading
// until resume is called.
func (n *node) slow(user string) (c *client, resume func()) {
	n.t.Helper()
	token, _ := n.signIn(user)
	c = n.connectAs(dialing{token: token, small: true})
	c.subscribe(team, "")
	c.subscribe("user:"+user+":habits", "")
	stall := make(chan struct{})
	c.mu.Lock()
	c.stall = stall
	c.mu.Unlock()
	return c, sync.OnceFunc(func() { close(stall) })
}

func (c *client) say(v string) {
	c.t.Helper()
	if err := c.ws.Write(c.ctx, websocket.MessageText, []byte(v)); err != nil {
		c.t.Fatalf("write: %v", err)
	}
}

// subscribe waits until it is confirmed.
func (c *client) subscribe(channel, since string) message {
	c.t.Helper()
	n := len(c.messages())
	c.say(fmt.Sprintf(`{"type":"subscribe","id":"1","channels":[{"ch":%q,"since":%q}]}`, channel, since))
	return c.awaitAfter(n, "subscribed", func(m message) bool { return m.Type == "subscribed" && m.Ch == channel })
}

func (c *client) messages() []message {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.got)
}

// events returns the ids of the events received.
func (c *client) events() []string {
	var ids []string
	for _, m := range c.messages() {
		if m.Event != "" {
			ids = append(ids, m.ID.(string))
		}
	}
	return ids
}

// lastEvent returns the last event received.
func (c *client) lastEvent() (last message) {
	for _, m := range c.messages() {
		if m.Event != "" {
			last = m
		}
	}
	return last
}

func (c *client) wait(what string, ok func() bool) {
	c.t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for !ok() {
		select {
		case <-c.changed:
		case <-deadline.C:
			c.mu.Lock()
			defer c.mu.Unlock()
			c.t.Fatalf("waited in vain for %s; got %d messages, the last %+v; err %v", what, len(c.got), c.got[max(0, len(c.got)-5):], c.err)
		}
	}
}

func (c *client) await(what string, is func(message) bool) message {
	c.t.Helper()
	return c.awaitAfter(0, what, is)
}

func (c *client) awaitAfter(n int, what string, is func(message) bool) (found message) {
	c.t.Helper()
	c.wait(what, func() bool {
		for _, m := range c.messages()[n:] {
			if is(m) {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (c *client) awaitEvents(want ...string) {
	c.t.Helper()
	c.wait(fmt.Sprintf("%d events", len(want)), func() bool { return len(c.events()) >= len(want) })
	if got := c.events(); !slices.Equal(got, want) {
		c.t.Fatalf("got %v, want %v", got, want)
	}
}

// awaitClose returns the code with which the server closed, or -1.
func (c *client) awaitClose() int {
	c.t.Helper()
	var err error
	c.wait("the end", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		err = c.err
		return err != nil
	})
	if ce, ok := errors.AsType[websocket.CloseError](err); ok {
		return int(ce.Code)
	}
	return -1
}

func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
