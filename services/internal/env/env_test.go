package env_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/env"
)

func reader(vars map[string]string) *env.Reader {
	return env.New(func(name string) string { return vars[name] })
}

func TestUnsetAndEmptyAreTheDefault(t *testing.T) {
	for _, vars := range []map[string]string{nil, {"A": "", "B": " "}} {
		r := reader(vars)
		if got := r.String("A", "x", ""); got != "x" {
			t.Errorf("String = %q", got)
		}
		if got := r.Bool("B", true, ""); !got {
			t.Errorf("Bool = %v", got)
		}
		if got := r.Int("A", 7, 0, 9, ""); got != 7 {
			t.Errorf("Int = %v", got)
		}
		if got := r.Millis("A", time.Second, ""); got != time.Second {
			t.Errorf("Millis = %v", got)
		}
		if got := r.Duration("B", time.Minute, ""); got != time.Minute {
			t.Errorf("Duration = %v", got)
		}
		if got := r.OneOf("A", "info", "", "debug", "info"); got != "info" {
			t.Errorf("OneOf = %v", got)
		}
		if got := r.URL("A", ""); got != "" {
			t.Errorf("URL = %v", got)
		}
		if got := r.Origins("A", ""); got != nil {
			t.Errorf("Origins = %v", got)
		}
		if got := r.Secrets("A", ""); got != nil {
			t.Errorf("Secrets = %v", got)
		}
		if err := r.Err(); err != nil {
			t.Errorf("Err = %v", err)
		}
	}
}

func TestValuesAreReadAsTheyAreMeant(t *testing.T) {
	r := reader(map[string]string{
		"YES": "Yes", "OFF": "off", "N": " 42 ", "MS": "1500", "D": "1h30m", "LEVEL": "DEBUG",
		"U": "postgres://u:p@db/x", "O": "https://A.example:443/, http://b.example:8080", "S": "new, old,", "FILE": "s3cret \n",
	})
	if !r.Bool("YES", false, "") || r.Bool("OFF", true, "") {
		t.Error("Bool")
	}
	if got := r.Int("N", 0, 0, 100, ""); got != 42 {
		t.Errorf("Int = %d", got)
	}
	if got := r.Millis("MS", 0, ""); got != 1500*time.Millisecond {
		t.Errorf("Millis = %v", got)
	}
	if got := r.Duration("D", 0, ""); got != 90*time.Minute {
		t.Errorf("Duration = %v", got)
	}
	if got := r.OneOf("LEVEL", "info", "", "debug", "info"); got != "debug" {
		t.Errorf("OneOf = %q", got)
	}
	if got := r.URL("U", "", "postgres", "sqlite"); got != "postgres://u:p@db/x" {
		t.Errorf("URL = %q", got)
	}
	if got, want := r.Origins("O", ""), []string{"https://a.example", "http://b.example:8080"}; !slices.Equal(got, want) {
		t.Errorf("Origins = %q, want %q", got, want)
	}
	if got, want := r.Secrets("S", ""), []string{"new", "old"}; !slices.Equal(got, want) {
		t.Errorf("Secrets = %q, want %q", got, want)
	}
	if got := r.Secret("FILE", ""); got != "s3cret " {
		t.Errorf("Secret = %q: only line ends are dropped", got)
	}
	if err := r.Err(); err != nil {
		t.Error(err)
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	r := reader(map[string]string{
		"FLAG": "maybe", "REDIS_DB": "99", "REDIS_HEALTH_CHECK_INTERVAL": "30s", "DRAIN_DELAY": "5", "LEVEL": "loud",
		"PUBLIC_URL": "crewbeat.example", "ALLOWED_ORIGINS": "https://ok.example,*,https://x.example/path",
	})
	r.Bool("FLAG", false, "")
	r.Int("REDIS_DB", 0, 0, 15, "")
	r.Millis("REDIS_HEALTH_CHECK_INTERVAL", time.Second, "")
	r.Duration("DRAIN_DELAY", 0, "")
	r.OneOf("LEVEL", "info", "", "debug", "info")
	r.URL("PUBLIC_URL", "", "http", "https")
	r.Origins("ALLOWED_ORIGINS", "")

	want := strings.Join([]string{
		`8 settings cannot be used:`,
		`  FLAG="maybe": expected true or false`,
		`  REDIS_DB="99": expected a whole number from 0 to 15`,
		`  REDIS_HEALTH_CHECK_INTERVAL="30s": expected a whole number of milliseconds, at least 1, as in 30000`,
		`  DRAIN_DELAY="5": expected a time with its unit, as in 250ms, 5s or 1h30m`,
		`  LEVEL="loud": expected one of debug, info`,
		`  PUBLIC_URL="crewbeat.example": expected a URL that starts with http:// or https://`,
		`  ALLOWED_ORIGINS="*": expected web origins separated by commas, each a scheme and a host without a path, as in https://crewbeat.example.com`,
		`  ALLOWED_ORIGINS="https://x.example/path": expected web origins separated by commas, each a scheme and a host without a path, as in https://crewbeat.example.com`,
	}, "\n")
	if got := r.Err().Error(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if e, ok := errors.AsType[*env.Error](r.Err()); !ok || len(e.Problems) != 8 {
		t.Errorf("not an *env.Error of 8 problems: %v", e)
	}
}

func TestAPortSetByKubernetesIsExplained(t *testing.T) {
	r := reader(map[string]string{"REDIS_PORT": "tcp://10.96.0.7:6379"})
	r.Int("REDIS_PORT", 6379, 1, 65535, "")
	got := r.Err().Error()
	for _, want := range []string{`REDIS_PORT="tcp://10.96.0.7:6379"`, `Service named "redis"`, "enableServiceLinks: false"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
}

func TestNoProblemShowsASecret(t *testing.T) {
	const secret = "hunter2"
	r := reader(map[string]string{
		"SESSION_SECRET": secret, "DATABASE_URL": "mysql://app:" + secret + "@db.example/crew?sslpassword=" + secret, "PORT": "x://u:" + secret + "@h",
		"DSN": "host=db password='" + secret + "' user=app",
	})
	r.Secret("SESSION_SECRET", "")
	r.Reject("SESSION_SECRET", "at least 32 characters")
	r.URL("DATABASE_URL", "", "postgres", "sqlite")
	r.Int("PORT", 1, 1, 2, "")
	r.OneOf("DSN", "", "", "a")
	got := r.Err().Error()
	if strings.Contains(got, secret) {
		t.Errorf("a secret is shown: %s", got)
	}
	for _, want := range []string{"SESSION_SECRET: expected at least 32 characters", "mysql://app:xxxxx@db.example/crew?sslpassword=xxxxx"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\ndoes not say %q", got, want)
		}
	}
}

func TestRedactURL(t *testing.T) {
	for _, tt := range []struct{ name, in, want string }{
		{"no password", "redis://cache:6379/0", "redis://cache:6379/0"},
		{"user and password", "redis://app:pw@cache:6379/0", "redis://app:xxxxx@cache:6379/0"},
		{"password only", "rediss://:pw@cache", "rediss://:xxxxx@cache"},
		{"user only", "postgres://app@db/x", "postgres://app@db/x"},
		{"unescaped at and slash in the password", "redis://app:p@s/s@cache/0", "redis://app:xxxxx@cache/0"},
		{"query", "https://x.example/join?token=abc&page=2", "https://x.example/join?token=xxxxx&page=2"},
		{"several hosts", "redis+sentinel://:pw@a:1,b:2/0", "redis+sentinel://:xxxxx@a:1,b:2/0"},
		{"scheme forgotten", "app:pw@cache:6379", "app:xxxxx@cache:6379"},
		{"keyword form", "host=db password=pw dbname=x", "host=db password=xxxxx dbname=x"},
		{"plain text", "Harbor Crew", "Harbor Crew"},
	} {
		if got := env.RedactURL(tt.in); got != tt.want {
			t.Errorf("%s: RedactURL(%q) = %q, want %q", tt.name, tt.in, got, tt.want)
		}
	}
}

func FuzzNoPasswordSurvives(f *testing.F) {
	f.Add("redis", "app", "cache:6379/0")
	f.Add("x", "", "?#@")
	f.Fuzz(func(t *testing.T, scheme, user, host string) {
		const password = "hunter2hunter2"
		// These end a scheme and a user wherever they stand.
		ends := strings.NewReplacer("@", "", ":", "", "/", "")
		scheme, user = ends.Replace(scheme), ends.Replace(user)
		if got := env.RedactURL(scheme + "://" + user + ":" + password + "@" + host); strings.Contains(got, password) {
			t.Errorf("the password survives: %q", got)
		}
	})
}

func TestWhatWasAskedForIsListedOnce(t *testing.T) {
	r := reader(nil)
	r.String("A", "x", "the first")
	r.Secret("B", "the second")
	r.String("A", "x", "the first")
	want := []env.Var{
		{Name: "A", Default: "x", Kind: "text", Help: "the first"},
		{Name: "B", Kind: "secret text", Help: "the second", Secret: true},
	}
	if got := r.Vars(); !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
