package db

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/uptrace/bun"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

const (
	attempts  = 8
	firstWait = 5 * time.Millisecond // doubled each time: 5 … 640 ms, each a random part of it
)

type txKey struct{ db *DB }

// Transact runs f in one transaction and commits it if f returns nil. When the
// database breaks the transaction off in favour of another one (a deadlock, a
// serialization failure, a busy file), f runs again, after a random wait, up
// to eight times: it must not leave anything behind outside the transaction.
//
// Within f, [DB.Conn] of f's context is the transaction, and a Transact inside
// of f is part of it.
func (db *DB) Transact(ctx context.Context, f func(ctx context.Context, tx bun.Tx) error) error {
	if tx, ok := ctx.Value(txKey{db}).(bun.Tx); ok {
		return f(ctx, tx)
	}
	return db.repeat(ctx, func() error {
		tx, err := db.bun.BeginTx(ctx, nil)
		if err != nil {
			return fmt.Errorf("begin transaction: %w", err)
		}
		defer tx.Rollback() //nolint:errcheck // after a commit it does nothing; after a failure that failure counts
		if err := f(context.WithValue(ctx, txKey{db}, tx), tx); err != nil {
			return err
		}
		if err := tx.Commit(); err != nil {
			return fmt.Errorf("commit transaction: %w", err)
		}
		return nil
	})
}

// Single runs f, which runs one statement and no more, without the round
// trips of a transaction. Otherwise it is like [DB.Transact].
func (db *DB) Single(ctx context.Context, f func(ctx context.Context, conn bun.IDB) error) error {
	if tx, ok := ctx.Value(txKey{db}).(bun.Tx); ok {
		return f(ctx, tx)
	}
	return db.repeat(ctx, func() error { return f(ctx, db.bun) })
}

// Conn returns the transaction that ctx belongs to, or else the pool. Reading
// through it inside a transaction sees what the transaction wrote, and never
// waits for a second connection.
func (db *DB) Conn(ctx context.Context) bun.IDB {
	if tx, ok := ctx.Value(txKey{db}).(bun.Tx); ok {
		return tx
	}
	return db.bun
}

// repeat runs f until it succeeds or fails for a reason of its own.
func (db *DB) repeat(ctx context.Context, f func() error) error {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		err := db.inTurn(ctx, f)
		if err == nil || !transient(err) || ctx.Err() != nil {
			return err
		}
		if attempt == attempts {
			return fmt.Errorf("give up after %d attempts: %w", attempt, err)
		}
		db.log.DebugContext(ctx, "transaction runs again", slog.Int("attempt", attempt), slog.Any("cause", err))
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-time.After(rand.N(wait)):
		}
		wait *= 2
	}
}

// inTurn runs f; on SQLite, when no other writer of this process runs. The
// wait is here and not in SQLite because here it has an order and holds no
// connection.
func (db *DB) inTurn(ctx context.Context, f func() error) error {
	if db.writing == nil {
		return f()
	}
	select {
	case db.writing <- struct{}{}:
		defer func() { <-db.writing }()
		return f()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// transient reports errors after which the whole transaction may be tried
// again: the database has undone it.
func transient(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pgErr.Code {
		case "40001", "40P01": // serialization_failure, deadlock_detected
			return true
		}
		return false
	}
	if liteErr, ok := errors.AsType[*sqlite.Error](err); ok {
		switch liteErr.Code() & 0xff { // the primary code of an extended one
		case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
			return true
		}
	}
	return false
}

// IsUnique reports whether err says that a unique key is taken.
func IsUnique(err error) bool {
	return hasCode(err, "23505", sqlite3.SQLITE_CONSTRAINT_UNIQUE, sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY)
}

// IsForeignKey reports whether err says that a row refers to one that does not
// exist.
func IsForeignKey(err error) bool {
	return hasCode(err, "23503", sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY)
}

func hasCode(err error, state string, codes ...int) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		return pgErr.Code == state
	}
	if liteErr, ok := errors.AsType[*sqlite.Error](err); ok {
		for _, code := range codes {
			if liteErr.Code() == code {
				return true
			}
		}
	}
	return false
}
