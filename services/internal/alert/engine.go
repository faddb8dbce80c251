package alert

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/metric"
)

// Signal measures something on this node. It must not wait for what it
// measures. Where there is nothing to measure (ok is false) nothing is bad.
type Signal func() (value float64, ok bool)

// Alert is one that fires or has fired.
type Alert struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Severity   Severity   `json:"severity"`
	Summary    string     `json:"summary"`
	Advice     string     `json:"advice"`
	Runbook    string     `json:"runbook"`           // where the manual says what to do
	Subject    string     `json:"subject,omitempty"` // the node, or the sink
	Value      float64    `json:"value"`             // the worst so far
	Threshold  float64    `json:"threshold"`
	StartedAt  time.Time  `json:"started_at"`
	LastBadAt  time.Time  `json:"last_bad_at"`
	ResolvedAt *time.Time `json:"resolved_at"`
	NotifiedAt *time.Time `json:"notified_at"`
	AckedAt    *time.Time `json:"acked_at"`
	AckedBy    string     `json:"acked_by,omitempty"` // a user's id
}

// Config fits an [Engine]. DB is needed.
type Config struct {
	DB *sql.DB
	// Node tells this process from its replicas; empty makes a name up.
	Node string
	// Signals measure what the rules name. A rule whose signal this node does
	// not have is left to other nodes.
	Signals map[string]Signal
	// Rules are those of [Rules] unless given.
	Rules []Rule
	// Sinks are told. The log is a sink like others: see [LogSink].
	Sinks []Sink
	// Site is the address of Crewbeat, for notices to name.
	Site string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log hears what the engine itself cannot do; nil discards.
	Log *slog.Logger
	// Meter gets the gauge of alerts that fire and the count of notices; nil
	// discards.
	Meter metric.MeterProvider
}

// Engine finds and tells alerts. Any number may work on one database.
type Engine struct {
	c       Config
	metrics *metrics
}

// New returns an engine, or says which rule or sink cannot be used.
func New(c Config) (*Engine, error) {
	if c.DB == nil {
		return nil, errors.New("alerts need a database")
	}
	if c.Node == "" {
		c.Node = uuid.NewString()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Rules == nil {
		rules, err := Rules()
		if err != nil {
			return nil, err
		}
		c.Rules = rules
	}
	if err := validate(c.Rules); err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, s := range c.Sinks {
		if !ruleName.MatchString(s.Name()) || names[s.Name()] {
			return nil, fmt.Errorf("alert sink %q: expected a name of its own", s.Name())
		}
		names[s.Name()] = true
	}
	m, err := newMetrics(c.Meter)
	if err != nil {
		return nil, err
	}
	return &Engine{c: c, metrics: m}, nil
}

// sendEvery is how soon a notice is tried. Measuring takes Interval.
const sendEvery = 5 * time.Second

// Run measures and sends until ctx ends, and closes the sinks that can be
// closed. Replicas measure at different moments.
func (e *Engine) Run(ctx context.Context) (err error) {
	defer func() {
		e.metrics.close()
		for _, s := range e.c.Sinks {
			if c, ok := s.(io.Closer); ok {
				err = errors.Join(err, c.Close())
			}
		}
	}()
	measure := time.NewTimer(rand.N(sendEvery))
	defer measure.Stop()
	send := time.NewTicker(sendEvery)
	defer send.Stop()
	// What does not work is said once, until it has worked again: apart, since
	// the one may work while the other does not.
	try := func(what string, work func(context.Context) error, failing *bool) {
		bounded, cancel := context.WithTimeout(ctx, Interval)
		defer cancel()
		err := work(bounded)
		if err != nil && ctx.Err() == nil && !*failing {
			e.c.Log.ErrorContext(ctx, "alerts do not work", slog.String("step", what), slog.Any("error", err))
		}
		*failing = err != nil
	}
	var measuring, sending bool // have failed last
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-measure.C:
			measure.Reset(Interval)
			try("measure", e.Measure, &measuring)
		case <-send.C:
			try("send", e.Send, &sending)
		}
	}
}

// Measure takes this node's readings, and begins and ends alerts by all nodes'
// readings.
func (e *Engine) Measure(ctx context.Context) error {
	now := e.c.Now()
	for _, r := range e.c.Rules {
		measure := e.c.Signals[r.Signal]
		if measure == nil {
			continue
		}
		value, ok := measure()
		if !ok {
			continue
		}
		if err := e.note(ctx, now, r, value); err != nil {
			return fmt.Errorf("note the reading of %s: %w", r.Name, err)
		}
	}
	for _, r := range e.c.Rules {
		if err := e.judge(ctx, now, r); err != nil {
			return fmt.Errorf("judge %s: %w", r.Name, err)
		}
	}
	firing, err := e.firing(ctx)
	if err != nil {
		return fmt.Errorf("count alerts: %w", err)
	}
	e.metrics.set(e.c.Rules, firing)
	return e.sweep(ctx, now)
}

// judge begins or ends the alert of a rule.
func (e *Engine) judge(ctx context.Context, now time.Time, r Rule) error {
	worst, bad, err := e.worst(ctx, now, r)
	if err != nil {
		return err
	}
	if bad {
		return e.begin(ctx, now, Alert{
			Name: r.Name, Severity: r.Severity, Summary: r.Summary + ": " + r.in(worst.value) + " (threshold " + r.in(r.Threshold) + ")",
			Advice: r.Advice, Subject: worst.node, Value: worst.value, Threshold: r.Threshold,
		}, "")
	}
	return e.end(ctx, now, now.Add(-KeepFiring), r.Name, r.Severity, "")
}

// begin opens an alert or, if it is open, notes that it goes on, and queues the
// notice that it fires unless one of its name and severity went out just now.
// Not through the sink except.
func (e *Engine) begin(ctx context.Context, now time.Time, a Alert, except string) error {
	a.ID = uuid.Must(uuid.NewV7()).String()
	a.StartedAt, a.LastBadAt = now, now
	a, err := e.open(ctx, a)
	if err != nil || a.NotifiedAt != nil {
		return err
	}
	return e.queue(ctx, now, a, fires, except)
}

// end resolves what has not been bad since quiet, and tells those who were told
// that it began.
func (e *Engine) end(ctx context.Context, now, quiet time.Time, name string, severity Severity, except string) error {
	ended, err := e.resolve(ctx, now, quiet, name, severity)
	if err != nil {
		return err
	}
	for _, a := range ended {
		if a.NotifiedAt == nil {
			continue
		}
		if err := e.queue(ctx, now, a, isOver, except); err != nil {
			return err
		}
	}
	return nil
}

// Acknowledge notes that somebody has seen an alert. It reports whether there
// was one to acknowledge: one that fires and nobody else has acknowledged.
func (e *Engine) Acknowledge(ctx context.Context, id, userID string) (bool, error) {
	res, err := e.c.DB.ExecContext(ctx, `UPDATE alerts SET acked_at = $1, acked_by = $2
		WHERE id = $3 AND acked_at IS NULL AND resolved_at IS NULL`, e.c.Now().UnixMilli(), userID, id)
	if err != nil {
		return false, fmt.Errorf("acknowledge alert: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("acknowledge alert: %w", err)
	}
	return n == 1, nil
}

// List returns alerts, those that fire first, then the newest.
func (e *Engine) List(ctx context.Context, limit int) ([]Alert, error) {
	list, err := e.query(ctx, "SELECT "+columns+" FROM alerts ORDER BY CASE WHEN resolved_at IS NULL THEN 0 ELSE 1 END, started_at DESC, id DESC LIMIT $1", limit)
	if err != nil {
		return nil, fmt.Errorf("list alerts: %w", err)
	}
	return list, nil
}
