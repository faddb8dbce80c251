package session

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"
)

// The statements are the same on PostgreSQL and SQLite.
const (
	columns = "id, token_hash, user_id, created_at, last_seen_at, idle_expires_at, abs_expires_at, ip, ua, renew"
	// alive begins a statement for query, which gives the time as $1.
	alive = "SELECT " + columns + " FROM sessions WHERE revoked_at IS NULL AND idle_expires_at > $1 AND "
	// revoke begins a statement for end, which gives the time as $1.
	revoke = "UPDATE sessions SET revoked_at = COALESCE(revoked_at, $1) WHERE "
	// returning ends it.
	returning = " RETURNING " + obituary
	obituary  = "id, user_id, token_hash, CASE WHEN replaced_by IS NULL THEN 0 ELSE 1 END"
)

// executor is a database, or a transaction.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

func (s *Sessions) insert(ctx context.Context, into executor, row Session) error {
	_, err := into.ExecContext(ctx, "INSERT INTO sessions ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0)",
		row.ID, row.hash, row.UserID, row.CreatedAt.UnixMilli(), row.LastSeenAt.UnixMilli(),
		row.IdleExpiresAt.UnixMilli(), row.AbsExpiresAt.UnixMilli(), row.IP, row.UserAgent)
	return err
}

// read returns the session that is stored under a hash, if it is alive. With
// [ErrReplaced] it returns its id and user.
func (s *Sessions) read(ctx context.Context, hash string) (Session, error) {
	rows, err := s.query(ctx, alive+"token_hash = $2", hash)
	if err != nil {
		return Session{}, err
	}
	if len(rows) > 0 {
		return rows[0], nil
	}
	var gone Session
	err = s.config.DB.QueryRowContext(ctx, "SELECT id, user_id FROM sessions WHERE token_hash = $1 AND replaced_by IS NOT NULL", hash).Scan(&gone.ID, &gone.UserID)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return Session{}, ErrNone
	case err != nil:
		return Session{}, err
	}
	return gone, ErrReplaced
}

// unused returns the session in whose favour that of a hash has ended, if it is
// alive and has not been seen since.
func (s *Sessions) unused(ctx context.Context, hash string) (Session, error) {
	rows, err := s.query(ctx, alive+"EXISTS (SELECT 1 FROM sessions AS old WHERE old.token_hash = $2 AND old.replaced_by = sessions.id AND sessions.last_seen_at < old.revoked_at)", hash)
	if err != nil {
		return Session{}, err
	}
	if len(rows) == 0 {
		return Session{}, ErrNone
	}
	return rows[0], nil
}

// query returns the sessions that a statement selects, in which $2 is arg.
func (s *Sessions) query(ctx context.Context, statement, arg string) ([]Session, error) {
	rows, err := s.config.DB.QueryContext(ctx, statement, s.clock().UnixMilli(), arg)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Session
	for rows.Next() {
		var row Session
		var created, seen, idle, abs int64
		if err := rows.Scan(&row.ID, &row.hash, &row.UserID, &created, &seen, &idle, &abs, &row.IP, &row.UserAgent, &row.Renew); err != nil {
			return nil, err
		}
		row.CreatedAt, row.LastSeenAt = time.UnixMilli(created).UTC(), time.UnixMilli(seen).UTC()
		row.IdleExpiresAt, row.AbsExpiresAt = time.UnixMilli(idle).UTC(), time.UnixMilli(abs).UTC()
		list = append(list, row)
	}
	return list, rows.Err()
}

// updateSeen stores when a session was seen, unless another node has just done
// so or it has ended.
func (s *Sessions) updateSeen(ctx context.Context, row Session) (bool, error) {
	r, err := s.config.DB.ExecContext(ctx, `UPDATE sessions SET last_seen_at = $1, idle_expires_at = $2
		WHERE id = $3 AND last_seen_at <= $4 AND idle_expires_at > $1 AND revoked_at IS NULL`,
		row.LastSeenAt.UnixMilli(), row.IdleExpiresAt.UnixMilli(), row.ID, row.LastSeenAt.Add(-touchEvery).UnixMilli())
	if err != nil {
		return false, err
	}
	n, err := r.RowsAffected()
	return n == 1, err
}

// end revokes sessions by a statement, in which $2 and $3 are args, and
// returns all of them.
func (s *Sessions) end(ctx context.Context, statement string, args ...any) ([]Ended, error) {
	return s.obituaries(ctx, statement, append([]any{s.clock().UnixMilli()}, args...)...)
}

// readEnded returns the sessions that were revoked after an instant.
func (s *Sessions) readEnded(ctx context.Context, after time.Time) ([]Ended, error) {
	return s.obituaries(ctx, "SELECT "+obituary+" FROM sessions WHERE revoked_at > $1 ORDER BY revoked_at", after.UnixMilli())
}

func (s *Sessions) obituaries(ctx context.Context, statement string, args ...any) ([]Ended, error) {
	rows, err := s.config.DB.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []Ended
	for rows.Next() {
		var one Ended
		if err := rows.Scan(&one.SessionID, &one.UserID, &one.hash, &one.Replaced); err != nil {
			return nil, err
		}
		list = append(list, one)
	}
	return list, rows.Err()
}

// writeSwap does what swap says; the zero Ended means that old was not alive.
func (s *Sessions) writeSwap(ctx context.Context, old Session, fresh *Session, inherit bool) (gone Ended, err error) {
	tx, err := s.config.DB.BeginTx(ctx, nil)
	if err != nil {
		return Ended{}, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing once committed
	now := s.clock()
	var created, abs int64
	var kept Session
	err = tx.QueryRowContext(ctx, `UPDATE sessions SET revoked_at = $1
		WHERE id = $2 AND token_hash = $3 AND revoked_at IS NULL AND idle_expires_at > $1
		RETURNING user_id, created_at, abs_expires_at, ip, ua`, now.UnixMilli(), old.ID, old.hash,
	).Scan(&kept.UserID, &created, &abs, &kept.IP, &kept.UserAgent)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		if inherit {
			return Ended{}, nil
		}
	case err != nil:
		return Ended{}, fmt.Errorf("end the old one: %w", err)
	default:
		gone = Ended{SessionID: old.ID, UserID: kept.UserID, hash: old.hash}
		if inherit {
			fresh.UserID, fresh.IP, fresh.UserAgent = kept.UserID, kept.IP, kept.UserAgent
			fresh.CreatedAt, fresh.AbsExpiresAt = time.UnixMilli(created).UTC(), time.UnixMilli(abs).UTC()
			fresh.IdleExpiresAt = s.idleEnd(*fresh, now)
		}
		// Pages of another person are not to go on as this one.
		gone.Replaced = kept.UserID == fresh.UserID
	}
	if gone.Replaced {
		if _, err := tx.ExecContext(ctx, "UPDATE sessions SET replaced_by = $1 WHERE id = $2", fresh.ID, old.ID); err != nil {
			return Ended{}, fmt.Errorf("name the new one: %w", err)
		}
	}
	if err := s.insert(ctx, tx, *fresh); err != nil {
		return Ended{}, fmt.Errorf("begin the new one: %w", err)
	}
	return gone, tx.Commit()
}

// markRenew returns the hashes of the sessions it has marked.
func (s *Sessions) markRenew(ctx context.Context, userID string) ([]string, error) {
	list, err := s.obituaries(ctx, "UPDATE sessions SET renew = 1 WHERE user_id = $1 AND revoked_at IS NULL"+returning, userID)
	hashes := make([]string, len(list))
	for i, one := range list {
		hashes[i] = one.hash
	}
	return hashes, err
}

func (s *Sessions) remove(ctx context.Context, endedBefore time.Time) (int64, error) {
	r, err := s.config.DB.ExecContext(ctx, "DELETE FROM sessions WHERE idle_expires_at < $1", endedBefore.UnixMilli())
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
