package env

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Problem is a variable that cannot be used.
type Problem struct {
	Name  string
	Value string // what it holds, redacted; empty if that may not be shown
	Want  string // what is expected instead
	Hint  string // what has probably happened, if that can be told
}

// String says it in one line.
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Name)
	if p.Value != "" {
		fmt.Fprintf(&b, "=%s", strconv.Quote(p.Value))
	}
	fmt.Fprintf(&b, ": expected %s", p.Want)
	if p.Hint != "" {
		fmt.Fprintf(&b, " (%s)", p.Hint)
	}
	return b.String()
}

// Error lists every variable that cannot be used.
type Error struct{ Problems []Problem }

// Error has a line for each problem.
func (e *Error) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	if len(e.Problems) == 1 {
		lines = append(lines, "1 setting cannot be used:")
	} else {
		lines = append(lines, fmt.Sprintf("%d settings cannot be used:", len(e.Problems)))
	}
	for _, p := range e.Problems {
		lines = append(lines, "  "+p.String())
	}
	return strings.Join(lines, "\n")
}

// Err returns an [*Error] with every problem so far, or nil.
func (r *Reader) Err() error {
	if len(r.problems) == 0 {
		return nil
	}
	return &Error{Problems: slices.Clone(r.problems)}
}

// Reject adds a problem that only the caller can see, such as two variables
// that exclude each other. Want completes the sentence "NAME: expected …".
// The value is shown as other values are: not at all if it is a secret.
func (r *Reader) Reject(name, want string) { r.reject(name, strings.TrimSpace(r.getenv(name)), want) }

func (r *Reader) reject(name, value, want string) {
	p := Problem{Name: name, Value: RedactURL(value), Want: want}
	if r.secret(name) {
		p.Value = ""
	} else {
		p.Hint = serviceLink(name, value)
	}
	if !slices.Contains(r.problems, p) {
		r.problems = append(r.problems, p)
	}
}

func (r *Reader) secret(name string) bool {
	return slices.ContainsFunc(r.vars, func(v Var) bool { return v.Name == name && v.Secret })
}

// serviceLink recognises what Kubernetes puts into each pod's environment for
// a Service: one called "redis" sets REDIS_PORT=tcp://10.96.0.7:6379, over
// what the program means by that name.
func serviceLink(name, value string) string {
	service, isPort := strings.CutSuffix(name, "_PORT")
	if !isPort || !strings.Contains(value, "://") {
		return ""
	}
	if scheme, _, _ := strings.Cut(value, "://"); scheme != "tcp" && scheme != "udp" && scheme != "sctp" {
		return ""
	}
	service = strings.ReplaceAll(strings.ToLower(service), "_", "-")
	return fmt.Sprintf("Kubernetes sets this for a Service named %q: put enableServiceLinks: false into the pod, or set %s yourself", service, name)
}

// RedactURL returns s with the password of a URL replaced by "xxxxx", and
// the query values that promise a secret hidden. Text that was perhaps meant
// as a URL, or as PostgreSQL's keyword=value form, is treated likewise.
func RedactURL(s string) string {
	scheme, rest, found := strings.Cut(s, "://")
	if !found {
		return redactLoose(s)
	}
	end := len(rest)
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		end = i
	}
	// A password that was not escaped may hold a slash: the credentials end
	// at the last @ of all.
	if at := strings.LastIndexByte(rest, '@'); at > end {
		end = at + strings.IndexAny(rest[at:]+"/", "/?#")
	}
	authority, path := rest[:end], rest[end:]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, _, hasPassword := strings.Cut(authority[:at], ":")
		if hasPassword {
			user += ":xxxxx"
		}
		authority = user + authority[at:]
	}
	if before, query, has := strings.Cut(path, "?"); has {
		path = before + "?" + redactQuery(query)
	}
	return scheme + "://" + authority + path
}

// redactLoose treats what is not a URL but was perhaps meant to be one, such
// as a URL without its scheme, and the password=… form of PostgreSQL.
func redactLoose(s string) string {
	s = keywordPassword.ReplaceAllString(s, "${1}xxxxx")
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		if user, _, hasPassword := strings.Cut(s[:at], ":"); hasPassword {
			return user + ":xxxxx" + s[at:]
		}
	}
	return s
}

var keywordPassword = regexp.MustCompile(`(?i)\b((?:password|passwd|pwd)\s*=\s*)('(?:[^'\\]|\\.)*'|\S+)`)

// redactQuery hides the values whose names promise a secret.
func redactQuery(query string) string {
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		key, _, hasValue := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil {
			name = key
		}
		name = strings.ToLower(name)
		for _, word := range []string{"pass", "secret", "token", "key", "auth", "credential"} {
			if hasValue && strings.Contains(name, word) {
				pairs[i] = key + "=xxxxx"
			}
		}
	}
	return strings.Join(pairs, "&")
}
