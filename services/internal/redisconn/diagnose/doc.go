// Package diagnose says what is wrong with a Redis, why that may be, and what
// to do next, in words for people.
//
// # Guarantees
//
// A diagnosis changes nothing but keys of its own, named :doctor: after each
// prefix, which it deletes, and which else expire within ten seconds. What it
// costs is bounded: see package monitor, and besides the memory of 1,000 keys.
//
// No password, value, key or argument is in a report. What may not be asked is
// left out.
package diagnose
