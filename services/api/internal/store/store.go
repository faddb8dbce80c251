// Package store keeps accounts, habits, teams and the audit log in PostgreSQL or SQLite, from
// one source, and the events about them in an outbox beside them.
//
// # Guarantees
//
//   - What a transaction emits is in the outbox if and only if the transaction
//     is committed, and the events of a channel are in the order of their
//     transactions' commits.
//   - Transactions that read the same habit or team through their Tx run one
//     after the other.
//   - Reads with the context of a Change are part of its transaction.
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// Options fit a Store; the zero value is what production uses.
type Options struct {
	// Now is the clock for what the store dates itself; nil means time.Now.
	// Leases go by the database's clock, which all processes share.
	Now func() time.Time
}

// Store is everything that Crewbeat knows, in one database. It is safe for
// concurrent use.
type Store struct {
	db   *db.DB
	now  func() time.Time
	wake chan struct{}
}

// New returns the store in d, whose schema must be up to date: see [Migrate].
func New(d *db.DB, o Options) *Store {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Store{db: d, now: o.Now, wake: make(chan struct{}, 1)}
}

// Accounts returns the store of users.
func (s *Store) Accounts() account.Store { return accounts{s} }

// Habits returns the store of habits and records.
func (s *Store) Habits() habit.Store { return habits{s} }

// Teams returns the store of teams, memberships, invitations and feeds.
func (s *Store) Teams() team.Store { return teams{s} }

// Audit returns the log of what those who run the installation have done.
func (s *Store) Audit() admin.Audit { return audit{s} }

// Outbox returns the table of events to be published.
func (s *Store) Outbox() event.Outbox { return outbox{s} }

// How long things are kept after they have served their purpose.
const (
	keepPublished = 24 * time.Hour
	keepOps       = 90 * 24 * time.Hour // a phone may be offline for a season
	keepInvites   = 30 * 24 * time.Hour
)

// Sweep removes what is no longer of use: events published a day ago,
// operation ids of three months ago, idempotency keys that have expired and
// invitations that have been over for a month. It returns how many rows that
// were. It may run beside anything, and in many processes at once.
func (s *Store) Sweep(ctx context.Context) (removed int64, err error) {
	now := s.now()
	for _, q := range []struct {
		statement string
		before    time.Time
	}{
		{"DELETE FROM outbox WHERE published_at < ?", now.Add(-keepPublished)},
		{"DELETE FROM record_ops WHERE created_at < ?", now.Add(-keepOps)},
		{"DELETE FROM idempotency_keys WHERE expires_at < ?", now},
		{"DELETE FROM invites WHERE expires_at < ?", now.Add(-keepInvites)},
	} {
		err := s.db.Single(ctx, func(ctx context.Context, conn bun.IDB) error {
			n, err := affected(conn.ExecContext(ctx, q.statement, q.before.UnixMilli()))
			removed += n
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("sweep: %w", err)
		}
	}
	return removed, nil
}

// tx is one transaction. It is what both habit.Tx and team.Tx ask for.
type tx struct {
	s      *Store
	bun    bun.Tx
	events []event.Event
}

// change runs f in one transaction and writes what it emitted as the last
// thing before the commit.
func (s *Store) change(ctx context.Context, f func(ctx context.Context, t *tx) error) error {
	var emitted bool
	err := s.db.Transact(ctx, func(ctx context.Context, b bun.Tx) error {
		t := &tx{s: s, bun: b}
		if err := f(ctx, t); err != nil {
			return err
		}
		emitted = len(t.events) > 0
		return t.flush(ctx)
	})
	if err == nil && emitted {
		select {
		case s.wake <- struct{}{}:
		default: // the relay has not yet answered the last call
		}
	}
	return err
}

// lock holds the row of a table against transactions that lock it too, until
// this one ends. Rows that refer to it may still be added. SQLite has one
// writer, which holds everything.
func (t *tx) lock(ctx context.Context, table, id string) error {
	var one int
	q := t.bun.NewSelect().TableExpr("?", bun.Ident(table)).ColumnExpr("1").Where("id = ?", id)
	return found(t.forUpdate(q).Scan(ctx, &one))
}

func (t *tx) forUpdate(q *bun.SelectQuery) *bun.SelectQuery {
	if t.s.db.Dialect() == db.Postgres {
		return q.For("NO KEY UPDATE")
	}
	return q
}

// found turns the absence of a row into fault.ErrNotFound.
func found(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return fault.ErrNotFound
	}
	return err
}

// affected returns how many rows a statement changed.
func affected(r sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// saved judges a statement that was to update the row id of table in the
// version before its new one: nothing changed means that the row is not there
// or has another version.
func saved(ctx context.Context, conn bun.IDB, table, id string, r sql.Result, err error) error {
	n, err := affected(r, err)
	if err != nil || n > 0 {
		return err
	}
	exists, err := conn.NewSelect().TableExpr("?", bun.Ident(table)).Where("id = ?", id).Exists(ctx)
	switch {
	case err != nil:
		return err
	case exists:
		return fault.ErrStale
	}
	return fault.ErrNotFound
}

// Instants are stored as Unix milliseconds.

func fromMS(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func msOf(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	return new(t.UnixMilli())
}

func timeOf(ms *int64) *time.Time {
	if ms == nil {
		return nil
	}
	return new(fromMS(*ms))
}
