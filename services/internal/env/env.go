package env

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reader reads variables and remembers what was wrong with them.
type Reader struct {
	getenv   func(string) string
	vars     []Var
	problems []Problem
}

// Var is a variable that a program asks for.
type Var struct {
	Name    string
	Default string // as it would be written; empty if there is none
	Kind    string // what a value looks like: "integer from 1 to 65535"
	Help    string // what it is for
	Secret  bool
}

// New returns a reader of the variables that getenv knows.
func New(getenv func(string) string) *Reader { return &Reader{getenv: getenv} }

// Vars lists the variables asked for so far, in that order.
func (r *Reader) Vars() []Var { return slices.Clone(r.vars) }

// String returns a text, or def when the variable is not set.
func (r *Reader) String(name, def, help string) string {
	v := r.ask(Var{Name: name, Default: def, Kind: "text", Help: help})
	if v == "" {
		return def
	}
	return v
}

// Secret returns a text that must never be shown. Line ends around it are
// dropped: they come from the files that secrets are kept in.
func (r *Reader) Secret(name, help string) string {
	return r.ask(Var{Name: name, Kind: "secret text", Help: help, Secret: true})
}

// Secrets returns a comma-separated list of secrets, without empty ones.
func (r *Reader) Secrets(name, help string) []string {
	v := r.ask(Var{Name: name, Kind: "secret texts, separated by commas", Help: help, Secret: true})
	return list(v)
}

// List returns a comma-separated list of texts, without empty ones.
func (r *Reader) List(name, help string) []string {
	return list(r.ask(Var{Name: name, Kind: "texts, separated by commas", Help: help}))
}

// Bool returns a yes or no: true, false, 1, 0, yes, no, on or off.
func (r *Reader) Bool(name string, def bool, help string) bool {
	v := r.ask(Var{Name: name, Default: strconv.FormatBool(def), Kind: "true or false", Help: help})
	switch strings.ToLower(v) {
	case "":
		return def
	case "true", "1", "yes", "on":
		return true
	case "false", "0", "no", "off":
		return false
	}
	r.reject(name, v, "true or false")
	return def
}

// Int returns a whole number from lowest to highest.
func (r *Reader) Int(name string, def, lowest, highest int, help string) int {
	want := fmt.Sprintf("a whole number from %d to %d", lowest, highest)
	v := r.ask(Var{Name: name, Default: strconv.Itoa(def), Kind: want, Help: help})
	if v == "" {
		return def
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < lowest || n > highest {
		r.reject(name, v, want)
		return def
	}
	return n
}

// Millis returns a time given as a whole number of milliseconds, at least one.
func (r *Reader) Millis(name string, def time.Duration, help string) time.Duration {
	const want = "a whole number of milliseconds, at least 1, as in 30000"
	v := r.ask(Var{Name: name, Default: strconv.FormatInt(def.Milliseconds(), 10), Kind: "milliseconds", Help: help})
	if v == "" {
		return def
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 1 || n > int64(24*time.Hour/time.Millisecond)*365 {
		r.reject(name, v, want)
		return def
	}
	return time.Duration(n) * time.Millisecond
}

// Duration returns a time given with its unit, such as 250ms, 5s or 1h30m.
// It is never negative.
func (r *Reader) Duration(name string, def time.Duration, help string) time.Duration {
	const want = "a time with its unit, as in 250ms, 5s or 1h30m"
	v := r.ask(Var{Name: name, Default: def.String(), Kind: "duration", Help: help})
	if v == "" {
		return def
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		r.reject(name, v, want)
		return def
	}
	return d
}

// OneOf returns one of the allowed words. Case does not matter.
func (r *Reader) OneOf(name, def, help string, allowed ...string) string {
	want := "one of " + strings.Join(allowed, ", ")
	v := r.ask(Var{Name: name, Default: def, Kind: want, Help: help})
	if v == "" {
		return def
	}
	for _, a := range allowed {
		if strings.EqualFold(a, v) {
			return a
		}
	}
	r.reject(name, v, want)
	return def
}

// URL returns an absolute URL as it was written, or "" when it is not set. It
// has one of the schemes, if any are given, and a host.
func (r *Reader) URL(name, help string, schemes ...string) string {
	want := "a URL such as https://crewbeat.example.com"
	if len(schemes) > 0 {
		want = "a URL that starts with " + strings.Join(schemes, ":// or ") + "://"
	}
	v := r.ask(Var{Name: name, Kind: want, Help: help})
	if v == "" {
		return ""
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme == "" || u.Host == "" || (len(schemes) > 0 && !slices.Contains(schemes, u.Scheme)) {
		r.reject(name, v, want)
		return ""
	}
	return v
}

// Origins returns a comma-separated list of web origins, in lower case and
// without a default port, as browsers send them: https://crewbeat.example.com.
func (r *Reader) Origins(name, help string) []string {
	const want = "web origins separated by commas, each a scheme and a host without a path, as in https://crewbeat.example.com"
	v := r.ask(Var{Name: name, Kind: "web origins, separated by commas", Help: help})
	var origins []string
	for _, item := range list(v) {
		o, ok := origin(item)
		if !ok {
			r.reject(name, item, want)
			continue
		}
		origins = append(origins, o)
	}
	return origins
}

func origin(s string) (string, bool) {
	u, err := url.Parse(strings.ToLower(s))
	switch {
	case err != nil,
		u.Scheme != "http" && u.Scheme != "https",
		u.Hostname() == "" || strings.Contains(u.Host, "*"),
		u.User != nil || u.RawQuery != "" || u.Fragment != "",
		u.Path != "" && u.Path != "/":
		return "", false
	}
	host := u.Host
	if port := u.Port(); (u.Scheme == "http" && port == "80") || (u.Scheme == "https" && port == "443") {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host, true
}

func list(v string) []string {
	var items []string
	for item := range strings.SplitSeq(v, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// ask notes that v was asked for and returns its value without outer space.
func (r *Reader) ask(v Var) string {
	if !slices.ContainsFunc(r.vars, func(known Var) bool { return known.Name == v.Name }) {
		v.Default = RedactURL(v.Default)
		r.vars = append(r.vars, v)
	}
	value := r.getenv(v.Name)
	if v.Secret {
		return strings.Trim(value, "\r\n")
	}
	return strings.TrimSpace(value)
}
