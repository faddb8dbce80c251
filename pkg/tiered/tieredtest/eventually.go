package tieredtest

import (
	"testing"
	"time"
)

// Eventually polls every 2 ms until ok, for what another process, a message or a
// server does in its own time. If that is not within 20 s, which is patience for
// a busy machine and no bound of the cache, the test ends with what.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
