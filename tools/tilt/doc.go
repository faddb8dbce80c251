// Package tilt checks the Tiltfile without Tilt: it runs it as Starlark with
// builtins that know Tilt's signatures, and compares what it declares with what
// the chart renders and what lies in the repository.
package tilt
