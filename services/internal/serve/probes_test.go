package serve_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/serve"
)

func get(t *testing.T, p *serve.Probes, path string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	p.Handler().ServeHTTP(w, httptest.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, path, nil))
	var body map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v: %s", path, err, w.Body)
	}
	return w.Code, body
}

func TestReadiness(t *testing.T) {
	up, unknown := serve.Check{Up: true}, serve.Check{}
	failing := func(n int) serve.Check { return serve.Check{Failures: n, Cause: "connection refused"} }
	type step struct {
		check  serve.Check
		code   int
		status string
	}
	for _, tt := range []struct {
		name     string
		required bool
		steps    []step
	}{
		{"required: unready from the third failure to the first success", true, []step{
			{up, 200, "ok"},
			{failing(1), 200, "ok"},
			{failing(2), 200, "ok"},
			{failing(3), 503, "unavailable"},
			{failing(9), 503, "unavailable"},
			{up, 200, "ok"},
		}},
		{"required: unready until it was up once", true, []step{
			{unknown, 503, "unavailable"}, {failing(1), 503, "unavailable"}, {up, 200, "ok"}, {failing(1), 200, "ok"},
		}},
		{"not required: degraded, never unready", false, []step{
			{unknown, 200, "degraded"}, {failing(50), 200, "degraded"}, {up, 200, "ok"}, {failing(1), 200, "degraded"},
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var now serve.Check
			p := serve.NewProbes()
			p.Add("database", true, func() serve.Check { return up })
			p.Add("redis", tt.required, func() serve.Check { return now })
			for i, s := range tt.steps {
				now = s.check
				if code, body := get(t, p, "/readyz"); code != s.code || body["status"] != s.status {
					t.Errorf("step %d: %d %v, want %d %s", i, code, body, s.code, s.status)
				}
				if code, body := get(t, p, "/livez"); code != 200 || body["status"] != "ok" {
					t.Errorf("step %d: livez %d %v", i, code, body)
				}
			}
		})
	}
}

func TestReadinessSaysWhatIsKnownOfEachDependency(t *testing.T) {
	since := time.Date(2026, 11, 22, 8, 0, 0, 0, time.FixedZone("", 3600))
	p := serve.NewProbes()
	p.Add("redis", false, func() serve.Check { return serve.Check{Failures: 4, Since: since, Cause: "connection refused"} })
	_, body := get(t, p, "/readyz")
	redis := body["checks"].(map[string]any)["redis"].(map[string]any)
	for name, want := range map[string]any{
		"status": "down", "required": false, "failures": 4.0, "since": "2026-11-22T07:00:00Z", "cause": "connection refused",
	} {
		if redis[name] != want {
			t.Errorf("%s = %v, want %v", name, redis[name], want)
		}
	}
}

func TestStartedOnceIsStartedForGood(t *testing.T) {
	var now serve.Check
	p := serve.NewProbes()
	p.Add("database", true, func() serve.Check { return now })
	p.Add("redis", false, func() serve.Check { return serve.Check{Failures: 9} })
	if code, body := get(t, p, "/startupz"); code != 503 || body["status"] != "starting" {
		t.Errorf("%d %v", code, body)
	}
	now.Up = true
	if code, _ := get(t, p, "/startupz"); code != 200 {
		t.Errorf("up: %d", code)
	}
	now = serve.Check{Failures: 9}
	if code, _ := get(t, p, "/startupz"); code != 200 {
		t.Errorf("down again: %d", code)
	}
}

func TestAWatchTellsWhatItSawLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		part, check := serve.Watch("database", time.Second, func(context.Context) error {
			if down.Load() {
				return errors.New("gone: postgres://app:hunter2@db")
			}
			return nil
		}, nil)
		if c := check(); c.Up || c.Failures != 0 || !c.Since.IsZero() {
			t.Errorf("before the first look: %+v", c)
		}
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = part.Run(ctx) }()
		begin := time.Now()
		synctest.Wait()
		if c := check(); !c.Up || !c.Since.Equal(begin) {
			t.Errorf("after the first look: %+v", c)
		}
		down.Store(true)
		<-time.After(3500 * time.Millisecond)
		if c := check(); c.Up || c.Failures != 3 || c.Cause != "unreachable" || !c.Since.Equal(begin.Add(time.Second)) {
			t.Errorf("after three failures: %+v", c)
		}
		down.Store(false)
		<-time.After(time.Second)
		if c := check(); !c.Up || c.Failures != 0 || c.Cause != "" {
			t.Errorf("after the return: %+v", c)
		}
		cancel()
		synctest.Wait()
	})
}

func TestAWatchGivesUpALookThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		part, check := serve.Watch("database", time.Second, func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, nil)
		ctx, cancel := context.WithCancel(t.Context())
		go func() { _ = part.Run(ctx) }()
		<-time.After(1100 * time.Millisecond)
		if c := check(); c.Failures != 1 || c.Cause != "timeout" {
			t.Errorf("%+v", c)
		}
		cancel()
		synctest.Wait()
	})
}
