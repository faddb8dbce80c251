package realtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// Sessions finds out who sends a request; [session.Sessions] does.
type Sessions interface {
	FromRequest(ctx context.Context, r *http.Request) (token string, _ session.Session, err error)
	Lookup(ctx context.Context, token string) (session.Session, error)
	Watch(ctx context.Context, ended func(session.Ended))
}

// Config fits a [Server]. DB, Sessions and Broker are required, and stay the
// caller's to close: after the server.
type Config struct {
	DB       *db.DB       // asked for memberships
	Sessions Sessions     // asked for who connects
	Broker   event.Broker // where events come from
	Origins  []string     // of pages that may connect, besides the server's own host

	// Redis holds what nodes share beside the events: limits, tickets,
	// presence. Nil means that there is one node. It stays the caller's.
	Redis redis.UniversalClient
	// Secret keys the hashes that stand for people in Redis; all nodes need
	// the same one.
	Secret string
	// TrustedProxies are the addresses, or networks, whose X-Forwarded-For
	// tells who connects.
	TrustedProxies []string
	proxies        ratelimit.Proxies

	// DrainWindow is the time over which clients are asked to leave when the
	// server drains. Default 30 s.
	DrainWindow time.Duration
	Limits      Limits

	Log     *slog.Logger
	Tracer  trace.TracerProvider
	Meter   metric.MeterProvider
	Version string
}

// Limits are for tests and for unusual networks; zero values are the defaults
// of the protocol.
type Limits struct {
	PerUser    int           // connections of a user; 20
	PerIP      int           // connections from a public address, or a /64 of IPv6; 100
	Attempts   int           // tries a minute to connect, or to get a ticket, by a person or a stranger's address; 120
	Wait       time.Duration // for Redis to count with; then this node counts alone; 250 ms
	QueueLen   int           // messages that wait for a slow reader; 256
	QueueBytes int           // and their size; 256 KiB
	PerSecond  int           // messages of a client; 20
	PingEvery  time.Duration // ± 10 %; 25 s
	PongWithin time.Duration // 10 s
	SlowAfter  time.Duration // how long a reader may take nothing; 30 s
	MaxAge     time.Duration // of a connection; 4 h
	Recheck    time.Duration // of sessions and memberships; 5 min
	Comment    time.Duration // between the comments that keep a stream open; 15 s
	Introduce  time.Duration // for a client that authenticates by message; 5 s
	Tick       time.Duration // resolution of pings; 250 ms
	Lease      time.Duration // how long people of a killed node seem to be here; 60 s
	Renew      time.Duration // between the renewals of that; 25 s
	Linger     time.Duration // how long somebody stays here who has left; 10 s
	Batch      time.Duration // between two changes of who is here; 1 s
	Grace      time.Duration // in which nobody leaves after Redis was away; Renew + 5 s
}

func (c Config) validate() error {
	switch {
	case c.DB == nil:
		return errors.New("realtime: Config.DB is missing")
	case c.Sessions == nil:
		return errors.New("realtime: Config.Sessions is missing")
	case c.Broker == nil:
		return errors.New("realtime: Config.Broker is missing")
	}
	return nil
}

// withProxies reads the TrustedProxies.
func (c Config) withProxies() (Config, error) {
	var err error
	if c.proxies, err = ratelimit.ParseProxies(c.TrustedProxies); err != nil {
		return Config{}, fmt.Errorf("realtime: TrustedProxies: %w", err)
	}
	return c, nil
}

func (c Config) withDefaults() Config {
	if c.DrainWindow <= 0 {
		c.DrainWindow = 30 * time.Second
	}
	if c.Limits.Attempts <= 0 {
		c.Limits.Attempts = 120
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}
