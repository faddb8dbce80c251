package realtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// mine says where something is to go wrong for jonas.
type mine struct{ lookup, since, write atomic.Bool }

// minedSessions panic over a token of jonas.
type minedSessions struct {
	realtime.Sessions
	*mine
}

func (m minedSessions) Lookup(ctx context.Context, token string) (session.Session, error) {
	s, err := m.Sessions.Lookup(ctx, token)
	if s.UserID == "jonas" && m.lookup.Load() {
		panic("a bug in a lookup")
	}
	return s, err
}

// minedBroker panics over the history of jonas.
type minedBroker struct {
	event.Broker
	*mine
	tell *atomic.Pointer[func(up bool)] // whoever watches it
}

func (m minedBroker) Watch(f func(up bool)) (stop func()) {
	m.tell.Store(&f)
	return m.Broker.Watch(f)
}

func (m minedBroker) Since(ctx context.Context, channel string, after event.Position, limit int) (event.History, error) {
	if channel == habits && m.since.Load() {
		panic("a bug in the history")
	}
	return m.Broker.Since(ctx, channel, after, limit)
}

// endedSessions are good for a handshake, and over when they are looked up again.
type endedSessions struct {
	realtime.Sessions
	ended atomic.Bool
	asked atomic.Int32
}

func (e *endedSessions) Lookup(ctx context.Context, token string) (session.Session, error) {
	if e.ended.Load() {
		e.asked.Add(1)
		return session.Session{}, session.ErrNone
	}
	return e.Sessions.Lookup(ctx, token)
}

// mined is a listener of connections that blow up on writing.
type mined struct {
	net.Listener
	*mine
	blocking bool // nothing can be written without waiting
}

func (l mined) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return minedConn{TCPConn: c.(*net.TCPConn), mined: l}, nil
}

type minedConn struct {
	*net.TCPConn
	mined mined
}

func (c minedConn) Write(b []byte) (int, error) {
	if c.mined.write.Load() {
		panic("a bug in a write")
	}
	return c.TCPConn.Write(b)
}

func (c minedConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	if c.mined.blocking {
		return nil, syscall.ENOTSUP
	}
	return minedRaw{RawConn: raw, mine: c.mined.mine}, err
}

type minedRaw struct {
	syscall.RawConn
	*mine
}

func (r minedRaw) Write(f func(uintptr) bool) error {
	if r.write.Load() {
		panic("a bug in a write")
	}
	return r.RawConn.Write(f)
}

// record is a log to look into.
type record struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (r *record) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.Write(b)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.b.String()
}

// sums returns the counters of a reader by name and one attribute's value.
func sums(t testing.TB, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
				for _, p := range sum.DataPoints {
					name := m.Name
					for _, a := range p.Attributes.ToSlice() {
						name += " " + a.Value.String()
					}
					got[name] += p.Value
				}
			}
		}
	}
	return got
}

func TestAPanicLosesOneConnection(t *testing.T) {
	for _, tt := range []struct {
		name     string
		code     int // that the client sees; -1 where it cannot be told
		blocking bool
		ping     time.Duration
		recheck  time.Duration
		counted  []string // as one of these; nil: 4007
		harm     func(n *node, m *mine, victim *client)
	}{
		{name: "InTheReadingGoroutine", code: 4007, harm: func(n *node, m *mine, victim *client) {
			token, _ := n.signIn("jonas")
			tk, _ := n.ticket(token, nil)
			m.lookup.Store(true)
			victim.say(`{"type":"refresh","ticket":"` + tk + `"}`)
		}},
		{name: "WhileSubscribing", code: 4007, harm: func(_ *node, m *mine, victim *client) {
			m.since.Store(true)
			victim.say(`{"type":"subscribe","channels":[{"ch":"` + habits + `","since":"a.1-1"}]}`)
		}},
		{name: "InARecheck", code: 4007, recheck: 20 * time.Millisecond, harm: func(_ *node, m *mine, _ *client) { m.lookup.Store(true) }},
		{name: "InFanOut", code: -1, harm: func(n *node, m *mine, _ *client) {
			m.write.Store(true)
			n.publish(team, 1, 1)
		}},
		{name: "WhileDraining", code: -1, blocking: true, harm: func(n *node, m *mine, _ *client) {
			m.write.Store(true)
			n.publish(team, 1, 1)
		}},
		{name: "InAStatus", code: -1, harm: func(n *node, m *mine, _ *client) {
			m.write.Store(true)
			(*n.broker.(minedBroker).tell.Load())(false)
		}},
		{name: "WhileToldWhoIsHere", code: -1, harm: func(n *node, m *mine, victim *client) {
			victim.await("who is here", func(m message) bool { return m.Type == "presence" })
			if _, err := n.db.SQL().ExecContext(n.t.Context(), `INSERT INTO memberships VALUES ('harbor', 'lena', 'member')`); err != nil {
				n.t.Fatal(err)
			}
			m.write.Store(true)
			lena := n.connect("lena")
			victim.awaitClose()
			_ = lena.ws.CloseNow()
		}},
		// The look at its session that follows a handshake may find it over first: 4004.
		{name: "WhileClosing", code: -1, counted: []string{"4505", "4004"}, harm: func(n *node, m *mine, victim *client) {
			victim.awaitHere("jonas", "mira") // nothing else is to be written
			m.write.Store(true)
			if _, err := n.sessions.RevokeAll(n.t.Context(), "jonas", ""); err != nil {
				n.t.Fatal(err)
			}
		}},
		{name: "InAPing", ping: 40 * time.Millisecond, code: -1, harm: func(_ *node, m *mine, _ *client) { m.write.Store(true) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			memory, err := event.NewMemory(event.Options{})
			if err != nil {
				t.Fatal(err)
			}
			m, logged, reader := &mine{}, &record{}, sdkmetric.NewManualReader()
			n := start(t, minedBroker{memory, m, new(atomic.Pointer[func(bool)])}, func(c *realtime.Config) {
				c.Sessions, c.Limits.Recheck = minedSessions{c.Sessions, m}, tt.recheck
				c.Limits.PingEvery, c.Limits.Tick = tt.ping, 5*time.Millisecond
				c.Log = slog.New(slog.NewTextHandler(logged, nil))
				c.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
			})
			web := httptest.NewUnstartedServer(n.server.Handler())
			web.Listener = mined{Listener: web.Listener, mine: m, blocking: tt.blocking}
			web.Start()
			defer web.Close()
			there := *n
			there.http = web

			alive, victim := n.connect("mira"), there.connect("jonas")
			alive.subscribe(team, "")
			victim.subscribe(team, "")
			tt.harm(n, m, victim)
			if code := victim.awaitClose(); code != tt.code {
				t.Errorf("closed with %d, want %d", code, tt.code)
			}
			if tt.counted == nil {
				tt.counted = []string{"4007"}
			}
			until(t, "it is counted", func() bool {
				var n int64
				for _, code := range tt.counted {
					n += sums(t, reader)["realtime.closes "+code]
				}
				return n == 1
			})
			if got := sums(t, reader)["realtime.panics"]; got < 1 {
				t.Errorf("%d panics are counted", got)
			}
			if got := logged.String(); !strings.Contains(got, "a bug in") || !strings.Contains(got, "goroutine ") {
				t.Errorf("logged %q, want the panic and its stack", got)
			}
			m.lookup.Store(false)
			m.since.Store(false)
			m.write.Store(false)
			// Everybody else goes on, and the same client may come again.
			again := there.connect("jonas")
			again.subscribe(team, "")
			n.publish(team, 2, 9)
			again.awaitEvents(names(2, 9)...)
			alive.wait("the events", func() bool { return len(alive.events()) >= 8 })
			_, _ = again.ws.CloseNow(), alive.ws.CloseNow()
			until(t, "nothing of it is left", func() bool { return n.server.Connections() == 0 && n.server.Channels() == 0 })
		})
	}
}

// A client that shows its ticket in its first message is not a connection yet.
func TestAPanicOverATicketLosesOneConnection(t *testing.T) {
	m := &mine{}
	n := start(t, nil, func(c *realtime.Config) { c.Sessions = minedSessions{c.Sessions, m} })
	alive := n.connect("mira")
	alive.subscribe(team, "")
	token, _ := n.signIn("jonas")
	tk, _ := n.ticket(token, nil)
	c, _, err := n.dial(dialing{query: "?auth=message", header: http.Header{"Origin": nil}})
	if err != nil {
		t.Fatal(err)
	}
	m.lookup.Store(true)
	c.say(`{"type":"auth","ticket":"` + tk + `"}`)
	if code := c.awaitClose(); code != -1 {
		t.Errorf("closed with %d", code)
	}
	n.publish(team, 1, 1)
	alive.awaitEvents("e1")
}
