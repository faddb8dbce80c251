package tiered

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"reflect"
	"strconv"
)

// Key is what a cache can be keyed by.
type Key interface {
	~string | ~int | ~int32 | ~int64 | ~uint32 | ~uint64
}

// Cache is a namespace of a [Store] with one type of key and one of value.
// Values are shared by all who read them: they are read-only unless
// [WithCloner] is given. A Cache is safe for concurrent use.
type Cache[K Key, V any] struct {
	s        *Store
	name     string
	seed     maphash.Seed
	codec    Codec
	schema   uint16
	compress Compression
	minSize  int
	clone    func(V) V     // nil: share
	cost     func(V) int64 // nil: estimate
	flat     int64         // what each value takes, if it has no pointers; else -1
	defaults entryConfig
	m        *counters
	ns       *tagCell // the namespace's reserved tag; Clear invalidates it
	reads    lanes
	cold     forecast
	flights  [stripeCount]flights[K, V] // guarded by the store's stripes
}

// item is a value in memory with its key, by which a reader knows that it is
// not another's with the same hash.
type item[K Key, V any] struct {
	key   K
	value V
	note  *note // nil if there is nothing to say
}

// note is what few items have.
type note struct {
	missing bool // ErrNotFound is what is cached
	etag    string
}

var noteMissing = &note{missing: true}

func noteOf(missing bool, etag string) *note {
	switch {
	case missing:
		return noteMissing
	case etag != "":
		return &note{etag: etag}
	}
	return nil
}

func (it *item[K, V]) missing() bool { return it.note != nil && it.note.missing }

func (it *item[K, V]) etag() string {
	if it.note == nil {
		return ""
	}
	return it.note.etag
}

// New makes the cache of a namespace, whose name is of 1 to 64 letters, digits,
// '.', '_' or '-'. A store has each namespace once: two caches of one name would
// not see each other's loads. Processes that share a Redis share a namespace by
// its name; they need the same types, [WithCodec] and schema to read each other's
// entries.
func New[K Key, V any](s *Store, namespace string, opts ...CacheOption) (*Cache[K, V], error) {
	if s == nil {
		return nil, fmt.Errorf("make cache %q: the store is nil: see Open", namespace)
	}
	o := cacheConfig{
		codec: JSON, compress: S2, minSize: 2 << 10,
		defaults: entryConfig{ttl: DefaultTTL, l1ttl: DefaultL1TTL, negative: DefaultNegativeTTL},
	}
	if s.l2 == nil {
		o.defaults.l1ttl = 0 // as long as the TTL
	}
	for _, opt := range opts {
		opt(&o)
	}
	c := &Cache[K, V]{
		s: s, name: namespace, seed: maphash.MakeSeed(),
		codec: o.codec, schema: o.schema, compress: o.compress, minSize: o.minSize, defaults: o.defaults,
		m: &counters{name: namespace}, flat: flatSize(reflect.TypeFor[V]()),
	}
	fail := func(format string, args ...any) (*Cache[K, V], error) {
		return nil, fmt.Errorf("make cache %q: "+format, append([]any{namespace}, args...)...)
	}
	var ok bool
	switch {
	case !namePattern.MatchString(namespace):
		return fail("want a name of 1 to 64 letters, digits, '.', '_' or '-'")
	case o.codec == nil || o.codec.ID() == 0:
		return fail("want a codec whose ID is not 0")
	case o.compress > Zstd:
		return fail("unknown compression %d", o.compress)
	}
	if raw, is := o.codec.(rawCodec); is && !raw.holds(reflect.TypeFor[V]()) {
		return fail("the codec Raw is for []byte and string, not %v: use JSON or MsgPack", reflect.TypeFor[V]())
	}
	if o.cloner != nil {
		if c.clone, ok = o.cloner.(func(V) V); !ok {
			return fail("WithCloner is for %T, want %T", o.cloner, c.clone)
		}
	}
	if o.cost != nil {
		if c.cost, ok = o.cost.(func(V) int64); !ok {
			return fail("WithCost is for %T, want %T", o.cost, c.cost)
		}
	}
	if err := c.defaults.validate(); err != nil {
		return fail("%w", err)
	}
	c.ns = s.tags.get(namespaceKey(s.prefix, namespace), s.tick)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrClosed
	}
	if s.caches[namespace] != nil {
		return fail("the store has a cache of this name already")
	}
	c.m.keyOf = func(r *record) string { return keyString(c.itemOf(r).key) }
	c.ns.owner = c.m // before anything can point to it
	s.caches[namespace] = c
	return c, nil
}

// hash places a key in memory and among the stripes. The seed differs between
// namespaces and processes.
// Zero is not a hash (see index).
func (c *Cache[K, V]) hash(key K) uint64 { return max(maphash.Comparable(c.seed, key), 1) }

func (c *Cache[K, V]) reserved() *tagCell  { return c.ns }
func (c *Cache[K, V]) counters() *counters { return c.m }

// Get returns the value of key from memory or Redis. It returns [ErrMiss] if
// neither has it, and [ErrNotFound] if it is cached that there is none.
func (c *Cache[K, V]) Get(ctx context.Context, key K, opts ...EntryOption) (V, error) {
	h := c.hash(key)
	it, suspect := c.look(h, key, opts)
	if it != nil {
		return c.open(it)
	}
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		var zero V
		return zero, err
	}
	if c.s.l2 == nil || o.skipL2 || suspect == nil && !c.s.l2.available() {
		var zero V
		return zero, ErrMiss
	}
	return c.join(ctx, h, key, &o, suspect, nil)
}

// look finds what may be served from memory at once, with its record if it is
// due to be renewed, or else the record of what may be served after Redis has
// been asked whether it is current. It allocates nothing and locks nothing, and
// writes no more than a counter unless the record is to be counted (see touch).
func (c *Cache[K, V]) look(h uint64, key K, opts []EntryOption) (fresh *item[K, V], special *record) {
	l := c.s.l1
	if l == nil || c.defaults.skipL1 || skipsL1(opts) {
		return nil, nil
	}
	n := c.reads.mine()
	r := l.get(h)
	if it, due := c.servedBy(r, key); it != nil {
		if c.believed(r) {
			l.touch(h, r, n.hits.Add(1))
			return it, due
		}
		special = r
	}
	n.misses.Add(1)
	l.count(h)
	return nil, special
}

// believed reports whether a record may be served without asking Redis. While
// Redis is away nobody can be asked, and the L1 TTL is the bound.
func (c *Cache[K, V]) believed(r *record) bool {
	return r.epoch.Load() == c.s.epoch.Load() || c.s.l2 == nil || !c.s.l2.available()
}

// arrived is what another flight has brought for a load that is about to begin:
// its caller may have looked before that flight landed, and boarded after it.
func (c *Cache[K, V]) arrived(h uint64, key K, o *entryConfig) *item[K, V] {
	if c.s.l1 == nil || o.skipL1 {
		return nil
	}
	r := c.s.l1.get(h)
	it, _ := c.servedBy(r, key)
	if it == nil || !c.believed(r) {
		return nil
	}
	return it
}

// servedBy is the item of a record that is the key's and of now, with the
// record if it is due to be renewed.
func (c *Cache[K, V]) servedBy(r *record, key K) (it *item[K, V], due *record) {
	if it = c.itemOf(r); it == nil {
		return nil, nil
	}
	if it.key != key || !r.ns.valid() || !allValid(r.tags()) {
		return nil, nil
	}
	if now := c.s.time.lately(); now >= r.refresh.Load() {
		if now >= r.expires {
			return nil, nil
		}
		due = r
	}
	return it, due
}

func skipsL1(opts []EntryOption) bool {
	for i := range opts {
		if opts[i].kind == kindSkipL1 {
			return true
		}
	}
	return false
}

// open turns an item into what the caller gets.
func (c *Cache[K, V]) open(it *item[K, V]) (V, error) {
	if it.missing() {
		var zero V
		return zero, ErrNotFound
	}
	if c.clone != nil {
		return c.clone(it.value), nil
	}
	return it.value, nil
}

// check refuses a call that cannot be served.
func (c *Cache[K, V]) check(key K, o *entryConfig) error {
	if c.s.isClosed() {
		return ErrClosed
	}
	var zero K
	if key == zero && reflect.TypeFor[K]().Kind() == reflect.String {
		return errEmptyKey
	}
	return o.validate()
}

// Set stores a value in both tiers. A load that is under way, in any process,
// does not overwrite it, and its own process reads it from now on; others do
// within the bound of the package's guarantees.
//
// A value that cannot be encoded is [ErrEncode], and is stored nowhere. If Redis
// is away the value is here, and what Redis has is deleted when it is back; see
// [WithRedisRequired] for the error.
func (c *Cache[K, V]) Set(ctx context.Context, key K, value V, opts ...EntryOption) error {
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		return fmt.Errorf("set %s: %w", c.name, err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("set %s: %w", c.name, err)
	}
	if c.clone != nil {
		value = c.clone(value) // the caller may go on changing his
	}
	h := c.hash(key)
	// The snapshot precedes the write; the value may be older than either, and
	// that is the caller's to know.
	p := c.place(ctx, &o, o.effectiveTTL(false))
	if c.s.l2 == nil || o.skipL2 {
		var version uint64
		if c.s.l2 != nil {
			version = c.s.tick()
		}
		c.keepHolding(h, &holding[K, V]{item: item[K, V]{key: key, value: value}}, &p, version, false)
		return nil
	}
	return c.setBoth(ctx, h, &item[K, V]{key: key, value: value}, o, p)
}

// setBoth is Set in both tiers. Its options and placement are its own, so that
// those of a Set in memory alone stay on the stack.
func (c *Cache[K, V]) setBoth(ctx context.Context, h uint64, it *item[K, V], o entryConfig, p placement) error {
	key := it.key
	skey := keyString(key)
	raw, err := c.encode(it)
	if err != nil {
		// Whatever was there is not what the caller means it to be now.
		return errors.Join(fmt.Errorf("set %s: %w", c.name, err), c.remove(ctx, key))
	}
	if p.known && c.posts(&o, skey) {
		posted, err := c.postSet(ctx, h, it, &p, skey, c.entry(skey, raw, false, &p, 1))
		if err != nil {
			return fmt.Errorf("set %s: %w", c.name, err)
		}
		if posted {
			return nil
		}
	}
	if err := c.sent(ctx, skey); err != nil {
		return fmt.Errorf("set %s: %w", c.name, err)
	}
	version, err := uint64(0), ErrUnavailable
	if cause := gaveUp(ctx); !p.known && cause != nil {
		err = fmt.Errorf("%w: %w", errCaller, cause)
	}
	if p.known {
		entry := c.entry(skey, raw, false, &p, 1)
		version, err = c.s.l2.set(ctx, c.name, skey, entry, p.ttl+p.grace, c.versionOf(h, skey))
	}
	return c.settle(h, it, &p, skey, version, err)
}

// settle does in memory what Redis has answered to a Set.
func (c *Cache[K, V]) settle(h uint64, it *item[K, V], p *placement, skey string, version uint64, err error) error {
	if err != nil {
		version = c.s.tick()
		c.s.lose(c.name, skey, version)
		if errors.Is(err, errCaller) {
			// The caller cannot know which value holds: nobody gets either.
			c.forget(h, it.key, version)
			return fmt.Errorf("set %s: %w", c.name, err)
		}
		c.keepSet(h, it, p, version, false)
		if err = c.s.report(err); err != nil {
			return fmt.Errorf("set %s: %w", c.name, err)
		}
		return nil
	}
	atomicMax(&c.s.hlc, version)
	c.s.lost.told(c.name, skey, version)
	c.keepSet(h, it, p, version, true)
	return nil
}

// versionOf is the newest version of the key that is known here, which a write
// must exceed so that it is not taken for the older one.
func (c *Cache[K, V]) versionOf(h uint64, skey string) uint64 {
	v := c.s.floor(c.name, skey)
	if c.s.l1 != nil && !c.s.isClosed() {
		if r := c.s.l1.get(h); r != nil {
			v = max(v, r.version)
		}
	}
	return v
}

// Delete removes the value from both tiers: here when it returns, in other
// processes within the bound of the package's guarantees. A load that is under
// way, in any process, does not bring it back.
//
// If Redis is away the value is gone here, and nothing older is taken from
// Redis until it has been deleted there; see [WithRedisRequired] for the error.
//
// Of the options only [Async] changes what it does.
func (c *Cache[K, V]) Delete(ctx context.Context, key K, opts ...EntryOption) error {
	o := c.defaults.with(opts)
	o.skipL1, o.skipL2 = false, false // it is gone from both tiers
	if err := c.check(key, &o); err != nil {
		return fmt.Errorf("delete %s: %w", c.name, err)
	}
	if o.async && ctx.Err() == nil {
		if skey := keyString(key); c.posts(&o, skey) {
			version, posted, err := c.postDelete(ctx, c.hash(key), key, skey)
			if err != nil {
				return fmt.Errorf("delete %s: %w", c.name, err)
			}
			if posted {
				c.deleted(key, version)
				return nil
			}
		}
	}
	return c.remove(ctx, key)
}

// remove is Delete that waits for Redis.
func (c *Cache[K, V]) remove(ctx context.Context, key K) error {
	if err := c.check(key, &c.defaults); err != nil {
		return fmt.Errorf("delete %s: %w", c.name, err)
	}
	var version uint64
	defer func() { c.deleted(key, version) }()
	h := c.hash(key)
	skey := ""
	min := uint64(0)
	if c.s.l2 != nil {
		skey = keyString(key)
		_ = c.sent(ctx, skey) // if ctx ends, what follows says so
		min = c.versionOf(h, skey)
	}
	c.forget(h, key, 0)
	if c.s.l2 == nil {
		return nil
	}
	var err error
	version, err = c.s.l2.delete(ctx, c.name, skey, min, 0)
	if err != nil {
		version = max(c.s.tick(), min+1)
		c.s.lose(c.name, skey, version)
	} else {
		atomicMax(&c.s.hlc, version)
		c.s.lost.told(c.name, skey, version)
	}
	// Again: a load that began in between may have found the old entry.
	c.forget(h, key, version)
	if err = c.s.report(err); err != nil {
		return fmt.Errorf("delete %s: %w", c.name, err)
	}
	return nil
}

// Clear makes every entry of the namespace a miss, in constant time and
// without touching other namespaces. It is like invalidating a tag that all
// entries have.
func (c *Cache[K, V]) Clear(ctx context.Context) error {
	if err := c.s.invalidateCells(ctx, []*tagCell{c.ns}); err != nil {
		return fmt.Errorf("clear %s: %w", c.name, err)
	}
	return nil
}

// keepSet puts a value that was set into memory, unless something newer was
// set or deleted meanwhile, and keeps loads under way from storing theirs.
func (c *Cache[K, V]) keepSet(h uint64, it *item[K, V], p *placement, version uint64, inL2 bool) {
	c.keepHolding(h, &holding[K, V]{item: *it}, p, version, inL2)
}

// keepHolding is keepSet of a new holding.
func (c *Cache[K, V]) keepHolding(h uint64, kept *holding[K, V], p *placement, version uint64, inL2 bool) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	if c.s.l2 == nil {
		version = max(version, c.s.tickAt(p.began)) // made under the lock: nothing is newer
	}
	c.putHolding(st, h, kept, p, version, inL2)
}

// putSet needs the stripe's lock.
func (c *Cache[K, V]) putSet(st *stripe, h uint64, it *item[K, V], p *placement, version uint64, inL2 bool) {
	c.putHolding(st, h, &holding[K, V]{item: *it}, p, version, inL2)
}

// putHolding needs the stripe's lock.
func (c *Cache[K, V]) putHolding(st *stripe, h uint64, kept *holding[K, V], p *placement, version uint64, inL2 bool) {
	st.newest = max(st.newest, version)
	c.flights[h%stripeCount].spoil(kept.item.key, version)
	if c.s.l1 == nil {
		return
	}
	// What Redis has given a version to is no older than a floor of that very
	// version: the floor is the write's own, or another key's.
	older := version < st.floor || version == st.floor && !inL2
	if p.skipL1 || older && c.s.l2 != nil {
		c.s.l1.drop(h, version)
		return
	}
	r := c.hold(kept, p, version, inL2)
	c.s.l1.put(h, r)
	c.verify(h, r)
}

// forget drops the key from memory as of version, 0 if it is not known yet, and
// keeps loads under way from storing theirs.
func (c *Cache[K, V]) forget(h uint64, key K, version uint64) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.heard(version)
	c.flights[h%stripeCount].spoil(key, always)
	if c.s.l1 != nil {
		c.s.l1.drop(h, always)
	}
}

// invalidate applies another process's write of the key. What memory has may
// be newer: messages can be late, and one's own write later than theirs.
func (c *Cache[K, V]) invalidate(skey string, version uint64) {
	key, ok := parseKey[K](skey)
	if !ok {
		return
	}
	h := c.hash(key)
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	st.heard(version)
	c.flights[h%stripeCount].spoil(key, version)
	if c.s.l1 != nil {
		c.s.l1.drop(h, version)
	}
}

// keyString is the key's text in Redis.
func keyString[K Key](key K) string {
	switch v := reflect.ValueOf(key); v.Kind() {
	case reflect.String:
		return v.String()
	case reflect.Int, reflect.Int32, reflect.Int64:
		return strconv.FormatInt(v.Int(), 10)
	default:
		return strconv.FormatUint(v.Uint(), 10)
	}
}

func parseKey[K Key](s string) (key K, ok bool) {
	v := reflect.ValueOf(&key).Elem()
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			return key, false
		}
		v.SetInt(n)
	default:
		n, err := strconv.ParseUint(s, 10, v.Type().Bits())
		if err != nil {
			return key, false
		}
		v.SetUint(n)
	}
	return key, true
}
