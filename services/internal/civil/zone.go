package civil

import (
	"errors"
	"fmt"
	"time"
)

// ErrZone reports a text that names no time zone.
var ErrZone = errors.New("not a time zone: expected an IANA name such as Europe/Berlin")

// LoadZone returns the zone of an IANA name. Unlike [time.LoadLocation] it
// refuses "" and "Local": what they mean depends on the machine.
func LoadZone(name string) (*time.Location, error) {
	if name == "" || name == "Local" {
		return nil, fmt.Errorf("%q: %w", name, ErrZone)
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		// What LoadLocation says is about files and not for people.
		return nil, fmt.Errorf("%q: %w", name, ErrZone)
	}
	return loc, nil
}

// LocalDay returns the day it is at t for somebody in loc whose days begin
// dayStartMin minutes after midnight by the clock on the wall: before that it
// is still the day before, on a day of 23 or 25 hours as well. The clock alone
// decides; a wall clock that is set back over the start of the day shows the
// day before again for that hour.
func LocalDay(t time.Time, loc *time.Location, dayStartMin int) Day {
	t = t.In(loc)
	d := DayOf(t.Date())
	if t.Hour()*60+t.Minute() < dayStartMin {
		d--
	}
	return d
}

// Kind says how a time on a wall clock corresponds to an instant.
type Kind int

// The kinds. In a gap the clock is set forward over the time, which does not
// happen; in a fold it is set back and the time happens twice.
const (
	Exact Kind = iota
	Gap
	Fold
)

// String returns the kind as a word.
func (k Kind) String() string {
	switch k {
	case Exact:
		return "exact"
	case Gap:
		return "gap"
	case Fold:
		return "fold"
	}
	return fmt.Sprintf("Kind(%d)", int(k))
}

// Resolve returns the instant at which clocks in loc show the given minute
// after midnight of day, 0..1439 or beyond for the days around. Of two it
// returns the earlier. For a time in a gap it returns the first instant after
// the gap, when the clock has just been set forward.
func Resolve(day Day, minute int, loc *time.Location) (time.Time, Kind) {
	wall := int64(day)*86400 + int64(minute)*60 // the clock, as if it were UTC
	near := wall - offset(wall, loc)            // right, or an hour or so beside it
	before, after := offset(near-86400, loc), offset(near+86400, loc)
	// The clock shows wall at wall-o if o is the offset that holds there.
	var found []int64
	for _, o := range []int64{before, after, offset(near, loc)} {
		if u := wall - o; offset(u, loc) == o && (len(found) == 0 || found[0] != u) {
			found = append(found, u)
		}
	}
	switch len(found) {
	case 0:
		return transition(wall-max(before, after), wall-min(before, after), wall, loc), Gap
	case 1:
		return time.Unix(found[0], 0).In(loc), Exact
	}
	return time.Unix(min(found[0], found[1]), 0).In(loc), Fold
}

// StartOf returns the first instant of day for somebody whose days begin
// dayStartMin minutes after midnight. The next day's start ends it.
func StartOf(day Day, loc *time.Location, dayStartMin int) time.Time {
	t, _ := Resolve(day, dayStartMin, loc)
	return t
}

// transition returns the first instant in [from, to] at which the clock shows
// more than wall. It shows less before, and more at to.
func transition(from, to, wall int64, loc *time.Location) time.Time {
	for from < to {
		mid := from + (to-from)/2
		if mid+offset(mid, loc) > wall {
			to = mid
		} else {
			from = mid + 1
		}
	}
	return time.Unix(to, 0).In(loc)
}

// offset returns how many seconds clocks in loc are ahead of UTC at the
// instant unix.
func offset(unix int64, loc *time.Location) int64 {
	_, o := time.Unix(unix, 0).In(loc).Zone()
	return int64(o)
}
