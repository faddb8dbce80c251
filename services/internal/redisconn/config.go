package redisconn

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/env"
)

// Mode is how Redis is set up.
type Mode string

// The modes: one server, a group watched by Sentinels, or a Cluster.
const (
	Single   Mode = "single"
	Sentinel Mode = "sentinel"
	Cluster  Mode = "cluster"
)

// Config says where Redis is and how to use it. The zero value means that
// there is none.
type Config struct {
	Mode       Mode
	Addrs      []string // host:port each, or one path of a socket; of the Sentinels in that mode
	MasterName string   // of the group, for Sentinel
	DB         int
	Username   string
	Password   string
	// SentinelUsername and SentinelPassword are what the Sentinels themselves
	// ask for.
	SentinelUsername string
	SentinelPassword string
	TLS              *tls.Config // nil means an open connection

	Required       bool
	MinConnections int
	MaxConnections int
	// How long things may take; 0 means the default of [FromEnv]. Redis is there
	// to make things faster: one that does not answer within these is worse than
	// none.
	ConnectTimeout time.Duration // to connect, with TLS
	CommandTimeout time.Duration // of one command on a connection
	PoolTimeout    time.Duration // to wait for a connection
	KeepAlive      time.Duration // of silence before a connection is tried
	IdleTimeout    time.Duration // after which an unused connection is closed

	HealthInterval  time.Duration // between thorough checks; see [Conn.Handler]
	MonitorInterval time.Duration // between the monitor's collections; 0 means none
	Monitoring      bool          // record how long commands take
	Debug           bool          // log every command: its name and duration, never its arguments
}

// The default times.
const (
	connectTimeout = 500 * time.Millisecond
	commandTimeout = 250 * time.Millisecond
	poolTimeout    = 300 * time.Millisecond
	keepAlive      = 30 * time.Second
	idleTimeout    = 5 * time.Minute
	healthInterval = 30 * time.Second
)

func (c Config) withDefaults() Config {
	for _, t := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&c.ConnectTimeout, connectTimeout}, {&c.CommandTimeout, commandTimeout}, {&c.PoolTimeout, poolTimeout},
		{&c.KeepAlive, keepAlive}, {&c.IdleTimeout, idleTimeout}, {&c.HealthInterval, healthInterval},
	} {
		if *t.value <= 0 {
			*t.value = t.def
		}
	}
	return c
}

// Enabled reports whether there is a Redis to use.
func (c Config) Enabled() bool { return len(c.Addrs) > 0 }

// Addr names Redis for messages, without anything secret.
func (c Config) Addr() string { return strings.Join(c.Addrs, ", ") }

// FromEnv reads the REDIS_* variables. What is wrong with them is in r.Err.
// If neither REDIS_URL nor REDIS_HOST is set, the result is not enabled.
func FromEnv(r *env.Reader) Config {
	c := Config{
		Mode:             Single,
		Username:         r.String("REDIS_USERNAME", "", "Redis ACL user; none means the default user"),
		Password:         r.Secret("REDIS_PASSWORD", "Redis password"),
		SentinelUsername: r.String("REDIS_SENTINEL_USERNAME", "", "user for the Sentinels themselves"),
		SentinelPassword: r.Secret("REDIS_SENTINEL_PASSWORD", "password for the Sentinels themselves"),
		DB:               r.Int("REDIS_DB", 0, 0, 1023, "Redis database number; Cluster has only 0"),
		Required:         r.Bool("REDIS_REQUIRED", false, "refuse to start, and be unready, without Redis"),
		MinConnections:   r.Int("REDIS_MIN_CONNECTIONS", 2, 0, 1000, "idle connections kept open"),
		MaxConnections:   r.Int("REDIS_MAX_CONNECTIONS", 20, 4, 10000, "connections at most"),
		ConnectTimeout:   atLeast(r, "REDIS_CONNECT_TIMEOUT", connectTimeout, time.Millisecond, "how long connecting to Redis may take, with TLS"),
		CommandTimeout:   atLeast(r, "REDIS_COMMAND_TIMEOUT", commandTimeout, time.Millisecond, "how long a Redis command may take"),
		PoolTimeout:      atLeast(r, "REDIS_POOL_TIMEOUT", poolTimeout, time.Millisecond, "how long a command may wait for a connection"),
		KeepAlive:        atLeast(r, "REDIS_KEEP_ALIVE", keepAlive, time.Second, "silence on a connection before the system asks whether the other side is there"),
		IdleTimeout:      atLeast(r, "REDIS_IDLE_TIMEOUT", idleTimeout, time.Second, "after which an unused connection is closed"),
		HealthInterval:   r.Millis("REDIS_HEALTH_CHECK_INTERVAL", healthInterval, "milliseconds between thorough health checks"),
		MonitorInterval:  r.Duration("REDIS_MONITOR_INTERVAL", 15*time.Second, "between looks at memory, clients, slow log and replicas; 0s means never"),
		Monitoring:       r.Bool("REDIS_PERFORMANCE_MONITORING", true, "record how long Redis commands take"),
		Debug:            r.Bool("REDIS_DEBUG", false, "log every Redis command by name and duration"),
	}
	if c.MonitorInterval != 0 && c.MonitorInterval < time.Second {
		r.Reject("REDIS_MONITOR_INTERVAL", "0s, or at least 1s")
	}
	if c.MinConnections > c.MaxConnections {
		r.Reject("REDIS_MIN_CONNECTIONS", fmt.Sprintf("at most as many as REDIS_MAX_CONNECTIONS, %d unless that is set to more", c.MaxConnections))
	}
	raw := r.String("REDIS_URL", "", "redis://, rediss://, unix://, redis+sentinel:// or redis+cluster:// address")
	switch host := r.String("REDIS_HOST", "", "Redis host, if REDIS_URL is not set"); {
	case raw != "":
		// REDIS_PORT is not even looked at: Kubernetes sets it for a Service
		// named redis.
		c.fromURL(r, raw)
	case host != "":
		port := r.Int("REDIS_PORT", 6379, 1, 65535, "Redis port, if REDIS_URL is not set")
		if _, rest, ok := strings.Cut(host, "://"); ok {
			r.Reject("REDIS_HOST", "a host alone, as in redis.example.org; an address goes into REDIS_URL")
			host = rest
		} else if h, p, err := net.SplitHostPort(host); err == nil {
			r.Reject("REDIS_HOST", fmt.Sprintf("a host without its port (put %s into REDIS_PORT)", p))
			host = h
		}
		c.Addrs = []string{net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))}
	}
	c.tls(r)
	c.insecure(r)
	if c.Mode == Cluster && c.DB != 0 {
		r.Reject("REDIS_DB", "0, since a Redis Cluster has no other database")
	}
	return c
}

// atLeast reads a time that cannot be less than lowest.
func atLeast(r *env.Reader, name string, def, lowest time.Duration, help string) time.Duration {
	d := r.Duration(name, def, help)
	if d < lowest {
		r.Reject(name, "at least "+lowest.String()+", as in "+def.String())
		return def
	}
	return d
}

const wantURL = "an address such as redis://user:password@host:6379/0, rediss://… for TLS, unix:///run/redis.sock, " +
	"redis+sentinel://host:26379,host:26379/0?master=NAME or redis+cluster://host:6379,host:6379"

// fromURL fills in what a URL says. One is taken apart by hand as far as
// its hosts go: net/url refuses a list of them.
func (c *Config) fromURL(r *env.Reader, raw string) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		r.Reject("REDIS_URL", wantURL)
		return
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	userinfo, hosts := "", authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		userinfo, hosts = authority[:at], authority[at+1:]
	}
	u, err := url.Parse("redis://" + tail)
	if err != nil || !c.scheme(scheme) {
		r.Reject("REDIS_URL", wantURL)
		return
	}
	if !c.credentials(r, userinfo) {
		return
	}
	if scheme == "unix" {
		if u.Path == "" || hosts != "" {
			r.Reject("REDIS_URL", "a socket's path after three slashes, as in unix:///run/redis.sock")
			return
		}
		c.Addrs = []string{u.Path}
		return
	}
	port := "6379"
	if c.Mode == Sentinel {
		port = "26379"
	}
	if c.Addrs = addresses(hosts, port); len(c.Addrs) == 0 || (c.Mode == Single && len(c.Addrs) > 1) {
		c.Addrs = nil
		r.Reject("REDIS_URL", wantURL)
		return
	}
	if c.MasterName = u.Query().Get("master"); c.Mode == Sentinel && c.MasterName == "" {
		r.Reject("REDIS_URL", "the name of the group that the Sentinels watch, as in redis+sentinel://host:26379/0?master=NAME")
	}
	c.database(r, strings.Trim(u.Path, "/"))
}

func (c *Config) scheme(scheme string) bool {
	switch scheme {
	case "rediss", "rediss+sentinel", "rediss+cluster":
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	case "redis", "unix", "redis+sentinel", "redis+cluster":
	default:
		return false
	}
	switch _, mode, _ := strings.Cut(scheme, "+"); mode {
	case "sentinel":
		c.Mode = Sentinel
	case "cluster":
		c.Mode = Cluster
	}
	return true
}

// credentials takes those of the URL. Said twice, they have to agree.
func (c *Config) credentials(r *env.Reader, userinfo string) bool {
	user, password, _ := strings.Cut(userinfo, ":")
	user, err1 := url.PathUnescape(user)
	password, err2 := url.PathUnescape(password)
	if err := errors.Join(err1, err2); err != nil {
		r.Reject("REDIS_URL", "percent-encoded credentials (a % in the password is written %25)")
		return false
	}
	if user != "" {
		if c.Username != "" && c.Username != user {
			r.Reject("REDIS_USERNAME", "the same user as in REDIS_URL, or nothing")
		}
		c.Username = user
	}
	if password != "" {
		if c.Password != "" && c.Password != password {
			r.Reject("REDIS_PASSWORD", "the same password as in REDIS_URL, or nothing")
		}
		c.Password = password
	}
	return true
}

func (c *Config) database(r *env.Reader, path string) {
	if path == "" {
		return
	}
	db, err := strconv.Atoi(path)
	if err != nil || db < 0 || db > 1023 {
		r.Reject("REDIS_URL", "a database number from 0 to 1023 after the host, as in redis://host:6379/0")
		return
	}
	if c.DB != 0 && c.DB != db {
		r.Reject("REDIS_DB", "the same database as in REDIS_URL, or nothing")
	}
	c.DB = db
}

// addresses splits a list of hosts, each with its port. It is nil if one of
// them is none.
func addresses(hosts, port string) []string {
	var addrs []string
	for host := range strings.SplitSeq(hosts, ",") {
		u, err := url.Parse("redis://" + strings.TrimSpace(host))
		if err != nil || u.Hostname() == "" || u.Path != "" {
			return nil
		}
		p := port
		if u.Port() != "" {
			p = u.Port()
		}
		if n, err := strconv.Atoi(p); err != nil || n < 1 || n > 65535 {
			return nil
		}
		addrs = append(addrs, net.JoinHostPort(u.Hostname(), p))
	}
	return slices.Compact(addrs)
}

// tls reads the certificates, each given as the path of a file or as PEM text.
func (c *Config) tls(r *env.Reader) {
	ca := pem(r, "REDIS_TLS_CA", "certificate authority of the Redis server: a PEM file or its text")
	cert := pem(r, "REDIS_TLS_CERT", "client certificate: a PEM file or its text")
	key := pem(r, "REDIS_TLS_KEY", "key of the client certificate: a PEM file or its text")
	if ca == nil && cert == nil && key == nil {
		return
	}
	if c.TLS == nil {
		c.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	if ca != nil {
		c.TLS.RootCAs = x509.NewCertPool()
		if !c.TLS.RootCAs.AppendCertsFromPEM(ca) {
			r.Reject("REDIS_TLS_CA", "at least one PEM certificate")
		}
	}
	switch {
	case cert == nil && key == nil:
	case cert == nil:
		r.Reject("REDIS_TLS_CERT", "the certificate that belongs to REDIS_TLS_KEY")
	case key == nil:
		r.Reject("REDIS_TLS_KEY", "the key that belongs to REDIS_TLS_CERT")
	default:
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			r.Reject("REDIS_TLS_KEY", "the key that belongs to REDIS_TLS_CERT, both in PEM")
			return
		}
		c.TLS.Certificates = []tls.Certificate{pair}
	}
}

// insecure gives up checking who the server is. What it is asked for may also
// be asked by the program: the variable is the same.
func (c *Config) insecure(r *env.Reader) {
	if !r.Bool("REDIS_TLS_INSECURE", false, "do not check the certificate of the Redis server; refused in production") {
		return
	}
	switch {
	case r.OneOf("CREWBEAT_ENV", "development", "production refuses weak settings", "production", "development") == "production":
		r.Reject("REDIS_TLS_INSECURE", "false, since CREWBEAT_ENV=production; for a private authority set REDIS_TLS_CA")
	case c.TLS == nil:
		r.Reject("REDIS_TLS_INSECURE", "false, or TLS: rediss:// in REDIS_URL")
	default:
		c.TLS.InsecureSkipVerify = true
	}
}

// pem is asked for as a secret: a key may stand in the variable itself.
func pem(r *env.Reader, name, help string) []byte {
	v := strings.TrimSpace(r.Secret(name, help))
	if v == "" || strings.HasPrefix(v, "-----BEGIN") {
		return bytesOrNil(v)
	}
	b, err := os.ReadFile(v)
	if err != nil {
		why := "cannot be read"
		if errors.Is(err, os.ErrNotExist) {
			why = "does not exist"
		}
		r.Reject(name, "the path of a PEM file, or its text; the file "+why)
		return nil
	}
	return b
}

func bytesOrNil(s string) []byte {
	if s == "" {
		return nil
	}
	return []byte(s)
}
