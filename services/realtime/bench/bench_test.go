package bench_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/crewbeat/crewbeat/services/realtime/bench"
)

// TestMain is also what each measured process runs.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == bench.ServeArg {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := bench.Serve(ctx, os.Args[2:], os.Stdin, os.Stdout)
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// Everything that is compared runs. How fast is for cmd/table to say, on a
// machine that does nothing else.
func TestEverythingThatIsComparedRuns(t *testing.T) {
	small(t, "idle", "fanout", "path", "latency", "growth")
}

// 300 connections, and a drain window of two seconds. It fails if a delivery is
// missing or comes twice, or if presence says that somebody left.
func TestARollingRestartIsNotNoticed(t *testing.T) { small(t, "deploy") }

// It fails if the reader that stalled misses a durable event, or gets one out
// of order.
func TestAReaderThatStallsGetsEverythingInOrder(t *testing.T) { small(t, "slow") }

func small(t *testing.T, parts ...string) {
	t.Helper()
	size := bench.Smoke()
	size.Only = parts
	var out strings.Builder
	if err := bench.Write(t.Context(), &out, size); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	t.Log(out.String())
}
