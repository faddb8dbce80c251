// Package civil computes with days and wall clocks as people use them: a day
// is a date in somebody's zone, and may have 23, 24 or 25 hours.
package civil

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// ErrDay reports a text that is not a civil day.
var ErrDay = errors.New("not a day of the form YYYY-MM-DD")

// Day is a date without a zone, counted in days since 1970-01-01. The numbers
// are consecutive, so d+1 is the day after d.
type Day int32

const layout = "2006-01-02"

// DayOf returns the day of a year, month and day of the month.
func DayOf(year int, month time.Month, day int) Day {
	return Day(time.Date(year, month, day, 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

// ParseDay reads YYYY-MM-DD; the years 1970 to 9999 are accepted.
func ParseDay(s string) (Day, error) {
	t, err := time.Parse(layout, s)
	if err != nil || t.Year() < 1970 {
		return 0, fmt.Errorf("%q: %w", s, ErrDay)
	}
	return Day(t.Unix() / 86400), nil
}

// Date returns the year, month and day of the month.
func (d Day) Date() (int, time.Month, int) { return d.utc().Date() }

// Weekday returns the day of the week.
func (d Day) Weekday() time.Weekday { return d.utc().Weekday() }

// String returns YYYY-MM-DD.
func (d Day) String() string { return d.utc().Format(layout) }

// WeekStart returns the first day of d's week, where weeks begin on first.
func (d Day) WeekStart(first time.Weekday) Day {
	return d - Day((int(d.Weekday())-int(first)+7)%7)
}

// MarshalText implements [encoding.TextMarshaler].
func (d Day) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Day) UnmarshalText(b []byte) error {
	v, err := ParseDay(string(b))
	if err == nil {
		*d = v
	}
	return err
}

// Value implements [driver.Valuer]: days are stored as text.
func (d Day) Value() (driver.Value, error) { return d.String(), nil }

// Scan implements sql.Scanner.
func (d *Day) Scan(src any) error {
	switch v := src.(type) {
	case string:
		return d.UnmarshalText([]byte(v))
	case []byte:
		return d.UnmarshalText(v)
	}
	return fmt.Errorf("scan %T: %w", src, ErrDay)
}

func (d Day) utc() time.Time { return time.Unix(int64(d)*86400, 0).UTC() }
