package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

type accounts struct{ s *Store }

type userRow struct {
	bun.BaseModel `bun:"table:users,alias:u"`

	ID           string `bun:",pk"`
	Email        string
	EmailNorm    string
	Name         string
	PasswordHash string `bun:",nullzero"`
	TZ           string `bun:"tz"`
	DayStartMin  int
	WeekStart    time.Weekday
	Locale       string
	IsAdmin      bool
	Version      int64
	CreatedAt    int64
	UpdatedAt    int64
}

func rowOfUser(u account.User) *userRow {
	return &userRow{
		ID: u.ID, Email: u.Email, EmailNorm: normal(u.Email), Name: u.Name,
		TZ: u.TZ, DayStartMin: u.DayStartMin, WeekStart: u.WeekStart, Locale: u.Locale, IsAdmin: u.IsAdmin,
		Version: u.Version, CreatedAt: u.CreatedAt.UnixMilli(), UpdatedAt: u.UpdatedAt.UnixMilli(),
	}
}

func (r *userRow) user() account.User {
	return account.User{
		ID: r.ID, Email: r.Email, Name: r.Name,
		TZ: r.TZ, DayStartMin: r.DayStartMin, WeekStart: r.WeekStart, Locale: r.Locale, IsAdmin: r.IsAdmin,
		Version: r.Version, CreatedAt: fromMS(r.CreatedAt), UpdatedAt: fromMS(r.UpdatedAt),
	}
}

// normal is the form of an e-mail address by which accounts are told apart.
func normal(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

func (a accounts) CreateUser(ctx context.Context, u account.User, passwordHash string) error {
	row := rowOfUser(u)
	row.PasswordHash = passwordHash
	return a.s.db.Single(ctx, func(ctx context.Context, conn bun.IDB) error {
		n, err := affected(conn.NewInsert().Model(row).On("CONFLICT (email_norm) DO NOTHING").Exec(ctx))
		if err != nil {
			return fmt.Errorf("create user %s: %w", u.ID, err)
		}
		if n == 0 {
			return account.ErrEmailTaken
		}
		return nil
	})
}

// firstAccount is the advisory lock of PostgreSQL that registrations take
// while there is no account.
const firstAccount = 0x66697273

func (a accounts) RegisterUser(ctx context.Context, u account.User, passwordHash string) (account.User, error) {
	err := a.s.db.Transact(ctx, func(ctx context.Context, tx bun.Tx) error {
		some := func() (bool, error) { return tx.NewSelect().Model((*userRow)(nil)).Exists(ctx) }
		others, err := some()
		if err == nil && !others && a.s.db.Dialect() == db.Postgres {
			// Of two first ones the second waits for the first.
			if _, err = tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", firstAccount); err == nil {
				others, err = some()
			}
		}
		if err != nil {
			return fmt.Errorf("look for other accounts: %w", err)
		}
		u.IsAdmin = !others
		return a.CreateUser(ctx, u, passwordHash)
	})
	return u, err
}

func (a accounts) SetAdmin(ctx context.Context, id string, isAdmin bool) error {
	return a.s.change(ctx, func(ctx context.Context, t *tx) error {
		now := a.s.now()
		n, err := affected(t.bun.NewUpdate().Model((*userRow)(nil)).
			Set("is_admin = ?", isAdmin).Set("version = version + 1").Set("updated_at = ?", now.UnixMilli()).
			Where("id = ?", id).Exec(ctx))
		if err == nil && n == 0 {
			err = fault.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("set admin of user %s: %w", id, err)
		}
		// A right is never carried by a sign-in from before.
		if _, err := t.bun.ExecContext(ctx, "UPDATE sessions SET revoked_at = ? WHERE user_id = ? AND revoked_at IS NULL", now.UnixMilli(), id); err != nil {
			return fmt.Errorf("end the sessions of user %s: %w", id, err)
		}
		action := "admin.revoke"
		if isAdmin {
			action = "admin.grant"
		}
		row, err := rowOfEntry(admin.Entry{At: now, Action: action, Subject: "user:" + id})
		if err != nil {
			return err
		}
		return insertEntry(ctx, t.bun, row)
	})
}

func (a accounts) User(ctx context.Context, id string) (account.User, error) {
	var row userRow
	err := a.s.db.Conn(ctx).NewSelect().Model(&row).ExcludeColumn("password_hash").Where("id = ?", id).Scan(ctx)
	if err != nil {
		return account.User{}, fmt.Errorf("read user %s: %w", id, found(err))
	}
	return row.user(), nil
}

func (a accounts) UserByEmail(ctx context.Context, email string) (account.User, string, error) {
	var row userRow
	err := a.s.db.Conn(ctx).NewSelect().Model(&row).Where("email_norm = ?", normal(email)).Scan(ctx)
	if err != nil {
		return account.User{}, "", fmt.Errorf("read user by e-mail: %w", found(err))
	}
	return row.user(), row.PasswordHash, nil
}

func (a accounts) SaveUser(ctx context.Context, u account.User, events ...event.Event) error {
	return a.s.change(ctx, func(ctx context.Context, t *tx) error {
		r, err := t.bun.NewUpdate().Model(rowOfUser(u)).
			ExcludeColumn("id", "password_hash", "created_at").
			Where("id = ? AND version = ?", u.ID, u.Version-1).Exec(ctx)
		if db.IsUnique(err) {
			return account.ErrEmailTaken
		}
		if err := saved(ctx, t.bun, "users", u.ID, r, err); err != nil {
			return fmt.Errorf("save user %s: %w", u.ID, err)
		}
		for _, e := range events {
			if err := t.Emit(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
}

func (a accounts) SetPasswordHash(ctx context.Context, id, passwordHash string) error {
	return a.s.db.Single(ctx, func(ctx context.Context, conn bun.IDB) error {
		n, err := affected(conn.NewUpdate().Model((*userRow)(nil)).
			Set("password_hash = ?", passwordHash).Where("id = ?", id).Exec(ctx))
		if err == nil && n == 0 {
			err = fault.ErrNotFound
		}
		if err != nil {
			return fmt.Errorf("set password of user %s: %w", id, err)
		}
		return nil
	})
}
