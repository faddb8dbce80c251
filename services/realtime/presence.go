package realtime

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/presence"
)

// newPresence returns who is here on a board in Redis, or in memory without.
func newPresence(ctx context.Context, c Config, teams func(context.Context, string) ([]string, error)) (*presence.Presence, error) {
	var board presence.Board = presence.NewMemory(nil)
	if c.Redis != nil {
		board = presence.NewRedis(c.Redis)
	}
	h := hints{broker: c.Broker}
	return presence.New(ctx, presence.Options{
		Board: board, Teams: teams, Tell: h.tell, Listen: h.listen,
		TTL: c.Limits.Lease, Every: c.Limits.Renew, Linger: c.Limits.Linger, Batch: c.Limits.Batch, Grace: c.Limits.Grace,
		Log: c.Log, Meter: c.Meter,
	})
}

// hints is how nodes tell each other that it is worth to look at the board: by
// events that may be lost, in a channel that no client may follow.
type hints struct {
	broker event.Broker
}

type hint struct {
	Node string `json:"node"`
}

func (h hints) tell(ctx context.Context, node string, teams []string) error {
	data, err := json.Marshal(hint{Node: node})
	if err != nil {
		return fmt.Errorf("encode hint: %w", err)
	}
	events := make([]event.Event, len(teams))
	for i, team := range teams {
		events[i] = event.Event{
			ID: rand.Text(), Channel: hintChannel(team), Name: "presence_changed",
			Class: event.Ephemeral, Data: data, At: time.Now(),
		}
	}
	var errs []error
	for _, o := range h.broker.PublishAll(untraced(ctx), events) {
		errs = append(errs, o.Err)
	}
	return errors.Join(errs...)
}

// untraced returns a context in which no trace begins: hints are nobody's
// doing, and would only drown what people do.
func untraced(ctx context.Context) context.Context {
	var id trace.TraceID
	var span trace.SpanID
	_, _ = rand.Read(id[:])   // never fails
	_, _ = rand.Read(span[:]) // never fails
	return trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span}))
}

func (h hints) listen(ctx context.Context, team string, changed func(node string)) (stop func(), err error) {
	_, stop, err = h.broker.Subscribe(ctx, hintChannel(team), listener(changed))
	if err != nil {
		return nil, fmt.Errorf("listen to other nodes: %w", err)
	}
	changed("")
	return stop, nil
}

func hintChannel(team string) string { return "team:" + team + ":presence" }

// listener is an [event.Subscriber].
type listener func(node string)

// Deliver implements [event.Subscriber].
func (l listener) Deliver(m event.Message) {
	var h hint
	_ = json.Unmarshal(m.Envelope.Data, &h) // whatever it is, it is worth a look
	l(h.Node)
}

// Reset implements [event.Subscriber].
func (l listener) Reset(string, event.Position) { l("") }
