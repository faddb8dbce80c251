package process_test

import (
	"context"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// A node is killed with SIGKILL: who was on it seems to be here until the lease
// that it wrote down ends, and leaves then, once. Who has come to another node
// meanwhile never leaves.
func TestPeopleOfAKilledNodeLeaveByTime(t *testing.T) {
	t.Parallel() // it does nothing for a minute
	const (
		lease = 60 * time.Second
		renew = 25 * time.Second // at least lease-renew is left of one, and something for a machine that was late
	)
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	set := stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL})
	_, killed, there := pair(t, set)
	stays := stack.Start(t, "realtime", set)
	here := crew.Site{API: there.API, Realtime: stays.URL}
	ctx, cancel := context.WithTimeout(t.Context(), lease+2*time.Minute)
	defer cancel()

	var people []*crew.Person
	for _, name := range []string{"Mira", "Jonas", "Lena"} {
		p, err := crew.Register(ctx, there, name)
		if err != nil {
			t.Fatal(err)
		}
		people = append(people, p)
	}
	mira, jonas, lena := people[0].At(here), people[1], people[2]
	team, err := mira.NewTeam(ctx, "Harbor Crew")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range people[1:] {
		token, err := mira.Invite(ctx, team.Team.ID)
		if err == nil {
			err = p.Join(ctx, token)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	watch, err := mira.Listen(ctx, "team:"+team.Team.ID+":activity")
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	for _, p := range []*crew.Person{jonas, lena} {
		feed, err := p.Dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer feed.Close()
	}
	all := []string{mira.ID, jonas.ID, lena.ID}
	slices.Sort(all)
	await := func(what string, want []string) {
		t.Helper()
		err := watch.Await(ctx, what, func(frames []crew.Frame) (bool, error) {
			now, _ := present(frames)
			return slices.Equal(now, want), nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	await("all three", all)

	killed.Kill()
	began := time.Now()
	moved, err := lena.At(here).Dial(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer moved.Close()
	rest := slices.DeleteFunc(slices.Clone(all), func(id string) bool { return id == jonas.ID })
	await("Jonas's leaving", rest)
	took := time.Since(began)
	t.Logf("who was on a node that was killed left %v later", took.Round(time.Second))
	if took < lease-renew-10*time.Second || took > lease+30*time.Second {
		t.Errorf("he left %v after the kill, want 35 s to 60 s", took)
	}
	if _, left := present(watch.Frames()); !slices.Equal(left, []string{jonas.ID}) {
		t.Errorf("%v have left, want %s once", left, jonas.ID)
	}
}

// present returns who is here by what a socket was told, and who was told to
// have left.
func present(frames []crew.Frame) (now, left []string) {
	here := map[string]bool{}
	for _, f := range frames {
		if f.Type != "presence" {
			continue
		}
		if f.Users != nil {
			clear(here)
		}
		for _, id := range slices.Concat(f.Users, f.Joined) {
			here[id] = true
		}
		for _, id := range f.Left {
			delete(here, id)
			left = append(left, id)
		}
	}
	return slices.Sorted(maps.Keys(here)), left
}
