package db

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/XSAM/otelsql"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/sqlitedialect"
	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"
	"modernc.org/sqlite"
)

// pragmas are set on every connection. synchronous=FULL because an
// acknowledged tick must survive a power cut, not only a crash.
const pragmas = "_txlock=immediate" +
	"&_pragma=busy_timeout(10000)" +
	"&_pragma=journal_mode(WAL)" +
	"&_pragma=synchronous(FULL)" +
	"&_pragma=foreign_keys(1)" +
	"&_pragma=temp_store(MEMORY)" +
	"&_pragma=journal_size_limit(67108864)"

func openSQLite(ctx context.Context, c Config) (*DB, error) {
	path := strings.TrimPrefix(strings.TrimPrefix(c.URL, "sqlite:"), "//")
	if path == "" || strings.Contains(path, ":memory:") {
		return nil, fmt.Errorf("open database: %q names no file: expected sqlite:PATH", c.URL)
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open database file: %w", err)
	}
	if err := ownFile(path); err != nil {
		return nil, fmt.Errorf("open database file: %w", err)
	}
	connector, err := sqlite.NewConnector((&url.URL{Scheme: "file", Path: path, RawQuery: pragmas}).String())
	if err != nil {
		return nil, fmt.Errorf("open database file %s: %w", path, err)
	}
	system := otelsql.WithAttributes(semconv.DBSystemNameSQLite)
	pool := otelsql.OpenDB(connector, system,
		otelsql.WithTracerProvider(c.Tracer),
		otelsql.WithMeterProvider(c.Meter),
		otelsql.WithSpanNameFormatter(func(_ context.Context, m otelsql.Method, query string) string {
			if query == "" {
				return string(m)
			}
			return summary(query)
		}),
		otelsql.WithAttributesGetter(func(_ context.Context, _ otelsql.Method, query string, _ []driver.NamedValue) []attribute.KeyValue {
			if query == "" {
				return nil
			}
			return []attribute.KeyValue{semconv.DBQueryText(withoutValues(query)), semconv.DBQuerySummary(summary(query))}
		}),
		otelsql.WithSpanOptions(otelsql.SpanOptions{
			DisableQuery:         true, // it holds the values
			DisableErrSkip:       true,
			OmitConnPrepare:      true,
			OmitConnResetSession: true,
			OmitConnectorConnect: true,
			OmitRows:             true,
			SpanFilter: func(ctx context.Context, _ otelsql.Method, _ string, _ []driver.NamedValue) bool {
				return trace.SpanFromContext(ctx).IsRecording()
			},
		}),
	)
	db := &DB{
		sql: pool, bun: bun.NewDB(pool, sqlitedialect.New()), dialect: SQLite,
		writing: make(chan struct{}, 1),
	}
	ctx, cancel := context.WithTimeout(ctx, c.ConnectTimeout)
	defer cancel()
	if err := pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database file %s: %w: check that it is a Crewbeat database and that the disk is writable", path, err), pool.Close())
	}
	return db.finish(c, 8, system)
}

// ownFile makes the file, readable for nobody else, if it does not exist.
func ownFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}
