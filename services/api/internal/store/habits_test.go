package store_test

import (
	"context"
	"fmt"
	"reflect"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

func TestAHabitIsReadAsItWasCreated(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		crew, club := f.team(t, "Crew", mira), f.team(t, "Club", mira)
		want := f.habit(t, mira, func(h *habit.Habit) {
			h.Name, h.Kind, h.Unit, h.TargetMilli = `Drink "water" — it's ?1 $1 \ 水`, habit.Count, "glasses", 8000
			h.Schedule = habit.Schedule{Type: habit.Weekdays, Weekdays: 0b0111110}
			h.Visibility, h.TeamIDs = habit.Named, []string{crew.ID, club.ID}
			h.EndDay, h.AssumeZero, h.Position = new(day(30)), true, 3
			h.ArchivedAt = new(dawn.Add(time.Minute))
		})
		got, err := f.Habits().Habit(t.Context(), want.ID)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("read:\n%+v, %v, want\n%+v", got, err, want)
		}
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			got, err := tx.Habit(ctx, want.ID)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("read in the transaction:\n%+v, want\n%+v", got, want)
			}
			return err
		})
		_, err = f.Habits().Habit(t.Context(), "none")
		wantError(t, err, fault.ErrNotFound)
		wantError(t, f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			_, err := tx.Habit(ctx, "none")
			return err
		}), fault.ErrNotFound)
	})
}

func TestHabitsAreInTheOrderOfTheirOwner(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira, jonas := f.user(t, "mira"), f.user(t, "jonas")
		var want []string
		for _, position := range []int{2, 0, 1, 0} {
			want = append(want, f.habit(t, mira, func(h *habit.Habit) { h.Position = position }).ID)
		}
		want = []string{want[1], want[3], want[2], want[0]}
		f.habit(t, jonas)
		list, err := f.Habits().HabitsOf(t.Context(), mira.ID)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range list {
			got = append(got, h.ID)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("order %v, want %v", got, want)
		}
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			for user, want := range map[string]int{mira.ID: 3, jonas.ID: 1} {
				if next, err := tx.NextPosition(ctx, user); next != want || err != nil {
					t.Errorf("next position %d, %v, want %d", next, err, want)
				}
			}
			return nil
		})
	})
}

func TestSavingAHabitNeedsTheVersionBefore(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		crew, club := f.team(t, "Crew", mira), f.team(t, "Club", mira)
		h := f.habit(t, mira, func(h *habit.Habit) { h.Visibility, h.TeamIDs = habit.Named, []string{crew.ID} })
		h.Name, h.TeamIDs, h.Version, h.UpdatedAt = "Walk", []string{club.ID}, 2, dawn.Add(time.Hour)
		save := func(ctx context.Context, tx habit.Tx) error { return tx.SaveHabit(ctx, h) }
		f.inHabits(t, save)
		if got, err := f.Habits().Habit(t.Context(), h.ID); err != nil || !reflect.DeepEqual(got, h) {
			t.Errorf("saved as %+v, %v, want %+v", got, err, h)
		}
		saved := h
		h.Name, h.TeamIDs = "Sit", nil
		wantError(t, f.Habits().Change(t.Context(), save), fault.ErrStale)
		if got, err := f.Habits().Habit(t.Context(), h.ID); err != nil || !reflect.DeepEqual(got, saved) {
			t.Errorf("a stale save left %+v, %v", got, err)
		}
		h.ID = "none"
		wantError(t, f.Habits().Change(t.Context(), save), fault.ErrNotFound)
		h = saved
		h.Version, h.TeamIDs = 3, []string{"no team"}
		wantError(t, f.Habits().Change(t.Context(), save), fault.ErrNotFound)
		h.TeamIDs, h.Visibility = []string{crew.ID}, habit.Private
		f.inHabits(t, save)
		if got, _ := f.Habits().Habit(t.Context(), h.ID); got.TeamIDs != nil {
			t.Errorf("a private habit is shared with %v", got.TeamIDs)
		}
	})
}

func TestRevisionsAreInTheOrderOfTheirDays(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		a, b := f.habit(t, mira), f.habit(t, mira)
		daily := habit.Revision{EffectiveDay: day(9), Schedule: habit.Schedule{Type: habit.Daily}, TargetType: habit.AtLeast, TargetMilli: 1}
		weekly := habit.Revision{EffectiveDay: day(2), Schedule: habit.Schedule{Type: habit.NPerWeek, N: 3}, TargetType: habit.AtMost, TargetMilli: 5}
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			for _, r := range []habit.Revision{daily, weekly} {
				if err := tx.SaveRevision(ctx, a.ID, r); err != nil {
					return err
				}
			}
			daily.TargetMilli = 7 // the same day again
			return tx.SaveRevision(ctx, a.ID, daily)
		})
		got, err := f.Habits().Revisions(t.Context(), []string{a.ID, b.ID})
		want := map[string][]habit.Revision{a.ID: {weekly, daily}}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
	})
}

func TestRecordsAreThoseFromADayUntilBeforeAnother(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		a, b, other := f.habit(t, mira), f.habit(t, mira), f.habit(t, mira)
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			for _, d := range []civil.Day{day(5), day(1), day(2), day(4), day(3)} {
				for _, h := range []habit.Habit{b, a, other} {
					if err := tx.PutRecord(ctx, record(h, d)); err != nil {
						return err
					}
				}
			}
			return nil
		})
		got, err := f.Habits().Records(t.Context(), []string{b.ID, a.ID}, day(2), day(4))
		want := []habit.Record{record(a, day(2)), record(a, day(3)), record(b, day(2)), record(b, day(3))}
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v, %v, want %+v", got, err, want)
		}
		for _, none := range [][]string{nil, {"none"}} {
			if got, err := f.Habits().Records(t.Context(), none, day(1), day(9)); len(got) > 0 || err != nil {
				t.Errorf("of %v: %+v, %v", none, got, err)
			}
		}
	})
}

func TestARecordIsPutReplacedAndDeleted(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		h := f.habit(t, f.user(t, "mira"))
		expect := func(ctx context.Context, tx habit.Tx, want habit.Record, there bool) error {
			got, ok, err := tx.Record(ctx, h.ID, day(2))
			if ok != there || got != want || err != nil {
				return fmt.Errorf("record %+v, %t, %w; want %+v, %t", got, ok, err, want, there)
			}
			return nil
		}
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			if err := expect(ctx, tx, habit.Record{}, false); err != nil {
				return err
			}
			r := record(h, day(2))
			if err := tx.PutRecord(ctx, r); err != nil {
				return err
			}
			r.State, r.ValueMilli, r.Note, r.TZ, r.Source = habit.Skip, 0, "", "Asia/Tokyo", "api"
			r.RecordedAt = dawn.Add(time.Second)
			if err := tx.PutRecord(ctx, r); err != nil {
				return err
			}
			if err := expect(ctx, tx, r, true); err != nil {
				return err
			}
			for range 2 { // deleting what is not there is no error
				if err := tx.DeleteRecord(ctx, h.ID, day(2)); err != nil {
					return err
				}
			}
			return expect(ctx, tx, habit.Record{}, false)
		})
		h.ID = "none"
		wantError(t, f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			return tx.PutRecord(ctx, record(h, day(2)))
		}), fault.ErrNotFound)
	})
}

func TestAnOperationIsClaimedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira, jonas := f.user(t, "mira"), f.user(t, "jonas")
		claim := func(ctx context.Context, tx habit.Tx, user string, wantFirst bool, want string) error {
			got, first, err := tx.Op(ctx, user, "op")
			if first != wantFirst || string(got) != want || err != nil {
				return fmt.Errorf("claim: %q, %t, %w; want %q, %t", got, first, err, want, wantFirst)
			}
			return nil
		}
		wantError(t, f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			if err := claim(ctx, tx, mira.ID, true, ""); err != nil {
				return err
			}
			return errDeliberate // undone: the claim too
		}), errDeliberate)
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			if err := claim(ctx, tx, mira.ID, true, ""); err != nil {
				return err
			}
			if err := claim(ctx, tx, mira.ID, false, ""); err != nil {
				return err
			}
			return tx.SetOp(ctx, mira.ID, "op", []byte("{\"streak\":3}\x00\xff"))
		})
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			if err := claim(ctx, tx, mira.ID, false, "{\"streak\":3}\x00\xff"); err != nil {
				return err
			}
			return claim(ctx, tx, jonas.ID, true, "") // ids are each user's own
		})
		wantError(t, f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			return tx.SetOp(ctx, mira.ID, "never claimed", nil)
		}), fault.ErrNotFound)
	})
}

func TestReadsWithinAChangeArePartOfIt(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		h := f.habit(t, f.user(t, "mira"))
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			if err := tx.PutRecord(ctx, record(h, day(2))); err != nil {
				return err
			}
			got, err := f.Habits().Records(ctx, []string{h.ID}, day(1), day(9))
			if len(got) != 1 {
				t.Errorf("the transaction does not see its record: %v", got)
			}
			got, _ = f.Habits().Records(t.Context(), []string{h.ID}, day(1), day(9))
			if len(got) != 0 {
				t.Errorf("others see a record that is not committed: %v", got)
			}
			return err
		})
	})
}

func TestTheLineOfADayIsInTheFeedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira, jonas := f.user(t, "Mira"), f.user(t, "Jonas")
		crew, club := f.team(t, "Crew", mira, jonas), f.team(t, "Club", mira)
		h := f.habit(t, mira)
		line := func(id string, tm string, d civil.Day) habit.Activity {
			return habit.Activity{
				ID: id, TeamID: tm, UserID: mira.ID, UserName: "Mira", HabitID: h.ID, HabitName: "Run", Day: d, At: dawn,
			}
		}
		feed := func(before string, limit int, want ...habit.Activity) {
			t.Helper()
			got, err := f.Teams().Feed(t.Context(), crew.ID, before, limit)
			if err != nil || len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
				t.Errorf("feed %+v, %v, want %+v", got, err, want)
			}
		}
		first, second, third := line("01A", crew.ID, day(1)), line("01B", crew.ID, day(2)), line("01a", crew.ID, day(3))
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			if teams, err := tx.TeamsOf(ctx, mira.ID); err != nil || !reflect.DeepEqual(teams, []string{crew.ID, club.ID}) {
				t.Errorf("teams %v, %v", teams, err)
			}
			for _, a := range []habit.Activity{third, first, line("019", crew.ID, day(2)), second, line("01B", club.ID, day(2))} {
				if err := tx.AddActivity(ctx, a); err != nil {
					return err
				}
			}
			return nil
		})
		feed("", 10, third, second, first) // by bytes: a after B
		feed("01a", 1, second)
		feed("01A", 10)
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			gone, err := tx.RemoveActivity(ctx, h.ID, day(2))
			if len(gone) == 2 && gone[0].TeamID != crew.ID {
				gone[0], gone[1] = gone[1], gone[0]
			}
			if want := []habit.Activity{second, line("01B", club.ID, day(2))}; !reflect.DeepEqual(gone, want) {
				t.Errorf("removed %+v, want %+v", gone, want)
			}
			return err
		})
		feed("", 10, third, first)
		wantError(t, f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			return tx.AddActivity(ctx, line("01C", "no team", day(4)))
		}), fault.ErrNotFound)
	})
}
