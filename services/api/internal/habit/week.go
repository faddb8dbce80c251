package habit

import (
	"context"
	"fmt"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// Week is a week of all habits in use.
type Week struct {
	Day    civil.Day // the day asked for
	Today  civil.Day
	First  civil.Day // of the week
	Habits []WeekHabit
}

// WeekHabit is a week of a habit, by day.
type WeekHabit struct {
	Habit    Habit
	Due      [7]bool
	Done     [7]bool
	Records  [7]*Record
	Streak   Streak
	Strength float64
}

// Stats is what follows from all records of a habit.
type Stats struct {
	Streak     Streak
	Strength   float64
	TotalDone  int
	TotalMilli int64
	FirstDay   civil.Day
	LastDone   *civil.Day
}

// Week returns the week of a day, the present one for day 0, in the same
// number of queries for any number of habits.
func (hs *Habits) Week(ctx context.Context, by account.User, day civil.Day) (Week, error) {
	today := by.DayAt(hs.now())
	if day == 0 {
		day = today
	}
	first := day.WeekStart(by.WeekStart)
	key := fmt.Sprintf("%s:%s:%s", by.ID, first, today)
	w, err := hs.weeks.GetOrLoad(ctx, key, func(ctx context.Context, _ string, _ *tiered.Load[Week]) (Week, error) {
		return hs.week(ctx, by, first, today)
	}, tiered.Tags(tag(by.ID)))
	if err != nil {
		return Week{}, fmt.Errorf("read week of %s: %w", by.ID, err)
	}
	w.Day = day
	return w, nil
}

func (hs *Habits) week(ctx context.Context, by account.User, first, today civil.Day) (Week, error) {
	all, err := hs.store.HabitsOf(ctx, by.ID)
	if err != nil {
		return Week{}, err
	}
	var used []Habit
	for _, h := range all {
		if h.ArchivedAt == nil {
			used = append(used, h)
		}
	}
	past, err := hs.histories(ctx, by, used, max(today, first+7)+1)
	if err != nil {
		return Week{}, err
	}
	w := Week{Today: today, First: first, Habits: make([]WeekHabit, 0, len(used))}
	for _, h := range used {
		p := past[h.ID]
		wh := WeekHabit{Habit: h, Streak: p.Streak(), Strength: p.Strength()}
		for i := range 7 {
			d := first + civil.Day(i)
			wh.Due[i], wh.Done[i], wh.Records[i] = p.Due(d), p.Done(d), p.record(d)
		}
		w.Habits = append(w.Habits, wh)
	}
	return w, nil
}

// Stats returns what follows from all records of a habit of by.
func (hs *Habits) Stats(ctx context.Context, by account.User, id string) (Stats, error) {
	h, err := hs.Habit(ctx, by, id)
	if err != nil {
		return Stats{}, err
	}
	past, err := hs.histories(ctx, by, []Habit{h}, by.DayAt(hs.now())+2)
	if err != nil {
		return Stats{}, err
	}
	p := past[id]
	s := Stats{Streak: p.Streak(), Strength: p.Strength(), FirstDay: p.first}
	for day := range p.records {
		if p.Done(day) {
			s.TotalDone++
			if s.LastDone == nil || day > *s.LastDone {
				s.LastDone = &day
			}
		}
		if p.noted(day) {
			s.TotalMilli += p.records[day].ValueMilli
		}
	}
	return s, nil
}
