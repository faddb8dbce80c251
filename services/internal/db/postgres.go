package db

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/XSAM/otelsql"
	"github.com/exaring/otelpgx"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
)

func openPostgres(ctx context.Context, c Config) (*DB, error) {
	if _, err := url.Parse(c.URL); err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok {
			err = ue.Err // without the URL
		}
		return nil, fmt.Errorf("read DATABASE_URL: %w: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE, with special characters in the password percent-encoded", err)
	}
	config, err := pgx.ParseConfig(c.URL)
	if err != nil {
		// The error holds the whole URL; what it unwraps to does not.
		return nil, fmt.Errorf("read DATABASE_URL %s: %w", redactURL(c.URL), cmp.Or(errors.Unwrap(err), errors.New("not accepted")))
	}
	// bun writes values into statements, so that no two of them are alike:
	// preparing each would cost a round trip and fill a cache that never hits.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.ConnectTimeout = c.ConnectTimeout
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "crewbeat"
	}
	config.Tracer = multitracer.New(
		otelpgx.NewTracer(
			otelpgx.WithTracerProvider(c.Tracer),
			otelpgx.WithMeterProvider(c.Meter),
			otelpgx.WithDisableSQLStatementInAttributes(),
			otelpgx.WithSpanNameFunc(summary),
		),
		statementText{},
	)

	pool := stdlib.OpenDB(*config)
	db := &DB{sql: pool, bun: bun.NewDB(pool, pgdialect.New()), dialect: Postgres}
	if err := c.await(ctx, config, pool.PingContext); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	pool.SetConnMaxLifetime(30 * time.Minute) // follows a failover or a new address
	return db.finish(c, 20, otelsql.WithAttributes(semconv.DBSystemNamePostgreSQL))
}

// await pings the server, again and again for as long as it may be about to
// come up.
func (c Config) await(ctx context.Context, config *pgx.ConnConfig, ping func(context.Context) error) error {
	deadline := time.Now().Add(c.Wait)
	for said := false; ; {
		err := ping(ctx)
		if err == nil {
			return nil
		}
		if !comingUp(err) || time.Now().Add(retryConnect).After(deadline) {
			return unreachable(config, err)
		}
		if !said {
			c.Log.InfoContext(ctx, "waiting for the database", "reason", unreachable(config, err).Error(), "at_most", c.Wait)
			said = true
		}
		select {
		case <-ctx.Done():
			return unreachable(config, errors.Join(context.Cause(ctx), err))
		case <-time.After(retryConnect):
		}
	}
}

// retryConnect is the pause between attempts to connect to a server that is
// awaited.
const retryConnect = 500 * time.Millisecond

// comingUp reports a failure that may pass by itself while a server starts; a
// wrong password does not.
func comingUp(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code == "57P03" // cannot_connect_now
	}
	return !errors.Is(err, context.Canceled)
}

// statementText adds to otelpgx's span the statement without its values.
type statementText struct{}

func (statementText) TraceQueryStart(ctx context.Context, _ *pgx.Conn, data pgx.TraceQueryStartData) context.Context {
	if span := trace.SpanFromContext(ctx); span.IsRecording() {
		span.SetAttributes(semconv.DBQueryText(withoutValues(data.SQL)), semconv.DBQuerySummary(summary(data.SQL)))
	}
	return ctx
}

func (statementText) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// connectError is a failure to connect, told so that an operator can act on it.
type connectError struct {
	text string
	err  error
}

func (e *connectError) Error() string { return e.text }
func (e *connectError) Unwrap() error { return e.err }

// unreachable names the server, the cause and what to look at; never the
// password.
func unreachable(config *pgx.ConnConfig, err error) error {
	hosts := []string{net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))}
	for _, f := range config.Fallbacks {
		if h := net.JoinHostPort(f.Host, strconv.Itoa(int(f.Port))); hosts[len(hosts)-1] != h {
			hosts = append(hosts, h)
		}
	}
	cause, hint := diagnose(err)
	return &connectError{
		text: fmt.Sprintf("connect to PostgreSQL at %s (database %q, user %q): %s: %s",
			strings.Join(hosts, ", "), config.Database, config.User, cause, hint),
		err: err,
	}
}

func diagnose(err error) (cause, hint string) {
	var (
		pgErr  *pgconn.PgError
		dnsErr *net.DNSError
		netErr net.Error
	)
	switch {
	case errors.As(err, &pgErr):
		switch pgErr.Code {
		case "28P01", "28000":
			return pgErr.Message, "check the user and the password in DATABASE_URL"
		case "3D000":
			return pgErr.Message, "create the database, or correct its name in DATABASE_URL"
		case "53300":
			return pgErr.Message, "raise max_connections of the server, or lower the connections of its clients"
		case "57P03":
			return pgErr.Message, "the server is starting or stopping: try again"
		}
		return pgErr.Message, "SQLSTATE " + pgErr.Code
	case errors.As(err, &dnsErr):
		return "the host name " + dnsErr.Name + " is not known", "check the host in DATABASE_URL and the name service"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused", "check host and port in DATABASE_URL, and that the server is running"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return "no answer in time", "check host and port in DATABASE_URL, and firewalls or network policies on the way"
	}
	root := err
	for e := errors.Unwrap(root); e != nil; e = errors.Unwrap(root) {
		root = e
	}
	return root.Error(), "check DATABASE_URL"
}
