package process_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// Sessions are rows of the database: neither an empty Redis, nor one that is
// gone, nor new processes sign anybody out, or let anybody back in who has
// signed out.
func TestNothingThatHappensToRedisOrTheServicesSignsAnybodyOut(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	set := stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL, "REDIS_REQUIRED": "false"})
	api, realtime, site := pair(t, set)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var crowd []*crew.Person
	for i := range 5 {
		p, err := crew.Register(ctx, site, fmt.Sprintf("Person%d", i))
		if err != nil {
			t.Fatal(err)
		}
		crowd = append(crowd, p)
	}
	left, err := crew.Register(ctx, site, "Lena")
	if err != nil {
		t.Fatal(err)
	}
	stale, err := crew.SignIn(ctx, site, "lena@e2e.example", crew.Password) // keeps its cookie
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Do(ctx, "DELETE", "/api/v1/me/sessions", nil, nil); err != nil {
		t.Fatal(err)
	}
	check := func(when string, site crew.Site) {
		t.Helper()
		for _, p := range crowd {
			if err := p.At(site).Do(ctx, "GET", "/api/v1/me", nil, nil); err != nil {
				t.Errorf("%s: %s is signed out: %v", when, p.Name, err)
			}
			feed, err := p.At(site).Dial(ctx)
			if err != nil {
				t.Errorf("%s: %s gets no socket: %v", when, p.Name, err)
				continue
			}
			feed.Close()
		}
		var problem *crew.ProblemError
		if err := stale.At(site).Do(ctx, "GET", "/api/v1/me", nil, nil); !errors.As(err, &problem) || problem.Status != 401 {
			t.Errorf("%s: who was signed out everywhere: %v, want 401", when, err)
		}
	}
	restart := func() crew.Site {
		t.Helper()
		realtime.Stop()
		api.Stop()
		realtime, api = stack.Start(t, "realtime", set), stack.Start(t, "api", set)
		return crew.Site{API: api.URL, Realtime: realtime.URL}
	}
	check("at first", site)
	redis.CLI("FLUSHALL")
	check("after FLUSHALL", site)
	site = restart()
	check("after a restart of both services", site)
	redis.CLI("FLUSHALL")
	site = restart()
	check("after FLUSHALL and a restart", site)
	redis.Kill()
	check("with Redis killed", site)
	site = restart()
	check("with Redis killed, after a restart", site)
	redis.Start()
	for name, c := range map[string]*stack.Crewbeat{"api": api, "realtime": realtime} {
		stack.Eventually(t, 15*time.Second, name+" is well", readiness(t, c, 200, "ok"))
	}
	check("with an empty Redis", site)
}
