// Package realtime brings events to browsers over WebSockets, or server-sent
// events where these are blocked.
//
// # Guarantees
//
// A client that follows a channel gets every durable event of it once and in
// order, or a reset that says to load the state again. That holds while the
// connection lasts, over reconnects that resume from the last offset, for
// clients too slow to keep up, and while the broker is away and after it has
// come back, with or without its data.
//
// Who is removed from a team gets nothing more once the event that says so has
// been delivered to this node. Connections of a session that is revoked are
// closed within a second, with the broker or without.
//
// # Not guaranteed
//
// Order between channels; delivery of ephemeral events; that a client sees
// every one of several latest events.
package realtime

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/realtime/internal/feed"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
	"github.com/crewbeat/crewbeat/services/realtime/internal/presence"
	"github.com/crewbeat/crewbeat/services/realtime/internal/quota"
	"github.com/crewbeat/crewbeat/services/realtime/internal/slack"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
	"github.com/crewbeat/crewbeat/services/realtime/internal/ticket"
)

// Server serves WebSockets and streams.
type Server struct {
	c        Config
	ctx      context.Context //nolint:containedctx // of the values that New was given; it never ends
	hub      *hub.Hub
	sockets  *socket.Server
	quota    *quota.Quota
	tickets  *ticket.Tickets
	here     *presence.Presence
	attempts *ratelimit.Limiter
	turns    chan struct{} // a place for each request that is answered
	beacons  beacons
	auth     auth
	unwatch  func()
	watched  sync.WaitGroup // that sessions end, and memory is given back
	handler  http.Handler
}

// New returns a server that follows the broker. It lives until Close, whatever
// becomes of ctx: connections are drained after the process was told to stop.
func New(ctx context.Context, c Config) (*Server, error) {
	if err := c.validate(); err != nil {
		return nil, err
	}
	c, err := c.withDefaults().withProxies()
	if err != nil {
		return nil, err
	}
	attempts, err := c.attemptLimit()
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx)
	s := &Server{c: c, ctx: ctx, attempts: attempts, turns: turns()}
	if s.beacons, err = newBeacons(c.Meter); err != nil {
		return nil, err
	}
	// The feed tells the sockets, and they are made after it: nothing is
	// delivered before the first of them subscribes.
	f, err := feed.New(ctx, feed.Options{
		Broker:      c.Broker,
		Delivered:   func(m event.Message) { s.sockets.Delivered(m) },
		Interrupted: func(channel string) { s.sockets.Interrupted(channel) },
		TakesRights: socket.TakesRights,
		Followed:    func(channel string) bool { return s.hub.Follows(channel) },
		Log:         c.Log, Tracer: c.Tracer, Meter: c.Meter,
	})
	if err != nil {
		return nil, fmt.Errorf("set up feed: %w", err)
	}
	s.hub = hub.New(ctx, f)
	s.quota = quota.New(ctx, quota.Options{Client: c.Redis, Secret: c.Secret, Wait: c.Limits.Wait, Log: c.Log})
	s.tickets = ticket.New(c.Redis, nil)
	s.auth = auth{db: c.DB.SQL(), sessions: c.Sessions, tickets: s.tickets}
	if s.here, err = newPresence(ctx, c, s.auth.teams); err != nil {
		s.quota.Close(ctx)
		s.hub.Close()
		return nil, fmt.Errorf("set up presence: %w", err)
	}
	s.sockets, err = socket.New(ctx, socket.Config{
		Hub: s.hub, Auth: s.auth, Quota: s.quota, Presence: s.here, Listen: f.Listen, Own: s.auth.own,
		Origins: c.Origins, Proxies: c.proxies,
		PerUser: c.Limits.PerUser, PerIP: c.Limits.PerIP, Comment: c.Limits.Comment, Introduce: c.Limits.Introduce, PerSecond: c.Limits.PerSecond, QueueLen: c.Limits.QueueLen, QueueBytes: c.Limits.QueueBytes,
		PingEvery: c.Limits.PingEvery, PongWithin: c.Limits.PongWithin, SlowAfter: c.Limits.SlowAfter,
		MaxAge: c.Limits.MaxAge, Recheck: c.Limits.Recheck, Tick: c.Limits.Tick,
		Log: c.Log, Tracer: c.Tracer, Meter: c.Meter,
	})
	if err != nil {
		s.here.Close(ctx)
		s.quota.Close(ctx)
		s.hub.Close()
		return nil, fmt.Errorf("set up sockets: %w", err)
	}
	unwatchGauges, err := s.watchGauges(c.Meter)
	if err != nil {
		s.sockets.Close()
		s.here.Close(ctx)
		s.quota.Close(ctx)
		s.hub.Close()
		return nil, err
	}
	unfollow := c.Broker.Watch(s.sockets.SetUp)
	watching, stop := context.WithCancel(ctx)
	s.watched.Go(func() { slack.Run(watching, s.Connections, c.Log) })
	s.watched.Go(func() {
		c.Sessions.Watch(watching, func(e session.Ended) { s.sockets.Ended(e.UserID, e.SessionID, e.Replaced) })
	})
	s.unwatch = func() {
		unwatchGauges()
		unfollow()
		stop()
		s.watched.Wait()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/rt/v1/ws", s.limited(atOnce(s.sockets.ServeHTTP), refuseAttempt))
	// An EventSource never comes again after a 429.
	mux.HandleFunc("/rt/v1/events", s.limited(s.sockets.ServeEvents, func(w http.ResponseWriter, _ *http.Request) { s.sockets.ComeLater(w) }))
	mux.HandleFunc("/rt/v1/ticket", s.limited(atOnce(s.serveTicket), refuseAttempt))
	mux.HandleFunc("/rt/v1/beacon", s.limited(afterwards(s.serveBeacon), refuseAttempt))
	mux.HandleFunc("/rt/", func(w http.ResponseWriter, _ *http.Request) {
		socket.Problem(w, http.StatusNotFound, "not-found", "There is nothing here", "Events are at /rt/v1/ws, or /rt/v1/events as server-sent events; tickets are at /rt/v1/ticket.")
	})
	s.handler = mux
	return s, nil
}

// Handler serves what is below /rt/: see docs/events.md. Its connections are hijacked: the HTTP server does
// not know of them, and only Drain and Close end them.
func (s *Server) Handler() http.Handler { return s.handler }

// Connections returns how many clients are connected.
func (s *Server) Connections() int { return s.sockets.Connections() }

// Drain refuses new connections, asks clients to connect elsewhere, spread
// over the drain window, and returns when all have left. Those that are still
// there at the deadline of ctx, or half a window late, are closed.
func (s *Server) Drain(ctx context.Context) error {
	s.here.Drain()
	s.sockets.Drain(ctx, s.c.DrainWindow)
	return nil
}

// Close closes every connection and waits until all is quiet. Drain comes
// first where clients are to notice nothing.
func (s *Server) Close() error {
	s.unwatch()
	s.sockets.Close()
	s.hub.Close()
	ctx, cancel := context.WithTimeout(s.ctx, time.Second)
	defer cancel()
	s.here.Close(ctx)
	s.quota.Close(ctx)
	return nil
}

// Channels returns how many channels this node follows: for its connections, and
// one for the session of each person.
func (s *Server) Channels() int { return s.hub.Channels() + s.sockets.Users() }
