package habit

import (
	"math"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// Streak is how often in a row a habit was kept.
type Streak struct {
	Current int
	Best    int
	Unit    string // "day", "week", "month" or "time"
}

// History is a habit with all of its records. Streak and strength are derived
// from it whenever they are asked for and stored nowhere, so that a record
// that is added, changed or taken back later needs no repair.
type History struct {
	habit     Habit
	revisions []Revision // by effective day, at least one
	records   map[civil.Day]Record
	first     civil.Day // of the habit's life
	last      civil.Day // to be looked at: today, or the end of its life
	today     civil.Day
	weekStart time.Weekday
}

// NewHistory lays out what was recorded for h, seen from a day on which weeks
// begin on weekStart. Revisions come by effective day; without any, h has been
// as it is from the start.
func NewHistory(h Habit, revisions []Revision, records []Record, today civil.Day, weekStart time.Weekday) *History {
	if len(revisions) == 0 {
		revisions = []Revision{h.Revision(h.StartDay)}
	}
	p := &History{h, revisions, make(map[civil.Day]Record, len(records)), h.StartDay, today, today, weekStart}
	for _, r := range records {
		p.records[r.Day] = r
		if r.State == Done {
			p.first = min(p.first, r.Day) // done before it began: it began earlier
		}
	}
	if h.EndDay != nil {
		p.last = min(p.last, *h.EndDay)
	}
	return p
}

// revision returns what the habit asked for on a day. What was asked before
// the first revision is what the first asks.
func (p *History) revision(day civil.Day) Revision { return revisionOn(p.habit, p.revisions, day) }

func revisionOn(h Habit, revisions []Revision, day civil.Day) Revision {
	if len(revisions) == 0 {
		return h.Revision(h.StartDay)
	}
	found := revisions[0]
	for _, r := range revisions[1:] {
		if r.EffectiveDay <= day {
			found = r
		}
	}
	return found
}

// total tells whether the target is one sum for the whole week or month, to
// which every amount counts; else each day is held against the target.
func (r Revision) total(kind string) bool {
	return kind != YesNo && r.Schedule.N == 1 && (r.Schedule.Type == NPerWeek || r.Schedule.Type == NPerMonth)
}

// done tells whether a record meets what was asked of its day.
func done(kind string, r Revision, rec *Record) bool {
	switch {
	case rec == nil || rec.State != Done:
		return false
	case kind == YesNo:
		return true
	case r.TargetType == AtMost:
		return rec.ValueMilli <= r.TargetMilli
	case r.total(kind):
		return rec.ValueMilli > 0
	}
	return rec.ValueMilli >= r.TargetMilli
}

func (p *History) record(day civil.Day) *Record {
	r, ok := p.records[day]
	if !ok {
		return nil
	}
	return &r
}

func (p *History) skipped(day civil.Day) bool { return p.records[day].State == Skip }

func (p *History) noted(day civil.Day) bool { return p.records[day].State == Done }

// Done tells whether the day's target was met by a record.
func (p *History) Done(day civil.Day) bool {
	return done(p.habit.Kind, p.revision(day), p.record(day))
}

// kept is done, or a limit that is held because nothing was noted.
func (p *History) kept(day civil.Day) bool {
	if p.noted(day) {
		return p.Done(day)
	}
	return p.revision(day).TargetType == AtMost && p.habit.AssumeZero && day < p.today
}

// pending tells whether it is too early to judge a day: today, until it is
// done. Of a limit, an amount that was noted is judged.
func (p *History) pending(day civil.Day) bool {
	if day < p.today {
		return false
	}
	if p.revision(day).TargetType == AtMost {
		return !p.noted(day)
	}
	return !p.Done(day)
}

func (p *History) alive(day civil.Day) bool {
	return day >= p.first && (p.habit.EndDay == nil || day <= *p.habit.EndDay)
}

// Due tells whether the habit waits to be done on a day: what is asked for
// the week or month is not met by the days before.
func (p *History) Due(day civil.Day) bool {
	if !p.alive(day) {
		return false
	}
	r := p.revision(day)
	switch s := r.Schedule; s.Type {
	case Weekdays:
		return s.on(day)
	case NPerWeek, NPerMonth:
		from, _ := p.period(s.Type, day)
		var count int
		var sum int64
		for d := max(from, p.first); d < day; d++ {
			if p.Done(d) {
				count++
			}
			if p.noted(d) {
				sum += p.records[d].ValueMilli
			}
		}
		switch {
		case r.TargetType == AtMost:
			return true
		case r.total(p.habit.Kind):
			return sum < r.TargetMilli
		}
		return count < s.N
	case EveryNDays:
		gap := 0
		for d := day; d >= p.first; d-- {
			if d < day && p.Done(d) {
				return gap >= s.N
			}
			if !p.skipped(d) {
				gap++
			}
		}
	}
	return true
}

// Met tells whether the days of the week or month before a day hold all that
// was asked of it.
func (p *History) Met(day civil.Day) bool {
	switch p.revision(day).Schedule.Type {
	case NPerWeek, NPerMonth:
		return !p.Due(day)
	}
	return false
}

func (s Schedule) on(day civil.Day) bool { return s.Weekdays&(1<<day.Weekday()) != 0 }

// period returns the week or month of a day, as from ≤ day < to.
func (p *History) period(schedule string, day civil.Day) (from, to civil.Day) {
	if schedule == NPerWeek {
		from = day.WeekStart(p.weekStart)
		return from, from + 7
	}
	year, month, _ := day.Date()
	return civil.DayOf(year, month, 1), civil.DayOf(year, month+1, 1)
}

// unit returns what a streak of the schedule counts.
func (s Schedule) unit() string {
	switch s.Type {
	case NPerWeek:
		return "week"
	case NPerMonth:
		return "month"
	case EveryNDays:
		return "time"
	}
	return "day"
}

// Streak counts in the unit of the present schedule. A schedule that counts
// something else cannot be added to it, and so begins anew.
func (p *History) Streak() Streak {
	s := Streak{Unit: p.revision(p.last).Schedule.unit()}
	switch s.Unit {
	case "week", "month":
		p.periodStreak(&s)
	case "time":
		p.timeStreak(&s)
	default:
		p.dayStreak(&s)
	}
	return s
}

func (s *Streak) add(kept bool) {
	if !kept {
		s.Current = 0
		return
	}
	s.Current++
	s.Best = max(s.Best, s.Current)
}

func (p *History) dayStreak(s *Streak) {
	for d := p.first; d <= p.last; d++ {
		sched := p.revision(d).Schedule
		switch {
		case sched.unit() != s.Unit:
			s.Current = 0
		case p.skipped(d), sched.Type == Weekdays && !sched.on(d), p.pending(d):
		default:
			s.add(p.kept(d))
		}
	}
}

func (p *History) timeStreak(s *Streak) {
	gap := 0
	for d := p.first; d <= p.last; d++ {
		if p.skipped(d) {
			continue
		}
		sched := p.revision(d).Schedule
		if sched.unit() != s.Unit {
			s.Current, gap = 0, 0
			continue
		}
		if gap++; gap > sched.N {
			s.Current = 0
		}
		if p.Done(d) {
			s.add(true)
			gap = 0
		}
	}
}

func (p *History) periodStreak(s *Streak) {
	for d := p.first; d <= p.last; {
		r := p.revision(d)
		if r.Schedule.unit() != s.Unit {
			s.Current = 0
			d++
			continue
		}
		from, to := p.period(r.Schedule.Type, d)
		switch kept, open := p.periodKept(r, from, to); {
		case kept == unknown:
		case open && (kept == yes) == (r.TargetType == AtMost):
			// It may yet be met, or the limit may yet be broken.
		default:
			s.add(kept == yes)
		}
		d = to
	}
}

type verdict int

const (
	unknown verdict = iota
	yes
	no
)

// periodKept judges a week or month by the days of it that the habit lived,
// and tells whether it is still open.
func (p *History) periodKept(r Revision, from, to civil.Day) (v verdict, open bool) {
	length := int64(to - from)
	from = max(from, p.first)
	if p.habit.EndDay != nil {
		to = min(to, *p.habit.EndDay+1)
	}
	var days, count, noted, sum int64
	for d := from; d < to; d++ {
		if p.skipped(d) {
			continue
		}
		days++
		if d > p.last {
			continue
		}
		if p.Done(d) {
			count++
		}
		if p.noted(d) {
			noted++
			sum += p.records[d].ValueMilli
		}
	}
	open = to > p.today
	if days == 0 {
		return unknown, open
	}
	var kept bool
	switch {
	case r.TargetType == AtMost:
		kept = sum <= r.TargetMilli && (noted > 0 || p.habit.AssumeZero)
	case r.total(p.habit.Kind):
		kept = sum*length >= r.TargetMilli*days
	default:
		kept = count >= (int64(r.Schedule.N)*days+length-1)/length
	}
	if kept {
		return yes, open
	}
	return no, open
}

// Strength is a number in 0..1 that grows with every day kept and fades with
// every day missed, the faster the more often the habit is due. Skipped days
// are as if there were none.
func (p *History) Strength() float64 {
	s := 0.0
	if p.revision(p.first).TargetType == AtMost {
		s = 1
	}
	// The days that count so far: how many were done, noted, and how much.
	sums := []window{{}}
	for d := p.first; d <= p.last; d++ {
		if p.skipped(d) || p.pending(d) {
			continue
		}
		sum := sums[len(sums)-1]
		if p.Done(d) {
			sum.done++
		}
		if p.noted(d) {
			sum.noted++
			sum.milli += p.records[d].ValueMilli
		}
		sums = append(sums, sum)
		r := p.revision(d)
		f := r.Schedule.frequency()
		m := math.Pow(0.5, math.Sqrt(f)/13)
		if r.Schedule.Type == Weekdays {
			if !r.Schedule.on(d) {
				continue
			}
			m = math.Pow(0.5, 1/(13*math.Sqrt(f)))
		}
		s = s*m + p.completion(r, sums)*(1-m)
	}
	return s
}

// window is what a run of days amounts to.
type window struct {
	done, noted int
	milli       int64
}

// lastDays returns what the newest n days of sums amount to.
func lastDays(sums []window, n int) window {
	to := sums[len(sums)-1]
	from := sums[max(0, len(sums)-1-n)]
	return window{to.done - from.done, to.noted - from.noted, to.milli - from.milli}
}

// completion is how much of what was asked the newest days hold, 0..1.
func (p *History) completion(r Revision, sums []window) float64 {
	n, days := r.Schedule.rate()
	if p.habit.Kind == YesNo {
		if days == 1 {
			return float64(lastDays(sums, 1).done)
		}
		// Twice the span, so that it does not matter on which days of it.
		return min(1, float64(lastDays(sums, 2*days).done)/float64(2*n))
	}
	w := lastDays(sums, days)
	sum, target := float64(w.milli), float64(r.TargetMilli)*float64(n)
	switch {
	case r.TargetType == AtLeast:
		return min(1, sum/target)
	case w.noted == 0 && !p.habit.AssumeZero:
		return 0
	case target == 0 && sum == 0:
		return 1
	case target == 0:
		return 0
	}
	return min(1, max(0, 1-(sum-target)/target))
}

// rate is the schedule as n times in a number of days.
func (s Schedule) rate() (n, days int) {
	switch s.Type {
	case NPerWeek:
		return s.N, 7
	case NPerMonth:
		return s.N, 30
	case EveryNDays:
		return 1, s.N
	}
	return 1, 1 // weekdays are judged on due days only
}

// frequency is how often a day is due, on average.
func (s Schedule) frequency() float64 {
	if s.Type == Weekdays {
		return float64(len(s.Days())) / 7
	}
	n, days := s.rate()
	return float64(n) / float64(days)
}
