package crew

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Within is how soon a team-mate's tick has to show.
const Within = time.Second

// Story is what the walking skeleton is for, told from outside: two people
// register and form a team; one ticks a shared habit and takes it back, and the
// other sees both live; then a socket is cut, and what happened meanwhile
// arrives once. The suffix keeps people of several stories apart.
func Story(ctx context.Context, site Site, suffix string, logf func(string, ...any)) error {
	mira, err := Register(ctx, site, "Mira-"+suffix)
	if err != nil {
		return fmt.Errorf("register Mira: %w", err)
	}
	jonas, err := Register(ctx, site, "Jonas-"+suffix)
	if err != nil {
		return fmt.Errorf("register Jonas: %w", err)
	}
	team, err := mira.NewTeam(ctx, "Crew "+suffix)
	if err != nil {
		return fmt.Errorf("make a team: %w", err)
	}
	token, err := mira.Invite(ctx, team.Team.ID)
	if err != nil {
		return fmt.Errorf("invite: %w", err)
	}
	if err := jonas.Join(ctx, token); err != nil {
		return fmt.Errorf("join: %w", err)
	}

	activity, own := "team:"+team.Team.ID+":activity", "user:"+jonas.ID+":habits"
	habit, err := jonas.NewHabit(ctx, "Morning run", jonas.Today, team.Team.ID)
	if err != nil {
		return fmt.Errorf("make a habit: %w", err)
	}
	watch, err := mira.Listen(ctx, activity)
	if err != nil {
		return fmt.Errorf("watch the team: %w", err)
	}
	defer watch.Close()
	self, err := jonas.Listen(ctx, own)
	if err != nil {
		return fmt.Errorf("watch own habits: %w", err)
	}
	defer self.Close()

	began := time.Now()
	ticked, err := jonas.Tick(ctx, habit.ID, jonas.Today, suffix+"-tick-1")
	if err != nil {
		return fmt.Errorf("tick: %w", err)
	}
	if ticked.Record == nil || ticked.Record.State != "done" || ticked.Streak.Current != 1 {
		return fmt.Errorf("the tick is answered with %+v", ticked)
	}
	seen, err := watch.AwaitEvent(ctx, "member_habit_completed", about(habit.ID))
	if err != nil {
		return err
	}
	late := seen.At.Sub(began)
	logf("a team-mate saw the tick after %v", late.Round(time.Millisecond))
	if late > Within {
		return fmt.Errorf("a team-mate saw the tick after %v, later than %v", late, Within)
	}
	if _, err := self.AwaitEvent(ctx, "habit_completed", about(habit.ID)); err != nil {
		return err
	}

	// The phone goes through a tunnel.
	watch.Close()
	if err := jonas.Untick(ctx, habit.ID, jonas.Today, suffix+"-tick-2"); err != nil {
		return fmt.Errorf("take the tick back: %w", err)
	}
	again, err := mira.ListenSince(ctx, map[string]string{activity: seen.Offset}, activity)
	if err != nil {
		return fmt.Errorf("come back: %w", err)
	}
	defer again.Close()
	if _, err := again.AwaitEvent(ctx, "member_habit_retracted", about(habit.ID)); err != nil {
		return err
	}
	if _, err := jonas.Tick(ctx, habit.ID, jonas.Today, suffix+"-tick-3"); err != nil {
		return fmt.Errorf("tick again: %w", err)
	}
	if _, err := again.AwaitEvent(ctx, "member_habit_completed", about(habit.ID)); err != nil {
		return err
	}
	if events := again.Events(); len(events) != 2 {
		return fmt.Errorf("%d events after coming back, want the retraction and the new tick, once each: %+v", len(events), events)
	}

	var dashboard struct {
		Habits []struct {
			Habit  Habit
			Streak struct{ Current int }
		}
	}
	if err := jonas.Do(ctx, "GET", "/api/v1/dashboard?day="+jonas.Today, nil, &dashboard); err != nil {
		return fmt.Errorf("open Today: %w", err)
	}
	if len(dashboard.Habits) != 1 || dashboard.Habits[0].Streak.Current != 1 {
		return fmt.Errorf("today shows %+v, want one habit with a streak of 1", dashboard.Habits)
	}
	return nil
}

// about matches events on a habit.
func about(habit string) func(Frame) bool {
	return func(f Frame) bool { return HabitOf(f) == habit }
}

// HabitOf returns the habit that an event is about, or "".
func HabitOf(f Frame) string {
	var data struct {
		HabitID string `json:"habit_id"`
	}
	_ = json.Unmarshal(f.Data, &data) // an event about something else
	return data.HabitID
}

// DayOf returns the day that an event is about, or "".
func DayOf(f Frame) string {
	var data struct {
		Day string `json:"day"`
	}
	_ = json.Unmarshal(f.Data, &data)
	return data.Day
}
