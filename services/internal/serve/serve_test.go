package serve_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/serve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// diary is what happened, in order.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) has(t *testing.T, want ...string) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if !slices.Equal(d.lines, want) {
		t.Errorf("got  %q\nwant %q", d.lines, want)
	}
}

// part notes its start and stop.
func (d *diary) part(name string) serve.Part {
	return serve.Part{
		Name:  name,
		Start: func(context.Context) error { d.note("start %s", name); return nil },
		Run: func(ctx context.Context) error {
			<-ctx.Done()
			d.note("end %s", name)
			return nil
		},
		Stop: func(context.Context) error { d.note("stop %s", name); return nil },
	}
}

func TestPartsStartInOrderAndStopInReverse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		ctx, cancel := context.WithCancel(t.Context())
		err := serve.Run(ctx, serve.Options{Ready: func(map[string]string) { d.note("ready"); cancel() }},
			d.part("database"), d.part("http"), d.part("sockets"))
		if err != nil {
			t.Errorf("an orderly end is no error: %v", err)
		}
		d.has(t, "start database", "start http", "start sockets", "ready",
			"stop sockets", "end sockets", "stop http", "end http", "stop database", "end database")
	})
}

func TestASignalMakesUnreadyThenServesOnThenStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		probes := serve.NewProbes()
		begin := time.Now()
		var stopped time.Duration
		part := serve.Closer("http", func(context.Context) error { stopped = time.Since(begin); return nil })
		go func() {
			signals <- syscall.SIGTERM
			synctest.Wait()
			if code, body := get(t, probes, "/readyz"); code != 503 || body["status"] != "draining" {
				t.Errorf("while draining: %d %v", code, body)
			}
			if code, _ := get(t, probes, "/livez"); code != 200 {
				t.Errorf("draining is not dying: %d", code)
			}
		}()
		err := serve.Run(t.Context(), serve.Options{Signals: signals, Probes: probes, DrainDelay: 5 * time.Second}, part)
		if err != nil || stopped != 5*time.Second {
			t.Errorf("err = %v, stopped after %v", err, stopped)
		}
	})
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signals := make(chan os.Signal, 2)
		signals <- syscall.SIGTERM
		signals <- syscall.SIGTERM
		begin := time.Now()
		err := serve.Run(t.Context(), serve.Options{Signals: signals, DrainDelay: time.Hour}, serve.Closer("x", func(context.Context) error { return nil }))
		if !errors.Is(err, serve.ErrForced) || time.Since(begin) != 0 {
			t.Errorf("err = %v after %v", err, time.Since(begin))
		}
		synctest.Wait()
	})
}

func TestAPartThatFailsToStartStopsThoseBeforeIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		broken := serve.Part{
			Name: "http", Start: func(context.Context) error { return errors.New("no port") },
			Stop: func(context.Context) error { d.note("stop http"); return nil },
		}
		err := serve.Run(t.Context(), serve.Options{}, d.part("database"), broken, d.part("never"))
		if err == nil || err.Error() != "start http: no port" {
			t.Errorf("err = %v", err)
		}
		d.has(t, "start database", "stop database", "end database")
	})
}

func TestAPartThatFailsEndsTheProgramWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d diary
		failure := errors.New("relay broke")
		begin := time.Now()
		err := serve.Run(t.Context(), serve.Options{DrainDelay: time.Hour},
			d.part("database"), serve.Task("relay", func(context.Context) error { return failure }))
		if !errors.Is(err, failure) || time.Since(begin) > time.Second {
			t.Errorf("err = %v after %v", err, time.Since(begin))
		}
		d.has(t, "start database", "stop database", "end database")
	})
}

func TestATaskMayBeDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		begin := time.Now()
		err := serve.Run(ctx, serve.Options{}, serve.Task("once", func(context.Context) error { return nil }))
		if err != nil || time.Since(begin) != time.Minute {
			t.Errorf("err = %v after %v", err, time.Since(begin))
		}
	})
}

func TestAPanicLeavesNobodyUndrained(t *testing.T) {
	for _, where := range []string{"start", "run", "stop"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var d diary
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				bad := serve.Part{Name: "bad"}
				boom := func(context.Context) error { panic("boom") }
				switch where {
				case "start":
					bad.Start = boom
				case "run":
					bad.Run = boom
				case "stop":
					bad.Stop = boom
				}
				err := serve.Run(ctx, serve.Options{}, d.part("database"), bad)
				if err == nil || !strings.Contains(err.Error(), where+" bad: panic: boom") || !strings.Contains(err.Error(), "serve_test.go") {
					t.Errorf("err = %v", err)
				}
				d.has(t, "start database", "stop database", "end database")
			})
		})
	}
}

func TestAPartThatHangsCostsTheOthersNothingButTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var dbContext error
		defer close(release)
		begin := time.Now()
		parts := []serve.Part{
			serve.Closer("database", func(ctx context.Context) error { dbContext = ctx.Err(); return nil }),
			serve.Closer("hangs", func(context.Context) error { <-release; return nil }),
		}
		err := serve.Run(t.Context(), serve.Options{ShutdownTimeout: 3 * time.Second, Signals: signalled()}, parts...)
		if err == nil || !strings.Contains(err.Error(), "stop hangs: did not stop in time") {
			t.Errorf("err = %v", err)
		}
		if took := time.Since(begin); took > 4*time.Second {
			t.Errorf("it took %v", took)
		}
		if dbContext != nil {
			t.Errorf("the database had no time left to close: %v", dbContext)
		}
	})
}

func signalled() <-chan os.Signal {
	ch := make(chan os.Signal, 1)
	ch <- os.Interrupt
	return ch
}

func TestWorkGoesOnUntilItsPartIsStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "kept"), time.Second)
		defer cancel()
		begin := time.Now()
		var ended time.Duration
		err := serve.Run(ctx, serve.Options{DrainDelay: 5 * time.Second}, serve.Task("relay", func(ctx context.Context) error {
			if ctx.Value(key{}) != "kept" {
				t.Error("the values of the context are lost")
			}
			<-ctx.Done()
			ended = time.Since(begin)
			return ctx.Err()
		}))
		if err != nil || ended != 6*time.Second {
			t.Errorf("err = %v, ended after %v", err, ended)
		}
	})
}
