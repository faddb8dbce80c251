package habit

import (
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// maxMilli bounds amounts so that sums of them stay far from overflow.
const maxMilli = 1_000_000_000_000

// Plan is a schedule as people write it.
type Plan struct {
	Type     string
	Weekdays []int // 0 is Sunday
	N        int
}

// Draft is what a new habit needs; empty fields have the defaults of the API.
type Draft struct {
	Name        string
	Kind        string
	TargetType  string
	TargetMilli *int64
	Unit        string
	Schedule    Plan
	AssumeZero  *bool
	Visibility  string
	TeamIDs     []string
	StartDay    *civil.Day
	EndDay      *civil.Day
	Color       string
	Icon        string
}

// Change is what is to be changed of a habit; nil stays.
type Change struct {
	Name        *string
	TargetType  *string
	TargetMilli *int64
	Unit        *string
	Schedule    *Plan
	AssumeZero  *bool
	Visibility  *string
	TeamIDs     *[]string
	StartDay    *civil.Day
	EndDay      **civil.Day // to nil: it never ends
	Color       *string
	Icon        *string
	Position    *int
	Archived    *bool
}

// Habit returns the habit that d asks for on a day, without what storing it
// adds, or says what to send instead.
func (d Draft) Habit(today civil.Day) (Habit, error) {
	h := Habit{
		Name: d.Name, Kind: or(d.Kind, YesNo), TargetType: or(d.TargetType, AtLeast), Unit: d.Unit,
		AssumeZero: true, Visibility: or(d.Visibility, Private), TeamIDs: d.TeamIDs,
		StartDay: today, EndDay: d.EndDay, Color: d.Color, Icon: d.Icon,
	}
	if d.StartDay != nil {
		h.StartDay = *d.StartDay
	}
	if d.AssumeZero != nil {
		h.AssumeZero = *d.AssumeZero
	}
	var err error
	if h.Schedule, err = d.Schedule.schedule(); err != nil {
		return Habit{}, err
	}
	switch {
	case d.TargetMilli != nil:
		h.TargetMilli = *d.TargetMilli
	case h.Kind == YesNo:
		h.TargetMilli = 1000
	default:
		return Habit{}, fault.Invalidf("target_milli", "it is missing: send how much is to be reached, in thousandths (10 pages are 10000)")
	}
	if h.Kind == Duration && h.Unit == "" {
		h.Unit = "min"
	}
	return h.checked()
}

// apply returns h with the change, as it may be saved.
func (c Change) apply(h Habit, now time.Time) (Habit, error) {
	set(&h.Name, c.Name)
	set(&h.TargetType, c.TargetType)
	set(&h.TargetMilli, c.TargetMilli)
	set(&h.Unit, c.Unit)
	set(&h.AssumeZero, c.AssumeZero)
	set(&h.Visibility, c.Visibility)
	set(&h.TeamIDs, c.TeamIDs)
	set(&h.StartDay, c.StartDay)
	set(&h.EndDay, c.EndDay)
	set(&h.Color, c.Color)
	set(&h.Icon, c.Icon)
	set(&h.Position, c.Position)
	if c.Schedule != nil {
		var err error
		if h.Schedule, err = c.Schedule.schedule(); err != nil {
			return Habit{}, err
		}
	}
	if c.Visibility != nil && *c.Visibility != Named && c.TeamIDs == nil {
		h.TeamIDs = nil
	}
	switch {
	case c.Archived == nil:
	case !*c.Archived:
		h.ArchivedAt = nil
	case h.ArchivedAt == nil:
		h.ArchivedAt = &now
	}
	return h.checked()
}

// checked returns h in its clean form, or says what to send instead.
func (h Habit) checked() (Habit, error) {
	var err error
	if h.Name, err = text("name", h.Name, 1, 80); err != nil {
		return Habit{}, err
	}
	if h.Unit, err = text("unit", h.Unit, 0, 24); err != nil {
		return Habit{}, err
	}
	if h.Color, err = text("color", h.Color, 0, 24); err != nil {
		return Habit{}, err
	}
	if h.Icon, err = text("icon", h.Icon, 0, 32); err != nil {
		return Habit{}, err
	}
	for _, f := range []struct {
		field, value string
		allowed      []string
	}{
		{"kind", h.Kind, []string{YesNo, Count, Duration}},
		{"target_type", h.TargetType, []string{AtLeast, AtMost}},
		{"visibility", h.Visibility, []string{Private, Team, Named}},
	} {
		if !slices.Contains(f.allowed, f.value) {
			return Habit{}, fault.Invalidf(f.field, "%q is unknown: send one of %s", f.value, strings.Join(f.allowed, ", "))
		}
	}
	if err := h.checkTarget(); err != nil {
		return Habit{}, err
	}
	if err := h.checkSharing(); err != nil {
		return Habit{}, err
	}
	if h.EndDay != nil && *h.EndDay < h.StartDay {
		return Habit{}, fault.Invalidf("end_day", "%s is before the start, %s: send a later day, or null for no end", h.EndDay, h.StartDay)
	}
	if h.Position < 0 {
		return Habit{}, fault.Invalidf("position", "%d is below zero: send 0 or more", h.Position)
	}
	return h, nil
}

func (h Habit) checkTarget() error {
	switch {
	case h.Kind == YesNo && h.TargetType == AtMost:
		return fault.Invalidf("target_type", "a yes/no habit has no upper limit: use kind count or duration with at_most")
	case h.Kind == YesNo && h.TargetMilli != 1000:
		return fault.Invalidf("target_milli", "%d does not fit a yes/no habit: leave it out", h.TargetMilli)
	case h.TargetMilli < 0 || h.TargetMilli > maxMilli:
		return fault.Invalidf("target_milli", "%d is out of range: send 1 to %d", h.TargetMilli, int64(maxMilli))
	case h.TargetMilli == 0 && h.TargetType == AtLeast:
		return fault.Invalidf("target_milli", "0 is reached by doing nothing: send a target above zero")
	}
	s := h.Schedule
	if h.TargetType == AtMost && (s.Type == EveryNDays || (s.Type == NPerWeek || s.Type == NPerMonth) && s.N != 1) {
		return fault.Invalidf("schedule", "a limit holds for a day, a week or a month: use daily, weekdays, or n_per_week or n_per_month with n 1")
	}
	return nil
}

func (h *Habit) checkSharing() error {
	switch {
	case h.Visibility == Named && len(h.TeamIDs) == 0:
		return fault.Invalidf("team_ids", "visibility named needs at least one team: send ids of your teams, or use team or private")
	case h.Visibility != Named && len(h.TeamIDs) > 0:
		return fault.Invalidf("team_ids", "it only goes with visibility named: leave it out, or send visibility named")
	case len(h.TeamIDs) > 50:
		return fault.Invalidf("team_ids", "%d are too many: send at most 50", len(h.TeamIDs))
	}
	ids := slices.Clone(h.TeamIDs)
	slices.Sort(ids)
	h.TeamIDs = slices.Compact(ids)
	return nil
}

// schedule reads a plan, or says what to send instead.
func (p Plan) schedule() (Schedule, error) {
	if p.Type != Weekdays && len(p.Weekdays) > 0 {
		return Schedule{}, fault.Invalidf("schedule.weekdays", "it only goes with type weekdays: leave it out, or send type weekdays")
	}
	least, most := 0, 0
	switch p.Type {
	case Daily, Weekdays:
	case NPerWeek:
		least, most = 1, 7
	case NPerMonth:
		least, most = 1, 28
	case EveryNDays:
		least, most = 2, 365
	default:
		return Schedule{}, fault.Invalidf("schedule.type", "%q is unknown: send one of daily, weekdays, n_per_week, n_per_month, every_n_days", p.Type)
	}
	if p.N < least || p.N > most {
		if most == 0 {
			return Schedule{}, fault.Invalidf("schedule.n", "it does not go with type %s: leave it out", p.Type)
		}
		return Schedule{}, fault.Invalidf("schedule.n", "%d does not go with type %s: send %d to %d", p.N, p.Type, least, most)
	}
	s := Schedule{Type: p.Type, N: p.N}
	for _, d := range p.Weekdays {
		if d < 0 || d > 6 {
			return Schedule{}, fault.Invalidf("schedule.weekdays", "%d is not a day of the week: send 0 (Sunday) to 6 (Saturday)", d)
		}
		s.Weekdays |= 1 << d
	}
	if p.Type == Weekdays && s.Weekdays == 0 {
		return Schedule{}, fault.Invalidf("schedule.weekdays", "it names no day: send at least one, 0 (Sunday) to 6 (Saturday), like [1,3,5]")
	}
	return s, nil
}

// Days returns the days of the week that s names, 0 for Sunday.
func (s Schedule) Days() []int {
	days := []int{}
	for d := range 7 {
		if s.Weekdays&(1<<d) != 0 {
			days = append(days, d)
		}
	}
	return days
}

// Revision returns what h asks for, as from a day.
func (h Habit) Revision(from civil.Day) Revision {
	return Revision{EffectiveDay: from, Schedule: h.Schedule, TargetType: h.TargetType, TargetMilli: h.TargetMilli}
}

// text returns s without outer space if its length in characters is right.
func text(field, s string, least, most int) (string, error) {
	s = strings.TrimSpace(s)
	bad := func(r rune) bool { return unicode.IsControl(r) && (r != '\n' || field != "note") }
	n := utf8.RuneCountInString(s)
	switch {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, bad):
		return "", fault.Invalidf(field, "it holds characters that cannot be shown: send plain text")
	case n < least:
		return "", fault.Invalidf(field, "it is empty: send %d to %d characters", least, most)
	case n > most:
		return "", fault.Invalidf(field, "it has %d characters: send at most %d", n, most)
	}
	return s, nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}
