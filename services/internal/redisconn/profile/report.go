package profile

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Report is what was recorded.
type Report struct {
	Since       time.Time       `json:"since"` // the beginning, or the last reset
	Minute      Window          `json:"last_minute"`
	FiveMinutes Window          `json:"last_five_minutes"`
	Commands    []CommandReport `json:"commands"` // those that took the most time together first
}

// CommandReport is what was recorded of one command. Commands that travelled
// together are counted each by its name, and timed as one PIPELINE or MULTI.
type CommandReport struct {
	Name        string           `json:"name"`
	Count       int64            `json:"count"`
	Failed      int64            `json:"failed"`
	Errors      map[string]int64 `json:"errors"`     // by kind: the code that Redis answered, or a cause
	TotalMs     float64          `json:"total_ms"`   // of those that are timed
	AverageMs   float64          `json:"average_ms"` // of those; 0 if none is
	Last        Last             `json:"last"`
	Minute      Window           `json:"last_minute"`
	FiveMinutes Window           `json:"last_five_minutes"`
}

// Last is how long the last commands took, a hundred at most.
type Last struct {
	Count     int     `json:"count"`
	MinMs     float64 `json:"min_ms"`
	AverageMs float64 `json:"average_ms"`
	P50Ms     float64 `json:"p50_ms"`
	P95Ms     float64 `json:"p95_ms"`
	MaxMs     float64 `json:"max_ms"`
}

// Window is what happened lately.
type Window struct {
	Count      int64   `json:"count"`
	Failed     int64   `json:"failed"`
	ErrorRatio float64 `json:"error_ratio"` // failed of all, 0 to 1
	Timed      int64   `json:"timed"`       // of all, those that the following is about
	P50Ms      float64 `json:"p50_ms"`
	P95Ms      float64 `json:"p95_ms"`
	P99Ms      float64 `json:"p99_ms"`
	MaxMs      float64 `json:"max_ms"`
}

// Window returns what all commands did within d, at most five minutes, before
// now.
func (r *Recorder) Window(now time.Time, d time.Duration) Window {
	var sum slot
	for _, c := range r.all() {
		c.addTo(&sum, now, d)
	}
	return sum.window()
}

// Report returns everything as of now.
func (r *Recorder) Report(now time.Time) Report {
	r.mu.RLock()
	rep := Report{Since: r.since.UTC(), Commands: []CommandReport{}}
	r.mu.RUnlock()
	rep.Minute, rep.FiveMinutes = r.Window(now, time.Minute), r.Window(now, 5*time.Minute)
	for _, c := range r.all() {
		if one := c.report(now); one.Count > 0 {
			rep.Commands = append(rep.Commands, one)
		}
	}
	slices.SortFunc(rep.Commands, func(a, b CommandReport) int {
		return cmp.Or(-cmp.Compare(a.TotalMs, b.TotalMs), -cmp.Compare(a.Count, b.Count), cmp.Compare(a.Name, b.Name))
	})
	return rep
}

func (r *Recorder) all() []*Command {
	r.mu.RLock()
	defer r.mu.RUnlock()
	all := make([]*Command, 0, len(r.commands))
	for _, c := range r.commands {
		all = append(all, c)
	}
	return all
}

func (c *Command) report(now time.Time) CommandReport {
	var minute, five slot
	c.addTo(&minute, now, time.Minute)
	c.addTo(&five, now, 5*time.Minute)

	c.mu.Lock()
	defer c.mu.Unlock()
	rep := CommandReport{
		Name: c.name, Count: c.count, Failed: c.failed, Errors: map[string]int64{}, TotalMs: ms(c.total),
		Last: summary(c.last[:min(c.timed, lastCommands)]), Minute: minute.window(), FiveMinutes: five.window(),
	}
	maps.Copy(rep.Errors, c.errors)
	if c.timed > 0 {
		rep.AverageMs = ms(c.total / time.Duration(c.timed))
	}
	return rep
}

func summary(last []time.Duration) Last {
	if len(last) == 0 {
		return Last{}
	}
	sorted := slices.Sorted(slices.Values(last))
	var sum time.Duration
	for _, d := range sorted {
		sum += d
	}
	at := func(q float64) float64 { return ms(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]) }
	return Last{
		Count: len(sorted), MinMs: ms(sorted[0]), AverageMs: ms(sum / time.Duration(len(sorted))),
		P50Ms: at(.5), P95Ms: at(.95), MaxMs: ms(sorted[len(sorted)-1]),
	}
}

func (s *slot) window() Window {
	w := Window{Count: s.count, Failed: s.failed, Timed: s.took.count(), MaxMs: ms(s.took.longest)}
	if s.count > 0 {
		w.ErrorRatio = float64(s.failed) / float64(s.count)
	}
	if w.Timed > 0 {
		w.P50Ms, w.P95Ms, w.P99Ms = ms(s.took.quantile(.5)), ms(s.took.quantile(.95)), ms(s.took.quantile(.99))
	}
	return w
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
