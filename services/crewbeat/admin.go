package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/db"
)

// setAdmin lets somebody with an account run the installation, or no more. Who
// may run commands on the server may decide that.
func setAdmin(ctx context.Context, in invocation) (err error) {
	var email, data string
	var revoke bool
	err = in.parse("admin", func(f *flag.FlagSet) {
		f.StringVar(&email, "email", "", "the `ADDRESS` that the person signs in with")
		f.BoolVar(&revoke, "revoke", false, "take the right away again")
		f.StringVar(&data, "data", "data", "the data `FOLDER` of the all-in-one; not looked at if DATABASE_URL is set")
	})
	if err != nil {
		return err
	}
	if email == "" {
		return errors.New("admin: say who: --email ADDRESS")
	}
	c, err := readConfig(in.getenv, program{})
	if err != nil {
		return err
	}
	if c.DatabaseURL == "" {
		file := filepath.Join(data, databaseFile)
		if _, err := os.Stat(file); err != nil {
			return fmt.Errorf("admin: there is no database in %s: name the folder with --data, or set DATABASE_URL: %w", data, err)
		}
		c.DatabaseURL = "sqlite:" + file
	}
	d, err := db.Open(ctx, db.Config{URL: c.DatabaseURL, Wait: c.DatabaseWait, Log: newLog(c, in.stderr)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	if err := api.CheckSchema(ctx, d); err != nil {
		return err
	}
	switch found, err := api.SetAdmin(ctx, d, email, !revoke); {
	case err != nil:
		return fmt.Errorf("admin: %w", err)
	case !found:
		return fmt.Errorf("admin: there is no account of %s: register first, or check the address", email)
	}
	text := "%s may run this installation from the next sign-in on\n"
	if revoke {
		text = "%s may no longer run this installation\n"
	}
	_, err = fmt.Fprintf(in.stdout, text, email)
	return err
}
