package socket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
	"github.com/crewbeat/crewbeat/services/realtime/internal/presence"
	"github.com/crewbeat/crewbeat/services/realtime/internal/quota"
)

// ErrUnauthenticated reports that nobody is signed in (any more).
var ErrUnauthenticated = errors.New("not signed in")

// ErrReplaced is an ErrUnauthenticated of a session that was given a new token
// a moment ago: the client has it by the time it connects again.
var ErrReplaced = fmt.Errorf("session replaced: %w", ErrUnauthenticated)

// Identity is who is behind a connection.
type Identity struct {
	UserID    string
	SessionID string
	Token     Secret // to look the session up again
}

// Secret is a text that logs do not show.
type Secret string

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// String implements fmt.Stringer.
func (Secret) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer.
func (Secret) GoString() string { return "[redacted]" }

// Auth decides who may connect, and who may follow what.
type Auth interface {
	// Identify returns who sends r, or ErrUnauthenticated.
	Identify(ctx context.Context, r *http.Request) (Identity, error)
	// Redeem returns who was given a ticket, which is good for once, or
	// ErrUnauthenticated.
	Redeem(ctx context.Context, ticket string) (Identity, error)
	// Recheck returns ErrUnauthenticated if the session is over. Any other
	// error means that nobody can tell.
	Recheck(ctx context.Context, who Identity) error
	// Allowed reports whether a user may follow a channel.
	Allowed(ctx context.Context, userID, channel string) (bool, error)
}

// Quota counts connections, over all nodes if it can.
type Quota interface {
	// Take takes one of limit places under key; ok is false if there is none
	// left. Give returns it, and does not block; the zero place is none.
	Take(ctx context.Context, key string, limit int) (p quota.Place, ok bool)
	Give(p quota.Place)
}

// Config fits a Server. Hub, Auth and Quota are required.
type Config struct {
	Hub   *hub.Hub
	Auth  Auth
	Quota Quota
	// Listen has Server.Delivered and Server.Interrupted told of a channel until
	// stop is called; nil: revocations are heard of by Server.Ended only.
	Listen func(ctx context.Context, channel string) (stop func(), err error)
	// Own returns the channels of a user and of the user's teams; nil: nobody can ask for them.
	Own      func(ctx context.Context, userID string) ([]string, error)
	Presence *presence.Presence // who of a team is here; nil: nobody is told
	Proxies  ratelimit.Proxies  // whose X-Forwarded-For is believed
	Origins  []string           // besides the host of the request itself

	MessageBytes int           // of a client's message; default 8 KiB
	Channels     int           // of a connection; default 64
	PerSecond    int           // messages of a client; default 20
	PerUser      int           // connections of a user; default 20
	PerIP        int           // connections from a public address, or a /64 of IPv6; default 100
	QueueLen     int           // messages that wait for a slow reader; default 256
	QueueBytes   int           // and their size; default 256 KiB
	PingEvery    time.Duration // ± 10 %; default 25 s
	PongWithin   time.Duration // default 10 s
	Comment      time.Duration // between the comments that keep a stream open; default 15 s
	StreamMax    int           // channels of a stream of server-sent events; default 16
	SlowAfter    time.Duration // how long a reader may take nothing; default 30 s
	MaxAge       time.Duration // 80 to 100 % of it; default 4 h
	Recheck      time.Duration // of sessions and memberships; default 5 min
	Introduce    time.Duration // for a client that authenticates by message; default 5 s
	Tick         time.Duration // resolution of pings; default 250 ms

	Log    *slog.Logger
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

func (c Config) withDefaults() Config {
	positive := func(n *int, otherwise int) {
		if *n <= 0 {
			*n = otherwise
		}
	}
	lasting := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	positive(&c.MessageBytes, 8<<10)
	positive(&c.Channels, 64)
	positive(&c.PerSecond, 20)
	positive(&c.PerUser, 20)
	positive(&c.PerIP, 100)
	positive(&c.QueueLen, 256)
	positive(&c.QueueBytes, 256<<10)
	lasting(&c.PingEvery, 25*time.Second)
	lasting(&c.PongWithin, 10*time.Second)
	lasting(&c.Comment, 15*time.Second)
	positive(&c.StreamMax, 16)
	lasting(&c.SlowAfter, 30*time.Second)
	lasting(&c.MaxAge, 4*time.Hour)
	lasting(&c.Recheck, 5*time.Minute)
	lasting(&c.Introduce, 5*time.Second)
	lasting(&c.Tick, 250*time.Millisecond)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
