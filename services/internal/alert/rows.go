package alert

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// The statements are the same on PostgreSQL and SQLite.

// fresh is how long a reading counts: a node that has missed two is gone.
var fresh = 3*Interval - Interval/2

// kept is how long what is over stays in the database.
const kept = 90 * 24 * time.Hour

const columns = "id, name, severity, summary, advice, subject, value, threshold, started_at, last_bad_at, resolved_at, notified_at, acked_at, acked_by"

// note stores a reading, and since when this node has had bad ones. A node that
// did not measure for a while begins anew.
func (e *Engine) note(ctx context.Context, now time.Time, r Rule, value float64) error {
	var since *int64
	if r.bad(value) {
		since = new(now.UnixMilli())
	}
	_, err := e.c.DB.ExecContext(ctx, `
		INSERT INTO alert_readings (name, severity, node, value, bad_since, at) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (name, severity, node) DO UPDATE SET value = excluded.value, at = excluded.at,
			bad_since = CASE
				WHEN excluded.bad_since IS NULL OR alert_readings.bad_since IS NULL OR alert_readings.at < $7 THEN excluded.bad_since
				ELSE alert_readings.bad_since END`,
		r.Name, string(r.Severity), e.c.Node, value, since, now.UnixMilli(), now.Add(-fresh).UnixMilli())
	return err
}

type reading struct {
	node  string
	value float64
}

// worst is the highest reading that has been bad for long enough on its node.
func (e *Engine) worst(ctx context.Context, now time.Time, r Rule) (reading, bool, error) {
	var w reading
	err := e.c.DB.QueryRowContext(ctx, `
		SELECT node, value FROM alert_readings
		WHERE name = $1 AND severity = $2 AND at >= $3 AND bad_since <= $4
		ORDER BY value DESC, node LIMIT 1`,
		r.Name, string(r.Severity), now.Add(-fresh).UnixMilli(), now.Add(-r.lasting()).UnixMilli()).Scan(&w.node, &w.value)
	if errors.Is(err, sql.ErrNoRows) {
		return w, false, nil
	}
	return w, err == nil, err
}

// open inserts an alert unless it is open, and returns it as it is stored.
func (e *Engine) open(ctx context.Context, a Alert) (Alert, error) {
	list, err := e.query(ctx, `
		INSERT INTO alerts (id, name, severity, summary, advice, subject, value, threshold, started_at, last_bad_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (name, severity) WHERE resolved_at IS NULL DO UPDATE SET
			last_bad_at = excluded.last_bad_at,
			summary = CASE WHEN excluded.value > alerts.value THEN excluded.summary ELSE alerts.summary END,
			subject = CASE WHEN excluded.value > alerts.value THEN excluded.subject ELSE alerts.subject END,
			value = CASE WHEN excluded.value > alerts.value THEN excluded.value ELSE alerts.value END
		RETURNING `+columns,
		a.ID, a.Name, string(a.Severity), a.Summary, a.Advice, a.Subject, a.Value, a.Threshold, a.StartedAt.UnixMilli(), a.LastBadAt.UnixMilli())
	if err != nil {
		return a, err
	}
	return list[0], nil
}

// resolve ends alerts that have not been bad after quiet.
func (e *Engine) resolve(ctx context.Context, now, quiet time.Time, name string, severity Severity) ([]Alert, error) {
	return e.query(ctx, `UPDATE alerts SET resolved_at = $1
		WHERE name = $2 AND severity = $3 AND resolved_at IS NULL AND last_bad_at <= $4 RETURNING `+columns,
		now.UnixMilli(), name, string(severity), quiet.UnixMilli())
}

func (e *Engine) firing(ctx context.Context) ([]Alert, error) {
	return e.query(ctx, "SELECT "+columns+" FROM alerts WHERE resolved_at IS NULL ORDER BY started_at, id")
}

// sweep forgets what is long over.
func (e *Engine) sweep(ctx context.Context, now time.Time) error {
	for _, statement := range []string{
		"DELETE FROM alert_readings WHERE at < $1",
		"DELETE FROM alert_notices WHERE next_at IS NULL AND made_at < $1",
		"DELETE FROM alerts WHERE resolved_at < $1",
	} {
		if _, err := e.c.DB.ExecContext(ctx, statement, now.Add(-kept).UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) query(ctx context.Context, statement string, args ...any) ([]Alert, error) {
	rows, err := e.c.DB.QueryContext(ctx, statement, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	list := []Alert{}
	for rows.Next() {
		var a Alert
		var started, bad int64
		var resolved, notified, acked *int64
		var by *string
		if err := rows.Scan(&a.ID, &a.Name, &a.Severity, &a.Summary, &a.Advice, &a.Subject, &a.Value, &a.Threshold,
			&started, &bad, &resolved, &notified, &acked, &by); err != nil {
			return nil, err
		}
		a.StartedAt, a.LastBadAt = time.UnixMilli(started).UTC(), time.UnixMilli(bad).UTC()
		a.ResolvedAt, a.NotifiedAt, a.AckedAt = instant(resolved), instant(notified), instant(acked)
		a.Runbook = Runbook(a.Name)
		if by != nil {
			a.AckedBy = *by
		}
		list = append(list, a)
	}
	return list, rows.Err()
}

func instant(ms *int64) *time.Time {
	if ms == nil {
		return nil
	}
	return new(time.UnixMilli(*ms).UTC())
}
