package civil_test

import (
	_ "embed"
	"errors"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the same zones on every machine

	"pgregory.net/rapid"

	"github.com/crewbeat/crewbeat/services/internal/civil"
)

//go:embed testdata/zones.txt
var zoneNames string

// span is a stretch of time in which a zone's offset does not change.
type span struct {
	from, to int64 // Unix seconds, to is not part of it
	offset   int64
}

// spans cuts the years 1970 to 2038 of a zone where its offset changes.
func spans(loc *time.Location) []span {
	const begin, end = 0, 2145916800
	list := []span{{from: begin, offset: offsetAt(begin, loc)}}
	for u := int64(begin); u < end; {
		_, next := time.Unix(u, 0).In(loc).ZoneBounds()
		if next.IsZero() || next.Unix() >= end {
			break
		}
		u = next.Unix()
		last := &list[len(list)-1]
		if o := offsetAt(u, loc); o != last.offset {
			last.to = u
			list = append(list, span{from: u, offset: o})
		}
	}
	list[len(list)-1].to = end
	return list
}

func offsetAt(unix int64, loc *time.Location) int64 {
	_, o := time.Unix(unix, 0).In(loc).Zone()
	return int64(o)
}

func zones(t testing.TB) map[string]*time.Location {
	t.Helper()
	all := map[string]*time.Location{}
	for name := range strings.FieldsSeq(zoneNames) {
		loc, err := civil.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		all[name] = loc
	}
	if len(all) < 400 {
		t.Fatalf("only %d zones", len(all))
	}
	return all
}

// TestResolveFindsEveryInstantOfEveryZone compares Resolve, around every
// change of every zone's clocks, with a search through all of the zone's spans.
func TestResolveFindsEveryInstantOfEveryZone(t *testing.T) {
	changes := 0
	for name, loc := range zones(t) {
		list := spans(loc)
		for i := 1; i < len(list); i++ {
			changes++
			at, old := list[i].from, list[i-1].offset
			lo, hi := min(at+old, at+list[i].offset), max(at+old, at+list[i].offset)
			for _, wall := range []int64{lo - 86400, lo - 60, lo, lo + 60, (lo + hi) / 2, hi - 60, hi, hi + 60, hi + 86400} {
				wall -= wall % 60
				if wall < 86400*3 {
					continue
				}
				day, minute := civil.Day(wall/86400), int(wall%86400/60)
				want, kind := search(list, max(0, i-4), min(len(list), i+4), wall)
				got, gotKind := civil.Resolve(day, minute, loc)
				if got.Unix() != want || gotKind != kind {
					t.Errorf("%s: %s %02d:%02d = %s, %s; want %s, %s", name, day, minute/60, minute%60,
						got.UTC(), gotKind, time.Unix(want, 0).UTC(), kind)
				}
			}
		}
	}
	if changes < 10_000 {
		t.Errorf("only %d changes of clocks seen", changes)
	}
}

func search(list []span, from, to int, wall int64) (int64, civil.Kind) {
	var found []int64
	after := int64(1 << 62)
	for _, s := range list[from:to] {
		if u := wall - s.offset; s.from <= u && u < s.to {
			found = append(found, u)
		}
		if s.from+s.offset > wall {
			after = min(after, s.from)
		}
	}
	switch len(found) {
	case 0:
		return after, civil.Gap
	case 1:
		return found[0], civil.Exact
	}
	return found[0], civil.Fold
}

// TestADayBeginsAtItsStart holds LocalDay and StartOf together on all days on
// which clocks change, and the days around, in every zone.
func TestADayBeginsAtItsStart(t *testing.T) {
	for name, loc := range zones(t) {
		list := spans(loc)
		for _, s := range list[1:] {
			for day := civil.LocalDay(time.Unix(s.from, 0), loc, 0) - 2; day <= civil.LocalDay(time.Unix(s.from, 0), loc, 0)+2; day++ {
				for _, dayStart := range []int{0, 1, 60, 120, 150, 180, 240, 720} {
					checkStart(t, name, loc, day, dayStart)
				}
			}
		}
	}
}

func checkStart(t interface {
	Helper()
	Errorf(format string, args ...any)
}, name string, loc *time.Location, day civil.Day, dayStart int) {
	t.Helper()
	start, next := civil.StartOf(day, loc, dayStart), civil.StartOf(day+1, loc, dayStart)
	if next.Before(start) {
		t.Errorf("%s %s+%d: begins %s, after the next day at %s", name, day, dayStart, start, next)
	}
	if next.Equal(start) {
		return // a day that the zone left out, as Apia did 2011-12-30
	}
	if got := civil.LocalDay(start, loc, dayStart); got != day {
		t.Errorf("%s %s+%d: at its start %s it is %s", name, day, dayStart, start, got)
	}
	if got := civil.LocalDay(start.Add(-time.Nanosecond), loc, dayStart); got >= day {
		t.Errorf("%s %s+%d: before its start %s it is %s", name, day, dayStart, start, got)
	}
	if length := next.Sub(start); length > 49*time.Hour {
		t.Errorf("%s %s+%d: lasts %s", name, day, dayStart, length)
	}
}

func TestAnyDayBeginsAtItsStart(t *testing.T) {
	all := strings.Fields(zoneNames)
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.SampledFrom(all).Draw(t, "zone")
		loc, err := civil.LoadZone(name)
		if err != nil {
			t.Fatal(err)
		}
		day := civil.Day(rapid.Int32Range(2, 24_000).Draw(t, "day"))
		checkStart(t, name, loc, day, rapid.IntRange(0, 720).Draw(t, "day start"))
	})
}

// TestATimeOnTheClockIsFoundAgain goes from an instant to the wall and back.
func TestATimeOnTheClockIsFoundAgain(t *testing.T) {
	all := strings.Fields(zoneNames)
	rapid.Check(t, func(t *rapid.T) {
		loc, err := civil.LoadZone(rapid.SampledFrom(all).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.Unix(rapid.Int64Range(3*86400, 2_100_000_000).Draw(t, "instant"), 0).In(loc)
		// By the wall, for some zones were once off by seconds, too.
		at = at.Add(-time.Duration(at.Second()) * time.Second)
		got, kind := civil.Resolve(civil.DayOf(at.Date()), at.Hour()*60+at.Minute(), loc)
		switch {
		case kind == civil.Gap:
			t.Errorf("%s happened and is called a gap", at)
		case got.Equal(at):
		case kind == civil.Fold && got.Before(at):
		default:
			t.Errorf("%s resolves to %s, %s", at, got, kind)
		}
	})
}

func TestDaysWithoutAMidnight(t *testing.T) {
	for _, tt := range []struct {
		zone, day, start string // start as clock and offset
		length           time.Duration
	}{
		{"America/Santiago", "2026-09-06", "01:00:00-03:00", 23 * time.Hour},
		{"America/Havana", "2026-03-08", "01:00:00-04:00", 23 * time.Hour},
		{"America/Havana", "2026-11-01", "00:00:00-04:00", 25 * time.Hour},
		{"Africa/Cairo", "2026-04-24", "01:00:00+03:00", 23 * time.Hour},
		{"Asia/Beirut", "2026-03-29", "01:00:00+03:00", 23 * time.Hour},
		{"Europe/Berlin", "2026-03-29", "00:00:00+01:00", 23 * time.Hour},
		{"Europe/Berlin", "2026-10-25", "00:00:00+02:00", 25 * time.Hour},
		{"Australia/Lord_Howe", "2026-04-05", "00:00:00+11:00", 24*time.Hour + 30*time.Minute},
		{"Pacific/Apia", "2011-12-30", "00:00:00+14:00", 0}, // left out
	} {
		loc, day := zone(t, tt.zone), parse(t, tt.day)
		start := civil.StartOf(day, loc, 0)
		if got := start.Format("15:04:05-07:00"); got != tt.start {
			t.Errorf("%s %s begins at %s, want %s", tt.zone, tt.day, got, tt.start)
		}
		if got := civil.StartOf(day+1, loc, 0).Sub(start); got != tt.length {
			t.Errorf("%s %s lasts %s, want %s", tt.zone, tt.day, got, tt.length)
		}
		if got := civil.LocalDay(start, loc, 0); tt.length > 0 && got != day {
			t.Errorf("%s at the start of %s it is %s", tt.zone, tt.day, got)
		}
	}
}

func TestTheDayTurnsAtItsStartWhenClocksChange(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	for _, tt := range []struct {
		name, at, want string
		dayStart       int
	}{
		{"a night owl after midnight", "2026-06-10T01:30:00Z", "2026-06-09", 240},
		{"at the start", "2026-06-10T02:00:00Z", "2026-06-10", 240},
		{"spring, a minute before four", "2026-03-29T01:59:59Z", "2026-03-28", 240},
		{"spring, four", "2026-03-29T02:00:00Z", "2026-03-29", 240},
		{"spring, the start lies in the gap: before", "2026-03-29T00:59:59Z", "2026-03-28", 150},
		{"spring, the start lies in the gap: after", "2026-03-29T01:00:00Z", "2026-03-29", 150},
		{"autumn, a minute before four", "2026-10-25T02:59:59Z", "2026-10-24", 240},
		{"autumn, four", "2026-10-25T03:00:00Z", "2026-10-25", 240},
		{"autumn, half past two comes first", "2026-10-25T00:30:00Z", "2026-10-25", 150},
		{"autumn, two o'clock again is before it", "2026-10-25T01:00:00Z", "2026-10-24", 150},
		{"autumn, half past two again", "2026-10-25T01:30:00Z", "2026-10-25", 150},
	} {
		at, err := time.Parse(time.RFC3339, tt.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := civil.LocalDay(at, berlin, tt.dayStart).String(); got != tt.want {
			t.Errorf("%s: %s is on %s, want %s", tt.name, tt.at, got, tt.want)
		}
	}
}

func TestLoadZoneWantsAnIANAName(t *testing.T) {
	for _, name := range []string{"", "Local", "Mars/Olympus", "../etc/passwd", "Europe/Berlin\x00", "+02:00"} {
		_, err := civil.LoadZone(name)
		if !errors.Is(err, civil.ErrZone) || !strings.Contains(err.Error(), "Europe/Berlin") {
			t.Errorf("LoadZone(%q) = %v, want ErrZone with an example", name, err)
		}
	}
	if loc := zone(t, "Asia/Kolkata"); loc.String() != "Asia/Kolkata" {
		t.Errorf("loaded %s", loc)
	}
}

func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := civil.LoadZone(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

func parse(t *testing.T, s string) civil.Day {
	t.Helper()
	d, err := civil.ParseDay(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
