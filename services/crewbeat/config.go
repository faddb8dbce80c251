package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/env"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// config is what every program reads from its environment.
type config struct {
	DatabaseURL    string
	DatabaseWait   time.Duration
	Redis          redisconn.Config
	Alerts         alert.Settings
	SessionSecrets []string
	SessionProfile session.Profile
	SessionCookie  string
	SessionPrefix  string
	PublicURL      string
	RealtimeURL    string
	Origins        []string
	TrustedProxies []string
	Limits         api.Limits
	Production     bool
	LogLevel       string
	LogFormat      string
	MetricsAddr    string
	TraceView      bool
	DrainDelay     time.Duration
	Shutdown       time.Duration
	CacheBytes     int64
}

// program says what of the environment a program cannot do without.
type program struct {
	database bool // DATABASE_URL must be set
	sessions bool // SESSION_SECRET must be set, and fit for production
	redis    bool // REDIS_URL or its like must be set
}

// readConfig reads the environment and reports everything that is wrong with
// it at once.
func readConfig(getenv func(string) string, need program) (config, error) {
	r := env.New(getenv)
	c := config{
		DatabaseURL:    r.Secret("DATABASE_URL", "postgres://USER:PASSWORD@HOST:PORT/DATABASE or sqlite:PATH"),
		DatabaseWait:   r.Duration("DATABASE_WAIT", 30*time.Second, "how long to wait at the start for a PostgreSQL server that is not there yet"),
		Redis:          redisconn.FromEnv(r),
		Alerts:         alert.FromEnv(r),
		SessionSecrets: r.Secrets("SESSION_SECRET", "secrets of at least 32 characters that sign sessions; the first signs, all verify"),
		SessionCookie:  r.String("SESSION_COOKIE", "", "the name of the session cookie, used as it is; that of the profile if not set"),
		SessionPrefix:  strings.TrimSuffix(r.String("SESSION_PREFIX", "", "the name of the sessions in keys of Redis; that of the profile if not set"), ":"),
		PublicURL:      strings.TrimSuffix(r.URL("PUBLIC_URL", "where people reach the page, as https://crewbeat.example.com", "http", "https"), "/"),
		RealtimeURL:    r.URL("REALTIME_URL", "where crewbeat api passes /rt/ on to, if no ingress does; as http://realtime:8080", "http", "https"),
		Origins:        r.Origins("ALLOWED_ORIGINS", "other origins whose pages may open the WebSocket"),
		TrustedProxies: r.List("TRUSTED_PROXIES", "addresses or networks of the proxies whose X-Forwarded-For is believed"),
		Limits: api.Limits{
			Anonymous: r.Int("RATE_LIMIT_ANONYMOUS", 100, 1, 1_000_000, "requests an hour from one address without being signed in"),
			User:      r.Int("RATE_LIMIT_USER", 600, 1, 60_000, "requests a minute by one person"),
			Login:     r.Int("RATE_LIMIT_LOGIN", 5, 1, 1000, "tries a minute to sign in to one account from one address; an address may try six times as often over all accounts"),
		},
		Production:  r.OneOf("CREWBEAT_ENV", "development", "production refuses weak settings", "production", "development") == "production",
		LogLevel:    r.OneOf("LOG_LEVEL", "info", "what is logged", "debug", "info", "warn", "error"),
		LogFormat:   r.OneOf("LOG_FORMAT", "auto", "text for people, json for machines; auto looks at the output", "auto", "text", "json"),
		MetricsAddr: r.String("METRICS_ADDR", ":9090", "where the services serve /metrics"),
		TraceView:   r.Bool("TRACEVIEW", false, "serve the trace page under /traces of crewbeat api too"),
		DrainDelay:  r.Duration("DRAIN_DELAY", 5*time.Second, "how long to serve on, unready, after SIGTERM"),
		Shutdown:    r.Duration("SHUTDOWN_TIMEOUT", 25*time.Second, "how long running requests and sockets may take to end"),
		CacheBytes:  int64(r.Int("CACHE_MIB", 16, 1, 1<<16, "memory for the cache in the process, in MiB")) << 20,
	}
	c.SessionProfile = map[string]session.Profile{"crewbeat": session.Crewbeat, "crew": session.Crew}[r.OneOf(
		"SESSION_PROFILE", "crewbeat", "how sessions are named; crew is for what is set up around the crew scheduling app", "crewbeat", "crew")]
	if _, err := ratelimit.ParseProxies(c.TrustedProxies); err != nil {
		r.Reject("TRUSTED_PROXIES", "addresses or networks such as 10.0.0.0/8, separated by commas; "+err.Error())
	}
	err := r.Err()
	var missing []error
	// What is set and cannot be used has been told already.
	unset := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(name string) bool { return strings.TrimSpace(getenv(name)) != "" })
	}
	if need.database && c.DatabaseURL == "" && unset("DATABASE_URL") {
		missing = append(missing, errors.New("DATABASE_URL is not set: expected postgres://USER:PASSWORD@HOST:PORT/DATABASE"))
	}
	if need.redis && !c.Redis.Enabled() && unset("REDIS_URL", "REDIS_HOST") {
		missing = append(missing, errors.New("REDIS_URL is not set: expected redis://HOST:PORT; the services pass events to each other through Redis (it may be away for a while if REDIS_REQUIRED=false)"))
	}
	if need.sessions {
		missing = append(missing, c.checkSecrets(), c.checkPublicURL())
	}
	return c, errors.Join(append([]error{err}, missing...)...)
}

// checkSecrets refuses secrets that can be guessed.
func (c config) checkSecrets() error {
	if len(c.SessionSecrets) == 0 {
		return errors.New("SESSION_SECRET is not set: expected at least 32 random characters, as `openssl rand -base64 32` makes them")
	}
	for i, s := range c.SessionSecrets {
		if c.Production && weak(s) {
			return fmt.Errorf("SESSION_SECRET number %d is too weak for production: expected at least 32 random characters, as `openssl rand -base64 32` makes them", i+1)
		}
	}
	return nil
}

// limitSecret keys what Redis holds of who asks how often. A new secret starts
// the counting anew.
func (c config) limitSecret() string {
	if len(c.SessionSecrets) == 0 {
		return ""
	}
	return c.SessionSecrets[0]
}

// weak reports a secret that is short or has few different characters.
func weak(secret string) bool {
	different := map[rune]bool{}
	for _, r := range secret {
		different[r] = true
	}
	return len(secret) < 32 || len(different) < 10
}

func (c config) checkPublicURL() error {
	if c.Production && !strings.HasPrefix(c.PublicURL, "https://") {
		return fmt.Errorf("PUBLIC_URL is %q: expected the https:// address of the page, since CREWBEAT_ENV=production sends its cookies only over https", c.PublicURL)
	}
	return nil
}

// secure reports whether cookies may be kept to https.
func (c config) secure() bool { return strings.HasPrefix(c.PublicURL, "https://") }

// prepareData makes the data folder of the all-in-one and returns whether it
// was made just now.
func prepareData(folder string) (fresh bool, err error) {
	database := filepath.Join(folder, databaseFile)
	_, err = os.Stat(database)
	fresh = errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return false, fmt.Errorf("make the data folder: %w; choose another with --data", err)
	}
	return fresh, nil
}

// What a data folder holds.
const (
	databaseFile = "crewbeat.db"
	secretFile   = "session-secret"
)

// localSecret returns the session secret that lies in the data folder, and
// makes one the first time, so that a restart signs nobody out.
func localSecret(folder string) (string, error) {
	file := filepath.Join(folder, secretFile)
	b, err := os.ReadFile(file)
	if err == nil && len(strings.TrimSpace(string(b))) >= 32 {
		return strings.TrimSpace(string(b)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the session secret: %w", err)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails
	text := base64.RawURLEncoding.EncodeToString(secret)
	if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("keep the session secret: %w", err)
	}
	return text, nil
}

// origin returns the origin of a URL, as browsers send it.
func origin(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Scheme + "://" + u.Host
}

// loopback reports whether only this machine reaches addr.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// localURL returns the URL by which a browser on this machine reaches a
// server that listens on addr.
func localURL(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("--addr %s: expected HOST:PORT: %w", addr, err)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port), nil
}
