package event_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

func TestMain(m *testing.M) {
	// The models are quick: try them harder than rapid does by default.
	if err := flag.Set("rapid.checks", "20000"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m, dialling)
}

// watch records what a channel brings.
type watch struct {
	mu      sync.Mutex
	changed chan struct{}
	got     []event.Message
	resets  []string
	at      event.Position
}

func newWatch() *watch { return &watch{changed: make(chan struct{}, 1)} }

func (w *watch) Deliver(m event.Message) {
	w.mu.Lock()
	w.got = append(w.got, m)
	w.at = m.At
	w.mu.Unlock()
	w.signal()
}

func (w *watch) Reset(reason string, at event.Position) {
	w.mu.Lock()
	w.resets = append(w.resets, reason)
	w.at = at
	w.mu.Unlock()
	w.signal()
}

func (w *watch) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

func (w *watch) ids() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make([]string, len(w.got))
	for i, m := range w.got {
		ids[i] = m.Envelope.ID
	}
	return ids
}

func (w *watch) reasons() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]string(nil), w.resets...)
}

// await waits until ok holds for what was recorded.
func (w *watch) await(t testing.TB, what string, ok func(w *watch) bool) {
	t.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		done := ok(w)
		w.mu.Unlock()
		if done {
			return
		}
		select {
		case <-w.changed:
		case <-deadline.C:
			t.Fatalf("waited in vain for %s; got %d events %v, resets %v", what, len(w.ids()), tail(w.ids()), w.reasons())
		}
	}
}

func (w *watch) awaitIDs(t testing.TB, ids ...string) {
	t.Helper()
	w.await(t, fmt.Sprintf("%d events", len(ids)), func(w *watch) bool { return len(w.got) >= len(ids) })
	got := w.ids()
	if fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Fatalf("delivered %v, want %v", tail(got), tail(ids))
	}
}

func (w *watch) awaitReset(t testing.TB, reason string) {
	t.Helper()
	w.await(t, "a reset", func(w *watch) bool { return len(w.resets) > 0 })
	if got := w.reasons()[0]; got != reason {
		t.Fatalf("reset %q, want %q", got, reason)
	}
}

func tail(s []string) []string { return s[max(0, len(s)-12):] }

// until polls what only the server can tell.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, 20*time.Second, what, ok)
}

func within(t testing.TB, patience time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func numbered(channel string, n int) event.Event {
	return event.Event{
		ID: "e" + strconv.Itoa(n), Channel: channel, Name: "habit_completed",
		Data: []byte(`{"n":` + strconv.Itoa(n) + `}`), At: time.UnixMilli(1_700_000_000_000),
	}
}

func publish(t testing.TB, b event.Broker, channel string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if _, err := b.Publish(t.Context(), numbered(channel, n)); err != nil {
			t.Fatalf("publish %d: %v", n, err)
		}
	}
}

func names(from, to int) []string {
	var s []string
	for n := from; n <= to; n++ {
		s = append(s, "e"+strconv.Itoa(n))
	}
	return s
}

func subscribe(t testing.TB, b event.Broker, channel string) (*watch, event.Position, func()) {
	t.Helper()
	w := newWatch()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	at, stop, err := b.Subscribe(ctx, channel, w)
	if err != nil {
		t.Fatalf("subscribe %s: %v", channel, err)
	}
	t.Cleanup(stop)
	return w, at, stop
}

func lines(s string) iter.Seq[string] { return strings.SplitSeq(s, "\r\n") }

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// pass lets d go by on the clock of a synctest bubble.
func pass(d time.Duration) { <-time.After(d) }

// dialling outlives a closed client by up to a second, in go-redis itself.
var dialling = goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial")
