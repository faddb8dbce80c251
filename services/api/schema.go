package api

import (
	"context"
	"fmt"

	"github.com/crewbeat/crewbeat/services/api/internal/store"
	"github.com/crewbeat/crewbeat/services/internal/db"
)

// CheckSchema reports whether the database has the schema that this binary
// was built for; the error says what to do when it has not.
func CheckSchema(ctx context.Context, d *db.DB) error {
	current, needed, err := store.SchemaVersion(ctx, d)
	switch {
	case err != nil:
		return fmt.Errorf("read the schema's version: %w", err)
	case current < needed:
		return fmt.Errorf("the database has schema %d, and this binary needs %d: run `crewbeat migrate`", current, needed)
	case current > needed:
		return fmt.Errorf("the database has schema %d, and this binary knows %d only: a newer Crewbeat has migrated it; run that version", current, needed)
	}
	return nil
}

// HasDemo reports whether the demo team was added to the database, so that
// its sign-in can be shown.
func HasDemo(ctx context.Context, d *db.DB) bool {
	_, _, err := store.New(d, store.Options{}).Accounts().UserByEmail(ctx, DemoEmail)
	return err == nil
}
