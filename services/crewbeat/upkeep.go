package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/db"
)

// withDatabase opens the database of DATABASE_URL for one piece of work.
func withDatabase(ctx context.Context, in invocation, name string, work func(ctx context.Context, d *db.DB, log *slog.Logger) error) (err error) {
	if err := in.parse(name, nil); err != nil {
		return err
	}
	c, err := readConfig(in.getenv, program{database: true})
	if err != nil {
		return err
	}
	log := newLog(c, in.stderr)
	d, err := db.Open(ctx, db.Config{URL: c.DatabaseURL, Wait: c.DatabaseWait, Log: log})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	return work(ctx, d, log)
}

// migrate brings the schema up to date. Any number may run at the same time.
func migrate(ctx context.Context, in invocation) error {
	return withDatabase(ctx, in, "migrate", func(ctx context.Context, d *db.DB, log *slog.Logger) error {
		from, to, err := api.Migrate(ctx, d)
		if err == nil {
			log.InfoContext(ctx, "the schema is up to date", "from", from, "to", to)
		}
		return err
	})
}

// seed adds the demo team.
func seed(ctx context.Context, in invocation) error {
	return withDatabase(ctx, in, "seed", func(ctx context.Context, d *db.DB, _ *slog.Logger) error {
		added, err := api.Seed(ctx, d, api.SeedOptions{})
		if err != nil {
			return err
		}
		if !added {
			_, err = fmt.Fprintln(in.stdout, "the demo team is there already")
			return err
		}
		_, err = fmt.Fprintf(in.stdout, "added the demo team; sign in as %s with password %s\n", api.DemoEmail, api.DemoPassword)
		return err
	})
}

func printOpenAPI(_ context.Context, in invocation) error {
	if err := in.parse("openapi", nil); err != nil {
		return err
	}
	b, err := api.OpenAPI()
	if err != nil {
		return err
	}
	_, err = in.stdout.Write(b)
	return err
}
