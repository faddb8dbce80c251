package tiered

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Backplane is how a store learns of what others have written.
type Backplane uint8

// The backplanes, in the order of what they find out, and cost.
const (
	// PubSub: every write of a store is published in the script that makes it,
	// with its version. What programs do to Redis without this package is not
	// heard of.
	PubSub Backplane = iota

	// Tracking is PubSub, and Redis also reports every change of this prefix's
	// keys, whoever made it: DEL, SET, EXPIRE and the like by other programs,
	// FLUSHALL and FLUSHDB, expiry and eviction (CLIENT TRACKING with BCAST, on
	// the connection that is subscribed). Memory then asks Redis by a header
	// read before it serves the key again.
	//
	// It costs every store a message for each key that anybody changes, with
	// the keys of one round of Redis's event loop in one message; and for each
	// own write one header read in the background, 100 to 200 ms later and up to
	// 256 in one round trip, since own writes are reported too and do not differ
	// from those of others. For that long a foreign change that follows an own
	// write may go unnoticed, and one of a tag's version; else it is a message's
	// latency. A change that leaves an entry's first 48 bytes as they are, such
	// as SETRANGE of the value alone, is none.
	//
	// A load under way is not fenced by a DEL of its key by another program,
	// which Redis does not even report if the key is not there. Such programs
	// delete the lease along with it: DEL tc:{users:7} tc:l:{users:7}. Then
	// nothing of the load is stored anywhere.
	//
	// It needs a *redis.Client, also of a Sentinel's master: a Cluster would
	// need a connection for each of its masters, and Open refuses it. The
	// server must be Redis 6.0 or later, and its user may run client|id and
	// client|tracking and use the channel __redis__:invalidate. Without a memory
	// tier it is PubSub.
	Tracking

	// Off: nobody listens. Memory serves what it has until its L1TTL, which is
	// the bound of staleness, whatever the state of Redis; the values of loads
	// count from the load's start. The process's own writes take effect at once,
	// as ever, loads are fenced in Redis, and other stores are told of what this
	// one writes. The versions of tags are read from Redis with every read,
	// load and Set, which is one more round trip. Health says Coherent false,
	// which is no reason for Degraded then. If Redis's user may not run INFO
	// either, a failover is not noticed, and nothing is repeated after it.
	Off
)

// String is the name in lower case.
func (b Backplane) String() string {
	switch b {
	case PubSub:
		return "pubsub"
	case Tracking:
		return "tracking"
	case Off:
		return "off"
	}
	return fmt.Sprintf("backplane(%d)", uint8(b))
}

const (
	trackChannel = "__redis__:invalidate"
	// checkDelay is what an own write waits at least, and twice that at most,
	// before it is checked: so long its own report may take, and so many are
	// checked in one round trip. It is how long a foreign change that came right
	// after an own write goes unnoticed.
	checkDelay = 100 * time.Millisecond
	checkBatch = 256
	// maxChecks bounds what waits to be checked; beyond it a hit asks instead.
	maxChecks = 1 << 14
	// asked marks the epoch of a record about which Redis is being asked. Each
	// question has its own, so that its answer counts only if no change was
	// reported meanwhile.
	asked = uint64(1) << 63
)

// tracker has what Tracking needs beside the subscription.
//
// A report says only that a key has changed. One's own write is reported like
// any other, perhaps in one with another's: it cannot be left out of account,
// and if each made its own fresh record suspect, the next hit would always ask
// Redis. So what this process has stored is checked once, a little later, by a
// header read, whether it is reported or not; reports that come before are then
// taken into account, and every later one makes the record suspect.
type tracker struct {
	c *redis.Client // whose connections track

	mu   sync.Mutex
	own  map[uint64]check // by hash: what this process has stored lately
	due  map[uint64]check // of them, what is checked next
	tags map[*tagCell]struct{}
	kick chan struct{}
}

type check struct {
	r    *record
	full string
}

// track prepares the backplane that o asks for. If Redis answers and refuses
// Tracking, it says why.
func (s *Store) track(ctx context.Context, o *config) error {
	if s.l2 == nil {
		return nil
	}
	s.plane = o.plane
	switch {
	case s.plane == Off:
		s.epoch.Store(0)
	case s.plane == Tracking && s.l1 == nil:
		s.plane = PubSub
	case s.plane == Tracking:
		c, err := trackingClient(o.redis, o.prefix)
		if err != nil {
			return err
		}
		if err := probe(ctx, c); isReply(err) && !isFailure(err) {
			_ = c.Close() // the refusal is what matters
			return fmt.Errorf("redis refuses tracking: %w (it needs Redis 6.0 and a user with "+
				"+client|id +client|tracking &%s, or use WithBackplane(PubSub))", err, trackChannel)
		}
		s.tracker = &tracker{c: c, kick: make(chan struct{}, 1)}
	}
	return nil
}

// trackingClient makes a client like the user's whose connections report the
// changes of the prefix's entries, tags and namespaces to themselves.
func trackingClient(c redis.UniversalClient, prefix string) (*redis.Client, error) {
	one, ok := c.(*redis.Client)
	if !ok {
		return nil, fmt.Errorf("tracking needs a *redis.Client, of one server or of a Sentinel's master, and not %T: use WithBackplane(PubSub)", c)
	}
	o := *one.Options()
	o.Protocol = 2 // in which a subscribed connection gets reports as messages
	o.PushNotificationProcessor = nil
	o.PoolSize, o.MinIdleConns = 1, 0
	first := o.OnConnect
	o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
		if first != nil {
			if err := first(ctx, cn); err != nil {
				return err
			}
		}
		id, err := cn.ClientID(ctx).Result()
		if err != nil {
			return fmt.Errorf("ask for the connection's id: %w", err)
		}
		// Not the leases: they change with every load and nobody keeps them.
		return cn.Do(ctx, "client", "tracking", "on", "redirect", id, "bcast",
			"prefix", prefix+":{", "prefix", tagKey(prefix, ""), "prefix", namespaceKey(prefix, "")).Err()
	}
	return redis.NewClient(&o), nil
}

// probe subscribes and leaves.
func probe(ctx context.Context, c *redis.Client) error {
	sub := c.Subscribe(ctx, trackChannel)
	defer func() { _ = sub.Close() }() // it has served
	_, err := sub.Receive(ctx)
	return err
}

// isReply reports that Redis has answered with an error.
func isReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && !errors.Is(err, redis.Nil)
}

// isFlush recognises the report of FLUSHALL or FLUSHDB, null instead of a list,
// of which the client makes an error. If it did not, or made another one, the
// connection would be made anew, which has the same effect more slowly.
func isFlush(err error) bool {
	return err != nil && strings.HasSuffix(err.Error(), "unsupported pubsub message payload: <nil>")
}

// flushed makes everything suspect. Only the listener calls it.
func (s *Store) flushed() {
	s.metrics.tracked.Add(1)
	if s.epoch.Load()%2 == 0 {
		s.epoch.Add(2)
	}
}

// reported applies Redis's report that keys have changed.
func (s *Store) reported(keys []string) {
	s.metrics.tracked.Add(uint64(len(keys)))
	for _, key := range keys {
		name, ok := strings.CutPrefix(key, s.prefix+":{")
		if !ok {
			if cell := s.tags.find(key); cell != nil {
				s.tracker.checkTag(cell)
			}
			continue
		}
		ns, escaped, _ := strings.Cut(strings.TrimSuffix(name, "}"), ":")
		if c := s.cache(ns); c != nil {
			c.doubt(unescaper.Replace(escaped))
		}
	}
}

// doubt has Redis asked about the key before memory serves it again. What is
// being read may have been read before the change. A load goes on: that its key
// has changed may be no more than its expiry; but what it brings is asked about.
func (c *Cache[K, V]) doubt(skey string) {
	key, ok := parseKey[K](skey)
	if !ok {
		return
	}
	h := c.hash(key)
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	f := &c.flights[h%stripeCount]
	if read := f.reads[key]; read != nil {
		read.spoilt = always
		delete(f.reads, key)
	}
	if load := f.loads[key]; load != nil {
		load.doubted = true
	}
	if r := c.s.l1.get(h); r != nil && !c.s.tracker.waits(h, r) {
		r.epoch.Store(0)
	}
}

// verify has a record of memory checked that this process has stored in Redis.
// It needs the stripe's lock.
func (c *Cache[K, V]) verify(h uint64, r *record) {
	t := c.s.tracker
	if t == nil || !r.inL2() {
		return
	}
	full := c.s.l2.dataKey(c.name, keyString(c.itemOf(r).key))
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.own == nil {
		t.own = make(map[uint64]check)
	}
	if _, again := t.own[h]; !again && len(t.own) >= maxChecks {
		r.epoch.Store(0)
		return
	}
	delete(t.due, h)
	t.own[h] = check{r, full}
	t.wake()
}

// waits reports whether the record is going to be checked.
func (t *tracker) waits(h uint64, r *record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.own[h].r == r || t.due[h].r == r
}

func (t *tracker) checkTag(cell *tagCell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tags == nil {
		t.tags = make(map[*tagCell]struct{})
	}
	t.tags[cell] = struct{}{}
	t.wake()
}

func (t *tracker) wake() {
	select {
	case t.kick <- struct{}{}:
	default:
	}
}

// take returns what has waited for long enough.
func (t *tracker) take() (own map[uint64]check, tags []*tagCell) {
	t.mu.Lock()
	defer t.mu.Unlock()
	own, tags = t.due, slices.Collect(maps.Keys(t.tags))
	t.due, t.own, t.tags = t.own, nil, nil
	if len(t.due) > 0 {
		t.wake()
	}
	return own, tags
}

// check checks what waits for it, until ctx ends.
func (s *Store) check(ctx context.Context) {
	timer := time.NewTimer(checkDelay)
	defer timer.Stop()
	for {
		select {
		case <-s.tracker.kick:
		case <-ctx.Done():
			return
		}
		timer.Reset(checkDelay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		// From here on reports make suspect again: they may be newer than what
		// is read now.
		own, tags := s.tracker.take()
		s.metrics.checks.Add(uint64(len(own) + len(tags)))
		s.checkTags(ctx, tags)
		s.checkOwn(ctx, own)
	}
}

// checkTags reads the versions of tags again. One that is not there any more
// becomes a new one, which invalidates.
func (s *Store) checkTags(ctx context.Context, cells []*tagCell) {
	for batch := range slices.Chunk(cells, checkBatch) {
		if s.l2.readTags(ctx, batch, s.coherent()) != nil {
			for _, cell := range batch {
				s.tracker.checkTag(cell) // again, after the next delay
			}
		}
	}
}

func (s *Store) checkOwn(ctx context.Context, own map[uint64]check) {
	for batch := range slices.Chunk(slices.Collect(maps.Keys(own)), checkBatch) {
		batch = slices.DeleteFunc(batch, func(h uint64) bool { return s.l1.get(h) != own[h].r })
		keys := make([]string, len(batch))
		for i, h := range batch {
			keys[i] = own[h].full
		}
		heads, err := s.l2.headers(ctx, keys)
		for i, h := range batch {
			r := own[h].r
			if err != nil {
				r.epoch.Store(0)
				continue
			}
			if hd, perr := parseHeader(heads[i]); perr == nil && !hd.tombstone() && hd.version == r.version && hd.key == keyHash(keys[i]) {
				continue
			}
			st := s.stripes.of(h)
			st.mu.Lock()
			if s.l1.get(h) == r {
				s.l1.drop(h, r.version+1)
			}
			st.mu.Unlock()
		}
	}
}

// headers returns the first bytes of entries in one round trip, nil where there
// is none.
func (r *remote) headers(ctx context.Context, keys []string) ([][]byte, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	heads := make([][]byte, len(keys))
	err := r.do(ctx, "getrange", func(ctx context.Context) error {
		p := r.c.Pipeline()
		for _, key := range keys {
			p.GetRange(ctx, key, 0, headerLen-1)
		}
		cmds, _ := p.Exec(ctx) // every cmd has its own error
		for i, cmd := range cmds {
			b, err := cmd.(*redis.StringCmd).Bytes()
			if err = ignoreReply(err); err != nil {
				return err
			}
			heads[i] = b
		}
		return nil
	})
	return heads, err
}
