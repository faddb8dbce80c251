package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"github.com/crewbeat/crewbeat/services/internal/db"
)

// backup copies the data folder of the all-in-one, also while it runs. What it
// makes is a data folder: `crewbeat --data COPY` starts with it.
func backup(ctx context.Context, in invocation) error {
	var data, to string
	err := in.parse("backup", func(f *flag.FlagSet) {
		f.StringVar(&data, "data", "data", "the data `FOLDER` to copy")
		f.StringVar(&to, "to", "", "the `FOLDER` to make; it must not exist or be empty")
	})
	switch {
	case err != nil:
		return err
	case to == "":
		return errors.New("backup: say where to: --to FOLDER")
	case in.getenv("DATABASE_URL") != "":
		return errors.New("backup: this copies the data folder of the all-in-one, but DATABASE_URL is set: use your database's own tool, such as pg_dump (see docs/operations.md)")
	}
	file := filepath.Join(data, databaseFile)
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("backup: there is no database in %s: name the folder with --data: %w", data, err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("make the backup's folder: %w", err)
	}
	if there, err := os.ReadDir(to); err != nil || len(there) > 0 {
		return errors.Join(fmt.Errorf("backup: %s is not empty: name a new folder", to), err)
	}
	d, err := db.Open(ctx, db.Config{URL: "sqlite:" + file})
	if err != nil {
		return err
	}
	err = d.Backup(ctx, filepath.Join(to, databaseFile))
	if err = errors.Join(err, d.Close()); err != nil {
		return err
	}
	if err := copySecret(data, to); err != nil {
		return err
	}
	size := int64(0)
	if info, err := os.Stat(filepath.Join(to, databaseFile)); err == nil {
		size = info.Size()
	}
	_, err = fmt.Fprintf(in.stdout, "copied %s to %s (%.1f MiB); to use it: crewbeat --data %s\n", data, to, float64(size)/(1<<20), to)
	return err
}

// copySecret copies what sessions are signed with. Without it everyone would
// have to sign in again. There is none if SESSION_SECRET has always been set.
func copySecret(from, to string) error {
	b, err := os.ReadFile(filepath.Join(from, secretFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("copy the session secret: %w", err)
	}
	if err := os.WriteFile(filepath.Join(to, secretFile), b, 0o600); err != nil {
		return fmt.Errorf("copy the session secret: %w", err)
	}
	return nil
}
