package ratelimit

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"time"
)

// Algorithm is a way of counting.
type Algorithm string

// The ways of counting; the package's documentation compares them.
const (
	Fixed   Algorithm = "fixed"
	Sliding Algorithm = "sliding"
	GCRA    Algorithm = "gcra"
)

// maxLog bounds what a sliding window keeps for each asker.
const maxLog = 10_000

// Policy says how often something may be done.
type Policy struct {
	// Name is part of keys, headers and metrics: "login". Lower-case letters,
	// digits and hyphens.
	Name      string
	Algorithm Algorithm
	Limit     int           // at least 1
	Window    time.Duration // at least a millisecond for each of Limit
	// Lease is how many of Limit a node may take from Redis at once and hold,
	// at most a tenth of it; 0 asks Redis for every call. See the package's
	// documentation; not for Sliding, which is for what must be exact.
	Lease int
}

var policyName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)

func (p Policy) validate() error {
	var errs []error
	if !policyName.MatchString(p.Name) {
		errs = append(errs, fmt.Errorf("name %q: expected lower-case letters, digits and hyphens", p.Name))
	}
	switch p.Algorithm {
	case Fixed, GCRA:
	case Sliding:
		if p.Limit > maxLog {
			errs = append(errs, fmt.Errorf("limit %d: a sliding window keeps every call, so at most %d; use GCRA for more", p.Limit, maxLog))
		}
	default:
		errs = append(errs, fmt.Errorf("algorithm %q: expected %s, %s or %s", p.Algorithm, Fixed, Sliding, GCRA))
	}
	if p.Limit < 1 {
		errs = append(errs, fmt.Errorf("limit %d: expected at least 1", p.Limit))
	} else if p.Window/time.Duration(p.Limit) < time.Millisecond {
		errs = append(errs, fmt.Errorf("window %v: expected at least a millisecond for each of %d", p.Window, p.Limit))
	}
	if p.Lease < 0 || p.Lease > p.Limit/10 {
		errs = append(errs, fmt.Errorf("lease %d: expected at most a tenth of the limit %d", p.Lease, p.Limit))
	} else if p.Lease > 0 && p.Algorithm == Sliding {
		errs = append(errs, errors.New("lease: a sliding window is exact, and cannot be leased; use GCRA or Fixed"))
	}
	if p.Window > 366*24*time.Hour {
		errs = append(errs, fmt.Errorf("window %v: expected at most a year", p.Window))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("policy %s: %w", p.Name, err)
	}
	return nil
}

// micros is the window in the unit that scripts and twins count in.
func (p Policy) micros() int64 { return p.Window.Microseconds() }

// step is the time in which GCRA gives one back.
func (p Policy) step() int64 { return p.micros() / int64(p.Limit) }

// hold is how long a node may keep what it has leased, in µs.
func (p Policy) hold() int64 { return min(p.micros()/10, time.Second.Microseconds()) }

// Decision is the answer to one call.
type Decision struct {
	Policy  Policy
	Allowed bool
	// Remaining calls would be admitted at this moment.
	Remaining int
	// Reset is how long it takes until the whole limit is there again, if
	// nothing more is taken.
	Reset time.Duration
	// More is how long it takes until more than Remaining can be admitted.
	More time.Duration
	// RetryAfter is how long to wait before the next call can be admitted;
	// zero if this one was.
	RetryAfter time.Duration
	// Shared tells that Redis decided, for all nodes.
	Shared bool
}

// Seconds rounds up, so that who waits that long has waited long enough.
func Seconds(d time.Duration) int { return int(math.Ceil(d.Seconds())) }
