// Package info reads what Redis's INFO answers.
//
// Whatever is missing, as in answers of older servers, is zero: see [Info.Has].
// The names are those of https://redis.io/docs/latest/commands/info/.
package info

import (
	"strconv"
	"strings"
	"time"
)

// Info is an answer of INFO, value by name.
type Info map[string]string

// Parse reads an answer of INFO: a line is a name, a colon and a value, which
// may hold colons of its own.
func Parse(text string) Info {
	in := Info{}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			in[name] = value
		}
	}
	return in
}

// Has reports whether there is a value by that name.
func (in Info) Has(name string) bool { _, ok := in[name]; return ok }

// Int is a whole number, or 0.
func (in Info) Int(name string) int64 {
	n, err := strconv.ParseInt(in[name], 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// Float is a number, or 0.
func (in Info) Float(name string) float64 {
	f, err := strconv.ParseFloat(in[name], 64)
	if err != nil {
		return 0
	}
	return f
}

// Time is a time given in seconds of the Unix clock, or zero.
func (in Info) Time(name string) time.Time {
	if n := in.Int(name); n > 0 {
		return time.Unix(n, 0).UTC()
	}
	return time.Time{}
}

// Yes reports whether a value is 1, ok or up.
func (in Info) Yes(name string) bool {
	switch in[name] {
	case "1", "ok", "up", "yes":
		return true
	}
	return false
}

// Fields reads a value that is itself a list of names and values, such as
// "keys=3,expires=1".
func (in Info) Fields(name string) Info {
	fields := Info{}
	for pair := range strings.SplitSeq(in[name], ",") {
		if key, value, ok := strings.Cut(pair, "="); ok {
			fields[key] = value
		}
	}
	return fields
}

// Numbered returns the fields of the values whose names are prefix and a
// number, such as db0 and db7, by number.
func (in Info) Numbered(prefix string) map[int]Info {
	all := map[int]Info{}
	for name := range in {
		digits, ok := strings.CutPrefix(name, prefix)
		if n, err := strconv.Atoi(digits); ok && err == nil {
			all[n] = in.Fields(name)
		}
	}
	return all
}
