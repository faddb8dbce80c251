package store

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"

	"github.com/uptrace/bun"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

const (
	relayLease   = "relay"
	maxEventSize = 32 << 10
	// channelLocks sets the advisory locks of channels apart from others.
	channelLocks = 0x63726577
)

type outbox struct{ s *Store }

type outboxRow struct {
	bun.BaseModel `bun:"table:outbox,alias:o"`

	ID      string
	Channel string
	Event   string
	Class   event.Class
	Payload string
	At      int64
	Trace   string
}

// Emit notes an event, to be written when the transaction ends.
func (t *tx) Emit(ctx context.Context, e event.Event) error {
	switch {
	case e.ID == "" || e.Channel == "" || e.Name == "":
		return fmt.Errorf("emit event %q %q on %q: an event needs an id, a name and a channel", e.ID, e.Name, e.Channel)
	case len(e.Data) > maxEventSize:
		return fmt.Errorf("emit event %s: %d bytes of data, at most %d are allowed", e.Name, len(e.Data), maxEventSize)
	case !json.Valid(e.Data):
		return fmt.Errorf("emit event %s: the data is not JSON", e.Name)
	}
	if e.Class == "" {
		e.Class = event.Durable
	}
	if e.Trace == "" {
		e.Trace = traceparent(ctx)
	}
	t.events = append(t.events, e)
	return nil
}

// flush writes what was emitted.
//
// Numbers are given out before the commit, so that of two transactions the one
// with the higher number may commit first, and a relay that reads in between
// publishes them the wrong way round. Therefore writers of a channel take
// turns until their commit. They do so last of all, when they wait for nothing
// else any more, and in one order, so that they cannot wait for each other.
func (t *tx) flush(ctx context.Context) error {
	if len(t.events) == 0 {
		return nil
	}
	rows := make([]outboxRow, len(t.events))
	locks := make([]int32, len(t.events))
	for i, e := range t.events {
		rows[i] = outboxRow{
			ID: e.ID, Channel: e.Channel, Event: e.Name, Class: e.Class,
			Payload: string(e.Data), At: e.At.UnixMilli(), Trace: e.Trace,
		}
		h := fnv.New32a()
		_, _ = h.Write([]byte(e.Channel)) // never fails
		locks[i] = int32(h.Sum32())       // any 32 bits do
	}
	if t.s.db.Dialect() == db.Postgres {
		slices.Sort(locks)
		_, err := t.bun.NewRaw("SELECT count(pg_advisory_xact_lock(?, k)) FROM unnest(ARRAY[?]::int[]) AS k",
			channelLocks, bun.List(slices.Compact(locks))).Exec(ctx)
		if err != nil {
			return fmt.Errorf("wait for the turn of %d channels: %w", len(locks), err)
		}
	}
	if _, err := t.bun.NewInsert().Model(&rows).Exec(ctx); err != nil {
		return fmt.Errorf("write %d events: %w", len(rows), err)
	}
	return nil
}

// Lease goes by the clock of the database, because those of processes differ.
// A ttl of zero gives the lease back.
func (o outbox) Lease(ctx context.Context, holder string, ttl time.Duration) (held bool, err error) {
	now := bun.Safe("CAST(extract(epoch FROM clock_timestamp()) * 1000 AS bigint)")
	if o.s.db.Dialect() == db.SQLite {
		now = bun.Safe("CAST(unixepoch('subsec') * 1000 AS INTEGER)")
	}
	err = o.s.db.Single(ctx, func(ctx context.Context, conn bun.IDB) error {
		n, err := affected(conn.NewRaw(`
			INSERT INTO leases (name, holder, expires_at) VALUES (?, ?, ? + ?)
			ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
			WHERE leases.holder = excluded.holder OR leases.expires_at <= ?`,
			relayLease, holder, now, ttl.Milliseconds(), now).Exec(ctx))
		held = n == 1
		return err
	})
	if err != nil {
		return false, fmt.Errorf("take relay lease: %w", err)
	}
	return held, nil
}

func (o outbox) Pending(ctx context.Context, limit int) ([]event.Event, error) {
	var rows []outboxRow
	err := o.s.db.Conn(ctx).NewSelect().Model(&rows).Where("published_at IS NULL").Order("seq").Limit(int64(limit)).Scan(ctx)
	if err != nil {
		return nil, fmt.Errorf("read pending events: %w", err)
	}
	events := make([]event.Event, len(rows))
	for i, r := range rows {
		events[i] = event.Event{
			ID: r.ID, Channel: r.Channel, Name: r.Event, Class: r.Class,
			Data: json.RawMessage(r.Payload), At: fromMS(r.At), Trace: r.Trace,
		}
	}
	return events, nil
}

func (o outbox) Published(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	err := o.s.db.Single(ctx, func(ctx context.Context, conn bun.IDB) error {
		_, err := conn.NewUpdate().Model((*outboxRow)(nil)).Set("published_at = ?", o.s.now().UnixMilli()).
			Where("id IN (?) AND published_at IS NULL", bun.List(ids)).Exec(ctx)
		return err
	})
	if err != nil {
		return fmt.Errorf("mark %d events published: %w", len(ids), err)
	}
	return nil
}

func (o outbox) Wake() <-chan struct{} { return o.s.wake }

// traceparent returns the W3C form of the span that ctx is in, or nothing.
func traceparent(ctx context.Context) string {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() {
		return ""
	}
	return fmt.Sprintf("00-%s-%s-%s", sc.TraceID(), sc.SpanID(), sc.TraceFlags()&trace.FlagsSampled)
}
