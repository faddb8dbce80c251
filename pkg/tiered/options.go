package tiered

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/metric"
	mnoop "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	tnoop "go.opentelemetry.io/otel/trace/noop"
)

// Defaults of the options that are not given.
const (
	DefaultPrefix      = "tc"
	DefaultL1Bytes     = 64 << 20
	DefaultTTL         = 5 * time.Minute
	DefaultL1TTL       = 30 * time.Second // without Redis: as long as the TTL
	DefaultNegativeTTL = 10 * time.Second
	DefaultL2Timeout   = 250 * time.Millisecond
	DefaultLease       = 30 * time.Second
	DefaultOutageLoads = 64 // with Redis; without it there is no bound
)

// Clock tells the time. A store uses the system's unless [WithClock] gives it
// another; tests may use tieredtest.Clock.
type Clock interface{ Now() time.Time }

// Option configures a [Store].
type Option func(*config)

type config struct {
	redis     redis.UniversalClient
	required  bool
	prefix    string
	l1Bytes   int64
	l2Timeout time.Duration
	breaker   gobreaker.Settings
	log       *slog.Logger
	tracers   trace.TracerProvider
	meters    metric.MeterProvider
	clock     Clock
	turns     *int // nil: the default
	hooks     Hooks
	plane     Backplane
	together  bool // of tests: no write goes alone
}

// WithRedis makes c the second tier. The store uses the client but does not
// close it. A nil client, or none, means memory only: one tier, no other
// process to agree with.
//
// Set the client's ContextTimeoutEnabled, and keep its timeouts and retries
// small (dial 500 ms, read and write 250 ms, MaxRetries -1 or 1): a cache that
// waits for seconds is worse than none.
func WithRedis(c redis.UniversalClient) Option { return func(o *config) { o.redis = c } }

// WithRedisRequired says what the absence of Redis means. If true, Open fails
// when Redis cannot be reached, and writes report [ErrUnavailable]. If false,
// which is the default, nothing ever fails for lack of Redis: the cache goes
// on in memory and Health says Degraded.
func WithRedisRequired(required bool) Option { return func(o *config) { o.required = required } }

// WithPrefix sets the first part of every Redis key and of the channel: 1 to 64
// letters, digits, '.', '_' or '-'. Stores that shall share entries need the same
// one. The default is "tc".
func WithPrefix(p string) Option { return func(o *config) { o.prefix = p } }

// WithL1 bounds the memory tier, in bytes as counted by WithCost or else
// estimated. Zero turns the tier off. The default is 64 MiB.
func WithL1(maxBytes int64) Option { return func(o *config) { o.l1Bytes = maxBytes } }

// WithL2Timeout bounds each round trip to Redis. The default is 250 ms.
func WithL2Timeout(d time.Duration) Option { return func(o *config) { o.l2Timeout = d } }

// WithBreaker replaces the circuit breaker's settings. Zero fields keep the
// store's defaults: it opens after 5 failures in a row, or when half of at least
// 20 calls within 10 s have failed, and tries again after a second. IsSuccessful and IsExcluded are always the store's, for
// they hold what is a failure of Redis and what is not.
func WithBreaker(s gobreaker.Settings) Option { return func(o *config) { o.breaker = s } }

// WithLogger sets the logger. The default discards.
func WithLogger(l *slog.Logger) Option { return func(o *config) { o.log = l } }

// WithTracerProvider sets where spans of loads and Redis round trips go.
// There is never a span for a hit in memory. The default discards.
func WithTracerProvider(p trace.TracerProvider) Option { return func(o *config) { o.tracers = p } }

// WithMeterProvider sets where metrics go. The default discards.
func WithMeterProvider(p metric.MeterProvider) Option { return func(o *config) { o.meters = p } }

// WithClock replaces the system's clock by which entries expire, and by which
// what Redis acknowledged lately is remembered for a failover. Timers of
// background work still use the system's.
func WithClock(c Clock) Option { return func(o *config) { o.clock = c } }

// WithOutageLoads bounds how many loaders run at once in this process while
// Redis is away: then no lease and no entry in Redis keep loads from the source,
// and a cache's outage must not become the database's. A bulk load counts as one.
// Loads beyond it take turns in the order of their coming; those for which
// [FailSafe] has a value from before serve that instead of waiting, and every
// caller waits only as long as its context and [Timeouts] allow. What a loader
// loads in turn, with the context it was given, needs no turn of its own.
//
// Zero means no bound. The default is 64 in a store with Redis, and no bound in
// one without; given, it holds there too, for all loads.
func WithOutageLoads(n int) Option { return func(o *config) { o.turns = &n } }

// WithBackplane says how the store learns of other processes' writes. The
// default is [PubSub].
func WithBackplane(b Backplane) Option { return func(o *config) { o.plane = b } }

var namePattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func newConfig(opts []Option) (config, error) {
	o := config{prefix: DefaultPrefix, l1Bytes: DefaultL1Bytes, l2Timeout: DefaultL2Timeout}
	for _, opt := range opts {
		opt(&o)
	}
	var errs []error
	if !namePattern.MatchString(o.prefix) {
		errs = append(errs, fmt.Errorf("prefix %q: want 1 to 64 letters, digits, '.', '_' or '-'", o.prefix))
	}
	if o.l1Bytes < 0 {
		errs = append(errs, fmt.Errorf("l1 of %d bytes: want 0 (off) or more", o.l1Bytes))
	}
	if o.l2Timeout <= 0 {
		errs = append(errs, fmt.Errorf("l2 timeout %v: want more than 0", o.l2Timeout))
	}
	if o.required && isNil(o.redis) {
		errs = append(errs, errors.New("redis is required but no client is given"))
	}
	if isNil(o.redis) {
		o.redis = nil
	}
	if o.plane > Off {
		errs = append(errs, fmt.Errorf("backplane %d: want PubSub, Tracking or Off", o.plane))
	}
	if o.turns == nil {
		o.turns = new(int)
		if o.redis != nil {
			*o.turns = DefaultOutageLoads
		}
	}
	if *o.turns < 0 {
		errs = append(errs, fmt.Errorf("outage loads %d: want 0 (no bound) or more", *o.turns))
	}
	if o.log == nil {
		o.log = slog.New(slog.DiscardHandler)
	}
	if o.tracers == nil {
		o.tracers = tnoop.NewTracerProvider()
	}
	if o.meters == nil {
		o.meters = mnoop.NewMeterProvider()
	}
	return o, errors.Join(errs...)
}

// isNil also catches a nil pointer in the interface, the usual accident of a
// client that is optional.
func isNil(c redis.UniversalClient) bool {
	switch c := c.(type) {
	case nil:
		return true
	case *redis.Client:
		return c == nil
	case *redis.ClusterClient:
		return c == nil
	case *redis.Ring:
		return c == nil
	}
	return false
}

// CacheOption configures a [Cache].
type CacheOption func(*cacheConfig)

type cacheConfig struct {
	codec    Codec
	schema   uint16
	compress Compression
	minSize  int
	cloner   any // func(V) V
	cost     any // func(V) int64
	defaults entryConfig
}

// WithCodec sets how values are written to Redis, and the schema number of
// V's shape. Entries of another codec or schema are misses: raise the number
// when V changes in a way that old entries must not be read. The default is
// JSON with schema 0.
func WithCodec(c Codec, schema uint16) CacheOption {
	return func(o *cacheConfig) { o.codec, o.schema = c, schema }
}

// WithCompression compresses encoded values of at least minBytes. The default
// is S2 from 2 KiB.
func WithCompression(c Compression, minBytes int) CacheOption {
	return func(o *cacheConfig) { o.compress, o.minSize = c, minBytes }
}

// WithCloner gives every caller its own copy. Without it callers share values
// and must not change what they point to.
func WithCloner[V any](clone func(V) V) CacheOption {
	return func(o *cacheConfig) { o.cloner = clone }
}

// WithCost says how many bytes of memory a value takes. The default walks the
// value and estimates.
func WithCost[V any](cost func(V) int64) CacheOption {
	return func(o *cacheConfig) { o.cost = cost }
}

// WithDefaults sets the entry options of every call; a call's own options win.
func WithDefaults(opts ...EntryOption) CacheOption {
	return func(o *cacheConfig) { o.defaults = o.defaults.with(opts) }
}

// EntryOption configures one entry: as a default of the cache, or for a call.
// It is a plain value so that passing it costs no allocation on a hit.
type EntryOption struct {
	kind entryKind
	d    time.Duration
	d2   time.Duration
	f    float64
	f2   float64
	tags []string
}

type entryKind uint8

const (
	kindTTL entryKind = iota + 1
	kindL1TTL
	kindJitter
	kindNegative
	kindTags
	kindLease
	kindSkipL1
	kindSkipL2
	kindFailSafe
	kindTimeouts
	kindEager
	kindAsync
)

// TTL is how long an entry lives: a millisecond at least, for zero is no "forever"
// here but a mistake. The default is 5 minutes.
func TTL(d time.Duration) EntryOption { return EntryOption{kind: kindTTL, d: d} }

// L1TTL is how long this process may serve an entry from memory without asking
// Redis again, at most the TTL. It is the bound of staleness while Redis is
// away. The default is 30 s, or the TTL in a store without Redis.
func L1TTL(d time.Duration) EntryOption { return EntryOption{kind: kindL1TTL, d: d} }

// Jitter shortens each TTL by a random part of up to fraction (0 to 1), so
// that entries written together do not expire together.
func Jitter(fraction float64) EntryOption { return EntryOption{kind: kindJitter, f: fraction} }

// NegativeTTL is how long [ErrNotFound] is cached, at most the TTL; zero means
// not at all. The default is 10 s.
func NegativeTTL(d time.Duration) EntryOption { return EntryOption{kind: kindNegative, d: d} }

// Tags attach the entry to up to 64 tags of 1 to 256 bytes, any of which
// [Store.InvalidateTags] can invalidate. They replace the tags of the cache's
// defaults.
func Tags(tags ...string) EntryOption { return EntryOption{kind: kindTags, tags: tags} }

// DistributedLease makes one process load a cold key while the others wait for
// its result, up to ttl; then they load it themselves. So they do, if the loading
// process dies, when ttl has passed since it began: choose it above the longest
// load, for what takes longer is not stored. Once another process has begun in
// place of one that has died, or failed, they wait for that one too, and then for
// no more: twice ttl at most. It saves work; it is
// no mutual exclusion. Without it each process loads at most once at a time.
func DistributedLease(ttl time.Duration) EntryOption { return EntryOption{kind: kindLease, d: ttl} }

// SkipL1 neither reads nor writes this process's memory.
func SkipL1() EntryOption { return EntryOption{kind: kindSkipL1} }

// SkipL2 neither reads nor writes Redis. Other processes are not told of what
// is set with it.
func SkipL2() EntryOption { return EntryOption{kind: kindSkipL2} }

// FailSafe keeps an entry for up to max after its TTL, to serve it when it
// cannot be loaded: GetOrLoad then returns the old value instead of the
// loader's error, and for throttle this process does not try again. It is for
// values that are better old than absent; entries of [ErrNotFound] are not
// kept, and Get, which loads nothing, never returns what is past its TTL.
//
// The bound is the shorter of the max that the entry was stored with and the
// call's. Throttle needs the memory tier. What was set, deleted or invalidated
// is as gone as ever: fail-safe serves nothing that was written over, as far
// as the package's bound of staleness tells.
func FailSafe(max, throttle time.Duration) EntryOption {
	return EntryOption{kind: kindFailSafe, d: max, d2: throttle}
}

// Timeouts bound how long GetOrLoad waits for a load. Once the load has run
// for soft, the value from before is served if there is one by [FailSafe]; a
// call that has waited for hard gets it too, or else [ErrTimeout]. Zero means
// no bound.
//
// The load goes on without those who left, and is stored when it ends unless
// something was written since it began. If still nobody waits when its lease
// has run out, which is 30 s after its start or as [DistributedLease] says, it
// is cancelled.
func Timeouts(soft, hard time.Duration) EntryOption {
	return EntryOption{kind: kindTimeouts, d: soft, d2: hard}
}

// EagerRefresh loads a value again in the background before it expires, while
// callers go on getting the one that is there, so that a value that is read
// all the time is never waited for. A hit from GetOrLoad starts it, with its
// own loader, at a time that is drawn when the value comes into this process's
// memory (XFetch): before the TTL's end by the time that the load took, times
// beta, times a random number of the exponential distribution with mean 1; at
// the earliest when threshold (0 to 1) of the TTL has passed. A beta of 1 is
// usual, more is earlier, 0 is never.
//
// Processes draw differently, and who finds another one at it leaves it to that.
// A value that was Set has no known cost and is not refreshed early, nor is
// anything that is not in memory. A failed refresh is tried again after a second.
func EagerRefresh(threshold, beta float64) EntryOption {
	return EntryOption{kind: kindEager, f: threshold, f2: beta}
}

// Async has Set and Delete return without waiting for Redis: this process reads
// its own write at once, Redis and with it the others get it a moment later, by
// a queue that keeps the newest write of each key. Any other call of the key
// that reads or writes Redis waits until the queue has told it, so that this
// process's writes of a key stay in order. Of writes of several processes the
// newer by Redis's clock stays.
//
// What Redis does not take after all is treated as if it had been away (see
// [WithRedisRequired]), but nobody is told by an error: the value is kept in
// this process, and what Redis has is deleted when it is back. If this process
// dies first, up to 4,096 writes or 16 MiB that wait have not been made. [Store.Close]
// makes them, and says how many it could not. METRICS.md has the queue's length.
//
// It waits all the same if the queue is full, if Redis is away, if the
// versions of tags must be read first, or if memory cannot answer for the write
// meanwhile: with [SkipL1], without the memory tier, or with another backplane
// than [PubSub]. So it does for a moment if the key's last write is being sent.
// Other calls than Set and Delete ignore it.
func Async() EntryOption { return EntryOption{kind: kindAsync} }

// entryConfig is what the options of an entry come to.
type entryConfig struct {
	ttl, l1ttl, negative, lease time.Duration
	failSafe, throttle          time.Duration
	softTimeout, hardTimeout    time.Duration
	jitter, threshold, beta     float64
	tags                        []string
	skipL1, skipL2, async       bool
}

func (o entryConfig) with(opts []EntryOption) entryConfig {
	for i := range opts {
		switch opt := &opts[i]; opt.kind {
		case kindTTL:
			o.ttl = opt.d
		case kindL1TTL:
			o.l1ttl = opt.d
		case kindJitter:
			o.jitter = opt.f
		case kindNegative:
			o.negative = opt.d
		case kindTags:
			o.tags = slices.Clone(opt.tags) // the caller's slice stays on its stack
		case kindLease:
			o.lease = opt.d
		case kindSkipL1:
			o.skipL1 = true
		case kindSkipL2:
			o.skipL2 = true
		case kindFailSafe:
			o.failSafe, o.throttle = opt.d, opt.d2
		case kindTimeouts:
			o.softTimeout, o.hardTimeout = opt.d, opt.d2
		case kindEager:
			o.threshold, o.beta = opt.f, opt.f2
		case kindAsync:
			o.async = true
		}
	}
	return o
}

const (
	maxFailSafe = 10 * 365 * 24 * time.Hour // keeps sums of durations from overflowing
	maxBeta     = 1e6
)

// validate refuses what could only be a mistake. A TTL that has passed is one:
// in many libraries zero silently means forever.
func (o entryConfig) validate() error {
	switch {
	case o.ttl < time.Millisecond:
		return fmt.Errorf("tiered: ttl %v: want at least 1ms", o.ttl)
	case o.l1ttl < 0:
		return fmt.Errorf("tiered: l1 ttl %v: want 0 or more", o.l1ttl)
	case o.negative < 0:
		return fmt.Errorf("tiered: negative ttl %v: want 0 or more", o.negative)
	case o.lease < 0:
		return fmt.Errorf("tiered: lease %v: want 0 or more", o.lease)
	case !(o.jitter >= 0 && o.jitter <= 1):
		return fmt.Errorf("tiered: jitter %v: want 0 to 1", o.jitter)
	case o.failSafe < 0 || o.failSafe > maxFailSafe || o.throttle < 0:
		return fmt.Errorf("tiered: fail-safe for %v, throttle %v: want 0 to %v, and 0 or more", o.failSafe, o.throttle, maxFailSafe)
	case o.softTimeout < 0 || o.hardTimeout < 0 || o.hardTimeout > 0 && o.softTimeout > o.hardTimeout:
		return fmt.Errorf("tiered: timeouts %v and %v: want 0 or more, and the soft one not above the hard one", o.softTimeout, o.hardTimeout)
	case !(o.threshold >= 0 && o.threshold <= 1 && o.beta >= 0 && o.beta <= maxBeta):
		return fmt.Errorf("tiered: eager refresh from %v, beta %v: want 0 to 1, and 0 to %v", o.threshold, o.beta, maxBeta)
	case len(o.tags) > maxTags:
		return fmt.Errorf("tiered: %d tags: want at most %d", len(o.tags), maxTags)
	}
	for _, t := range o.tags {
		if t == "" || len(t) > maxTagLen {
			return fmt.Errorf("tiered: tag %.20q of %d bytes: want 1 to %d", t, len(t), maxTagLen)
		}
	}
	return nil
}
