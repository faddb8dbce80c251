package tiered_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// While hits are many their clock is read once a step, by a timer that stops
// when they do: an entry read again after a pause has expired to the nanosecond.
func TestABusyClockIsExactAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Second)))
		must(t, c.Set(t.Context(), "k", "v"))
		for range 1000 { // at one instant: more than busy
			want(t, c, "k", "v")
		}
		if !s.ClockIsKept() {
			t.Fatal("1000 hits within a step read the clock each: the test has lost its ground")
		}
		<-time.After(time.Second - 1)
		want(t, c, "k", "v")
		<-time.After(1)
		wantErr(t, c, "k", tiered.ErrMiss)
		if s.ClockIsKept() {
			t.Error("a timer goes on though nobody asks")
		}
		closes(t, s)
	})
}

// However busy, a reader sees an entry end, a step late at most.
func TestABusyReaderSeesEntriesExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(10*time.Millisecond)))
		must(t, c.Set(t.Context(), "k", "v"))
		for began := time.Now(); ; <-time.After(100 * time.Microsecond) {
			var err error
			for range 300 {
				_, err = c.Get(t.Context(), "k")
			}
			took := time.Since(began)
			if errors.Is(err, tiered.ErrMiss) && took < 10*time.Millisecond {
				t.Fatalf("it ended after %v", took)
			} else if errors.Is(err, tiered.ErrMiss) {
				break
			} else if took > 11*time.Millisecond {
				t.Fatalf("it was served %v after it was set", took)
			}
		}
		closes(t, s)
	})
}
