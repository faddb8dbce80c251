package habit_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// monday is where the histories of these tests begin.
var monday = civil.DayOf(2026, time.January, 5)

// past builds histories day by day from monday on.
type past struct {
	habit     habit.Habit
	revisions []habit.Revision
	records   []habit.Record
	next      civil.Day
}

func newPast(h habit.Habit) *past {
	if h.Kind == "" {
		h.Kind, h.TargetMilli = habit.YesNo, 1000
	}
	if h.TargetType == "" {
		h.TargetType = habit.AtLeast
	}
	h.StartDay = monday
	return &past{habit: h, next: monday}
}

func daily() habit.Schedule        { return habit.Schedule{Type: habit.Daily} }
func perWeek(n int) habit.Schedule { return habit.Schedule{Type: habit.NPerWeek, N: n} }
func everyDays(n int) habit.Schedule {
	return habit.Schedule{Type: habit.EveryNDays, N: n}
}

func on(days ...time.Weekday) habit.Schedule {
	s := habit.Schedule{Type: habit.Weekdays}
	for _, d := range days {
		s.Weekdays |= 1 << d
	}
	return s
}

var workdays = on(time.Monday, time.Tuesday, time.Wednesday, time.Thursday, time.Friday)

// then appends days written as letters: x done, - nothing, s skipped.
func (p *past) then(days string) *past {
	for _, c := range days {
		switch c {
		case 'x':
			p.record(habit.Done, p.habit.TargetMilli)
		case 's':
			p.record(habit.Skip, 0)
		}
		p.next++
	}
	return p
}

// amounts appends days with amounts in units; a negative one is no record.
func (p *past) amounts(units ...int64) *past {
	for _, u := range units {
		if u >= 0 {
			p.record(habit.Done, u*1000)
		}
		p.next++
	}
	return p
}

func (p *past) record(state string, milli int64) {
	p.records = append(p.records, habit.Record{Day: p.next, State: state, ValueMilli: milli})
}

// seen returns the history as of a day after the last one that was appended,
// which has nothing yet.
func (p *past) seen() *habit.History { return p.seenOn(p.next) }

func (p *past) seenOn(today civil.Day) *habit.History {
	return habit.NewHistory(p.habit, p.revisions, p.records, today, time.Monday)
}

func repeat(s string, n int) (out string) {
	for range n {
		out += s
	}
	return out
}

func measured(kind string, s habit.Schedule, targetType string, units int64) habit.Habit {
	return habit.Habit{Kind: kind, Schedule: s, TargetType: targetType, TargetMilli: units * 1000, AssumeZero: true}
}

func each(n int, units ...int64) (out []int64) {
	for i := range n {
		out = append(out, units[i%len(units)])
	}
	return out
}

// The values are those of the definition of the score.
func TestStrengthHasItsGoldenValues(t *testing.T) {
	for _, tt := range []struct {
		name string
		past *past
		want float64
	}{
		{"30 perfect days", newPast(habit.Habit{Schedule: daily()}).then(repeat("x", 30)), .798017},
		{"30 perfect days, then 3 misses", newPast(habit.Habit{Schedule: daily()}).then(repeat("x", 30) + "---"), .680054},
		{"3 a week on Mon, Wed, Fri for 84 days", newPast(habit.Habit{Schedule: perWeek(3)}).then(repeat("x-x-x--", 12)), .934847},
		{"3 a week, doing 2, for 728 days", newPast(habit.Habit{Schedule: perWeek(3)}).then(repeat("x--x---", 104)), .666667},
		{"Mon to Fri for 42 days", newPast(habit.Habit{Schedule: workdays}).then(repeat("xxxxx--", 6)), .849326},
		{"Mon to Fri for 42 days and 14 skipped", newPast(habit.Habit{Schedule: workdays}).then(repeat("xxxxx--", 3) + repeat("s", 14) + repeat("xxxxx--", 3)), .849326},
		{"6 of 8 daily for 365 days", newPast(measured(habit.Count, daily(), habit.AtLeast, 8)).amounts(each(365, 6)...), .75},
		{"3 where 2 is the limit for 365 days", newPast(measured(habit.Count, daily(), habit.AtMost, 2)).amounts(each(365, 3)...), .5},
		{"150 minutes a week as 3×50 for 84 days", newPast(measured(habit.Duration, perWeek(1), habit.AtLeast, 150)).amounts(each(84, 50, -1, 50, -1, 50, -1, -1)...), .808330},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.past.seen().Strength(); math.Abs(got-tt.want) > 5e-7 {
				t.Errorf("strength = %.6f, want %.6f", got, tt.want)
			}
		})
	}
}

func TestStrengthCountsTodayOnlyOnceItIsDoneOrSkipped(t *testing.T) {
	p := newPast(habit.Habit{Schedule: daily()}).then(repeat("x", 30))
	yesterday := p.seen().Strength()
	if yesterday < .798016 || yesterday > .798018 {
		t.Fatalf("at 00:01 of the next day strength = %.6f, want what it was", yesterday)
	}
	if got := newPast(p.habit).then(repeat("x", 30) + "s").seenOn(monday + 30).Strength(); got != yesterday {
		t.Errorf("today skipped: strength = %.6f, want %.6f", got, yesterday)
	}
	if got := newPast(p.habit).then(repeat("x", 31)).seenOn(monday + 30).Strength(); got <= yesterday {
		t.Errorf("today done: strength = %.6f, want more than %.6f", got, yesterday)
	}
	half := newPast(measured(habit.Count, daily(), habit.AtLeast, 8)).amounts(8, 8, 8)
	before := half.seen().Strength()
	half.amounts(4)
	if got := half.seenOn(monday + 3).Strength(); got != before {
		t.Errorf("today half done: strength = %.6f, want %.6f", got, before)
	}
}

func TestALimitOfNothing(t *testing.T) {
	limit := measured(habit.Count, daily(), habit.AtMost, 0)
	if got := newPast(limit).amounts(0, 0, 0).seen().Strength(); got != 1 {
		t.Errorf("never broken: strength = %v, want 1", got)
	}
	if got := newPast(limit).amounts(each(365, 1)...).seen().Strength(); got > 1e-6 {
		t.Errorf("always broken: strength = %v, want 0", got)
	}
}

func TestADayWithoutARecordCountsAsZeroOnlyIfAssumed(t *testing.T) {
	h := measured(habit.Count, daily(), habit.AtMost, 2)
	p := newPast(h).amounts(1, -1, -1)
	if got := p.seen().Streak().Current; got != 3 {
		t.Errorf("assumed: streak = %d, want 3", got)
	}
	if got := p.seen().Strength(); got != 1 {
		t.Errorf("assumed: strength = %v, want 1", got)
	}
	h.AssumeZero = false
	p = newPast(h).amounts(1, -1, -1)
	if got := p.seen().Streak().Current; got != 0 {
		t.Errorf("not assumed: streak = %d, want 0", got)
	}
	if got := p.seen().Strength(); got >= 1 {
		t.Errorf("not assumed: strength = %v, want less than 1", got)
	}
}

func TestStreaks(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sched habit.Schedule
		days  string // the last letter is today
		want  habit.Streak
	}{
		{"days in a row", daily(), "xxxx", habit.Streak{Current: 4, Best: 4, Unit: "day"}},
		{"today may still be done", daily(), "xxx-", habit.Streak{Current: 3, Best: 3, Unit: "day"}},
		{"a missed day ends it", daily(), "xxx-x", habit.Streak{Current: 1, Best: 3, Unit: "day"}},
		{"a skipped day is as if there were none", daily(), "xxsx", habit.Streak{Current: 3, Best: 3, Unit: "day"}},
		{"days that are not due do not matter", workdays, "xxxxx--x", habit.Streak{Current: 6, Best: 6, Unit: "day"}},
		{"doing it on a free day does not count", workdays, "xxxxxx-x", habit.Streak{Current: 6, Best: 6, Unit: "day"}},
		{"weeks", perWeek(3), "xxx----x-x-x--", habit.Streak{Current: 2, Best: 2, Unit: "week"}},
		{"a week with one too few ends it", perWeek(3), "xxx----xx-----xxx----", habit.Streak{Current: 1, Best: 1, Unit: "week"}},
		{"the open week counts once it is met", perWeek(3), "xxx----xxx", habit.Streak{Current: 2, Best: 2, Unit: "week"}},
		{"the open week does not end it", perWeek(3), "xxx----x", habit.Streak{Current: 1, Best: 1, Unit: "week"}},
		{"a half skipped week asks for half, rounded up", perWeek(3), "xxx----xx-ssss-", habit.Streak{Current: 2, Best: 2, Unit: "week"}},
		{"a skipped week is as if there were none", perWeek(3), "xxx----sssssssxxx", habit.Streak{Current: 2, Best: 2, Unit: "week"}},
		{"times, with gaps of at most n", everyDays(3), "x--x-x--x", habit.Streak{Current: 4, Best: 4, Unit: "time"}},
		{"a longer gap ends it", everyDays(3), "x---x", habit.Streak{Current: 1, Best: 1, Unit: "time"}},
		{"the gap to today ends it too", everyDays(3), "x----", habit.Streak{Current: 0, Best: 1, Unit: "time"}},
		{"today may still be done, every 3 days", everyDays(3), "x---", habit.Streak{Current: 1, Best: 1, Unit: "time"}},
		{"skipped days do not widen a gap", everyDays(3), "x-ss-x", habit.Streak{Current: 2, Best: 2, Unit: "time"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPast(habit.Habit{Schedule: tt.sched}).then(tt.days)
			if got := p.seenOn(p.next - 1).Streak(); got != tt.want {
				t.Errorf("%s: streak = %+v, want %+v", tt.days, got, tt.want)
			}
		})
	}
}

func TestEveryThreeDaysTodayEndsTheStreakOnlyWhenItIsTooLate(t *testing.T) {
	p := newPast(habit.Habit{Schedule: everyDays(3)}).then("x")
	for after, want := range []int{1, 1, 1, 1, 0} {
		if got := p.seenOn(monday + civil.Day(after)).Streak().Current; got != want {
			t.Errorf("%d days after: streak = %d, want %d", after, got, want)
		}
	}
}

func TestTheFirstWeekAsksOnlyForItsShare(t *testing.T) {
	p := newPast(habit.Habit{Schedule: perWeek(3)})
	p.habit.StartDay = monday + 4 // Friday: three days, 9/7 rounded up
	p.next = monday + 4
	p.then("xx-").then("xxx----")
	if got := p.seen().Streak(); got.Current != 2 {
		t.Errorf("streak = %+v, want 2 weeks", got)
	}
}

func TestMonthsHaveTheirOwnLength(t *testing.T) {
	p := newPast(habit.Habit{Schedule: habit.Schedule{Type: habit.NPerMonth, N: 4}})
	p.habit.StartDay, p.next = civil.DayOf(2026, time.January, 1), civil.DayOf(2026, time.January, 1)
	p.then("xxxx" + repeat("-", 27) + repeat("-", 24) + "xxxx") // 31 of January, 28 of February
	if got, want := p.seen().Streak(), (habit.Streak{Current: 2, Best: 2, Unit: "month"}); got != want {
		t.Errorf("streak = %+v, want %+v", got, want)
	}
}

func TestAWeeklySumIsMetByItsParts(t *testing.T) {
	h := measured(habit.Duration, perWeek(1), habit.AtLeast, 150)
	p := newPast(h).amounts(50, -1, 50, -1, 50, -1, -1).amounts(150, -1, -1, -1, -1, -1, -1).amounts(60, -1, -1, -1, -1, -1, -1)
	if got, want := p.seen().Streak(), (habit.Streak{Current: 0, Best: 2, Unit: "week"}); got != want {
		t.Errorf("streak = %+v, want %+v", got, want)
	}
	if p := p.seen(); !p.Due(monday+4) || p.Due(monday+5) {
		t.Error("want it due until the sum of the week is reached, and not after")
	}
}

func TestAScheduleEditLeavesThePastAsItWas(t *testing.T) {
	p := newPast(habit.Habit{Schedule: workdays}).then(repeat("xxxx---", 8))
	edit := p.next
	before := p.seenOn(edit)
	strength, streak := before.Strength(), before.Streak()

	p.revisions = []habit.Revision{
		{EffectiveDay: monday, Schedule: workdays, TargetType: habit.AtLeast, TargetMilli: 1000},
		{EffectiveDay: edit, Schedule: perWeek(2), TargetType: habit.AtLeast, TargetMilli: 1000},
	}
	p.habit.Schedule = perWeek(2)
	after := p.seenOn(edit)
	if got := after.Strength(); got != strength {
		t.Errorf("strength after the edit = %.9f, want %.9f", got, strength)
	}
	for d := monday; d < edit; d++ {
		if after.Due(d) != before.Due(d) || after.Done(d) != before.Done(d) {
			t.Errorf("%s changed its due or done", d)
		}
	}
	if past := p.seenOn(edit - 1); past.Streak() != streak {
		t.Errorf("streak of the day before = %+v, want %+v", past.Streak(), streak)
	}
}

// Days are counted, not durations: days of 23 and 25 hours, and days without a
// midnight, are days like others.
func TestStreaksRunOverChangesOfTheClock(t *testing.T) {
	for _, zone := range []string{"America/Santiago", "America/Havana", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia"} {
		loc, err := civil.LoadZone(zone)
		if err != nil {
			t.Fatal(err)
		}
		for _, dayStart := range []int{0, 240} {
			t.Run(fmt.Sprintf("%s/day_start=%d", zone, dayStart), func(t *testing.T) {
				p := newPast(habit.Habit{Schedule: daily()})
				first := civil.DayOf(2026, time.January, 1)
				p.habit.StartDay = first
				last := civil.DayOf(2026, time.December, 31)
				for d := first; d <= last; d++ {
					// Ticked a minute into the day, wherever that day begins.
					at := civil.StartOf(d, loc, dayStart).Add(time.Minute)
					p.records = append(p.records, habit.Record{Day: civil.LocalDay(at, loc, dayStart), State: habit.Done, ValueMilli: 1000})
				}
				if got := p.seenOn(last).Streak(); got.Current != 365 {
					t.Errorf("streak = %+v, want 365 days", got)
				}
			})
		}
	}
}

func TestDue(t *testing.T) {
	for _, tt := range []struct {
		name  string
		sched habit.Schedule
		days  string
		want  string // of the week that follows: d due, - not
	}{
		{"every day", daily(), "", "ddddddd"},
		{"some days of the week", on(time.Monday, time.Sunday), "", "d-----d"},
		{"twice a week, once done", perWeek(2), "x-----", "ddddddd"},
		{"every three days, done the day before", everyDays(3), "x", "--ddddd"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPast(habit.Habit{Schedule: tt.sched}).then(tt.days)
			got := ""
			for i := range 7 {
				if p.seen().Due(p.next + civil.Day(i)) {
					got += "d"
				} else {
					got += "-"
				}
			}
			if got != tt.want {
				t.Errorf("due = %s, want %s", got, tt.want)
			}
		})
	}
	met := newPast(habit.Habit{Schedule: perWeek(2)}).then("x-x")
	if p := met.seen(); !p.Due(monday+2) || p.Due(monday+3) || !p.Due(monday+7) {
		t.Error("twice a week: want it due until it was done twice, and again next week")
	}
}

func TestDoneBeforeItBeganBeganEarlier(t *testing.T) {
	p := newPast(habit.Habit{Schedule: daily()})
	p.next = monday - 2
	p.then("xxx")
	if got := p.seen().Streak().Current; got != 3 {
		t.Errorf("streak = %d, want 3", got)
	}
}
