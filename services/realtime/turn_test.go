package realtime_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// gated are sessions that are looked up when the gate opens; it counts who
// waits there.
type gated struct {
	realtime.Sessions
	gate chan struct{}
	here atomic.Int32
	most atomic.Int32
}

func (g *gated) FromRequest(ctx context.Context, r *http.Request) (string, session.Session, error) {
	n := g.here.Add(1)
	defer g.here.Add(-1)
	for m := g.most.Load(); n > m && !g.most.CompareAndSwap(m, n); m = g.most.Load() {
	}
	<-g.gate
	return g.Sessions.FromRequest(ctx, r)
}

// When many come at once, few of them are answered at a time, and all in the end.
func TestWhoeverComesIsAnsweredInTurn(t *testing.T) {
	g := &gated{gate: make(chan struct{})}
	n := start(t, nil, func(c *realtime.Config) { g.Sessions, c.Sessions = c.Sessions, g })
	token, _ := n.signIn("mira")
	const all = 300
	var wg sync.WaitGroup
	var answered atomic.Int32
	ask := func(method, path string, body *strings.Reader) int {
		r := httptest.NewRequestWithContext(t.Context(), method, path, body)
		r.Header.Set("Cookie", "crewbeat.sid="+token)
		w := httptest.NewRecorder()
		n.server.Handler().ServeHTTP(w, r)
		return w.Code
	}
	for range all {
		wg.Go(func() {
			if code := ask(http.MethodGet, "/rt/v1/ws", strings.NewReader("")); code >= 400 {
				answered.Add(1) // no handshake: it is refused, in its turn
			}
		})
	}
	until(t, "some are being answered", func() bool { return g.here.Load() >= 16 })
	close(g.gate)
	wg.Wait()
	if most, limit := g.most.Load(), int32(max(16, 4*procs())); most > limit {
		t.Errorf("%d were answered at once, want at most %d", most, limit)
	}
	if answered.Load() != all {
		t.Errorf("%d of %d were answered", answered.Load(), all)
	}
}

// stuck is a body of which nothing comes.
type stuck struct{ begun, end chan struct{} }

func (s stuck) Read([]byte) (int, error) {
	s.begun <- struct{}{}
	<-s.end
	return 0, context.Canceled
}

// Who sends a body slowly has had its turn.
func TestSlowSendersTakeNobodysTurn(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	s := stuck{begun: make(chan struct{}), end: make(chan struct{})}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(s.end)
	for range 2 * max(16, 4*procs()) {
		wg.Go(func() {
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/rt/v1/beacon", s)
			r.Header.Set("Origin", "http://"+r.Host)
			r.Header.Set("Cookie", "crewbeat.sid="+token)
			n.server.Handler().ServeHTTP(httptest.NewRecorder(), r)
		})
		<-s.begun // more of them than there are turns
	}
	n.connect("jonas").subscribe(team, "")
}

func procs() int { return runtime.GOMAXPROCS(0) }
