// Package db opens the database that holds the truth: PostgreSQL for a team's
// server, a SQLite file for a laptop. What is written over it is one source
// for both.
//
// # Guarantees
//
//   - A transaction run by [DB.Transact] is atomic, and is run again when the
//     database gave way to another one.
//   - On SQLite writers queue in this process, first come first served, without
//     holding a connection that a reader could use.
//   - Spans carry statements without the values in them, and errors never
//     carry a password.
//
// # Not guaranteed
//
// A commit whose answer is lost with the connection may have happened. It is
// reported as an error and not repeated: operation ids make repeating safe.
package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/metric"
	noopmetric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	nooptrace "go.opentelemetry.io/otel/trace/noop"
)

// The dialects, as [DB.Dialect] names them.
const (
	Postgres = "postgres"
	SQLite   = "sqlite"
)

// Config says which database to open. Only URL is needed.
type Config struct {
	// URL is postgres://USER:PASSWORD@HOST:PORT/DATABASE, with the parameters
	// that libpq knows, or sqlite:PATH of a file, which is created if it does
	// not exist.
	URL string
	// MaxConns bounds the connections; 0 means 20 to PostgreSQL and 8 to SQLite.
	MaxConns int
	// ConnectTimeout bounds the first connection; 0 means 5 s.
	ConnectTimeout time.Duration
	// Wait is how long a PostgreSQL server that is not there, or still starting,
	// is tried again; 0 means that it is tried once.
	Wait time.Duration
	// Log hears of waiting and of transactions that are run again; nil discards.
	Log *slog.Logger
	// Tracer and Meter get spans and pool metrics; nil discards.
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

func (c Config) withDefaults() Config {
	if c.ConnectTimeout <= 0 {
		c.ConnectTimeout = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Tracer == nil {
		c.Tracer = nooptrace.NewTracerProvider()
	}
	if c.Meter == nil {
		c.Meter = noopmetric.NewMeterProvider()
	}
	return c
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	sql     *sql.DB
	bun     *bun.DB
	dialect string
	log     *slog.Logger
	stats   metric.Registration

	writing chan struct{} // SQLite: holds a token while a transaction writes; else nil

	checked struct {
		sync.Mutex
		at  time.Time
		err error
	}
}

// Open connects to the database of c.URL and tries the connection once. An
// error says which server could not be reached, why, and what to look at.
func Open(ctx context.Context, c Config) (*DB, error) {
	c = c.withDefaults()
	scheme, _, _ := strings.Cut(c.URL, ":")
	switch scheme {
	case "postgres", "postgresql":
		return openPostgres(ctx, c)
	case "sqlite":
		return openSQLite(ctx, c)
	case "":
		return nil, errors.New("open database: DATABASE_URL is empty: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:PATH")
	}
	return nil, fmt.Errorf("open database: %s is not supported: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:PATH", redactURL(c.URL))
}

// finish fits the pool that both dialects use.
func (db *DB) finish(c Config, maxConns int, attributes otelsql.Option) (*DB, error) {
	if c.MaxConns > 0 {
		maxConns = c.MaxConns
	}
	db.log = c.Log
	db.sql.SetMaxOpenConns(maxConns)
	db.sql.SetMaxIdleConns(max(2, maxConns/2))
	db.sql.SetConnMaxIdleTime(5 * time.Minute)
	var err error
	db.stats, err = otelsql.RegisterDBStatsMetrics(db.sql, otelsql.WithMeterProvider(c.Meter), attributes)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("register database metrics: %w", err), db.sql.Close())
	}
	return db, nil
}

// SQL returns the pool. Statements use $1, $2, …, which both databases take.
func (db *DB) SQL() *sql.DB { return db.sql }

// Bun returns the query builder over the pool.
func (db *DB) Bun() *bun.DB { return db.bun }

// Dialect returns [Postgres] or [SQLite].
func (db *DB) Dialect() string { return db.dialect }

// Check reports whether the database answers. An answer of the last second is
// given again, so that many may ask.
func (db *DB) Check(ctx context.Context) error {
	db.checked.Lock() // held during the ping: who comes meanwhile waits for its answer
	defer db.checked.Unlock()
	if time.Since(db.checked.at) < time.Second {
		return db.checked.err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	err := db.sql.PingContext(ctx)
	if errors.Is(err, context.Canceled) {
		return err // says nothing about the database
	}
	if err != nil {
		err = fmt.Errorf("ping database: %w", err)
	}
	db.checked.at, db.checked.err = time.Now(), err
	return err
}

// Close waits for running statements and closes all connections.
func (db *DB) Close() error {
	return errors.Join(db.stats.Unregister(), db.sql.Close())
}

// redactURL keeps of a database URL what may be shown: no user, no password,
// no parameters.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		return "(a text that is not a URL)"
	}
	if u.Opaque != "" {
		return u.Scheme + ":…"
	}
	return u.Scheme + "://" + u.Host + u.Path
}
