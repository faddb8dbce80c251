package process_test

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// filled is a team whose data a drill loses.
type filled struct {
	mira, jonas *crew.Person
	team, habit string
	days        []string          // ticked by Mira, in this order
	at          map[string]string // a position in Mira's channel, after the tick of each day
	channels    []string          // Mira's; the second has her ticks
}

func fill(ctx context.Context, t *testing.T, site crew.Site, ticks int) filled {
	t.Helper()
	var f filled
	var err error
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	f.mira, err = crew.Register(ctx, site, "Mira")
	must(err)
	f.jonas, err = crew.Register(ctx, site, "Jonas")
	must(err)
	team, err := f.mira.NewTeam(ctx, "Harbor Crew")
	must(err)
	f.team = team.Team.ID
	invite, err := f.mira.Invite(ctx, f.team)
	must(err)
	must(f.jonas.Join(ctx, invite))
	today, err := time.Parse(time.DateOnly, f.mira.Today)
	must(err)
	habit, err := f.mira.NewHabit(ctx, "Stretch", today.AddDate(0, 0, -ticks).Format(time.DateOnly), f.team)
	must(err)
	f.habit = habit.ID
	f.channels = []string{"team:" + f.team + ":activity", "user:" + f.mira.ID + ":habits"}
	feed, err := f.mira.Listen(ctx, f.channels[1])
	must(err)
	for d := range ticks {
		f.tick(ctx, t, today.AddDate(0, 0, d-ticks).Format(time.DateOnly))
	}
	f.at = f.told(ctx, t, feed, f.days...)
	return f
}

func (f *filled) tick(ctx context.Context, t *testing.T, day string) {
	t.Helper()
	if _, err := f.mira.Tick(ctx, f.habit, day, "op_"+day); err != nil {
		t.Fatal(err)
	}
	f.days = append(f.days, day)
}

// told waits on a socket until the ticks of just these days have arrived, each
// once, closes it, and returns the position after each.
func (f *filled) told(ctx context.Context, t *testing.T, feed *crew.Feed, days ...string) map[string]string {
	t.Helper()
	defer feed.Close()
	at := map[string]string{}
	err := feed.Await(ctx, fmt.Sprintf("ticks of %v", days), func(frames []crew.Frame) (bool, error) {
		clear(at)
		for _, fr := range frames {
			if fr.Type == "reset" {
				return false, fmt.Errorf("reset: %s", fr.Reason)
			}
			if fr.Event != "habit_completed" {
				continue
			}
			day := crew.DayOf(fr)
			if at[day] != "" || !slices.Contains(days, day) {
				return false, fmt.Errorf("the tick of %s arrived again", day)
			}
			at[day] = fr.Offset
		}
		return len(at) == len(days), nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// since follows Mira's own channel from after the tick of a day on.
func (f *filled) since(ctx context.Context, t *testing.T, p *crew.Person, day string) *crew.Feed {
	t.Helper()
	own := f.channels[1]
	feed, err := p.ListenSince(ctx, map[string]string{own: f.at[day]}, own)
	if err != nil {
		t.Fatal(err)
	}
	return feed
}

// seen is everything that people can look up, as the API words it.
func (f *filled) seen(ctx context.Context, t *testing.T, site crew.Site) map[string]string {
	t.Helper()
	all := map[string]string{}
	for who, p := range map[string]*crew.Person{"mira": f.mira.At(site), "jonas": f.jonas.At(site)} {
		paths := []string{"/me", "/habits", "/teams", "/teams/" + f.team, "/teams/" + f.team + "/activity", "/dashboard"}
		if who == "mira" {
			paths = append(paths, "/habits/"+f.habit+"/records?from="+f.days[0]+"&to="+p.Today, "/habits/"+f.habit+"/stats")
		}
		for _, path := range paths {
			var answer json.RawMessage
			if err := p.Do(ctx, "GET", "/api/v1"+path, nil, &answer); err != nil {
				t.Fatalf("%s looks: %v", who, err)
			}
			all[who+" "+path] = string(answer)
		}
	}
	return all
}

func compare(t *testing.T, before, after map[string]string) {
	t.Helper()
	for what, want := range before {
		if got := after[what]; got != want {
			t.Errorf("%s is not what it was:\n%s\nbefore:\n%s", what, got, want)
		}
	}
}

// The drill of docs/operations.md: both stores are backed up and lost, and come
// back as they were when they were backed up.
func TestWhatIsLostComesBackFromTheBackup(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	api, realtime, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL}))
	f := fill(ctx, t, site, 5)
	before := f.seen(ctx, t, site)

	dump, snapshot := filepath.Join(t.TempDir(), "crewbeat.dump"), filepath.Join(t.TempDir(), "redis.rdb")
	pg.Dump(dump)
	redis.Snapshot(snapshot)

	// What comes after the backup is not in it.
	f.tick(ctx, t, f.mira.Today)
	f.at[f.mira.Today] = f.told(ctx, t, f.since(ctx, t, f.mira, f.days[4]), f.mira.Today)[f.mira.Today]

	api.Stop()
	realtime.Stop()
	redis.Wipe()
	redis.Restore(snapshot)
	again := stack.StartPostgres(t)
	again.Restore(dump)
	_, _, site = pair(t, stack.Settings(again, map[string]string{"REDIS_URL": redis.URL}))

	compare(t, before, f.seen(ctx, t, site)) // and so both are signed in still
	mira := f.mira.At(site)
	f.told(ctx, t, f.since(ctx, t, mira, f.days[2]), f.days[3], f.days[4])

	// A page that is ahead of the backup is told to load again, and not left
	// waiting for a past that does not come.
	feed := f.since(ctx, t, mira, f.mira.Today)
	defer feed.Close()
	if err := feed.Await(ctx, "a reset", wasReset); err != nil {
		t.Error(err)
	}
	// And it can do again what was lost, by the operation id of then.
	if done, err := mira.Tick(ctx, f.habit, f.mira.Today, "op_"+f.mira.Today); err != nil || done.Duplicate {
		t.Errorf("tick again: %+v, %v, want it done anew", done, err)
	}
}

func wasReset(frames []crew.Frame) (bool, error) {
	return slices.ContainsFunc(frames, func(fr crew.Frame) bool { return fr.Type == "reset" }), nil
}

// The database is the truth: a Redis that comes back empty costs nobody
// anything but a reload.
func TestAnEmptyRedisIsFilledAgain(t *testing.T) {
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	api, realtime, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL}))
	f := fill(ctx, t, site, 5)
	before := f.seen(ctx, t, site)
	open, err := f.mira.Listen(ctx, f.channels...)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	families(t, redis)

	redis.Wipe()
	redis.Start()
	for name, c := range map[string]*stack.Crewbeat{"api": api, "realtime": realtime} {
		stack.Eventually(t, 15*time.Second, name+" is well", readiness(t, c, 200, "ok"))
	}
	compare(t, before, f.seen(ctx, t, site)) // and so both are signed in still
	if err := open.Await(ctx, "a reset on the socket that was open", wasReset); err != nil {
		t.Error(err)
	}
	f.tick(ctx, t, f.mira.Today)
	if _, err := open.AwaitEvent(ctx, "habit_completed", func(fr crew.Frame) bool { return crew.DayOf(fr) == f.mira.Today }); err != nil {
		t.Error(err)
	}
	families(t, redis)
}

// families demands that Redis holds cached values and event streams.
func families(t *testing.T, redis *stack.Redis) {
	t.Helper()
	keys := redis.CLI("--scan")
	for what, prefix := range map[string]string{"cached values": "cb:", "event streams": "rt:"} {
		n := 0
		for line := range strings.Lines(keys) {
			if strings.HasPrefix(line, prefix) {
				n++
			}
		}
		if n == 0 {
			t.Errorf("redis holds no %s (%s*):\n%s", what, prefix, keys)
		}
		t.Logf("redis holds %d keys of %s", n, what)
	}
}
