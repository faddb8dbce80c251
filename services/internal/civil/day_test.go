package civil_test

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/crewbeat/crewbeat/services/internal/civil"
)

func TestDaysAreConsecutive(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := civil.Day(rapid.Int32Range(0, 2_900_000).Draw(t, "day"))
		y, m, n := d.Date()
		if got := civil.DayOf(y, m, n+1); got != d+1 {
			t.Fatalf("the day after %s is %s", d, got)
		}
		if got := (d + 1).Weekday(); got != (d.Weekday()+1)%7 {
			t.Fatalf("after a %s comes a %s", d.Weekday(), got)
		}
		back, err := civil.ParseDay(d.String())
		if err != nil || back != d {
			t.Fatalf("%s parses as %s, %v", d, back, err)
		}
	})
}

func TestAWeekHoldsItsDay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := civil.Day(rapid.Int32Range(7, 100_000).Draw(t, "day"))
		first := time.Weekday(rapid.IntRange(0, 6).Draw(t, "first"))
		w := d.WeekStart(first)
		if w.Weekday() != first || d < w || d >= w+7 {
			t.Fatalf("the week of %s from %s begins %s", d, first, w)
		}
	})
}

func TestParseDayTakesOnlyDays(t *testing.T) {
	for _, s := range []string{"", "2026-2-3", "2026-02-30", "2026-02-03T00:00:00Z", "1969-12-31", "02.03.2026", "2026-02-03 "} {
		if d, err := civil.ParseDay(s); !errors.Is(err, civil.ErrDay) {
			t.Errorf("ParseDay(%q) = %s, %v", s, d, err)
		}
	}
}

func TestADayIsTextInJSONAndInTheDatabase(t *testing.T) {
	d := civil.DayOf(2026, time.February, 28)
	b, err := json.Marshal(map[civil.Day]civil.Day{d: d + 1})
	if err != nil || string(b) != `{"2026-02-28":"2026-03-01"}` {
		t.Errorf("JSON %s, %v", b, err)
	}
	if v, err := d.Value(); v != "2026-02-28" || err != nil {
		t.Errorf("database value %v, %v", v, err)
	}
	for _, src := range []any{"2026-02-28", []byte("2026-02-28")} {
		var got civil.Day
		if err := got.Scan(src); err != nil || got != d {
			t.Errorf("scan %T: %s, %v", src, got, err)
		}
	}
	var got civil.Day
	if err := got.Scan(int64(7)); !errors.Is(err, civil.ErrDay) {
		t.Errorf("scan of a number: %v", err)
	}
}
