package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/uptrace/bun"

	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

// tick does what the domain does for one tick: it claims the operation, holds
// the habit, adds to the record and says so.
func tick(ctx context.Context, f *fixture, h habit.Habit, op, eventID string) (first bool, err error) {
	err = f.Habits().Change(ctx, func(ctx context.Context, tx habit.Tx) error {
		var claimed bool
		var err error
		if _, claimed, err = tx.Op(ctx, h.UserID, op); err != nil || !claimed {
			first = false
			return err
		}
		if _, err := tx.Habit(ctx, h.ID); err != nil {
			return err
		}
		r, there, err := tx.Record(ctx, h.ID, day(2))
		if err != nil {
			return err
		}
		if !there {
			r = record(h, day(2))
			r.ValueMilli = 0
		}
		r.ValueMilli += 1000
		if err := tx.PutRecord(ctx, r); err != nil {
			return err
		}
		first = true
		return errors.Join(tx.SetOp(ctx, h.UserID, op, []byte("result")), tx.Emit(ctx, happened(eventID, "user:"+h.UserID+":habits")))
	})
	return first, err
}

func TestTwoHundredTicksWithOneOperationAreOne(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		h := f.habit(t, f.user(t, "mira"))
		var firsts atomic.Int32
		var all sync.WaitGroup
		for i := range 200 {
			all.Go(func() {
				first, err := tick(t.Context(), f, h, "one op", fmt.Sprint("e", i))
				if err != nil {
					t.Error(err)
				}
				if first {
					firsts.Add(1)
				}
			})
		}
		all.Wait()
		if got := f.value(t, h); firsts.Load() != 1 || got != 1000 || len(f.pending(t)) != 1 {
			t.Errorf("%d were first, the record holds %d, %d events; want one of each", firsts.Load(), got, len(f.pending(t)))
		}
	})
}

func TestTicksWithOperationsOfTheirOwnAllCount(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		h := f.habit(t, f.user(t, "mira"))
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				if first, err := tick(t.Context(), f, h, fmt.Sprint("op ", i), fmt.Sprint("e", i)); !first || err != nil {
					t.Errorf("first %t, %v", first, err)
				}
			})
		}
		all.Wait()
		if got := f.value(t, h); got != 50_000 || len(f.pending(t)) != 50 {
			t.Errorf("the record holds %d, %d events; want 50000 and 50", got, len(f.pending(t)))
		}
	})
}

func (f *fixture) value(t *testing.T, h habit.Habit) int64 {
	t.Helper()
	list, err := f.Habits().Records(t.Context(), []string{h.ID}, day(1), day(9))
	if err != nil || len(list) != 1 {
		t.Fatalf("records %+v, %v", list, err)
	}
	return list[0].ValueMilli
}

func TestOfRacingSavesOneWins(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		h := f.habit(t, f.user(t, "mira"))
		var won, stale atomic.Int32
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				mine := h
				mine.Name, mine.Version = fmt.Sprint("name ", i), 2
				err := f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error { return tx.SaveHabit(ctx, mine) })
				switch {
				case err == nil:
					won.Add(1)
				case errors.Is(err, fault.ErrStale):
					stale.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 || stale.Load() != 19 {
			t.Errorf("%d won, %d were stale", won.Load(), stale.Load())
		}
	})
}

func TestNewHabitsGetPositionsOfTheirOwn(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				err := f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
					next, err := tx.NextPosition(ctx, mira.ID)
					if err != nil {
						return err
					}
					h := habit.Habit{
						ID: f.id(), UserID: mira.ID, Name: "Run", Kind: habit.YesNo, TargetType: habit.AtLeast, TargetMilli: 1000,
						Schedule: habit.Schedule{Type: habit.Daily}, Visibility: habit.Private, StartDay: day(1), Position: next,
						Version: 1, CreatedAt: dawn, UpdatedAt: dawn,
					}
					return tx.CreateHabit(ctx, h)
				})
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if n := f.count(t, "SELECT count(DISTINCT position) FROM habits"); n != 20 {
			t.Errorf("%d positions for 20 habits", n)
		}
	})
}

// TestTransactionsThatLockEachOtherOutRunAgain makes two transactions take two
// habits in opposite orders: PostgreSQL breaks one of them off.
func TestTransactionsThatLockEachOtherOutRunAgain(t *testing.T) {
	f := open(t, pgtest.Database(t))
	mira := f.user(t, "mira")
	a, b := f.habit(t, mira), f.habit(t, mira)
	var runs atomic.Int32
	meet := make(chan struct{})
	both := func(first, second habit.Habit, e event.Event) error {
		return f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			run := runs.Add(1)
			if err := tx.Emit(ctx, e); err != nil {
				return err
			}
			if _, err := tx.Habit(ctx, first.ID); err != nil {
				return err
			}
			if run == 2 {
				close(meet) // now both hold their first
			}
			<-meet
			_, err := tx.Habit(ctx, second.ID)
			return err
		})
	}
	var all sync.WaitGroup
	for i, order := range [][2]habit.Habit{{a, b}, {b, a}} {
		all.Go(func() {
			if err := both(order[0], order[1], happened(fmt.Sprint(i), "c")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if runs.Load() < 3 {
		t.Errorf("%d runs: the two did not lock each other out", runs.Load())
	}
	if got := len(f.pending(t)); got != 2 {
		t.Errorf("%d events, want one of each transaction", got)
	}
}

// TestATransactionThatNeverFitsGivesUp breaks off every attempt.
func TestATransactionThatNeverFitsGivesUp(t *testing.T) {
	f := open(t, pgtest.Database(t))
	runs := 0
	err := f.db.Transact(t.Context(), func(ctx context.Context, tx bun.Tx) error {
		runs++
		_, err := tx.ExecContext(ctx, "DO $$ BEGIN RAISE EXCEPTION 'again' USING ERRCODE = '40001'; END $$")
		return err
	})
	if err == nil || runs != 8 {
		t.Errorf("%d runs, %v", runs, err)
	}
}

// TestWhoWaitedForAHabitSeesItsNewTeams: a statement that waits for a row sees
// that row anew, but other tables as they were before the wait. A habit would
// be announced to a team that it is no longer shared with.
func TestWhoWaitedForAHabitSeesItsNewTeams(t *testing.T) {
	f := open(t, pgtest.Database(t))
	mira := f.user(t, "mira")
	crew, club := f.team(t, "Crew", mira), f.team(t, "Club", mira)
	h := f.habit(t, mira, func(h *habit.Habit) { h.Visibility, h.TeamIDs = habit.Named, []string{crew.ID} })
	var second sync.WaitGroup
	f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
		held, err := tx.Habit(ctx, h.ID)
		if err != nil {
			return err
		}
		second.Go(func() {
			err := f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
				got, err := tx.Habit(ctx, h.ID)
				if len(got.TeamIDs) != 1 || got.TeamIDs[0] != club.ID || got.Version != 2 {
					t.Errorf("version %d is shared with %v, want version 2 with %s", got.Version, got.TeamIDs, club.ID)
				}
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		eventually(t, "the second waits for the habit", func() bool {
			return f.count(t, "SELECT count(*) FROM pg_locks WHERE NOT granted") > 0
		})
		held.TeamIDs, held.Version = []string{club.ID}, 2
		return tx.SaveHabit(ctx, held)
	})
	second.Wait()
}
