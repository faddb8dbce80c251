package process_test

import (
	"context"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// pair runs the two services on a database that is ready for them.
func pair(t *testing.T, set map[string]string) (api, realtime *stack.Crewbeat, site crew.Site) {
	t.Helper()
	stack.Migrate(t, set)
	realtime = stack.Start(t, "realtime", set)
	api = stack.Start(t, "api", set)
	return api, realtime, crew.Site{API: api.URL, Realtime: realtime.URL}
}

func TestTheStoryRunsOnTwoServices(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	_, _, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := crew.Story(ctx, site, "two", t.Logf); err != nil {
		t.Fatal(err)
	}
}

// With REALTIME_URL the API passes sockets on, so that one address is enough.
func TestTheStoryRunsByOneDoor(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	set := stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL})
	stack.Migrate(t, set)
	set["REALTIME_URL"] = stack.Start(t, "realtime", set).URL
	api := stack.Start(t, "api", set)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := crew.Story(ctx, crew.Site{API: api.URL, Realtime: api.URL}, "door", t.Logf); err != nil {
		t.Fatal(err)
	}
}

func TestMigrateAndSeedCanBeRepeated(t *testing.T) {
	pg := stack.StartPostgres(t)
	set := stack.Settings(pg, nil)
	for _, command := range []string{"migrate", "migrate", "seed", "seed"} {
		if out, err := stack.Run(t, time.Minute, set, command); err != nil {
			t.Fatalf("crewbeat %s: %v\n%s", command, err, out)
		}
	}
	redis := stack.StartRedis(t)
	set["REDIS_URL"] = redis.URL
	_, _, site := pair(t, set)
	mira, err := crew.SignIn(t.Context(), site, "mira@demo.crewbeat.example", "crewbeat-demo")
	if err != nil {
		t.Fatalf("sign in to the demo: %v", err)
	}
	var teams struct{ Items []crew.Team }
	if err := mira.Do(t.Context(), "GET", "/api/v1/teams", nil, &teams); err != nil {
		t.Fatal(err)
	}
	if len(teams.Items) != 1 || teams.Items[0].Team.Name != "Harbor Crew" {
		t.Errorf("Mira's teams are %+v, want Harbor Crew once", teams.Items)
	}
}
