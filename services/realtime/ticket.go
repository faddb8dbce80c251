package realtime

import (
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"

	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
	"github.com/crewbeat/crewbeat/services/realtime/internal/ticket"
)

// serveTicket gives a ticket to who is signed in by cookie:
// {"ticket":"…","expires_in_ms":30000}.
func (s *Server) serveTicket(w http.ResponseWriter, r *http.Request) {
	w.Header().Add("Vary", "Origin")
	own := len(r.Header.Values("Origin")) == 0 && r.Header.Get("Sec-Fetch-Site") == "" // no browser
	if !own && !s.sockets.Owns(r) {
		socket.Problem(w, http.StatusForbidden, "origin-refused", "This origin may not ask for tickets",
			"Ask from a page of this server, or of one of ALLOWED_ORIGINS.")
		return
	}
	if !own {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		socket.Problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "Tickets are made with POST", "Send a POST request without a body.")
		return
	}
	who, err := s.auth.Identify(r.Context(), r)
	if errors.Is(err, socket.ErrUnauthenticated) {
		socket.Problem(w, http.StatusUnauthorized, "unauthenticated", "Nobody is signed in", "Sign in, then ask again.")
		return
	}
	if err != nil {
		s.unavailable(w, r, err)
		return
	}
	t, err := s.tickets.Issue(r.Context(), string(who.Token))
	if err != nil {
		s.unavailable(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]any{"ticket": t, "expires_in_ms": ticket.Life.Milliseconds()})
}

func (s *Server) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	s.c.Log.WarnContext(r.Context(), "no ticket given", slog.Any("error", err))
	w.Header().Set("Retry-After", "2")
	socket.Problem(w, http.StatusServiceUnavailable, "unavailable", "Tickets are not available at the moment", "Try again in a few seconds.")
}
