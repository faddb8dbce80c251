// Package event carries what has happened from the transaction that made it
// happen to everybody who is watching.
package event

import (
	"context"
	"encoding/json"
	"time"
)

// Class says what may be done to an event on its way to a slow reader.
type Class string

// The delivery classes. Durable events are never dropped; of Latest events
// only the newest of a channel matters; Ephemeral ones may be lost.
const (
	Durable   Class = "durable"
	Latest    Class = "latest"
	Ephemeral Class = "ephemeral"
)

// Event is one thing that happened, as it is written to the outbox.
type Event struct {
	ID      string          // ULID; also the idempotency key of its publication
	Channel string          // "team:{id}:activity"
	Name    string          // "member_habit_completed"
	Class   Class           // zero means Durable
	Data    json.RawMessage // a JSON object, at most 32 KiB
	At      time.Time       // when it happened
	Trace   string          // W3C traceparent of the writer, or empty
}

// Outbox is the table of events that were committed but perhaps not yet
// published. The database implements it.
type Outbox interface {
	// Lease takes or renews the right to relay for ttl; false means that
	// another process holds it.
	Lease(ctx context.Context, holder string, ttl time.Duration) (bool, error)
	// Pending returns the oldest events not yet published, in commit order
	// of each channel.
	Pending(ctx context.Context, limit int) ([]Event, error)
	// Published removes events from what is pending.
	Published(ctx context.Context, ids []string) error
	// Wake is signalled after a commit of this process that added events.
	Wake() <-chan struct{}
}
