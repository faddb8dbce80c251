package tiered

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Store owns what the caches of a process share: the memory budget, the Redis
// client's use, the breaker, the backplane and the background work. Open one,
// make a [Cache] of it for each kind of value, and Close it before the client.
type Store struct {
	prefix   string
	required bool
	time     *timeSource
	log      *slog.Logger
	tracer   trace.Tracer
	metrics  *metrics
	meter    metric.Meter
	hooks    *courier

	l1        *local  // nil if off
	l2        *remote // nil without Redis
	stripes   stripes
	tags      tagCells
	tagGen    atomic.Uint64 // changes with every invalidation of any tag
	epoch     atomic.Uint64 // see backplane.go
	plane     Backplane
	tracker   *tracker      // nil unless the plane is Tracking
	questions atomic.Uint64 // see asked
	hlc       atomic.Uint64 // last version made here
	lost      *recovery
	outbox    *outbox
	turns     chan struct{} // of loads while Redis is away; nil if they need not take turns
	ops       operations

	mu     sync.RWMutex // guards the two below
	caches map[string]namespace
	closed bool
	ended  atomic.Bool // closed, to be read without the lock

	loads    sync.WaitGroup                           // flights; Add under mu while not closed
	onEnd    func(cancel func()) (unhook func() bool) // of the time that Close gives loads
	endLoads context.CancelFunc

	background sync.WaitGroup
	stop       context.CancelFunc
	contact    chan struct{} // closed once the backplane is up or has failed
	contacted  sync.Once
	beats      chan struct{}
	clockEpoch uint64 // of the beat's last measurement; beat only
	lastBeat   atomic.Int64
	expected   atomic.Pointer[map[string]time.Time] // masters whose beats must come back, since when
	masters    masters                              // beat only
	watched    atomic.Bool                          // they are known
	gapSince   time.Time                            // listener only
}

// namespace is a Cache without its types.
type namespace interface {
	invalidate(key string, version uint64)
	doubt(key string)
	reserved() *tagCell
	counted() CacheStats
	counters() *counters
	describe() Namespace
	inspectText(ctx context.Context, key string) (Inspection, error)
	deleteText(ctx context.Context, key string) error
	Clear(ctx context.Context) error
	InvalidatePrefix(ctx context.Context, prefix string) (int, error)
	dropPrefix(prefix string, version uint64)
}

// Open makes a store. With WithRedisRequired(true) it fails if Redis does not
// answer; otherwise it never fails for that, and connects when Redis comes.
// ctx bounds the opening, not the store's life.
func Open(ctx context.Context, opts ...Option) (_ *Store, err error) {
	o, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	clock := newTimeSource(o.clock)
	s := &Store{
		prefix:   o.prefix,
		required: o.required,
		time:     clock,
		log:      o.log,
		tracer:   o.tracers.Tracer(scope),
		meter:    o.meters.Meter(scope),
		caches:   make(map[string]namespace),
		lost:     newRecovery(clock.nanos),
		outbox:   newOutbox(),
		contact:  make(chan struct{}),
		beats:    make(chan struct{}, 1),
	}
	s.epoch.Store(2)
	s.gapSince = time.Now()
	s.metrics = newMetrics(s.meter)
	if *o.turns > 0 {
		s.turns = make(chan struct{}, *o.turns)
	}
	s.hooks = newCourier(o.hooks, o.log)
	defer func() {
		if err != nil {
			s.hooks.close(ctx)
		}
	}()
	run := context.WithoutCancel(ctx)
	loads, end := context.WithCancel(run)
	s.onEnd, s.endLoads = func(cancel func()) func() bool { return context.AfterFunc(loads, cancel) }, end
	run, s.stop = context.WithCancel(run)

	if o.redis != nil {
		s.epoch.Store(1)
		s.l2 = newRemote(o, s)
		err := s.l2.syncClock(ctx)
		if err != nil && o.required {
			s.stop()
			s.endLoads()
			return nil, fmt.Errorf("open cache: redis at %s does not answer: %w (check that it runs there, "+
				"that the network lets this process reach it, and its user, password and TLS settings)", addr(o.redis), err)
		}
	}
	if o.l1Bytes > 0 {
		if s.l1, err = newLocal(o.l1Bytes, s.time.nanos, s.evicted); err != nil {
			s.stop()
			s.endLoads()
			return nil, fmt.Errorf("open cache: %w", err)
		}
	}
	if err := s.metrics.register(s, s.meter); err != nil {
		s.log.WarnContext(ctx, "cache metrics are off", slog.Any("error", err))
	}
	if err := s.track(ctx, &o); err != nil {
		s.stop()
		s.endLoads()
		if s.l1 != nil {
			s.l1.close()
		}
		return nil, fmt.Errorf("open cache: %w", err)
	}
	if s.l2 != nil {
		if s.plane == Off {
			s.firstContact()
		} else {
			s.background.Go(func() { s.listen(run) })
		}
		if s.tracker != nil {
			s.background.Go(func() { s.check(run) })
		}
		s.background.Go(func() { s.beat(run) })
		s.background.Go(func() { s.recover(run) })
		s.background.Go(func() { s.deliver(run) })
		// The first reads are better if invalidations arrive already, but
		// nobody waits long for a server that does not answer.
		patience := time.NewTimer(2 * o.l2Timeout)
		defer patience.Stop()
		select {
		case <-s.contact:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	return s, nil
}

const scope = "github.com/crewbeat/crewbeat/pkg/tiered"

func newRemote(o config, s *Store) *remote {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	r := &remote{
		c:       o.redis,
		timeout: o.l2Timeout,
		prefix:  o.prefix,
		channel: o.prefix + ":inv",
		origin:  hex.EncodeToString(id[:]),
		micros:  s.time.micros,
		tracer:  s.tracer,
		about:   serverAttributes(o.redis),
		took:    s.metrics.tripTook,
	}
	r.breaker = newBreaker(o.breaker, s.breakerChanged)
	if r.slots = gatherSlots; o.together {
		r.slots = 0
	}
	r.sets = newGather(r, "set", r.runSets, s.begin, s.loads.Done)
	r.deletes = newGather(r, "delete", func(ctx context.Context, calls []*call) error { return runAll(ctx, r.c, calls) }, s.begin, s.loads.Done)
	if !boundedByContext(o.redis) {
		s.log.Warn("redis client ignores context deadlines: set ContextTimeoutEnabled, or an outage costs its own timeouts a call")
	}
	return r
}

func boundedByContext(c redis.UniversalClient) bool {
	switch c := c.(type) {
	case *redis.Client:
		return c.Options().ContextTimeoutEnabled
	case *redis.ClusterClient:
		return c.Options().ContextTimeoutEnabled
	}
	return true // who knows
}

// addr names where a client connects to, without its credentials.
func addr(c redis.UniversalClient) string {
	switch c := c.(type) {
	case *redis.Client:
		host, port, err := net.SplitHostPort(c.Options().Addr)
		if err != nil {
			return c.Options().Addr
		}
		return fmt.Sprintf("host %s port %s", host, port)
	case *redis.ClusterClient:
		return fmt.Sprint(c.Options().Addrs)
	}
	return "its address"
}

// tick makes a version: a hybrid clock, at Redis's time as far as known and
// above everything made here before.
func (s *Store) tick() uint64 { return s.tickAt(s.time.nanos()) }

// tickAt is tick by a reading of the clock of a moment ago.
func (s *Store) tickAt(nanos int64) uint64 {
	now := s.time.microsAt(nanos)
	if s.l2 != nil {
		now += s.l2.offset.Load()
	}
	for {
		last := s.hlc.Load()
		v := max(uint64(max(now, 1)), last+1)
		if s.hlc.CompareAndSwap(last, v) {
			return v
		}
	}
}

func (s *Store) firstContact() { s.contacted.Do(func() { close(s.contact) }) }

func (s *Store) cache(ns string) namespace {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.caches[ns]
}

// begin counts a flight in, unless the store is closed.
func (s *Store) begin() bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return false
	}
	s.loads.Add(1)
	return true
}

func (s *Store) isClosed() bool { return s.ended.Load() }

// InvalidateTags makes every entry with any of the tags a miss: in this
// process when it returns, in others within the bound of the package's
// guarantees. A load that is under way is not stored.
//
// If Redis is away the tags are invalidated here, and there when it is back;
// see WithRedisRequired for the error.
func (s *Store) InvalidateTags(ctx context.Context, tags ...string) error {
	cells := make([]*tagCell, 0, len(tags))
	for _, t := range tags {
		if t == "" || len(t) > maxTagLen {
			return fmt.Errorf("invalidate tag %.20q: want 1 to %d bytes", t, maxTagLen)
		}
		cells = append(cells, s.tags.get(tagKey(s.prefix, t), s.tick))
	}
	if err := s.invalidateCells(ctx, cells); err != nil {
		return fmt.Errorf("invalidate tags: %w", err)
	}
	return nil
}

func (s *Store) invalidateCells(ctx context.Context, cells []*tagCell) error {
	if s.isClosed() {
		return ErrClosed
	}
	if len(cells) == 0 {
		return nil
	}
	s.raise(cells)
	for _, c := range cells {
		s.invalidated(c, false)
	}
	if s.l2 == nil {
		return nil
	}
	done, err := s.l2.invalidate(ctx, cells, nil)
	for i, c := range cells {
		if done[i] {
			s.lost.toldTag(c)
		} else {
			s.lost.addTag(c)
		}
	}
	// Again: a load that began since the first time may have been told the
	// versions of before by Redis.
	s.tagGen.Add(1)
	return s.report(err)
}

// raise invalidates the cells in this process.
func (s *Store) raise(cells []*tagCell) {
	for _, c := range cells {
		c.raise(max(s.tick(), c.version.Load()+1))
	}
	s.tagGen.Add(1)
}

// report decides whether a failure of Redis is the caller's business.
func (s *Store) report(err error) error {
	if err == nil || !s.required && errors.Is(err, ErrUnavailable) {
		return nil
	}
	return err
}

// lose remembers a write of a key that Redis was not told of.
func (s *Store) lose(ns, key string, version uint64) {
	if full := s.lost.addKey(ns, key, version); full != "" {
		cell := s.cache(full).reserved()
		s.lost.addTag(cell)
		s.raise([]*tagCell{cell})
	}
}

// current brings the cells up to date with Redis where they are not. After an
// error they hold what is known here.
func (s *Store) current(ctx context.Context, cells []*tagCell) error {
	if s.l2 == nil {
		return nil
	}
	epoch := s.coherent()
	var old []*tagCell
	for _, c := range cells {
		if !c.isCurrent(epoch) {
			old = append(old, c)
		}
	}
	if len(old) == 0 {
		return nil
	}
	return s.l2.readTags(ctx, old, epoch)
}

// Close ends the store: new calls get ErrClosed, loads under way are awaited
// until ctx ends and then cancelled, and what Redis has not been told yet, also
// by [Async], is told if it can be. It does not close the Redis client.
//
// If ctx ends first, Close waits for no more than the round trip that is under
// way, and its error says that loads were left, or how many writes of Async.
func (s *Store) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.ended.Store(true)
	s.mu.Unlock()

	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.loads.Wait()
	}()
	var err error
	select {
	case <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("close cache: loads are still running: %w", ctx.Err())
	}
	s.endLoads()
	if s.l2 != nil {
		err = errors.Join(err, s.outbox.close(ctx))
		s.replay(ctx)
	}
	s.stop()
	s.background.Wait()
	if s.tracker != nil {
		_ = s.tracker.c.Close() // nothing uses it any more
	}
	s.metrics.unregister()
	if s.l1 != nil {
		s.l1.close()
	}
	s.time.stop()
	s.hooks.close(ctx)
	return err
}

// Status sums up a store's health.
type Status string

// The statuses. A store without Redis by choice is Healthy.
const (
	Healthy  Status = "healthy"
	Degraded Status = "degraded" // works, slower or less coherent
	Down     Status = "down"     // Redis is required and away
)

// Health is the state of a store.
type Health struct {
	Status   Status
	Redis    bool          // a client was given
	Breaker  string        // "closed", "half-open", "open"; "" without Redis
	Coherent bool          // invalidations of other processes arrive; never with the backplane Off
	Lag      time.Duration // since the canary was last heard; 0 if never
	Recovery int           // writes that Redis has not been told of yet, or has to be told again

	// Failovers is how often Redis was found with another master, after which
	// what the last one had acknowledged within 30 s is repeated.
	Failovers uint64
}

// Health reports how the store is. It asks nobody and does not block.
func (s *Store) Health() Health {
	h := Health{Status: Healthy, Coherent: s.listening()}
	if s.l2 == nil {
		return h
	}
	h.Redis = true
	h.Breaker = gobreaker.State(s.l2.breaker.state.Load()).String()
	h.Recovery = int(s.lost.size.Load())
	h.Failovers = s.metrics.failovers.Load()
	if at := s.lastBeat.Load(); at != 0 {
		h.Lag = time.Since(time.Unix(0, at))
	}
	switch away := h.Breaker != gobreaker.StateClosed.String(); {
	case away && s.required:
		h.Status = Down
	case away || !h.Coherent && s.plane != Off || h.Recovery > 0:
		h.Status = Degraded
	}
	return h
}
