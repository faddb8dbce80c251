package habit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// Tick is a change to the record of a day.
type Tick struct {
	HabitID    string
	Day        civil.Day
	State      string // for Put; Done if empty
	ValueMilli *int64 // for Put: the amount, the target if nil; for Add: what to add
	Note       string
	Source     string
	OpID       string // the same id makes the same change once
}

// Result is a day after a change, and what follows from it.
type Result struct {
	Record    *Record
	Streak    Streak
	Strength  float64
	Due       bool
	Done      bool
	Duplicate bool // the change was made before
}

// opResult is what is kept of an operation: which change it was, so that an
// id used for another is found out, and what the change did.
type opResult struct {
	Change string  `json:"change"`
	Record *Record `json:"record"`
}

// Put sets the record of a day.
func (hs *Habits) Put(ctx context.Context, by account.User, t Tick) (Result, error) {
	note, err := text("note", t.Note, 0, 500)
	if err != nil {
		return Result{}, err
	}
	state := or(t.State, Done)
	value := "target"
	if t.ValueMilli != nil {
		value = fmt.Sprint(*t.ValueMilli)
		if *t.ValueMilli < 0 || *t.ValueMilli > maxMilli {
			return Result{}, fault.Invalidf("value_milli", "%d is out of range: send 0 to %d", *t.ValueMilli, int64(maxMilli))
		}
	}
	change := fmt.Sprintf("put %s %s %q", state, value, note)
	return hs.tick(ctx, by, t, change, func(h Habit, target int64, _ *Record) (*Record, error) {
		r := &Record{State: state, Note: note}
		switch state {
		case Done:
			r.ValueMilli = target
			if t.ValueMilli != nil {
				r.ValueMilli = *t.ValueMilli
			}
			if h.Kind == YesNo && r.ValueMilli != target {
				return nil, fault.Invalidf("value_milli", "a yes/no habit takes no amount: leave it out")
			}
		case Skip, Note:
			if t.ValueMilli != nil && *t.ValueMilli != 0 {
				return nil, fault.Invalidf("value_milli", "an amount only goes with state done: leave it out, or send state done")
			}
			if state == Note && note == "" {
				return nil, fault.Invalidf("note", "it is empty: send the text of the note")
			}
		default:
			return nil, fault.Invalidf("state", "%q is unknown: send one of done, skip, note", state)
		}
		return r, nil
	})
}

// Add adds to the amount of a day, down to zero.
func (hs *Habits) Add(ctx context.Context, by account.User, t Tick) (Result, error) {
	if t.ValueMilli == nil || *t.ValueMilli < -maxMilli || *t.ValueMilli > maxMilli {
		return Result{}, fault.Invalidf("delta_milli", "it is missing or out of range: send thousandths of the unit")
	}
	delta := *t.ValueMilli
	return hs.tick(ctx, by, t, fmt.Sprintf("add %d", delta), func(h Habit, _ int64, old *Record) (*Record, error) {
		if h.Kind == YesNo {
			return nil, fault.Invalidf("delta_milli", "a yes/no habit has no amount: PUT the record instead")
		}
		r := &Record{State: Done}
		if old != nil {
			r.Note = old.Note
			if old.State == Done {
				r.ValueMilli = old.ValueMilli
			}
		}
		r.ValueMilli = min(max(r.ValueMilli+delta, 0), maxMilli)
		return r, nil
	})
}

// Clear takes the record of a day back, out of the feeds of teams too.
func (hs *Habits) Clear(ctx context.Context, by account.User, t Tick) (Result, error) {
	return hs.tick(ctx, by, t, "clear", func(Habit, int64, *Record) (*Record, error) { return nil, nil }) // no record, and that is right
}

// tick makes a change once, however often it is asked for, and tells about it.
func (hs *Habits) tick(ctx context.Context, by account.User, t Tick, change string,
	next func(h Habit, target int64, old *Record) (*Record, error),
) (Result, error) {
	now := hs.now().Truncate(time.Millisecond)
	if today := by.DayAt(now); t.Day > today {
		return Result{}, fault.Invalidf("day", "%s is in the future: it is %s in your zone, %s", t.Day, today, by.TZ)
	}
	if t.OpID == "" || len(t.OpID) > 64 {
		return Result{}, fault.Invalidf("client_op_id", "send an id of 8 to 64 characters, a new one for every change")
	}
	change = t.HabitID + " " + t.Day.String() + " " + change
	var op opResult
	var first bool
	var h Habit
	err := hs.store.Change(ctx, func(ctx context.Context, tx Tx) error {
		op = opResult{Change: change}
		var stored []byte
		var err error
		if stored, first, err = tx.Op(ctx, by.ID, t.OpID); err != nil {
			return err
		}
		if !first {
			return replay(stored, &op, change)
		}
		if h, err = tx.Habit(ctx, t.HabitID); err != nil {
			return err
		}
		if h.UserID != by.ID {
			return fault.ErrNotFound
		}
		if h.ArchivedAt != nil {
			return ErrArchived
		}
		old, existed, err := tx.Record(ctx, h.ID, t.Day)
		if err != nil {
			return err
		}
		var before *Record
		if existed {
			before = &old
		}
		revisions, err := hs.store.Revisions(ctx, []string{h.ID}) // by ctx, a part of the transaction
		if err != nil {
			return err
		}
		rev := revisionOn(h, revisions[h.ID], t.Day)
		if op.Record, err = next(h, rev.TargetMilli, before); err != nil {
			return err
		}
		if r := op.Record; r != nil {
			r.HabitID, r.Day, r.RecordedAt, r.TZ, r.Source = h.ID, t.Day, now, by.TZ, or(t.Source, "api")
		}
		if same(before, op.Record) {
			op.Record = before // nothing to write, nothing to tell
		} else if err := hs.write(ctx, tx, by, h, rev, t.Day, before, op.Record, now); err != nil {
			return err
		}
		raw, err := json.Marshal(op)
		if err != nil {
			return fmt.Errorf("write result: %w", err)
		}
		return tx.SetOp(ctx, by.ID, t.OpID, raw)
	})
	if err != nil {
		return Result{}, fmt.Errorf("tick habit %s: %w", t.HabitID, err)
	}
	if first {
		hs.forget(ctx, by.ID)
	} else if h, err = hs.Habit(ctx, by, t.HabitID); err != nil {
		return Result{}, err
	}
	past, err := hs.histories(ctx, by, []Habit{h}, by.DayAt(hs.now())+2)
	if err != nil {
		return Result{}, err
	}
	p := past[h.ID]
	return Result{
		Record: op.Record, Streak: p.Streak(), Strength: p.Strength(), Due: p.Due(t.Day),
		Done: done(h.Kind, p.revision(t.Day), op.Record), Duplicate: !first,
	}, nil
}

// replay reads what an operation did the first time.
func replay(stored []byte, op *opResult, change string) error {
	if err := json.Unmarshal(stored, op); err != nil {
		return fmt.Errorf("read result: %w", err)
	}
	if op.Change != change {
		return ErrOpReused
	}
	return nil
}

// same tells whether two records say the same.
func same(a, b *Record) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.State == b.State && a.ValueMilli == b.ValueMilli && a.Note == b.Note
}

// write stores the record of a day and emits what follows: the owner hears of
// every change, the teams that may see the habit of the day's becoming done,
// and of its being taken back.
func (hs *Habits) write(ctx context.Context, tx Tx, by account.User, h Habit, rev Revision, day civil.Day,
	before, after *Record, now time.Time,
) error {
	var err error
	if after == nil {
		err = tx.DeleteRecord(ctx, h.ID, day)
	} else {
		err = tx.PutRecord(ctx, *after)
	}
	if err != nil {
		return err
	}
	was, is := done(h.Kind, rev, before), done(h.Kind, rev, after)
	name := "habit_record_changed"
	if is && !was {
		name = "habit_completed"
	}
	err = hs.tell(ctx, tx, ulid.Make().String(), Channel(by.ID), name, now, map[string]any{
		"habit_id": h.ID, "day": day, "record": tellRecord(after),
	})
	switch {
	case err != nil:
		return err
	case is && !was:
		return hs.share(ctx, tx, by, h, day, now)
	case was && !is:
		lines, err := tx.RemoveActivity(ctx, h.ID, day)
		if err != nil {
			return err
		}
		for _, line := range lines {
			if err := hs.tellRetracted(ctx, tx, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// share adds a line to the feed of every team that may see the habit.
func (hs *Habits) share(ctx context.Context, tx Tx, by account.User, h Habit, day civil.Day, now time.Time) error {
	teams, err := audience(ctx, tx, h)
	if err != nil {
		return err
	}
	for _, id := range teams {
		a := Activity{
			ID: ulid.Make().String(), TeamID: id, UserID: by.ID, UserName: by.Name,
			HabitID: h.ID, HabitName: h.Name, Day: day, At: now,
		}
		if err := tx.AddActivity(ctx, a); err != nil {
			return err
		}
		err := hs.tell(ctx, tx, a.ID, FeedChannel(id), "member_habit_completed", now, map[string]any{
			"activity_id": a.ID, "user_id": a.UserID, "user_name": a.UserName,
			"habit_id": a.HabitID, "habit_name": a.HabitName, "day": a.Day, "completed_at": a.At.UTC(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// tellRecord is a record as events carry it.
func tellRecord(r *Record) any {
	if r == nil {
		return nil
	}
	return map[string]any{
		"day": r.Day, "state": r.State, "value_milli": r.ValueMilli, "note": r.Note,
		"recorded_at": r.RecordedAt.UTC(), "source": r.Source,
	}
}
