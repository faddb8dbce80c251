package session

import (
	"context"
	"time"
)

// The statements are the same on PostgreSQL and SQLite.
const (
	columns = "id, token_hash, user_id, created_at, last_seen_at, idle_expires_at, abs_expires_at, ip, ua"
	// alive begins a statement for query, which gives the time as $1.
	alive = "SELECT " + columns + " FROM sessions WHERE revoked_at IS NULL AND idle_expires_at > $1 AND "
	// revoke begins a statement for end, which gives the time as $1.
	revoke = "UPDATE sessions SET revoked_at = COALESCE(revoked_at, $1) WHERE "
	// hashed ends it.
	hashed = " RETURNING token_hash"
)

func (s *Sessions) insert(ctx context.Context, row Session) error {
	_, err := s.config.DB.ExecContext(ctx, "INSERT INTO sessions ("+columns+") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		row.ID, row.hash, row.UserID, row.CreatedAt.UnixMilli(), row.LastSeenAt.UnixMilli(),
		row.IdleExpiresAt.UnixMilli(), row.AbsExpiresAt.UnixMilli(), row.IP, row.UserAgent)
	return err
}

// read returns the session that is stored under a hash, if it is alive.
func (s *Sessions) read(ctx context.Context, hash string) (Session, error) {
	rows, err := s.query(ctx, alive+"token_hash = $2", hash)
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
		if err := rows.Scan(&row.ID, &row.hash, &row.UserID, &created, &seen, &idle, &abs, &row.IP, &row.UserAgent); err != nil {
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
// returns the hashes of all of them.
func (s *Sessions) end(ctx context.Context, statement string, args ...any) ([]string, error) {
	rows, err := s.config.DB.QueryContext(ctx, statement, append([]any{s.clock().UnixMilli()}, args...)...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var hashes []string
	for rows.Next() {
		var hash string
		if err := rows.Scan(&hash); err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, rows.Err()
}

func (s *Sessions) remove(ctx context.Context, endedBefore time.Time) (int64, error) {
	r, err := s.config.DB.ExecContext(ctx, "DELETE FROM sessions WHERE idle_expires_at < $1", endedBefore.UnixMilli())
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}
