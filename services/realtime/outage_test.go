package realtime_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// outbox is an Outbox in memory.
type outbox struct {
	mu      sync.Mutex
	pending []event.Event
	wake    chan struct{}
}

func (o *outbox) add(e event.Event) {
	o.mu.Lock()
	o.pending = append(o.pending, e)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) empty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending) == 0
}

func (o *outbox) Lease(context.Context, string, time.Duration) (bool, error) { return true, nil }
func (o *outbox) Wake() <-chan struct{}                                      { return o.wake }

func (o *outbox) Pending(_ context.Context, limit int) ([]event.Event, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.pending[:min(limit, len(o.pending))]), nil
}

func (o *outbox) Published(_ context.Context, ids []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.pending = slices.DeleteFunc(o.pending, func(e event.Event) bool { return slices.Contains(ids, e.ID) })
	return nil
}

func newRedis(t *testing.T, server *tieredtest.Redis) *event.Redis {
	t.Helper()
	b, err := event.NewRedis(t.Context(), server.Client(t), event.Options{Retry: 50 * time.Millisecond, Idle: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// TestRedisIsKilledUnderLoadAndEveryClientGetsEverythingOnce is the promise of
// the whole: two nodes, a relay, and clients that stay, come back, or come
// late, while Redis dies twice.
func TestRedisIsKilledUnderLoadAndEveryClientGetsEverythingOnce(t *testing.T) {
	for _, tt := range []struct {
		name  string
		keeps bool
		opts  []tieredtest.RedisOption
	}{
		{"ItKeepsItsData", true, []tieredtest.RedisOption{tieredtest.WithPersistence()}},
		{"ItComesBackEmpty", false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := tieredtest.StartRedis(t, tt.opts...)
			one := start(t, newRedis(t, server), nil)
			two := second(t, one.db, one.sessions, newRedis(t, server), nil)
			box := &outbox{wake: make(chan struct{}, 1)}
			relay, err := event.NewRelay(event.RelayOptions{Outbox: box, Broker: newRedis(t, server), Poll: 5 * time.Millisecond, Retry: 50 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { _ = relay.Run(ctx) })
			defer wg.Wait()
			defer cancel()

			stays, alsoStays, comesBack := one.connect("mira"), two.connect("jonas"), two.connect("mira")
			stays.subscribe(team, "")
			alsoStays.subscribe(team, "")
			offset := comesBack.subscribe(team, "").Offset
			const total = 800
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			var before []string
			for n := range total {
				switch n {
				case 100:
					stays.wait("some events", func() bool { return len(stays.events()) > 50 })
					server.Kill()
				case 200:
					// This one leaves while Redis is away.
					_ = comesBack.ws.CloseNow()
					before = comesBack.events()
					for _, m := range comesBack.messages() {
						if m.Event != "" {
							offset = m.Offset
						}
					}
				case 300:
					server.Restart(t)
				case 450:
					stays.wait("more events", func() bool { return len(stays.events()) > 310 })
					server.Kill()
				case 600:
					server.Restart(t)
				}
				<-tick.C
				box.add(numbered(team, n))
			}
			until(t, "the outbox is empty", box.empty)
			for _, c := range []*client{stays, alsoStays} {
				c.awaitEvents(names(0, total-1)...)
				var seen []string
				for _, m := range c.messages() {
					if m.Type == "status" && (len(seen) == 0 || seen[len(seen)-1] != m.Status) {
						seen = append(seen, m.Status)
					}
					if m.Type == "reset" && tt.keeps {
						t.Errorf("reset %+v though nothing was lost", m)
					}
				}
				if n := len(seen); n < 5 || !slices.Equal(seen[n-5:], []string{"ok", "degraded", "ok", "degraded", "ok"}) {
					t.Errorf("statuses are %v", seen)
				}
			}
			again := one.connect("mira")
			s := again.subscribe(team, offset)
			if s.Recovered != tt.keeps {
				t.Errorf("resumed: %+v", s)
			}
			if !tt.keeps {
				again.await("a reset", func(m message) bool { return m.Type == "reset" })
				return
			}
			again.wait("the rest", func() bool { return len(before)+len(again.events()) >= total })
			if got := slices.Concat(before, again.events()); !slices.Equal(got, names(0, total-1)) {
				t.Errorf("who came back got %d events, want each of %d once", len(got), total)
			}
		})
	}
}

func TestSubscribingWhileRedisIsAwayWaitsForIt(t *testing.T) {
	server := tieredtest.StartRedis(t)
	server.Kill()
	n := start(t, newRedis(t, server), nil)
	c := n.connect("mira")
	c.await("the status", func(m message) bool { return m.Status == "degraded" })
	c.say(`{"type":"subscribe","channels":["` + team + `"]}`)
	server.Restart(t)
	c.await("the confirmation", func(m message) bool { return m.Type == "subscribed" && m.Ch == team })
	c.await("the status", func(m message) bool { return m.Status == "ok" })
	n.publish(team, 1, 3)
	c.awaitEvents(names(1, 3)...)
}

func TestRevocationsAreHeardOnEveryNode(t *testing.T) {
	server := tieredtest.StartRedis(t)
	one := start(t, newRedis(t, server), nil)
	two := second(t, one.db, one.sessions, newRedis(t, server), nil)
	token, id := one.signIn("mira")
	c := two.connectAs(dialing{token: token})
	c.subscribe("user:mira:session", "")
	began := time.Now()
	if err := one.sessions.Revoke(t.Context(), "mira", id); err != nil {
		t.Fatal(err)
	}
	e := numbered("user:mira:session", 1)
	e.Name, e.Data = "session_revoked", []byte(`{"session_id":"`+id+`"}`)
	one.emit(e)
	if code := c.awaitClose(); code != 4505 {
		t.Fatalf("closed with %d", code)
	}
	if d := time.Since(began); d > time.Second {
		t.Errorf("it took %s", d)
	}
}

// The nodes share nothing but the database: no event says that it has ended.
func TestARevocationNeedsNoBrokerToCloseConnections(t *testing.T) {
	server := tieredtest.StartRedis(t)
	one := start(t, newRedis(t, server), nil)
	elsewhere, err := session.New(session.Config{DB: one.db.SQL(), Secrets: []string{"a secret that is only used in tests"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		end  func(s session.Session) error
		code int
	}{
		{"revoked", func(s session.Session) error { return elsewhere.Revoke(t.Context(), s.UserID, s.ID) }, 4505},
		{"rotated", func(s session.Session) error {
			_, _, err := elsewhere.Rotate(t.Context(), s)
			return err
		}, 4004},
	} {
		for _, away := range []bool{false, true} {
			if away {
				server.Kill()
			}
			token, _ := one.signIn("mira")
			s, err := elsewhere.Lookup(t.Context(), token)
			if err != nil {
				t.Fatal(err)
			}
			c := one.connectAs(dialing{token: token})
			if err := tt.end(s); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			// 4004 is right for both, where a recheck of the connection came first.
			if code := c.awaitClose(); code != tt.code && code != 4004 {
				t.Errorf("%s, Redis away %v: closed with %d, want %d", tt.name, away, code, tt.code)
			}
			t.Logf("%s, Redis away %v: closed after %v", tt.name, away, time.Since(began))
			// Whoever connects with what was good is told what to do.
			late, _, err := one.dial(dialing{token: token})
			if err != nil {
				t.Fatal(err)
			}
			want := map[bool]int{true: 4004, false: 4501}[tt.code == 4004]
			if code := late.awaitClose(); code != want {
				t.Errorf("%s: connecting again is answered %d, want %d", tt.name, code, want)
			}
			if away {
				server.Restart(t)
			}
		}
	}
}
