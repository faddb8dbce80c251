package socket

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
)

// Server answers upgrades and keeps the connections.
type Server struct {
	c       Config
	metrics *metrics
	ctx     context.Context //nolint:containedctx // the life of the server; ended by Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	up      atomic.Bool // the broker is reachable
	number  atomic.Uint64
	began   time.Time // before anything
	node    string
	wheel   wheel
	poke    chan struct{} // asks for a recheck of everybody
	poller  *poller

	mu       sync.Mutex
	conns    map[uint64]*conn // by number
	users    map[string]*user
	draining bool
	closed   bool
	left     chan struct{} // closed when the last connection is gone while draining
}

// New returns a server. ctx bounds its life as Close does.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.Hub == nil || c.Auth == nil || c.Quota == nil {
		return nil, errors.New("socket: a server needs a hub, an auth and a quota")
	}
	c = c.withDefaults()
	ctx, cancel := context.WithCancel(ctx)
	ms, err := newMetrics(ctx, c.Meter)
	if err != nil {
		cancel()
		return nil, err
	}
	s := &Server{
		c: c, metrics: ms, ctx: ctx, cancel: cancel, began: time.Now().Add(-time.Nanosecond),
		node:  strconv.FormatUint(rand.Uint64(), 36), //nolint:gosec // a name, no secret
		poke:  make(chan struct{}, 1),
		conns: map[uint64]*conn{}, users: map[string]*user{},
		wheel: newWheel(c.Tick),
	}
	if s.poller, err = newPoller(); err != nil {
		cancel()
		return nil, err
	}
	s.wg.Go(func() { s.poller.run(s.wake) })
	s.wg.Go(s.turn)
	s.wg.Go(s.recheck)
	return s, nil
}

// enter counts a request as being answered, so that Close waits for it also
// once its connection is hijacked; unless the server is closed.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.wg.Add(1)
	}
	return !s.closed
}

// goingAway answers that another server is to be asked.
func goingAway(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "1")
	Problem(w, http.StatusServiceUnavailable, "draining", "This server is going away", "Connect again: another one will answer.")
}

// ServeHTTP upgrades a request and returns; the connection lives on.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		goingAway(w)
		return
	}
	defer s.wg.Done()
	late := r.URL.Query().Get("auth") == "message"
	// Without an Origin it is no browser, and what it shows it was given: not
	// a cookie that a page made a browser send.
	own := len(r.Header.Values("Origin")) == 0 && (late || ticketOf(r) != "")
	if !own && !s.Owns(r) {
		s.metrics.denied("origin")
		Problem(w, http.StatusForbidden, "origin-refused", "This origin may not connect",
			"Send an Origin header that is the address of this server, or one of ALLOWED_ORIGINS.")
		return
	}
	if s.isDraining() {
		goingAway(w)
		return
	}
	if !isUpgrade(r) {
		w.Header().Set("Upgrade", "websocket")
		Problem(w, http.StatusUpgradeRequired, "upgrade-required", "This address speaks WebSocket",
			"Connect with a WebSocket client.")
		return
	}
	var who Identity
	var err error
	if !late {
		who, err = s.identify(r)
	}
	if err != nil && !errors.Is(err, ErrUnauthenticated) {
		s.c.Log.WarnContext(r.Context(), "connection refused: nobody can tell who it is", slog.Any("error", err))
		w.Header().Set("Retry-After", "2")
		Problem(w, http.StatusServiceUnavailable, "unavailable", "Sign-ins cannot be checked at the moment", "Try again in a few seconds.")
		return
	}
	nc, rw, _, err2 := ws.HTTPUpgrader{Protocol: func(p string) bool { return p == subprotocol }}.Upgrade(r, w)
	if err2 != nil {
		if nc != nil {
			_ = nc.Close() // it has been answered
		}
		return
	}
	_ = nc.SetDeadline(time.Time{}) // the server's own are for requests
	v := r.URL.Query().Get("v")
	switch {
	case errors.Is(err, ErrReplaced):
		s.farewell(nc, closeAuthExpired)
		return
	case err != nil:
		// Only now: a browser does not tell the page why a handshake failed.
		s.metrics.denied("unauthenticated")
		s.farewell(nc, closeUnauthenticated)
		return
	case v != "" && v != "1":
		s.farewell(nc, closeVersion)
		return
	}
	in := arrival{nc: nc, rw: rw, who: who}
	if late {
		s.wg.Go(func() {
			defer s.forsake(nc)
			s.introduce(r, in)
		})
		return
	}
	var ok bool
	if in.places, ok = s.admit(r, who); !ok {
		s.farewell(nc, closeTooMany)
		return
	}
	s.adopt(in)
}

// isUpgrade reports whether r asks for a WebSocket at all; the rest of the
// handshake is checked by the codec.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
}

// farewell closes a connection that never was one.
func (s *Server) farewell(nc net.Conn, code int) {
	s.wg.Go(func() {
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(goodbye))
		if _, err := nc.Write(closeFrame(code)); err == nil {
			if tcp, ok := nc.(*net.TCPConn); ok {
				_ = tcp.CloseWrite()
			}
			_, _ = io.CopyN(io.Discard, nc, 1<<20) // what it was sending, and its own close frame
		}
	})
}

// arrival is a connection that may stay.
type arrival struct {
	nc     net.Conn
	rw     *bufio.ReadWriter // what came with the request, or nil
	who    Identity
	places places // to be given back

	// Of server-sent events.
	stream *stream
	own    bool   // follows all that is its user's own
	first  []byte // sent before anything else
}

// adopt begins a connection.
func (s *Server) adopt(in arrival) {
	now := time.Now()
	nc := strip(in.nc)
	c := &conn{
		s: s, number: s.number.Add(1), nc: nc, at: describe(nc), places: in.places, stream: in.stream,
		reading:  true,
		oldest:   s.moment(now.Add(s.c.MaxAge*4/5 + rand.N(s.c.MaxAge/5+1))),
		nextPing: s.moment(now.Add(s.c.PingEvery*9/10 + rand.N(s.c.PingEvery/5+1))),
	}
	c.stand(in.who)
	if c.stream != nil {
		c.nextPing = s.moment(now.Add(s.c.Comment))
	}
	if in.rw != nil {
		if n := in.rw.Reader.Buffered(); n > 0 {
			early, _ := in.rw.Reader.Peek(n)
			c.early = earlyReader(early)
		}
	}
	if in.first != nil {
		c.tell(queued{raw: in.first}, closeSlow)
	}
	if !s.add(c) {
		c.close(closeDrain)
		c.begin()
		return
	}
	c.send(encode(helloMessage{
		Type: "hello", Conn: s.node + "-" + strconv.FormatUint(c.number, 36), PingMs: s.c.PingEvery.Milliseconds(), NowMs: time.Now().UnixMilli(),
		Limits: limitsShown{Channels: c.most(), MessageBytes: s.c.MessageBytes, PerSecond: s.c.PerSecond},
	}))
	c.send(status(s.up.Load()))
	switch {
	case in.own:
		c.followOwn(nil, nil)
	case c.stream != nil:
		c.followAll(nil, nil)
	}
	c.begin()
}

// add registers a connection, unless the server is going away.
func (s *Server) add(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.metrics.opened()
	if s.draining || s.ctx.Err() != nil {
		return false
	}
	u := s.users[c.user]
	if u == nil {
		u = s.watch(c.user)
	}
	u.conns = append(u.conns, c)
	s.conns[c.number] = c
	if s.c.Presence != nil {
		s.c.Presence.Enter(c.user)
	}
	s.wheel.put(c, c.nextPing.after(s.moment(time.Now())))
	return true
}

func (s *Server) remove(c *conn, code int) {
	rest := func() {}
	defer func() { rest() }()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.giveBack(c.places)
	s.metrics.ended(code)
	if s.conns[c.number] == nil {
		return
	}
	delete(s.conns, c.number)
	if s.c.Presence != nil {
		s.c.Presence.Leave(c.user)
	}
	if u := s.users[c.user]; u != nil {
		u.conns = slices.DeleteFunc(u.conns, func(o *conn) bool { return o == c })
		if len(u.conns) == 0 {
			delete(s.users, c.user)
			rest = u.stop // without s.mu
		}
	}
	s.wheel.drop(c)
	if s.left != nil && len(s.conns) == 0 {
		close(s.left)
		s.left = nil
	}
}

// all returns the connections of now.
func (s *Server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.conns))
}

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// Connections returns how many there are.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Subscriptions returns how many channels the connections follow, each its own.
func (s *Server) Subscriptions() (n int) {
	for _, c := range s.all() {
		n += c.joinedChannels()
	}
	return n
}

// SetUp tells everybody whether the broker is reachable. When it comes back,
// sessions and memberships are checked: their ends may have been missed.
func (s *Server) SetUp(up bool) {
	if s.up.Swap(up) == up {
		return
	}
	message := status(up)
	for _, c := range s.all() {
		c.send(message)
	}
	if up {
		s.Recheck()
	}
}

// Drain asks clients to connect elsewhere, after delays that fill window
// evenly, and closes those that are left half a window later, or before the
// last fifth of the time that ctx leaves: others have to stop after this.
// Streams are ended at their time, since their clients come again by themselves.
func (s *Server) Drain(ctx context.Context, window time.Duration) {
	began := time.Now()
	s.mu.Lock()
	s.draining = true
	var left chan struct{}
	if len(s.conns) > 0 {
		left = make(chan struct{})
		s.left = left
	}
	s.mu.Unlock()
	if left != nil {
		deadline := window + window/2
		if at, ok := ctx.Deadline(); ok {
			deadline = min(deadline, max(0, time.Until(at)*4/5))
			window = min(window, deadline*2/3)
		}
		// In no order, each at a moment of its own slice of the window: that
		// is even also where there are few.
		all := s.all()
		rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		for i, c := range all {
			slice := float64(window) / float64(len(all))
			after := time.Duration((float64(i) + rand.Float64()) * slice)
			c.send(encode(drainMessage{Type: "drain", ReconnectAfter: after.Milliseconds(), Deadline: deadline.Milliseconds()}))
			if c.stream != nil {
				s.endAt(c, began.Add(after))
			}
		}
		t := time.NewTimer(deadline)
		defer t.Stop()
		select {
		case <-left:
		case <-ctx.Done():
		case <-t.C:
		}
	}
	for _, c := range s.all() {
		c.close(closeDrain)
	}
	s.metrics.drains.Record(s.ctx, time.Since(began).Seconds())
}

// endAt has c closed when its time to leave has come.
func (s *Server) endAt(c *conn, when time.Time) {
	c.mu.Lock()
	c.leaveAt = s.moment(when)
	c.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conns[c.number] != nil {
		s.wheel.drop(c)
		s.wheel.put(c, time.Until(when))
	}
}

// Close closes every connection and waits for their goroutines.
func (s *Server) Close() {
	s.mu.Lock()
	s.draining, s.closed = true, true
	s.mu.Unlock()
	for _, c := range s.all() {
		c.close(closeDrain)
	}
	s.cancel()
	s.poller.close()
	s.wg.Wait()
}

// Problem answers with an RFC 9457 problem.
func Problem(w http.ResponseWriter, status int, code, title, detail string) {
	body, err := json.Marshal(map[string]any{
		"type": "about:blank", "status": status, "code": code, "title": title, "detail": detail,
	})
	if err != nil {
		panic("socket: encode problem: " + err.Error()) // only texts and a number
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}
