package realtime

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
	"github.com/crewbeat/crewbeat/services/realtime/internal/ticket"
)

// auth answers from the sessions and the memberships.
type auth struct {
	db       *sql.DB
	sessions Sessions
	tickets  *ticket.Tickets
}

// Identify implements [socket.Auth].
func (a auth) Identify(ctx context.Context, r *http.Request) (socket.Identity, error) {
	if who, ok := r.Context().Value(known{}).(socket.Identity); ok {
		return who, nil // looked up a moment ago, and looked up again once connected
	}
	token, s, err := a.sessions.FromRequest(ctx, r)
	if err != nil {
		return socket.Identity{}, unauthenticated(err)
	}
	return identity(token, s), nil
}

func identity(token string, s session.Session) socket.Identity {
	return socket.Identity{UserID: s.UserID, SessionID: s.ID, Token: socket.Secret(token)}
}

// Redeem implements [socket.Auth].
func (a auth) Redeem(ctx context.Context, t string) (socket.Identity, error) {
	token, err := a.tickets.Redeem(ctx, t)
	if errors.Is(err, ticket.ErrUnknown) {
		return socket.Identity{}, socket.ErrUnauthenticated
	}
	if err != nil {
		return socket.Identity{}, err
	}
	s, err := a.sessions.Lookup(ctx, token)
	if err != nil {
		return socket.Identity{}, unauthenticated(err)
	}
	return identity(token, s), nil
}

// Recheck implements [socket.Auth].
func (a auth) Recheck(ctx context.Context, who socket.Identity) error {
	s, err := a.sessions.Lookup(ctx, string(who.Token))
	if err != nil {
		return unauthenticated(err)
	}
	if s.UserID != who.UserID {
		return socket.ErrUnauthenticated
	}
	return nil
}

func unauthenticated(err error) error {
	if errors.Is(err, session.ErrReplaced) {
		return socket.ErrReplaced
	}
	if errors.Is(err, session.ErrNone) {
		return socket.ErrUnauthenticated
	}
	return err
}

// teams returns those of a user.
func (a auth) teams(ctx context.Context, userID string) (teams []string, err error) {
	rows, err := a.db.QueryContext(ctx, `SELECT team_id FROM memberships WHERE user_id = $1 ORDER BY team_id`, userID)
	if err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var team string
		if err := rows.Scan(&team); err != nil {
			return nil, fmt.Errorf("read memberships: %w", err)
		}
		teams = append(teams, team)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read memberships: %w", err)
	}
	return teams, nil
}

// own returns the channels of a user and of the user's teams.
func (a auth) own(ctx context.Context, userID string) ([]string, error) {
	teams, err := a.teams(ctx, userID)
	if err != nil {
		return nil, err
	}
	channels := []string{"user:" + userID + ":habits", "user:" + userID + ":session"}
	for _, team := range teams {
		channels = append(channels, "team:"+team+":activity")
	}
	return channels, nil
}

// Allowed implements [socket.Auth]: user channels are for the user, team
// channels for members; there are no others yet.
func (a auth) Allowed(ctx context.Context, userID, channel string) (bool, error) {
	kind, rest, _ := strings.Cut(channel, ":")
	id, topic, _ := strings.Cut(rest, ":")
	switch {
	case kind == "user" && (topic == "habits" || topic == "session"):
		return id == userID, nil
	case kind == "team" && topic == "activity":
		var one int
		err := a.db.QueryRowContext(ctx, `SELECT 1 FROM memberships WHERE team_id = $1 AND user_id = $2`, id, userID).Scan(&one)
		if errors.Is(err, sql.ErrNoRows) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read membership: %w", err)
		}
		return true, nil
	}
	return false, nil
}
