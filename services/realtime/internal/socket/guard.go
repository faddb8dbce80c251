package socket

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// user is somebody with connections to this node. While there are any, the
// node listens to the user's session channel to hear of revocations.
//
// All under Server.mu.
type user struct {
	conns []*conn
	stop  func() // ends the listening, or its beginning
}

func sessionChannel(user string) string { return "user:" + user + ":session" }

// watch begins to listen to a user's session channel; s.mu is held. What ends
// before that is heard of from the database: see [Server.Ended].
func (s *Server) watch(id string) *user {
	u := &user{stop: func() {}}
	s.users[id] = u
	if s.c.Listen == nil {
		return u
	}
	ctx, cancel := context.WithCancel(s.ctx)
	u.stop = cancel
	s.wg.Go(func() {
		defer cancel()
		stop, err := s.c.Listen(ctx, sessionChannel(id))
		if err != nil {
			if ctx.Err() == nil {
				s.c.Log.Error("revocations of a user are heard of from the database only", slog.Any("error", err))
			}
			return
		}
		s.mu.Lock()
		gone := s.users[id] != u
		if !gone {
			u.stop = stop
		}
		s.mu.Unlock()
		if gone {
			stop()
		}
	})
	return u
}

// Users returns how many people are connected to this node, which listens to a
// channel for each.
func (s *Server) Users() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.users)
}

func (s *Server) connsOf(userID string) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[userID]
	if u == nil {
		return nil
	}
	return slices.Clone(u.conns)
}

// TakesRights reports whether an event may take rights: none of its channel may
// be handed out after it before Delivered has returned.
func TakesRights(e *event.Envelope) bool {
	return e.Event == "session_revoked" || e.Event == "member_left"
}

// Delivered cuts off whom an event takes rights from. It is called after the
// event was handed out, with no lock of the hub held, and does not block.
func (s *Server) Delivered(m event.Message) {
	e := &m.Envelope
	kind, rest, _ := strings.Cut(e.Channel, ":")
	id, _, _ := strings.Cut(rest, ":")
	switch {
	case e.Event == "session_revoked" && kind == "user":
		var data struct {
			SessionID string `json:"session_id"`
		}
		if err := json.Unmarshal(e.Data, &data); err != nil || data.SessionID == "" {
			s.Recheck()
			return
		}
		s.Ended(id, data.SessionID, false)
	case e.Event == "member_left" && kind == "team":
		var data struct {
			UserID string `json:"user_id"`
		}
		if err := json.Unmarshal(e.Data, &data); err != nil || data.UserID == "" {
			s.Recheck()
			return
		}
		// Now: the next event may be on its way already.
		for _, c := range s.connsOf(data.UserID) {
			c.revoke("team:" + id + ":")
		}
		if s.c.Presence != nil {
			s.c.Presence.Part(data.UserID, id)
		}
	case e.Event == "member_joined" && kind == "team":
		var data struct {
			UserID string `json:"user_id"`
		}
		if json.Unmarshal(e.Data, &data) == nil {
			s.joinedTeam(data.UserID, id)
		}
	case e.Event == "team_joined" && kind == "user":
		// Nobody here may follow the team yet.
		var data struct {
			TeamID string `json:"team_id"`
		}
		if json.Unmarshal(e.Data, &data) == nil {
			s.joinedTeam(id, data.TeamID)
		}
	}
}

func (s *Server) joinedTeam(userID, teamID string) {
	if s.c.Presence != nil {
		s.c.Presence.Join(userID, teamID)
	}
	s.followNew(s.connsOf(userID))
}

// Ended closes the connections of a session that has ended. If it was replaced,
// they may connect again, with the cookie that their browser has by now.
func (s *Server) Ended(userID, sessionID string, replaced bool) {
	code := closeRevoked
	if replaced {
		code = closeAuthExpired
	}
	for _, c := range s.connsOf(userID) {
		if c.who().SessionID == sessionID {
			c.close(code)
		}
	}
}

// Interrupted says that events of a channel may have been missed, perhaps one
// that takes rights.
func (s *Server) Interrupted(channel string) {
	if strings.HasSuffix(channel, ":session") || strings.HasPrefix(channel, "team:") {
		s.Recheck()
	}
}

// Recheck has every session and membership checked soon.
func (s *Server) Recheck() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

func (s *Server) recheck() {
	t := time.NewTicker(s.c.Recheck)
	defer t.Stop()
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-t.C:
		case <-s.poke:
		}
		s.recheckConns(s.ctx, s.all())
	}
}

// closeEnded closes a connection whose session is over. What became of it is
// told if it connects again.
func (s *Server) closeEnded(ctx context.Context, c *conn) bool {
	if err := s.c.Auth.Recheck(ctx, c.who()); !errors.Is(err, ErrUnauthenticated) {
		return false
	}
	c.close(closeAuthExpired)
	return true
}

// recheckConns closes connections whose session is over, and ends the
// followings that are no longer allowed. Where nobody can tell, things stay.
func (s *Server) recheckConns(ctx context.Context, list []*conn) {
	for _, c := range list {
		if ctx.Err() != nil {
			return
		}
		s.recheckConn(ctx, c)
	}
}

func (s *Server) recheckConn(ctx context.Context, c *conn) {
	defer c.survive()
	if s.closeEnded(ctx, c) {
		return
	}
	if s.c.Presence != nil {
		s.c.Presence.Ask(c.user)
	}
	s.followNew([]*conn{c})
	channels := c.following("", false) // the others are asked for anyway
	slices.Sort(channels)
	for _, ch := range channels {
		if ok, err := s.c.Auth.Allowed(ctx, c.user, ch); err == nil && !ok {
			c.revoke(ch)
		}
	}
}
