package profile_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestWhatWasSlowIsForgottenAndWhatIsSlowIsSeen(t *testing.T) {
	r := profile.New(start)
	get := r.Command("GET")
	for i := range 1000 {
		get.Took(start.Add(time.Duration(i)*time.Millisecond), 2*time.Second, "timeout")
	}
	now := start.Add(10 * time.Minute)
	for range 100 {
		get.Took(now, time.Millisecond, "")
	}
	// The guide's averages: 1.8 s and 91 %, for ever.
	if w := r.Window(now, 2*time.Minute); w.Count != 100 || w.P95Ms > 1.1 || w.ErrorRatio != 0 || w.MaxMs != 1 {
		t.Errorf("two minutes = %+v", w)
	}
	now = now.Add(time.Minute)
	for range 100 {
		get.Took(now, 2*time.Second, "timeout")
	}
	if w := r.Window(now, 2*time.Minute); w.Count != 200 || w.ErrorRatio != .5 || w.P95Ms < 1900 || w.P50Ms > 2100 {
		t.Errorf("two minutes later = %+v", w)
	}
	if w := r.Window(now.Add(6*time.Minute), 5*time.Minute); w.Count != 0 || w.P95Ms != 0 {
		t.Errorf("long after = %+v", w)
	}
	if c := r.Report(now).Commands[0]; c.Count != 1200 || c.Failed != 1100 || c.Errors["timeout"] != 1100 {
		t.Errorf("since the beginning = %+v", c)
	}
}

func TestQuantilesAreOffByASixteenthAtMost(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, spread := range []time.Duration{50 * time.Microsecond, 3 * time.Millisecond, time.Second, time.Minute} {
		r := profile.New(start)
		var all []time.Duration
		for range 5000 {
			d := time.Duration(random.Int64N(int64(spread)))
			all = append(all, d)
			r.Command("GET").Took(start, d, "")
		}
		slices.Sort(all)
		w := r.Window(start, time.Minute)
		for q, got := range map[float64]float64{.5: w.P50Ms, .95: w.P95Ms, .99: w.P99Ms} {
			want := float64(all[int(q*float64(len(all)))]) / 1e6
			if got < want*15/16-.001 || got > want*17/16+.001 {
				t.Errorf("up to %v: p%v = %v ms, want %v ms", spread, q*100, got, want)
			}
		}
	}
}

func TestTheLastHundredAreProfiled(t *testing.T) {
	r := profile.New(start)
	for i := range 250 {
		r.Command("SET").Took(start, time.Duration(i)*time.Millisecond, "")
	}
	want := profile.Last{Count: 100, MinMs: 150, AverageMs: 199.5, P50Ms: 200, P95Ms: 245, MaxMs: 249}
	if got := r.Report(start).Commands[0].Last; got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestCommandsThatWaitAreCountedAndNotTimed(t *testing.T) {
	r := profile.New(start)
	r.Command("BLPOP").Count(start, "")
	r.Command("BLPOP").Count(start, "timeout")
	c := r.Report(start).Commands[0]
	if c.Count != 2 || c.Failed != 1 || c.AverageMs != 0 || c.Last.Count != 0 || c.Minute.Timed != 0 || c.Minute.P95Ms != 0 || c.Minute.ErrorRatio != .5 {
		t.Errorf("got %+v", c)
	}
}

func TestNamesAndErrorsAreBounded(t *testing.T) {
	r := profile.New(start)
	for i := range 1000 {
		r.Command(fmt.Sprint("C", i)).Took(start, time.Millisecond, fmt.Sprint("E", i))
	}
	rep := r.Report(start)
	if len(rep.Commands) != 64 {
		t.Errorf("%d commands", len(rep.Commands))
	}
	for _, c := range rep.Commands {
		if c.Name == "OTHER" && (c.Count != 1000-63 || len(c.Errors) != 16) {
			t.Errorf("the others: %d commands, %d kinds of errors", c.Count, len(c.Errors))
		}
	}
	if rep.Minute.Count != 1000 || rep.Minute.Failed != 1000 {
		t.Errorf("all = %+v", rep.Minute)
	}
}

func TestTimingsOnlyGrow(t *testing.T) {
	now := time.Now()
	r := profile.New(now)
	get := r.Command("GET")
	for _, took := range []time.Duration{time.Microsecond, 100 * time.Microsecond, 101 * time.Microsecond, time.Second, 3 * time.Second} {
		get.Took(now, took, "")
	}
	get.Took(now, time.Millisecond, "ERR")
	get.Count(now, "") // its time says nothing
	r.Reset(now)
	for i := range 100 {
		r.Command("SET").Took(now, time.Millisecond, fmt.Sprint("E", i))
	}
	all := r.Timings()
	if len(all) != 2+16 || all[0].Command != "GET" || all[0].Failure != "" || all[1].Failure != "ERR" {
		t.Fatalf("%d timings, from %+v", len(all), all[:min(2, len(all))])
	}
	got := all[0]
	want := profile.Timing{Command: "GET", Count: 5, Sum: 4*time.Second + 202*time.Microsecond}
	want.Buckets[0], want.Buckets[1], want.Buckets[12], want.Buckets[14] = 2, 1, 1, 1
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for _, timing := range all {
		var sum uint64
		for _, n := range timing.Buckets {
			sum += n
		}
		if sum != timing.Count {
			t.Errorf("%s %s: %d in buckets, and %d counted", timing.Command, timing.Failure, sum, timing.Count)
		}
	}
}

func TestResetForgets(t *testing.T) {
	r := profile.New(start)
	kept := r.Command("GET")
	kept.Took(start, time.Second, "ERR")
	later := start.Add(time.Second)
	r.Reset(later)
	if rep := r.Report(later); len(rep.Commands) != 0 || rep.FiveMinutes.Count != 0 || !rep.Since.Equal(later) {
		t.Errorf("after the reset: %+v", rep)
	}
	kept.Took(later, time.Millisecond, "")
	c := r.Report(later).Commands[0]
	if c.Count != 1 || c.Failed != 0 || len(c.Errors) != 0 || c.Last.Count != 1 || c.Last.MaxMs != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestManyRecordAtOnce(t *testing.T) {
	r := profile.New(start)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 500 {
				at := start.Add(time.Duration(j) * time.Second)
				r.Command(fmt.Sprint(j%3)).Took(at, time.Millisecond, "")
				if j%100 == i {
					_ = r.Report(at)
				}
			}
		})
	}
	all.Wait()
	n := int64(0)
	for _, c := range r.Report(start).Commands {
		n += c.Count
	}
	if n != 4000 {
		t.Errorf("%d commands", n)
	}
}

func BenchmarkRecord(b *testing.B) {
	r := profile.New(time.Now())
	get := r.Command("GET")
	for b.Loop() {
		get.Took(time.Now(), 40*time.Microsecond, "")
	}
}
