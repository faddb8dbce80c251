package event_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// trail is a subscriber that checks what it gets as it gets it, and remembers
// what it was told to load again.
type trail struct {
	mu     sync.Mutex
	at     event.Position
	seen   map[string]bool
	last   int
	resets []event.Position
	wrong  string
}

func follow(t testing.TB, b event.Broker, channel string) *trail {
	t.Helper()
	w := &trail{seen: map[string]bool{}, last: -1}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	w.mu.Lock() // until the position is known
	at, stop, err := b.Subscribe(ctx, channel, w)
	if err != nil {
		t.Fatalf("subscribe %s: %v", channel, err)
	}
	w.at = at
	w.mu.Unlock()
	t.Cleanup(stop)
	return w
}

func (w *trail) Deliver(m event.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = m.At
	id := m.Envelope.ID
	if w.seen[id] {
		w.wrong = id + " was delivered twice"
	}
	w.seen[id] = true
	n, _ := strconv.Atoi(id[1:])
	if n <= w.last {
		w.wrong = fmt.Sprintf("%s was delivered after e%d", id, w.last)
	}
	w.last = n
}

func (w *trail) Reset(_ string, at event.Position) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at, w.last = at, -1
	w.resets = append(w.resets, at)
}

func (w *trail) position() event.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

// survivor is an event that the server still has.
type survivor struct {
	at    event.ID
	event string
}

func survivors(t testing.TB, c redis.Cmdable, channel string) (list []survivor) {
	t.Helper()
	var entries []redis.XMessage
	answered(t, "what has survived", func() (err error) {
		entries, err = c.XRange(t.Context(), event.StreamKey(channel), "-", "+").Result()
		return err
	})
	for _, e := range entries {
		id, err := event.ParseID(e.ID)
		if err != nil {
			t.Fatal(err)
		}
		name, _ := e.Values["k"].(string)
		list = append(list, survivor{at: id, event: name})
	}
	return list
}

// misses returns a survivor that w neither got nor was told to load, if any.
func (w *trail) misses(list []survivor) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	covered := event.ID{} // up to here; a place on a lost branch covers nothing
	for _, r := range w.resets {
		for _, s := range list {
			if s.at == r.ID && covered.Before(r.ID) {
				covered = r.ID
			}
		}
	}
	for _, s := range list {
		if !w.seen[s.event] && covered.Before(s.at) {
			return s.event
		}
	}
	return ""
}

// info returns the fields of a section of INFO.
func info(t testing.TB, c redis.Cmdable, section string) map[string]string {
	t.Helper()
	text, err := c.Info(t.Context(), section).Result()
	if err != nil {
		return nil
	}
	m := map[string]string{}
	for line := range lines(text) {
		if k, v, ok := strings.Cut(line, ":"); ok {
			m[k] = v
		}
	}
	return m
}

// untilLong is until for what Sentinels and Clusters take their time for.
func untilLong(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, 90*time.Second, what, ok)
}
