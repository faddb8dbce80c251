// Package admin shows those who run an installation how its Redis, its cache
// and its alerts are, and lets them drop what is cached. What they do is noted
// in the audit log before it is done.
//
// # Guarantees
//
//   - Nothing that is shown holds a cached value, a credential or a token.
//   - Nothing is done without its entry in the audit log. If the entry cannot
//     be written, nothing is done.
//   - What is shown is what is known: only the key inspector, the profile's
//     reset and the diagnosis turn to Redis.
//
// # Not guaranteed
//
// It is one process's view. Replicas have memory of their own, and a history of
// their own, which begins when they do.
package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

var (
	// ErrSettled reports an alert that there is no need to acknowledge.
	ErrSettled = errors.New("no alert to acknowledge")
	// ErrIncomplete reports an invalidation that Redis did not see the end of.
	ErrIncomplete = errors.New("not all could be invalidated")
	// ErrDiagnosing reports that a diagnosis is under way.
	ErrDiagnosing = errors.New("a diagnosis is under way")
)

// Config is what a [Panel] looks at. Cache and Audit are required.
type Config struct {
	Cache *tiered.Store
	Audit Audit
	Redis *redisconn.Conn // nil or without a client: memory only
	// Monitor has looked at the servers of Redis; nil: nobody looks.
	Monitor *monitor.Monitor
	Alerts  *alert.Engine // nil: nobody watches
	Node    string        // the name of this process for people
	// DiagnosisLimit is the most time that a diagnosis may take;
	// [DiagnosisLimit] if zero.
	DiagnosisLimit time.Duration
	Now            func() time.Time
	Log            *slog.Logger
}

// Panel shows the machinery and has its levers. It is safe for concurrent use.
type Panel struct {
	c         Config
	history   *history
	diagnosis chan struct{} // holds one while somebody diagnoses
}

// New returns a panel. Its history grows while [Panel.Run] runs.
func New(c Config) (*Panel, error) {
	if c.Cache == nil || c.Audit == nil {
		return nil, errors.New("admin: Config.Cache and Config.Audit are required")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.DiagnosisLimit <= 0 {
		c.DiagnosisLimit = DiagnosisLimit
	}
	return &Panel{c: c, history: &history{}, diagnosis: make(chan struct{}, 1)}, nil
}

// Run takes a sample of the cache and of Redis every [SampleEvery] until ctx
// ends.
func (p *Panel) Run(ctx context.Context) {
	t := time.NewTicker(SampleEvery)
	defer t.Stop()
	for {
		p.Sample()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Alerts are the newest alerts, those that fire first.
type Alerts struct {
	Watching bool          `json:"watching" doc:"Whether anything is watched: only where there is a Redis."`
	Items    []alert.Alert `json:"items"`
}

// Alerts returns at most limit alerts.
func (p *Panel) Alerts(ctx context.Context, limit int) (Alerts, error) {
	if p.c.Alerts == nil {
		return Alerts{Items: []alert.Alert{}}, nil
	}
	list, err := p.c.Alerts.List(ctx, limit)
	return Alerts{Watching: true, Items: list}, err
}

// Acknowledge notes that somebody has seen an alert that fires. It is
// [ErrSettled] if there is none of the id, it has ended, or somebody has been
// faster.
func (p *Panel) Acknowledge(ctx context.Context, by Actor, id string) error {
	if p.c.Alerts == nil {
		return fmt.Errorf("acknowledge alert %s: %w", id, ErrSettled)
	}
	if err := p.note(ctx, by, "alert.acknowledge", "alert:"+id, nil); err != nil {
		return err
	}
	ok, err := p.c.Alerts.Acknowledge(ctx, id, by.UserID)
	if err == nil && !ok {
		err = ErrSettled
	}
	if err != nil {
		return fmt.Errorf("acknowledge alert %s: %w", id, err)
	}
	return nil
}
