package db

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Backup writes a copy of a SQLite database to path, which must not exist. It
// is the database as of one moment, though others write meanwhile, and it is
// complete when Backup returns without error: it has been read through once
// (PRAGMA integrity_check) and is on the disk. After an error nothing is left
// at path.
//
// A server's database has its own tools: pg_dump for PostgreSQL.
func (db *DB) Backup(ctx context.Context, path string) error {
	if db.dialect != SQLite {
		return errors.New("back up database: only a SQLite file is copied like this; for PostgreSQL use pg_dump")
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("back up database: %s exists already: name a file that does not", path)
	}
	draft := path + ".part"
	_ = os.Remove(draft)                    // of a backup that did not end
	defer func() { _ = os.Remove(draft) }() // if it has not become the copy
	// SQLite makes the file as the umask says; it is for its owner only.
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	defer f.Close()
	if _, err := db.sql.ExecContext(ctx, `VACUUM INTO $1`, draft); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	if err := intact(ctx, draft); err != nil {
		return fmt.Errorf("back up database: the copy is damaged: %w", err)
	}
	if err := errors.Join(f.Sync(), os.Rename(draft, path)); err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("back up database: %w", err)
	}
	defer dir.Close()
	return dir.Sync() // so that the name is there after a power cut, too
}

// intact reads a database file through.
func intact(ctx context.Context, path string) error {
	d, err := sql.Open("sqlite", "file:"+path+"?mode=ro&immutable=1")
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }() // it was only read
	var said string
	if err := d.QueryRowContext(ctx, `PRAGMA integrity_check(1)`).Scan(&said); err != nil {
		return err
	}
	if said != "ok" {
		return errors.New(said)
	}
	return nil
}
