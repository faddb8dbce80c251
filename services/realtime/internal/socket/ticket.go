package socket

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/gobwas/ws"
)

// A client that offers subprotocols must offer this one; a ticket may be
// offered beside it, and is never sent back.
const (
	subprotocol    = "crewbeat.v1"
	ticketProtocol = "crewbeat.ticket."
)

// ticketOf returns the ticket that a request carries, or "". It is not looked
// for in the URL, which ends up in logs.
func ticketOf(r *http.Request) string {
	for _, line := range r.Header.Values("Sec-Websocket-Protocol") {
		for p := range strings.SplitSeq(line, ",") {
			if t, ok := strings.CutPrefix(strings.TrimSpace(p), ticketProtocol); ok {
				return t
			}
		}
	}
	scheme, t, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "Ticket") {
		return strings.TrimSpace(t)
	}
	return ""
}

// identify returns who sends r: by ticket if there is one, else by cookie.
func (s *Server) identify(r *http.Request) (Identity, error) {
	if t := ticketOf(r); t != "" {
		return s.c.Auth.Redeem(r.Context(), t)
	}
	return s.c.Auth.Identify(r.Context(), r)
}

// introduce waits for the first message of a client that authenticates by it.
func (s *Server) introduce(r *http.Request, in arrival) {
	address, ok := s.admitIP(r)
	if !ok {
		s.farewell(in.nc, closeTooMany)
		return
	}
	adopted := false
	defer func() {
		if !adopted {
			s.c.Quota.Give(address)
		}
	}()
	var early io.Reader = in.nc
	if n := in.rw.Reader.Buffered(); n > 0 {
		early = in.rw.Reader // hands out what it has before it reads on
	}
	_ = in.nc.SetReadDeadline(time.Now().Add(s.c.Introduce))
	ticket, code := s.firstTicket(early)
	_ = in.nc.SetReadDeadline(time.Time{})
	if code == 0 {
		in.who, code = s.redeem(ticket)
	}
	if code != 0 {
		s.metrics.denied("unauthenticated")
		s.farewell(in.nc, code)
		return
	}
	user, ok := s.admitUser(in.who)
	if !ok {
		s.farewell(in.nc, closeTooMany)
		return
	}
	adopted = true
	in.places = places{address, user}
	s.adopt(in)
}

// firstTicket reads {"type":"auth","ticket":…}, in one frame.
func (s *Server) firstTicket(in io.Reader) (ticket string, code int) {
	first := frames{in: in, most: s.c.MessageBytes}
	op, b, err := first.next()
	if code, ok := errors.AsType[refused](err); ok {
		return "", int(code)
	}
	if err != nil { // it said nothing in time, or left
		return "", closeUnauthenticated
	}
	if op != ws.OpText {
		return "", closeBadRequest
	}
	m, err := parseInbound(b)
	if err != nil {
		return "", closeBadRequest
	}
	if m.Type != "auth" || m.Ticket == "" {
		return "", closeUnauthenticated
	}
	return m.Ticket, 0
}

// redeem returns who was given a ticket, or the code to close with.
func (s *Server) redeem(ticket string) (Identity, int) {
	who, err := s.c.Auth.Redeem(s.ctx, ticket)
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return Identity{}, closeUnauthenticated
	case err != nil:
		s.c.Log.Warn("ticket cannot be checked", slog.Any("error", err))
		return Identity{}, closeServer
	}
	return who, 0
}

// refresh puts the session of a new ticket in the place of the one that the
// connection stands on. It must be of the same user. The result is the code to
// close with, or 0.
func (c *conn) refresh(id json.RawMessage, ticket string) int {
	who, code := c.s.redeem(ticket)
	switch {
	case code == closeUnauthenticated:
		// What it has been is as good as before.
		c.send(encode(errorMessage{Type: "error", ID: id, Code: codeBadTicket}))
		return 0
	case code != 0:
		c.send(encode(errorMessage{Type: "error", ID: id, Code: codeUnavailable, RetryAfter: 2000}))
		return 0
	case who.UserID != c.user:
		return closeUnauthenticated
	}
	c.mu.Lock()
	c.session, c.token = who.SessionID, who.Token
	c.mu.Unlock()
	// Its end may have come between the ticket's use and here, when nothing
	// stood on it.
	if c.s.closeEnded(c.s.ctx, c) {
		return 0
	}
	c.send(encode(refreshedMessage{Type: "refreshed", ID: id}))
	return 0
}

// who returns on whose behalf the connection is.
func (c *conn) who() Identity {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Identity{UserID: c.user, SessionID: c.session, Token: c.token}
}
