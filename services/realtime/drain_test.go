package realtime_test

import (
	"context"
	"testing"
	"time"
)

func TestADrainLeavesTimeForWhatStopsAfterIt(t *testing.T) {
	// The window is longer than there is time, and the client does not care.
	n := start(t, nil, nil)
	c := n.connect("mira")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if err := n.server.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ctx.Err(); err != nil {
		t.Errorf("no time is left: %v", err)
	}
	m := c.await("drain", func(m message) bool { return m.Type == "drain" })
	if m.Deadline > 1600 || m.After > m.Deadline*2/3 {
		t.Errorf("got %+v", m)
	}
	if code := c.awaitClose(); code != 4001 {
		t.Errorf("closed with %d", code)
	}
}
