package alert

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
)

// Kind says what a notice tells of its alert.
type Kind string

const (
	fires  Kind = "firing"
	isOver Kind = "resolved"
)

// Notice is what a sink is told. The JSON is that of the webhook.
type Notice struct {
	ID    string    `json:"id"` // the same when it is sent again
	Kind  Kind      `json:"kind"`
	At    time.Time `json:"at"` // when it was found
	Alert Alert     `json:"alert"`
	Site  string    `json:"site,omitempty"`
}

// Title is the notice in a line.
func (n Notice) Title() string {
	if n.Kind == isOver {
		return "Resolved: " + n.Alert.Summary
	}
	return string(n.Alert.Severity) + ": " + n.Alert.Summary
}

// Sink takes notices to people. Send returns when the notice has been taken,
// or says why not; it may be called again with the same notice.
type Sink interface {
	Name() string // of lower-case letters, digits and underscores
	Send(ctx context.Context, n Notice) error
}

const (
	claim       = time.Minute // for which a notice is the sender's
	sendTimeout = 20 * time.Second
	firstPause  = 5 * time.Second
	longPause   = 15 * time.Minute
	giveUpAfter = 24 * time.Hour
	// failures in a row after which a sink is itself an alert.
	sinkFailures = 3

	sinkAlert = "alert_sink_" // and the sink's name
)

// queue notes that all sinks but one are to be told. If an alert of the same
// name and severity was told of just now, it does nothing: the next Measure
// asks again.
func (e *Engine) queue(ctx context.Context, now time.Time, a Alert, kind Kind, except string) error {
	tx, err := e.c.DB.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // after a commit it does nothing
	if kind == fires {
		res, err := tx.ExecContext(ctx, `UPDATE alerts SET notified_at = $1
			WHERE id = $2 AND notified_at IS NULL AND NOT EXISTS (
				SELECT 1 FROM alerts o WHERE o.name = $3 AND o.severity = $4 AND o.notified_at > $5)`,
			now.UnixMilli(), a.ID, a.Name, string(a.Severity), now.Add(-Cooldown).UnixMilli())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return err
		}
	}
	for _, s := range e.c.Sinks {
		if s.Name() == except {
			continue
		}
		_, err := tx.ExecContext(ctx, `INSERT INTO alert_notices (id, alert_id, kind, sink, made_at, next_at) VALUES ($1, $2, $3, $4, $5, $5)`,
			uuid.Must(uuid.NewV7()).String(), a.ID, string(kind), s.Name(), now.UnixMilli())
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Send tries every notice that is due, once.
func (e *Engine) Send(ctx context.Context) error {
	var errs []error
	for _, s := range e.c.Sinks {
		errs = append(errs, e.sendTo(ctx, s))
	}
	return errors.Join(errs...)
}

// sendTo sends to a sink what is due, in order, until it refuses one.
func (e *Engine) sendTo(ctx context.Context, s Sink) error {
	for ctx.Err() == nil {
		n, attempts, err := e.take(ctx, s.Name())
		if err != nil || n == nil {
			return err
		}
		serr := e.try(ctx, s, *n)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it stays claimed for a minute, and is then tried again
		}
		if err := e.settle(ctx, s, *n, attempts, serr); err != nil {
			return err
		}
		if serr != nil {
			return nil //nolint:nilerr // it is noted, and tried again when it is due
		}
	}
	return nil
}

func (e *Engine) try(ctx context.Context, s Sink, n Notice) (err error) {
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the sink panicked: %v", p)
		}
	}()
	return s.Send(ctx, n)
}

// take claims the oldest notice of a sink that is due, unless an older one of
// the same sink waits for its next try: what is told is told in order.
func (e *Engine) take(ctx context.Context, sink string) (*Notice, int, error) {
	now := e.c.Now()
	var n Notice
	var alert string
	var attempts int
	var made int64
	rows, err := e.c.DB.QueryContext(ctx, `
		UPDATE alert_notices SET next_at = $1, attempts = attempts + 1
		WHERE id = (SELECT id FROM alert_notices WHERE sink = $2 AND next_at IS NOT NULL ORDER BY id LIMIT 1)
			AND next_at <= $3
		RETURNING id, alert_id, kind, attempts, made_at`, now.Add(claim).UnixMilli(), sink, now.UnixMilli())
	if err != nil {
		return nil, 0, fmt.Errorf("take a notice: %w", err)
	}
	defer func() { _ = rows.Close() }() // after an error; twice is no error
	found := rows.Next()
	if found {
		err = rows.Scan(&n.ID, &alert, &n.Kind, &attempts, &made)
	}
	if err = errors.Join(err, rows.Err(), rows.Close()); err != nil || !found {
		return nil, 0, err
	}
	list, err := e.query(ctx, "SELECT "+columns+" FROM alerts WHERE id = $1", alert)
	if err != nil || len(list) == 0 {
		return nil, 0, errors.Join(err, e.done(ctx, n.ID, "its alert is gone"))
	}
	n.Alert, n.At, n.Site = list[0], time.UnixMilli(made).UTC(), e.c.Site
	return &n, attempts, nil
}

// settle notes how sending went.
func (e *Engine) settle(ctx context.Context, s Sink, n Notice, attempts int, failure error) error {
	now := e.c.Now()
	e.metrics.sent(ctx, s.Name(), failure == nil)
	name := sinkAlert + s.Name()
	if failure == nil {
		if err := e.done(ctx, n.ID, ""); err != nil {
			return err
		}
		return e.end(ctx, now, now, name, Warning, s.Name()) // at once: it has just been seen to work
	}
	said := failure.Error()
	if now.Sub(n.At) > giveUpAfter {
		e.c.Log.WarnContext(ctx, "an alert was not told", slog.String("sink", s.Name()), slog.String("alert", n.Alert.Name), slog.Any("error", failure))
		return e.done(ctx, n.ID, said)
	}
	pause := min(firstPause<<min(attempts-1, 20), longPause)
	pause = pause/2 + rand.N(pause/2)
	if _, err := e.c.DB.ExecContext(ctx, "UPDATE alert_notices SET next_at = $1, failure = $2 WHERE id = $3",
		now.Add(pause).UnixMilli(), said, n.ID); err != nil {
		return fmt.Errorf("put a notice back: %w", err)
	}
	if attempts < sinkFailures {
		return nil
	}
	return e.begin(ctx, now, Alert{
		Name: name, Severity: Warning, Subject: s.Name(), Value: float64(attempts), Threshold: sinkFailures,
		Summary: fmt.Sprintf("Alerts cannot be sent to %s: %s", s.Name(), said),
		Advice:  "Check the sink's settings (ALERT_*, SENTRY_DSN) and whether this network lets Crewbeat reach it.",
	}, s.Name())
}

// done ends a notice: it was taken, or it never will be.
func (e *Engine) done(ctx context.Context, id, failure string) error {
	sent := new(e.c.Now().UnixMilli())
	if failure != "" {
		sent = nil
	}
	if _, err := e.c.DB.ExecContext(ctx, "UPDATE alert_notices SET next_at = NULL, sent_at = $1, failure = $2 WHERE id = $3", sent, failure, id); err != nil {
		return fmt.Errorf("note that a notice is done: %w", err)
	}
	return nil
}
