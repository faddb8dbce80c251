package process_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

func TestRequiredRedisThatIsAwayStopsTheStartAndSaysWhy(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.NewRedis(t)
	set := stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL, "REDIS_REQUIRED": "true"})
	stack.Migrate(t, stack.Settings(pg, nil))
	for _, service := range []string{"api", "realtime"} {
		t.Run(service, func(t *testing.T) {
			out, err := stack.Run(t, 30*time.Second, set, service, "--addr", "127.0.0.1:0")
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() <= 0 {
				t.Errorf("it ended with %v, want an exit code of its own", err)
			}
			for _, want := range []string{"127.0.0.1", strconv.Itoa(redis.Port), "refused"} {
				if !strings.Contains(out, want) {
					t.Errorf("the message does not name %q:\n%s", want, out)
				}
			}
			if strings.Contains(out, "goroutine ") {
				t.Errorf("it panicked:\n%s", out)
			}
		})
	}
}

func TestRequiredRedisThatGoesAwayMakesUnreadyNeverDead(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	api, realtime, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL, "REDIS_REQUIRED": "true"}))
	ada, err := crew.Register(t.Context(), site, "Ada")
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]*stack.Crewbeat{"api": api, "realtime": realtime}

	redis.Kill()
	killed := time.Now()
	for name, c := range services {
		stack.Eventually(t, 30*time.Second, name+" is unready", readiness(t, c, http.StatusServiceUnavailable, "unavailable"))
	}
	t.Logf("both unready %v after the loss", time.Since(killed).Round(10*time.Millisecond))

	redis.Start()
	started := time.Now()
	for name, c := range services {
		stack.Eventually(t, 30*time.Second, name+" is ready again", readiness(t, c, http.StatusOK, "ok"))
	}
	t.Logf("both ready %v after the return", time.Since(started).Round(10*time.Millisecond))
	if err := ada.Do(t.Context(), "GET", "/api/v1/me", nil, nil); err != nil {
		t.Errorf("Ada was signed out: %v", err)
	}
}

// readiness is a condition: /readyz answers this, and all the while the process
// is alive and says so, and never unready before three checks have failed.
func readiness(t *testing.T, c *stack.Crewbeat, want int, word string) func(context.Context) error {
	return func(ctx context.Context) error {
		if status, body, err := c.Get(ctx, "/livez"); err != nil || status != http.StatusOK {
			t.Fatalf("/livez answers %d %s (%v): Kubernetes would kill it\n%s", status, body, err, c.Log())
		}
		got, err := c.Ready(ctx)
		if err != nil {
			return err
		}
		if failures := got.Checks["redis"].Failures; got.HTTP == http.StatusServiceUnavailable && failures < 3 {
			t.Fatalf("unready after %d failed checks, want three in a row: %+v", failures, got)
		}
		if got.HTTP != want || got.Status != word {
			return fmt.Errorf("/readyz answers %+v", got)
		}
		return nil
	}
}

func TestOptionalRedisThatIsAwayDoesNotStopTheStart(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.NewRedis(t)
	api, realtime, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL}))
	services := map[string]*stack.Crewbeat{"api": api, "realtime": realtime}
	for name, c := range services {
		stack.Eventually(t, 10*time.Second, name+" is degraded", readiness(t, c, http.StatusOK, "degraded"))
	}
	bo, err := crew.Register(t.Context(), site, "Bo")
	if err != nil {
		t.Fatalf("register without Redis: %v", err)
	}
	habit, err := bo.NewHabit(t.Context(), "Read", bo.Today)
	if err != nil {
		t.Fatalf("make a habit without Redis: %v", err)
	}
	if _, err := bo.Tick(t.Context(), habit.ID, bo.Today, "bo-tick-1"); err != nil {
		t.Fatalf("tick without Redis: %v", err)
	}
	// A page that is opened meanwhile is told so, and follows as soon as it can.
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	feed, err := bo.Dial(ctx)
	if err != nil {
		t.Fatalf("open a socket without Redis: %v", err)
	}
	defer feed.Close()
	channel := "user:" + bo.ID + ":habits"
	if err := feed.Subscribe(ctx, nil, channel); err != nil {
		t.Fatal(err)
	}
	if err := feed.Await(ctx, "the page to be told", func(frames []crew.Frame) (bool, error) {
		return slices.ContainsFunc(frames, func(f crew.Frame) bool { return f.Type == "status" && f.Status == "degraded" }), nil
	}); err != nil {
		t.Fatal(err)
	}
	redis.Start()
	if err := feed.AwaitSubscribed(ctx, channel); err != nil {
		t.Fatal(err)
	}
	if err := bo.Untick(ctx, habit.ID, bo.Today, "bo-tick-2"); err != nil {
		t.Fatalf("take the tick back: %v", err)
	}
	if _, err := feed.AwaitEvent(ctx, "habit_record_changed", func(f crew.Frame) bool { return crew.HabitOf(f) == habit.ID }); err != nil {
		t.Errorf("%v; frames: %+v", err, feed.Frames())
	}
	for name, c := range services {
		stack.Eventually(t, 15*time.Second, name+" is well", readiness(t, c, http.StatusOK, "ok"))
	}
}
