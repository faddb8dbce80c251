package event

import (
	"context"
	"errors"
)

// ErrClosed reports the use of a broker that was closed.
var ErrClosed = errors.New("broker is closed")

// Why the continuity of a channel was lost. A reader that sees one of these
// loads the state again and goes on from the position that comes with it.
const (
	ResetTrimmed = "trimmed" // the history asked for is no longer kept
	ResetRewound = "rewound" // a failover lost events, some perhaps delivered
	ResetEpoch   = "epoch"   // history was lost and begins anew
	ResetForeign = "foreign" // the position is of another channel or made up
)

// Broker carries events from publishers to subscribers, in order for each
// channel, and remembers the last of them so that a reader can resume.
//
// Guaranteed: every durable event that survives in the broker is delivered
// exactly once and in order to every subscriber of its channel, or a Reset
// says that some may be missing. This holds over lost messages, trimmed
// history, a broker that restarts empty, and a failover that rewinds history.
//
// Not guaranteed: order between channels; delivery of Ephemeral events.
type Broker interface {
	// Publish appends e to its channel and returns its position. An event
	// whose ID was published before is not published again: the earlier
	// position is returned; an Ephemeral event, which is not kept, is handed
	// on again. Errors that wrap ErrInvalid are final.
	Publish(ctx context.Context, e Event) (Position, error)
	// PublishAll publishes events as Publish does, with few round trips, and
	// returns what became of each. The order of a channel's events is kept:
	// if one fails, other than by ErrInvalid, those behind it fail too.
	PublishAll(ctx context.Context, events []Event) []Outcome
	// Position returns the newest position of a channel, also of one that
	// never had an event.
	Position(ctx context.Context, channel string) (Position, error)
	// Since returns at most limit events that follow after, oldest first.
	Since(ctx context.Context, channel string, after Position, limit int) (History, error)
	// Subscribe delivers to s what is published after the position that it
	// returns, until stop is called. It waits for the broker to be reachable
	// or ctx to end. After stop has returned nothing more is delivered.
	Subscribe(ctx context.Context, channel string, s Subscriber) (at Position, stop func(), err error)
	// Watch calls f at once and on each change with whether deliveries flow.
	Watch(f func(up bool)) (stop func())
	// Close ends all subscriptions and waits for their deliveries.
	Close() error
}

// Subscriber receives what happens in a channel. Calls come one at a time,
// with the channel held: they must not block and must not call the broker.
type Subscriber interface {
	Deliver(m Message)
	// Reset says that events may have been missed; deliveries go on after at.
	Reset(reason string, at Position)
}

// Message is a published event.
type Message struct {
	Envelope Envelope // complete, with its offset
	Body     []byte   // the same as one line of JSON; nobody changes it
	At       Position
	Prev     ID // of the event before it; At.ID itself for an Ephemeral one
}

// History is a piece of the past of a channel.
type History struct {
	Messages []Message
	Last     Position // the newest position when it was read
	Reset    string   // not empty: why the history asked for is not to be had
}

// More reports whether events follow the last of h.
func (h History) More() bool {
	n := len(h.Messages)
	return h.Reset == "" && n > 0 && h.Messages[n-1].At.ID.Before(h.Last.ID)
}
