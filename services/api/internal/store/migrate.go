package store

import (
	"context"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"

	"github.com/crewbeat/crewbeat/services/internal/db"
)

//go:embed migrations
var migrations embed.FS

// Migrate brings the schema of d to the version of this program, and returns
// the versions before and after. A newer schema is left as it is. On
// PostgreSQL many may call it at once: one migrates, the others wait for it.
func Migrate(ctx context.Context, d *db.DB) (from, to int64, err error) {
	p, err := migrator(d)
	if err != nil {
		return 0, 0, err
	}
	if from, _, err = p.GetVersions(ctx); err != nil {
		return 0, 0, fmt.Errorf("read schema version: %w", err)
	}
	if _, err := p.Up(ctx); err != nil {
		return from, from, fmt.Errorf("migrate schema from version %d: %w", from, err)
	}
	to, err = p.GetDBVersion(ctx)
	if err != nil {
		return from, from, fmt.Errorf("read schema version: %w", err)
	}
	return from, to, nil
}

// SchemaVersion returns the version of the schema in d, and the one that this
// program needs; in a database without a schema the first is 0.
func SchemaVersion(ctx context.Context, d *db.DB) (current, needed int64, err error) {
	p, err := migrator(d)
	if err != nil {
		return 0, 0, err
	}
	if current, needed, err = p.GetVersions(ctx); err != nil {
		return 0, 0, fmt.Errorf("read schema version: %w", err)
	}
	return current, needed, nil
}

func migrator(d *db.DB) (*goose.Provider, error) {
	folder, err := fs.Sub(migrations, "migrations/"+d.Dialect())
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	dialect := goose.DialectSQLite3
	options := []goose.ProviderOption{
		goose.WithTableName("schema_version"),
		goose.WithDisableGlobalRegistry(true),
	}
	if d.Dialect() == db.Postgres {
		dialect = goose.DialectPostgres
		// Asked for every second, for five minutes.
		locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 300))
		if err != nil {
			return nil, fmt.Errorf("prepare migration lock: %w", err)
		}
		options = append(options, goose.WithSessionLocker(locker))
	}
	p, err := goose.NewProvider(dialect, d.SQL(), folder, options...)
	if err != nil {
		return nil, fmt.Errorf("read migrations: %w", err)
	}
	return p, nil
}
