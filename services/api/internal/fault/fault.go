// Package fault holds the few errors that every part of the API shares, so
// that one table turns them into HTTP problems.
package fault

import (
	"errors"
	"fmt"
)

var (
	// ErrNotFound reports that a thing does not exist, or that the asker may
	// not know that it does.
	ErrNotFound = errors.New("not found")
	// ErrForbidden reports that the asker may see a thing but not do this to it.
	ErrForbidden = errors.New("forbidden")
	// ErrStale reports that a thing has changed since the asker read it.
	ErrStale = errors.New("changed since it was read")
	// ErrConflict reports that a thing stands in the way of another.
	ErrConflict = errors.New("conflict")
)

// InvalidError reports a value that cannot be accepted, and what to send instead.
type InvalidError struct {
	Field  string // as the API names it: "schedule.weekdays"
	Detail string // what is wrong and what is expected
}

// Error says the field and what is wrong with it.
func (e *InvalidError) Error() string { return e.Field + ": " + e.Detail }

// Invalidf reports field as not acceptable.
func Invalidf(field, format string, args ...any) error {
	return &InvalidError{Field: field, Detail: fmt.Sprintf(format, args...)}
}
