package tiered

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"maps"
	"slices"
	"time"
)

// For the tests of the entry format, which is not public.

type Entry = wireEntry

var (
	ErrCorrupt = errCorrupt
	ErrForeign = errForeign
	KeyHash    = keyHash
)

func ParseEntry(b []byte, key uint64) (*Entry, error) { return parseEntry(b, key) }

func AppendEntry(e *Entry, c Compression, minSize int) []byte { return appendEntry(nil, e, c, minSize) }

// NewEntry makes an entry with two tags, an etag and the value.
func NewEntry(key uint64, raw string) *Entry {
	return &wireEntry{
		wireHeader: wireHeader{codec: 1, schema: 3, version: 1_700_000_000_000_000, soft: 1_700_000_000_000_001,
			hard: 1_700_000_000_000_002, cost: 5, key: key},
		nsVersion: 9, etag: `"e"`, raw: []byte(raw),
		tags: []wireTag{{"a", 1}, {"bb", 2}},
	}
}

func (e *wireEntry) Raw() string { return string(e.raw) }

// Receive applies a message as if it had come over the channel.
func (s *Store) Receive(payload string) { s.receive(payload) }

// Report tells of changed keys as Redis does.
func (s *Store) Report(keys ...string) { s.reported(keys) }

// Version is that of a key's record in memory, 0 if there is none.
func (c *Cache[K, V]) Version(key K) uint64 {
	if it, suspect := c.look(c.hash(key), key, nil); it == nil && suspect == nil {
		return 0
	}
	return c.s.l1.get(c.hash(key)).version
}

// SetDropped puts a value into memory as Set does when ristretto's queue is
// full: it is pending, and ristretto has not taken it.
func (c *Cache[K, V]) SetDropped(key K, value V) {
	h := c.hash(key)
	const never = 1 << 62
	p := placement{ns: c.ns.ref(), epoch: c.s.epoch.Load(), local: never, soft: never, hard: never, refresh: never}
	r := c.record(&item[K, V]{key: key, value: value}, &p, 1, false)
	s := c.s.l1.index.of(h)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set(h, r)
	s.mark(h)
}

// Settled reports that ristretto has been offered everything, after a flush.
func (s *Store) Settled() bool {
	s.l1.wake()
	left := 0
	for i := range s.l1.index.shards {
		sh := &s.l1.index.shards[i]
		sh.mu.Lock()
		left += len(sh.fresh) + len(sh.flushing)
		sh.mu.Unlock()
	}
	return left == 0
}

// Seal gives damaged bytes the right key and checksum, to get past both.
func Seal(b []byte, key uint64) []byte {
	b = append([]byte(nil), b...)
	if len(b) >= headerLen {
		binary.BigEndian.PutUint64(b[40:], key)
		binary.BigEndian.PutUint32(b[36:], crc32.Checksum(b[40:], castagnoli))
	}
	return b
}

// RefreshAfter is how long after now the key is due to be renewed.
func (c *Cache[K, V]) RefreshAfter(key K) time.Duration {
	return time.Duration(c.s.l1.get(c.hash(key)).refresh.Load() - c.s.time.nanos())
}

// Due has the next hit renew the key, and reports whether it could.
func (c *Cache[K, V]) Due(key K) bool {
	r := c.s.l1.get(c.hash(key))
	if r != nil {
		r.refresh.Store(0)
	}
	return r != nil
}

// Flights is how many loads and reads are under way.
func (s *Store) Flights() (n int) {
	s.mu.RLock()
	caches := slices.Collect(maps.Values(s.caches))
	s.mu.RUnlock()
	for _, c := range caches {
		n += c.(interface{ flying() int }).flying()
	}
	return n
}

func (c *Cache[K, V]) flying() (n int) {
	for i := range c.flights {
		st := &c.s.stripes[i]
		st.mu.Lock()
		n += len(c.flights[i].loads) + len(c.flights[i].reads)
		st.mu.Unlock()
	}
	return n
}

// ClockIsKept reports whether hits read a clock that a timer advances.
func (s *Store) ClockIsKept() bool { return s.time.keeping.Load() }

// Watched reports that the store knows which master it has.
func (s *Store) Watched() bool { return s.watched.Load() }

// Repeat does what a failover makes the store do.
func (s *Store) Repeat() { s.lost.repeat() }

// Acknowledge notes a version as Redis's acknowledgement does.
func (s *Store) Acknowledge(ns, key string, version uint64) { s.lost.told(ns, key, version) }

// Acknowledged is how many acknowledgements are remembered, with the bytes of
// their keys.
func (s *Store) Acknowledged() (n, bytes int) {
	for _, e := range s.lost.acks.all() {
		n++
		bytes += len(e.key)
	}
	return n, bytes
}

// Lose notes a write that Redis was not told of.
func (s *Store) Lose(ns, key string) { s.lose(ns, key, s.tick()) }

// Version and Soft are an entry's, as a script has stamped it.
func (e *wireEntry) Version() uint64 { return e.version }
func (e *wireEntry) Soft() time.Time { return time.UnixMicro(e.soft) }

// MaxChecks is how many own writes wait to be checked at most.
const MaxChecks = maxChecks

// Ear is a subscription as the canary sees it, without a Redis.
type Ear struct{ e *ear }

// NewEar is a subscription that begins now.
func NewEar() Ear { return Ear{(&Store{}).listenFor()} }

// Expect notes that beats are being sent to these masters.
func (x Ear) Expect(addrs ...string) {
	all := make(masterClients)
	for _, a := range addrs {
		all[a] = nil
	}
	x.e.s.expect(all)
}

// Hear notes a master's beat and reports whether all have been heard.
func (x Ear) Hear(addr string) bool { return x.e.hear(addr) }

// Left is how long it is until the silence is too long, and whose that is.
func (x Ear) Left() (time.Duration, error) { return time.Until(x.e.due), x.e.silence() }

// Board goes on with a GetOrLoad that has looked into memory and found nothing.
func (c *Cache[K, V]) Board(ctx context.Context, key K, load Loader[K, V]) (V, error) {
	return c.join(ctx, c.hash(key), key, &c.defaults, nil, load)
}

// BoardMany does so with a GetOrLoadMany.
func (c *Cache[K, V]) BoardMany(ctx context.Context, keys []K, load BulkLoader[K, V]) (map[K]V, error) {
	found, failed := make(map[K]V), make(map[K]error)
	ask := make([]seat[K, V], len(keys))
	for i, key := range keys {
		ask[i] = seat[K, V]{key: key, hash: c.hash(key)}
	}
	c.loadMany(ctx, time.Now(), ask, load, &c.defaults, found, failed, true)
	if len(failed) > 0 {
		return found, &BulkError[K]{Op: "board many", Asked: len(keys), Failed: failed}
	}
	return found, nil
}
