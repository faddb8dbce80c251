package process_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// The script of the kill test. Redis is away for a third of it.
const (
	people  = 20
	perSec  = 50
	seconds = 60
)

var outages = []struct{ from, to time.Duration }{
	{12 * time.Second, 22 * time.Second},
	{34 * time.Second, 44 * time.Second},
}

// ticker is one person who ticks one habit, a day further back each time, and
// watches it in a browser.
type ticker struct {
	*crew.Person
	habit string
	days  []string // to tick, in this order
	feed  *crew.Feed

	acked  []string
	failed []error
	slow   []time.Duration // how long each tick took
}

// Redis is killed with SIGKILL and started again, twice, under a running pair
// of services while 20 people tick 50 habits a second for a minute.
func TestKillingRedisLosesNothingAndSignsNobodyOut(t *testing.T) {
	t.Parallel() // with what only waits
	const length = seconds * time.Second
	pg, redis := stack.StartPostgres(t), stack.StartRedis(t)
	api, realtime, site := pair(t, stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL, "REDIS_REQUIRED": "false"}))
	ctx, cancel := context.WithTimeout(t.Context(), length+2*time.Minute)
	defer cancel()
	crowd := gather(ctx, t, site)

	// The outages run beside the ticks; the test's own goroutine does them, as
	// only that one may end the test.
	var ticking sync.WaitGroup
	began := time.Now()
	ticking.Go(func() { tickAll(ctx, crowd, length) })
	for i, o := range outages {
		until(ctx, began.Add(o.from))
		redis.Kill()
		for name, c := range map[string]*stack.Crewbeat{"api": api, "realtime": realtime} {
			stack.Eventually(t, 8*time.Second, name+" is degraded", readiness(t, c, 200, "degraded"))
		}
		if _, body, err := api.Get(ctx, "/api/health"); err != nil {
			t.Errorf("outage %d: /api/health: %s, %v", i+1, body, err)
		}
		until(ctx, began.Add(o.to))
		redis.Start()
		for name, c := range map[string]*stack.Crewbeat{"api": api, "realtime": realtime} {
			took := stack.Eventually(t, 10*time.Second, name+" is well", readiness(t, c, 200, "ok"))
			t.Logf("outage %d: %s is well %v after the return", i+1, name, took.Round(10*time.Millisecond))
		}
	}
	ticking.Wait()

	acked, slow := 0, []time.Duration{}
	for _, p := range crowd {
		if n := len(p.failed); n > 0 {
			t.Errorf("%s: %d ticks failed, first: %v", p.Name, n, p.failed[0])
		}
		acked += len(p.acked)
		slow = append(slow, p.slow...)
	}
	slices.Sort(slow)
	t.Logf("%d ticks acknowledged in %v; median %v, p99 %v, slowest %v", acked, time.Since(began).Round(time.Second),
		slow[len(slow)/2].Round(time.Millisecond), slow[len(slow)*99/100].Round(time.Millisecond), slow[len(slow)-1].Round(time.Millisecond))
	if want := perSec * seconds; acked != want {
		t.Errorf("%d ticks acknowledged, want %d: the script could not keep its pace, or ticks failed", acked, want)
	}
	for _, p := range crowd {
		if err := p.Do(ctx, "GET", "/api/v1/me", nil, nil); err != nil {
			t.Errorf("%s was signed out: %v", p.Name, err)
		}
	}
	inDatabase(ctx, t, pg, crowd)
	deliveredOnce(ctx, t, crowd)
}

// gather registers the people, each with a habit and an open socket.
func gather(ctx context.Context, t *testing.T, site crew.Site) []*ticker {
	t.Helper()
	crowd := make([]*ticker, people)
	for i := range crowd {
		p, err := crew.Register(ctx, site, "Person"+strconv.Itoa(i))
		if err != nil {
			t.Fatalf("register: %v", err)
		}
		today, err := time.Parse(time.DateOnly, p.Today)
		if err != nil {
			t.Fatalf("read today: %v", err)
		}
		n := perSec * seconds / people
		h, err := p.NewHabit(ctx, "Stretch", today.AddDate(0, 0, -n).Format(time.DateOnly))
		if err != nil {
			t.Fatalf("make a habit: %v", err)
		}
		k := &ticker{Person: p, habit: h.ID}
		for d := range n + 1 { // one more, as a last mark
			k.days = append(k.days, today.AddDate(0, 0, d-n).Format(time.DateOnly))
		}
		if k.feed, err = p.Listen(ctx, "user:"+p.ID+":habits"); err != nil {
			t.Fatalf("open a socket: %v", err)
		}
		t.Cleanup(k.feed.Close)
		crowd[i] = k
	}
	return crowd
}

// tickAll ticks at an even pace, round the crowd. A person whose last tick has
// not been answered yet makes the next one when it is.
func tickAll(ctx context.Context, crowd []*ticker, length time.Duration) {
	var all sync.WaitGroup
	due := make([]chan string, len(crowd))
	for i, p := range crowd {
		due[i] = make(chan string, len(p.days))
		all.Go(func() {
			for day := range due[i] {
				began := time.Now()
				_, err := p.Tick(ctx, p.habit, day, p.Name+"_"+day)
				p.slow = append(p.slow, time.Since(began))
				if err != nil {
					p.failed = append(p.failed, err)
				} else {
					p.acked = append(p.acked, day)
				}
			}
		})
	}
	pace := time.NewTicker(time.Second / perSec)
	defer pace.Stop()
	for n := range int(length/time.Second) * perSec {
		select {
		case <-pace.C:
			p := n % len(crowd)
			due[p] <- crowd[p].days[n/len(crowd)]
		case <-ctx.Done():
		}
	}
	for _, c := range due {
		close(c)
	}
	all.Wait()
}

func until(ctx context.Context, at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// inDatabase claims that every acknowledged tick is in the database, and no other.
func inDatabase(ctx context.Context, t *testing.T, pg *stack.Postgres, crowd []*ticker) {
	t.Helper()
	conn, err := pgx.Connect(ctx, pg.URL)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, p := range crowd {
		rows, err := conn.Query(ctx, "SELECT day FROM habit_records WHERE habit_id = $1 AND state = 'done' ORDER BY day", p.habit)
		if err != nil {
			t.Fatalf("read records: %v", err)
		}
		stored, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("read records: %v", err)
		}
		if want := slices.Sorted(slices.Values(p.acked)); !slices.Equal(stored, want) {
			t.Errorf("%s: %d records in the database, %d ticks were acknowledged", p.Name, len(stored), len(want))
		}
	}
}

// deliveredOnce claims that every acknowledged tick reached the person's open
// socket exactly once, in order, without the socket having been cut and
// without a reset. A last tick marks where the events end.
func deliveredOnce(ctx context.Context, t *testing.T, crowd []*ticker) {
	t.Helper()
	for _, p := range crowd {
		mark := p.days[len(p.days)-1]
		if _, err := p.Tick(ctx, p.habit, mark, p.Name+"_"+mark); err != nil {
			t.Errorf("%s: the last tick failed: %v", p.Name, err)
			continue
		}
		wait, cancel := context.WithTimeout(ctx, 30*time.Second)
		_, err := p.feed.AwaitEvent(wait, "habit_completed", func(f crew.Frame) bool { return crew.DayOf(f) == mark })
		cancel()
		if err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
		if err := exactly(p, append(slices.Clone(p.acked), mark)); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

func exactly(p *ticker, want []string) error {
	var errs []error
	var got []string
	ids, degraded, well := map[string]bool{}, 0, 0
	for _, f := range p.feed.Frames() {
		switch {
		case f.Event == "habit_completed":
			got = append(got, crew.DayOf(f))
			if ids[f.ID] {
				errs = append(errs, fmt.Errorf("event %s for %s came twice", f.ID, crew.DayOf(f)))
			}
			ids[f.ID] = true
		case f.Event != "" && f.Event != "habit_record_changed" && f.Event != "habit_created":
			errs = append(errs, fmt.Errorf("unexpected event %s %s", f.Event, f.Data))
		case f.Type == "reset":
			errs = append(errs, fmt.Errorf("the client was told to start over: %s", f.Reason))
		case f.Type == "status" && f.Status == "degraded":
			degraded++
		case f.Type == "status":
			well++
		}
	}
	if !slices.Equal(got, want) {
		errs = append(errs, fmt.Errorf("%d events came, want %d, each once and in order: %s", len(got), len(want), firstDifference(got, want)))
	}
	if degraded < len(outages) || well < len(outages) {
		errs = append(errs, fmt.Errorf("the page was told %d times of trouble and %d times that it is over, want at least %d", degraded, well, len(outages)))
	}
	if err := p.feed.Err(); err != nil {
		errs = append(errs, fmt.Errorf("the socket was cut: %w", err))
	}
	return errors.Join(errs...)
}

func firstDifference(got, want []string) string {
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			return want[i] + " is missing"
		case i >= len(want):
			return got[i] + " is too much"
		case got[i] != want[i]:
			return got[i] + " came where " + want[i] + " was due"
		}
	}
	return "none"
}
