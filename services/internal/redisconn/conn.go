package redisconn

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
)

const (
	pingInterval = time.Second           // between looks while Redis is up
	backoffFloor = 50 * time.Millisecond // between looks while it is not:
	backoffBase  = 100 * time.Millisecond
	backoffCap   = time.Second

	// failuresToDown pings in a row have to fail before Redis counts as down:
	// one slow answer is no outage. The second comes at once.
	failuresToDown = 2
	// failuresToLook commands in a row that fail on the network make the
	// next look happen now.
	failuresToLook = 3
	// attemptsToStart is how often a required Redis is tried at the start.
	attemptsToStart = 3
)

// Options are what a connection reports to. All may be nil.
type Options struct {
	Log    *slog.Logger
	Meter  metric.Meter
	Tracer trace.Tracer
	// Name is what the connections call themselves in CLIENT LIST, and the
	// beginning of the key that health checks write. "" means "crewbeat".
	Name string
}

// Status is what is known of Redis.
type Status struct {
	Enabled   bool // there is a Redis to be used at all
	Required  bool
	Up        bool
	Failures  int       // failed looks in a row
	Cause     Cause     // of the last failed look; empty while Up without failures
	Event     Event     // the last one; empty before the first look
	LastError string    // the last error ever, as the client said it; for logs, not for strangers
	Since     time.Time // when Up last changed, or the first look
	CheckedAt time.Time // the last look
}

// State is "up", "down", or "off" if there is no Redis to be used.
func (s Status) State() string {
	switch {
	case !s.Enabled:
		return "off"
	case s.Up:
		return "up"
	}
	return "down"
}

// Conn is a connection to Redis and what is known of it. It is safe for
// concurrent use.
type Conn struct {
	cfg    Config
	log    *slog.Logger
	name   string
	client redis.UniversalClient // nil if not enabled
	probe  redis.UniversalClient // of the look-out goroutine alone; a busy pool is not a dead Redis

	unregister func() error // takes the gauges back; may be nil

	look   chan struct{} // wakes the look-out
	cancel context.CancelFunc
	done   chan struct{}
	closed sync.Once

	failing atomic.Int64 // commands in a row that failed on the network

	refusing bool // the last thorough check failed; of the look-out goroutine alone

	totals  totals
	profile *profile.Recorder // nil unless monitoring

	mu       sync.Mutex
	status   Status
	health   health
	watchers map[int]func(Status)
	nextID   int

	listeners map[int]func(Event, Status) // share nextID
	nodes     []ReportNode                // of a Sentinel group or a Cluster
	counts    eventCounts
}

// Open connects to the Redis of cfg and starts looking after it. If Redis is
// required and cannot be reached, the error is an [*UnreachableError]; if it is
// not, its absence is only a status. Without an address in cfg the result has
// no client and is off. Close it in the end.
func Open(ctx context.Context, cfg Config, opts Options) (*Conn, error) {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Name == "" {
		opts.Name = "crewbeat"
	}
	cfg = cfg.withDefaults()
	c := &Conn{
		cfg:       cfg,
		log:       opts.Log,
		name:      opts.Name,
		look:      make(chan struct{}, 1),
		done:      make(chan struct{}),
		watchers:  map[int]func(Status){},
		listeners: map[int]func(Event, Status){},
		status:    Status{Enabled: cfg.Enabled(), Required: cfg.Required},
	}
	if !cfg.Enabled() {
		close(c.done)
		c.cancel = func() {}
		if cfg.Required {
			return nil, errors.New("REDIS_REQUIRED=true, but neither REDIS_URL nor REDIS_HOST says where Redis is")
		}
		return c, nil
	}
	if cfg.Monitoring {
		c.profile = profile.New(time.Now())
	}
	quietClientLog(opts.Log)
	c.client = newClient(c.clientOptions(cfg.MinConnections, cfg.MaxConnections))
	c.client.AddHook(newHook(c, opts))
	if err := c.firstLook(ctx); err != nil {
		c.dropProbe()
		return nil, errors.Join(err, c.client.Close())
	}
	if err := c.observe(opts.Meter); err != nil {
		c.dropProbe()
		return nil, errors.Join(err, c.client.Close())
	}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = cancel
	var looking sync.WaitGroup
	looking.Go(func() { c.lookOut(runCtx) })
	if cfg.Mode != Single {
		looking.Go(func() { c.lookAtNodes(runCtx) })
	}
	go func() { looking.Wait(); close(c.done) }()
	return c, nil
}

// Client returns the client that everyone shares, or nil if there is no Redis
// to be used. It must not be closed.
func (c *Conn) Client() redis.UniversalClient { return c.client }

// Config returns how the connection was set up.
func (c *Conn) Config() Config { return c.cfg }

// Status returns what was seen last.
func (c *Conn) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.status
}

// Watch calls f with each change of Up, in order, from one goroutine, which f
// must not hold up. It is not called for the state that is there already. A
// call that is under way when stop is called may still be finishing after.
func (c *Conn) Watch(f func(Status)) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.nextID
	c.nextID++
	c.watchers[id] = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watchers, id)
	}
}

// Ping asks Redis now, over the shared client.
func (c *Conn) Ping(ctx context.Context) error {
	if c.client == nil {
		return nil
	}
	if err := c.client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("ping redis at %s: %s: %w", c.cfg.Addr(), CauseOf(err), err)
	}
	return nil
}

// Close stops looking after Redis and closes the client.
func (c *Conn) Close() error {
	var err error
	c.closed.Do(func() {
		c.cancel()
		<-c.done
		if c.unregister != nil {
			err = c.unregister()
		}
		if c.client != nil {
			err = errors.Join(err, c.client.Close())
		}
	})
	return err
}

// clientOptions is one set for every mode; retries are few, since a caller
// that waits for Redis is worse off than one that goes without.
func (c *Conn) clientOptions(idle, most int) *redis.UniversalOptions {
	return c.cfg.options(c.name, idle, most)
}

func (c Config) options(name string, idle, most int) *redis.UniversalOptions {
	return &redis.UniversalOptions{
		Dialer:                dialer(c),
		Addrs:                 c.Addrs,
		ClientName:            name,
		DisableIdentity:       true, // servers before 7.2 answer it with an error
		DB:                    c.DB,
		Username:              c.Username,
		Password:              c.Password,
		SentinelUsername:      c.SentinelUsername,
		SentinelPassword:      c.SentinelPassword,
		MasterName:            c.MasterName,
		IsClusterMode:         c.Mode == Cluster,
		MaxRetries:            1,
		MinRetryBackoff:       8 * time.Millisecond,
		MaxRetryBackoff:       64 * time.Millisecond,
		DialTimeout:           c.ConnectTimeout,
		DialerRetries:         1,
		ReadTimeout:           c.CommandTimeout,
		WriteTimeout:          c.CommandTimeout,
		ContextTimeoutEnabled: true,
		PoolSize:              most,
		MaxActiveConns:        most,
		MinIdleConns:          idle,
		PoolTimeout:           c.PoolTimeout,
		PipelinePoolSize:      -1, // or REDIS_MAX_CONNECTIONS would not be the most
		ConnMaxIdleTime:       c.IdleTimeout,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
}

// clusterReload is between looks at who serves which slot, when nothing says
// that it has changed. The library's minute is how long it would ask a master
// that has died.
const clusterReload = 5 * time.Second

func newClient(o *redis.UniversalOptions) redis.UniversalClient {
	if !o.IsClusterMode {
		return redis.NewUniversalClient(o)
	}
	cluster := o.Cluster()
	cluster.ClusterStateReloadInterval = clusterReload
	return redis.NewClusterClient(cluster)
}

// Separate returns a client with connections of its own; see [Config.Client].
func (c *Conn) Separate(commandTimeout time.Duration) redis.UniversalClient {
	return c.cfg.Client(c.name, commandTimeout)
}

// Client returns a client for questions in the background: with two connections
// a server at most, time for answers that take long to make, and no retries. It
// is in no profile and no trace, and connects when it is asked something. The
// caller closes it. It is nil if there is no Redis to be used.
func (c Config) Client(name string, commandTimeout time.Duration) redis.UniversalClient {
	if !c.Enabled() {
		return nil
	}
	quietClientLog(slog.New(slog.DiscardHandler)) // unless Open has done it
	o := c.withDefaults().options(name, 0, 2)
	o.MaxRetries = -1
	o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = commandTimeout, commandTimeout, commandTimeout
	return newClient(o)
}

// Sentinel returns a client of one Sentinel of the configuration. The caller
// closes it.
func (c Config) Sentinel(addr string) *redis.SentinelClient {
	c = c.withDefaults()
	return redis.NewSentinelClient(&redis.Options{
		Addr: addr, Dialer: dialer(c), DisableIdentity: true, Username: c.SentinelUsername, Password: c.SentinelPassword,
		DialTimeout: c.ConnectTimeout, DialerRetries: 1, ReadTimeout: c.CommandTimeout, WriteTimeout: c.CommandTimeout,
		MaxRetries: -1, PoolSize: 1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
}

// firstLook fails only for a required Redis. Some causes pass by themselves
// within moments, as when both are being started.
func (c *Conn) firstLook(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := c.ping(ctx)
		c.note(ctx, err)
		if err == nil || !c.cfg.Required {
			return nil
		}
		cause := CauseOf(err)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case attempt == attemptsToStart,
			cause == CauseAuth, cause == CauseCertificate, cause == CauseDatabase, cause == CauseNoSocket:
			return &UnreachableError{Addr: c.cfg.Addr(), Cause: cause, err: err}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(2 * backoffBase):
		}
	}
}

// lookOut keeps the status true until the connection is closed.
func (c *Conn) lookOut(ctx context.Context) {
	defer c.dropProbe()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var thorough time.Time // when the last thorough check was
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-c.look:
		}
		if !c.Status().Up {
			c.happen(ctx, EventReconnecting)
		}
		err := c.ping(ctx)
		if ctx.Err() != nil {
			return
		}
		returned := c.note(ctx, err)
		if err == nil && (returned || time.Since(thorough) >= c.cfg.HealthInterval) {
			h := c.examine(ctx)
			c.noteHealth(h)
			c.examined(ctx, h)
			thorough = h.at
			if h.err != nil {
				thorough = time.Time{} // look again soon: it may have passed
			}
		}
		timer.Reset(c.pause())
	}
}

// pause is the time to the next look: a full jitter under an exponential
// ceiling while Redis does not answer, so that many programs do not
// fall upon a server that has just returned.
func (c *Conn) pause() time.Duration {
	c.mu.Lock()
	failures := c.status.Failures
	c.mu.Unlock()
	if failures == 0 {
		return min(pingInterval, c.cfg.HealthInterval)
	}
	return backoff(failures)
}

// backoff is the time to the next look after so many failures in a row.
func backoff(failures int) time.Duration {
	if failures < failuresToDown {
		return backoffFloor
	}
	ceiling := min(backoffCap, backoffBase<<min(failures-failuresToDown, 10))
	return backoffFloor + rand.N(ceiling)
}

// ping looks once. A client remembers for up to a second that it could not
// connect, so one that failed is thrown away; and Redis is not called back
// before the shared client has it back too.
func (c *Conn) ping(ctx context.Context) error {
	if c.probe == nil {
		o := c.clientOptions(0, 2)
		o.MaxRetries = -1
		c.probe = newClient(o)
	}
	ctx, cancel := context.WithTimeout(ctx, c.patience())
	defer cancel()
	err := c.probe.Ping(ctx).Err()
	if err == nil && c.failing.Load() > 0 {
		err = c.client.Ping(ctx).Err()
		if errors.Is(err, redis.ErrPoolTimeout) {
			err = nil
		}
	}
	if err != nil {
		c.dropProbe()
	}
	return err
}

func (c *Conn) dropProbe() {
	if c.probe != nil {
		_ = c.probe.Close() // it has failed already, or nobody needs it any more
		c.probe = nil
	}
}

// note takes the result of a look into the status and tells the watchers if it
// changed. It reports whether Redis has just come up.
func (c *Conn) note(ctx context.Context, err error) (returned bool) {
	now := time.Now()
	c.mu.Lock()
	was := c.status
	s := &c.status
	s.CheckedAt = now
	if s.Since.IsZero() {
		s.Since = now
	}
	if err == nil {
		s.Up, s.Failures, s.Cause = true, 0, causeNotLookedYet
	} else {
		s.Failures++
		s.Cause, s.LastError = CauseOf(err), err.Error()
		s.Up = s.Up && s.Failures < failuresToDown
	}
	first := was.CheckedAt.IsZero()
	if s.Up != was.Up {
		s.Since = now
	}
	if s.Up && !was.Up && !first {
		c.totals.returns.Add(1)
	}
	if !s.Up {
		c.health = health{} // what was measured is not so any more
	}
	is := *s
	var watchers []func(Status)
	if is.Up != was.Up {
		for id := range c.nextID {
			if f := c.watchers[id]; f != nil {
				watchers = append(watchers, f)
			}
		}
	}
	c.mu.Unlock()

	c.stepped(ctx, was, is)
	for _, f := range watchers {
		f(is)
	}
	return is.Up && !was.Up
}

// clientLog is the one logger that the client library has for the process.
var clientLog sync.Once

// quietClientLog sends what the library says to log at debug level: it says to
// standard error, many times a second, that Redis is away, which the status
// says once.
func quietClientLog(log *slog.Logger) {
	clientLog.Do(func() { redis.SetLogger(libraryLog{log}) })
}

type libraryLog struct{ log *slog.Logger }

// Printf is called by the library.
func (l libraryLog) Printf(ctx context.Context, format string, args ...any) {
	if l.log.Enabled(ctx, slog.LevelDebug) {
		l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, args...))
	}
}
