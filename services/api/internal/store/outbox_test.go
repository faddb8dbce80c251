package store_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
)

func happened(id, channel string) event.Event {
	return event.Event{
		ID: id, Channel: channel, Name: "habit_completed", Class: event.Latest,
		Data: []byte(`{"note":"it's ok?"}`), At: dawn.Add(7 * time.Millisecond), Trace: "00-1-2-01",
	}
}

func ids(events []event.Event) (list []string) {
	for _, e := range events {
		list = append(list, e.ID)
	}
	return list
}

func TestEventsArePendingOnceTheirTransactionIsCommitted(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		a, b := happened("a", "one"), happened("b", "two")
		wantError(t, f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			if err := tx.Emit(ctx, a); err != nil {
				return err
			}
			return errDeliberate
		}), errDeliberate)
		select {
		case <-f.Outbox().Wake():
			t.Error("the relay is woken for a transaction that was undone")
		default:
		}
		f.inTeams(t, func(ctx context.Context, tx team.Tx) error {
			if err := tx.Emit(ctx, b); err != nil {
				return err
			}
			return tx.Emit(ctx, a)
		})
		select {
		case <-f.Outbox().Wake():
		default:
			t.Error("the relay is not woken after the commit")
		}
		if got := f.pending(t); !reflect.DeepEqual(got, []event.Event{b, a}) {
			t.Errorf("pending %+v", got)
		}
		if got, err := f.Outbox().Pending(t.Context(), 1); len(got) != 1 || got[0].ID != "b" || err != nil {
			t.Errorf("the oldest is %+v, %v", got, err)
		}
		for range 2 {
			if err := f.Outbox().Published(t.Context(), []string{"b", "unknown"}); err != nil {
				t.Fatal(err)
			}
		}
		if got := f.pending(t); !reflect.DeepEqual(ids(got), []string{"a"}) {
			t.Errorf("pending after b was published: %+v", got)
		}
		if err := f.Outbox().Published(t.Context(), nil); err != nil {
			t.Error(err)
		}
	})
}

func TestAnEventThatNobodyCouldReadIsRefused(t *testing.T) {
	f := open(t, "sqlite:"+t.TempDir()+"/c.db")
	for want, e := range map[string]event.Event{
		"needs an id":  {Channel: "c", Name: "n", Data: []byte("{}")},
		"a channel":    {ID: "i", Name: "n", Data: []byte("{}")},
		"a name":       {ID: "i", Channel: "c", Data: []byte("{}")},
		"not JSON":     {ID: "i", Channel: "c", Name: "n", Data: []byte("{")},
		"32768 are al": {ID: "i", Channel: "c", Name: "n", Data: []byte(`"` + strings.Repeat("x", 32<<10) + `"`)},
	} {
		err := f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error { return tx.Emit(ctx, e) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}

func TestAnEventCarriesTheTraceOfItsWriter(t *testing.T) {
	f := open(t, "sqlite:"+t.TempDir()+"/c.db")
	span := trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID{0xab, 15: 0x01}, SpanID: trace.SpanID{0xcd, 7: 0x02}, TraceFlags: trace.FlagsSampled,
	})
	e := happened("a", "c")
	e.Trace, e.Class = "", ""
	err := f.Habits().Change(trace.ContextWithSpanContext(t.Context(), span), func(ctx context.Context, tx habit.Tx) error {
		return tx.Emit(ctx, e)
	})
	if err != nil {
		t.Fatal(err)
	}
	got := f.pending(t)[0]
	if want := "00-ab000000000000000000000000000001-cd00000000000002-01"; got.Trace != want {
		t.Errorf("trace %q, want %q", got.Trace, want)
	}
	if got.Class != event.Durable {
		t.Errorf("class %q", got.Class)
	}
}

// TestOneRelayHoldsTheLease goes by the clock of the database, as the lease
// does, and therefore has to wait for it.
func TestOneRelayHoldsTheLease(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		take := func(holder string, ttl time.Duration) bool {
			t.Helper()
			held, err := f.Outbox().Lease(t.Context(), holder, ttl)
			if err != nil {
				t.Fatal(err)
			}
			return held
		}
		if !take("a", time.Minute) {
			t.Fatal("a does not get the free lease")
		}
		if !take("a", time.Minute) {
			t.Fatal("a cannot renew its lease")
		}
		if take("b", time.Minute) {
			t.Fatal("b gets a's lease")
		}
		take("a", 0) // gives it back
		if !take("b", 100*time.Millisecond) {
			t.Fatal("b does not get the lease that a gave back")
		}
		eventually(t, "a gets the lease when b's has run out", func() bool { return take("a", time.Minute) })

		take("a", 0)
		var winners sync.Map
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				holder := fmt.Sprint("racer ", i)
				if held, err := f.Outbox().Lease(t.Context(), holder, time.Minute); held && err == nil {
					winners.Store(holder, true)
				}
			})
		}
		all.Wait()
		n := 0
		winners.Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("%d hold the lease", n)
		}
	})
}

// TestAChannelIsInTheOrderOfItsCommits is the case that sequence numbers
// alone get wrong: the first writer takes the lower number, the second commits
// first, and a relay that reads in between publishes the second before the
// first. The first is held just before its commit, by a lock that only its
// last statement meets.
func TestAChannelIsInTheOrderOfItsCommits(t *testing.T) {
	f := open(t, pgtest.Database(t))
	// A writer whose event is called "slow" waits after taking its number.
	for _, statement := range []string{
		`CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NEW; END $$`,
		`CREATE CONSTRAINT TRIGGER hold_slow AFTER INSERT ON outbox DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW WHEN (NEW.id = 'slow') EXECUTE FUNCTION hold()`,
	} {
		if _, err := f.db.SQL().ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	gate, err := f.db.SQL().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	if _, err := gate.ExecContext(t.Context(), "SELECT pg_advisory_lock(42)"); err != nil {
		t.Fatal(err)
	}
	emit := func(id, channel string) error {
		return f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
			return tx.Emit(ctx, happened(id, channel))
		})
	}
	var writers sync.WaitGroup
	writers.Go(func() {
		if err := emit("slow", "team:1:activity"); err != nil {
			t.Error(err)
		}
	})
	waiting := func(n int) func() bool {
		return func() bool {
			return f.count(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == n
		}
	}
	eventually(t, "the first writer is about to commit", waiting(1))
	writers.Go(func() {
		if err := emit("fast", "team:1:activity"); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the second writer of the channel waits for the first", waiting(2))
	if err := emit("elsewhere", "team:2:activity"); err != nil { // others do not wait
		t.Error(err)
	}
	if got := ids(f.pending(t)); !reflect.DeepEqual(got, []string{"elsewhere"}) {
		t.Errorf("pending before the first commit: %v", got)
	}
	if _, err := gate.ExecContext(t.Context(), "SELECT pg_advisory_unlock(42)"); err != nil {
		t.Error(err)
	}
	writers.Wait()
	if got := ids(f.pending(t)); !reflect.DeepEqual(got, []string{"slow", "elsewhere", "fast"}) {
		t.Errorf("order %v", got)
	}
}

// TestARelayThatReadsAllTheTimeSeesEveryChannelGrow lets many writers race and
// a reader read as fast as it can, as a relay would.
func TestARelayThatReadsAllTheTimeSeesEveryChannelGrow(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		const writers, each = 8, 15
		h := f.habit(t, f.user(t, "mira"))
		var all sync.WaitGroup
		for w := range writers {
			all.Go(func() {
				for n := range each {
					err := f.Habits().Change(t.Context(), func(ctx context.Context, tx habit.Tx) error {
						if w%2 == 0 { // half of them meet earlier, at the habit
							if _, err := tx.Habit(ctx, h.ID); err != nil {
								return err
							}
						}
						// Two channels, in orders that would lock each other out.
						first, second := "x", "y"
						if w%3 == 0 {
							first, second = second, first
						}
						return errors.Join(
							tx.Emit(ctx, happened(fmt.Sprintf("%s-%d-%d", first, w, n), first)),
							tx.Emit(ctx, happened(fmt.Sprintf("%s-%d-%d", second, w, n), second)))
					})
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		done := make(chan struct{})
		go func() { all.Wait(); close(done) }()
		seen := map[string][]string{}
		for running := true; running; {
			select {
			case <-done:
				running = false
			default:
			}
			now := map[string][]string{}
			for _, e := range f.pending(t) {
				now[e.Channel] = append(now[e.Channel], e.ID)
			}
			for channel, before := range seen {
				if got := now[channel][:min(len(before), len(now[channel]))]; !reflect.DeepEqual(got, before) {
					t.Fatalf("%s began as %v and now as %v", channel, before, got)
				}
			}
			seen = now
		}
		if len(seen["x"]) != writers*each || len(seen["y"]) != writers*each {
			t.Errorf("%d and %d events", len(seen["x"]), len(seen["y"]))
		}
	})
}

func TestSweepRemovesWhatIsOver(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		mira := f.user(t, "mira")
		f.inHabits(t, func(ctx context.Context, tx habit.Tx) error {
			if _, _, err := tx.Op(ctx, mira.ID, "op"); err != nil {
				return err
			}
			return errors.Join(tx.Emit(ctx, happened("sent", "c")), tx.Emit(ctx, happened("not sent", "c")))
		})
		if err := f.Outbox().Published(t.Context(), []string{"sent"}); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			after   time.Duration
			removed int64
		}{{24 * time.Hour, 0}, {time.Millisecond, 1}, {88 * 24 * time.Hour, 0}, {2 * 24 * time.Hour, 1}} {
			f.clock.Add(tt.after.Milliseconds())
			if got, err := f.Sweep(t.Context()); got != tt.removed || err != nil {
				t.Errorf("after another %s: removed %d, %v, want %d", tt.after, got, err, tt.removed)
			}
		}
		if got := ids(f.pending(t)); !reflect.DeepEqual(got, []string{"not sent"}) {
			t.Errorf("pending %v", got)
		}
	})
}

// eventually waits until a real server shows what it is asked for.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	late := time.After(20 * time.Second)
	for !is() {
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("waited in vain until %s", what)
		}
	}
}
