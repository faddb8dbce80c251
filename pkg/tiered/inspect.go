package tiered

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Verdict is what a Get of now would return.
type Verdict string

// The verdicts.
const (
	HitL1    Verdict = "hit_l1"    // the value, from memory
	HitL2    Verdict = "hit_l2"    // the value, from Redis
	NotFound Verdict = "not_found" // ErrNotFound: it is cached that there is none
	Miss     Verdict = "miss"      // ErrMiss; GetOrLoad loads
	Unknown  Verdict = "unknown"   // Redis refuses to say what it has: see L2.Why
)

// Inspection is what both tiers hold for a key. It never has the value.
type Inspection struct {
	Namespace string    `json:"namespace"`
	Key       string    `json:"key"`
	At        time.Time `json:"at"`
	Verdict   Verdict   `json:"verdict"`
	Why       string    `json:"why"`
	// Stale is set if FailSafe of the cache's defaults lets GetOrLoad serve
	// the old value should its load fail now.
	Stale bool `json:"stale"`

	L1    L1Entry `json:"l1"`
	L2    L2Entry `json:"l2"`
	Lease *Lease  `json:"lease,omitempty"` // somebody loads the key for all
	Load  bool    `json:"load"`            // this process loads it now
	// Pending is the version of a write that Redis has not been told of; what
	// it has up to there is not believed.
	Pending uint64 `json:"pending,omitempty"`

	Coherent bool   `json:"coherent"` // invalidations of other processes arrive
	Breaker  string `json:"breaker,omitempty"`
}

// L1Entry is what memory has of a key.
type L1Entry struct {
	Present bool `json:"present"`
	// Servable is whether a Get may be served by it. If not, Why says why; an
	// entry that is suspect is confirmed first.
	Servable bool   `json:"servable"`
	Why      string `json:"why,omitempty"`
	Info
	Tags []TagState `json:"tags,omitempty"`
}

// L2Entry is what Redis has of a key.
type L2Entry struct {
	Present   bool   `json:"present"`
	Servable  bool   `json:"servable"`
	Why       string `json:"why,omitempty"`
	Error     string `json:"error,omitempty"` // Redis could not be asked, or refused: its code, such as NOPERM
	refused   bool   // Redis has answered with Error
	Tombstone bool   `json:"tombstone"` // deleted; kept so that no older load is stored
	Negative  bool   `json:"negative"`  // ErrNotFound is what is cached

	Version     uint64        `json:"version,omitempty"` // µs, a hybrid logical clock
	Age         time.Duration `json:"age_ns,omitempty"`  // by the version
	Soft        *time.Time    `json:"soft_expiry,omitempty"`
	Hard        *time.Time    `json:"hard_expiry,omitempty"`
	TTL         time.Duration `json:"ttl_ns,omitempty"` // until Redis drops it
	LoadCost    time.Duration `json:"load_cost_ns,omitempty"`
	Size        int           `json:"size,omitempty"`        // bytes of the whole entry
	PackedSize  int           `json:"packed_size,omitempty"` // bytes of the value as stored
	RawSize     int           `json:"raw_size,omitempty"`    // bytes of the value as encoded
	Codec       uint8         `json:"codec,omitempty"`       // 1 JSON, 2 MessagePack, or own
	Compression string        `json:"compression,omitempty"` // "none", "s2", "zstd"
	Schema      uint16        `json:"schema,omitempty"`      // WithCodec's number
	ETag        string        `json:"etag,omitempty"`
	Corrupt     CorruptReason `json:"corrupt,omitempty"`
	Tags        []TagState    `json:"tags,omitempty"` // the namespace's reserved one first, with an empty name
}

// TagState is a tag as an entry has stored it, and as it is now. The entry is
// valid while they are equal.
type TagState struct {
	Tag     string `json:"tag"` // "" is the namespace itself, which Clear invalidates
	Stored  uint64 `json:"stored"`
	Current uint64 `json:"current"` // 0: not in Redis, where its next reader makes it
	Valid   bool   `json:"valid"`
}

// Lease is the right to load a key for all processes.
type Lease struct {
	Token uint64        `json:"token"` // the version that the loaded value will have
	Left  time.Duration `json:"left_ns"`
}

// Info describes an entry in memory.
type Info struct {
	Version  uint64        `json:"version,omitempty"` // µs, a hybrid logical clock
	Age      time.Duration `json:"age_ns,omitempty"`  // by the version
	Expires  *time.Time    `json:"expires,omitempty"` // when memory stops serving it
	Soft     *time.Time    `json:"soft_expiry,omitempty"`
	Hard     *time.Time    `json:"hard_expiry,omitempty"`
	Bytes    int64         `json:"bytes,omitempty"` // as counted against WithL1
	Negative bool          `json:"negative"`        // ErrNotFound is what is cached
	InL2     bool          `json:"in_l2"`           // Redis was given this version
	// Suspect is set if messages may have been missed since the entry was last
	// known to be current: a read asks Redis first, by a header.
	Suspect bool `json:"suspect"`
	Due     bool `json:"due"` // the next GetOrLoad renews it in the background
}

// Inspect tells what both tiers hold for a key, and what a Get with the
// cache's defaults would do now. It changes nothing: neither tier is filled,
// nothing is counted, and memory's record of what is popular stays as it was.
// Redis is asked in two round trips, and takes the key for used, as with any GET.
//
// A Redis that does not answer, or refuses to, is no error but L2.Error, and
// then nothing is said of what it has: its user needs +type, +pttl and +get. The
// two tiers are read one after the other, so a write in between may be seen in
// one of them.
func (c *Cache[K, V]) Inspect(ctx context.Context, key K) (Inspection, error) {
	if err := c.check(key, &c.defaults); err != nil {
		return Inspection{}, fmt.Errorf("inspect %s: %w", c.name, err)
	}
	if err := ctx.Err(); err != nil {
		return Inspection{}, fmt.Errorf("inspect %s: %w", c.name, err)
	}
	h, skey := c.hash(key), keyString(key)
	in := Inspection{Namespace: c.name, Key: skey, At: c.s.wall(c.s.time.nanos()), Coherent: true, Load: c.loading(h, key)}
	r := c.peek(key)
	in.L1 = c.inspectL1(r)
	if c.s.l2 != nil {
		health := c.s.Health()
		in.Coherent, in.Breaker = health.Coherent, health.Breaker
		in.Pending = c.s.floor(c.name, skey)
		var err error
		if in.L2, in.Lease, err = c.inspectL2(ctx, skey, in.Pending); err != nil {
			return Inspection{}, fmt.Errorf("inspect %s: %w", c.name, err)
		}
	}
	in.Verdict, in.Why = c.foretell(&in)
	inMemory := r != nil && c.servable(r, &c.defaults) && (c.s.l2 == nil || in.L2.Error != "" || in.L2.Version == r.version)
	in.Stale = in.Verdict == Miss && c.defaults.failSafe > 0 && (inMemory || c.keptForFailSafe(&in.L2))
	return in, nil
}

// peek is the key's record in memory, whatever its state.
func (c *Cache[K, V]) peek(key K) *record {
	if c.s.l1 == nil {
		return nil
	}
	r := c.s.l1.get(c.hash(key))
	if r == nil || r.ns.cell != c.ns {
		return nil
	}
	if it := c.itemOf(r); it == nil || it.key != key {
		return nil
	}
	return r
}

// loading reports whether this process loads the key.
func (c *Cache[K, V]) loading(h uint64, key K) bool {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	_, ok := (*c.flights[h%stripeCount].of(true))[key]
	return ok
}

// wall is the time of day at a reading of the store's clock.
func (s *Store) wall(nanos int64) time.Time {
	return s.time.base.Add(time.Duration(nanos)).Round(0).UTC()
}

func (s *Store) wallPtr(nanos int64) *time.Time {
	t := s.wall(nanos)
	return &t
}

// age is that of a version, by Redis's clock as far as it is known.
func (s *Store) age(version uint64) time.Duration {
	now := s.time.micros()
	if s.l2 != nil {
		now = s.l2.now()
	}
	return time.Duration(max(now-int64(version), 0)) * time.Microsecond
}

func (c *Cache[K, V]) info(r *record) Info {
	now := c.s.time.nanos()
	it := c.itemOf(r)
	return Info{
		Version: r.version, Age: c.s.age(r.version), Bytes: r.cost(), Negative: it != nil && it.missing(), InL2: r.inL2(),
		Expires: c.s.wallPtr(r.expires), Soft: c.s.wallPtr(r.soft), Hard: c.s.wallPtr(r.hard()),
		Suspect: c.s.l2 != nil && r.epoch.Load() != c.s.epoch.Load(),
		Due:     now >= r.refresh.Load() && now < r.expires,
	}
}

func (c *Cache[K, V]) inspectL1(r *record) L1Entry {
	if c.s.l1 == nil {
		return L1Entry{Why: "the memory tier is off"}
	}
	if r == nil {
		return L1Entry{Why: "not in memory"}
	}
	e := L1Entry{Present: true, Info: c.info(r)}
	for i, ref := range append([]tagRef{r.ns}, r.tags()...) {
		st := TagState{Stored: ref.version, Current: ref.cell.version.Load(), Valid: ref.valid()}
		if i > 0 {
			st.Tag = ref.cell.key[len(tagKey(c.s.prefix, "")):]
		}
		e.Tags = append(e.Tags, st)
	}
	switch {
	case c.defaults.skipL1:
		e.Why = "the cache's defaults skip memory"
	default:
		e.Why = firstInvalid(e.Tags)
		if e.Why == "" && c.s.time.nanos() >= r.expires {
			e.Why = "its time in memory has passed"
		}
		e.Servable = e.Why == ""
	}
	return e
}

func firstInvalid(tags []TagState) string {
	for _, t := range tags {
		if !t.Valid && t.Tag == "" {
			return "the namespace was cleared since"
		}
		if !t.Valid {
			return "tag " + strconv.Quote(t.Tag) + " was invalidated since"
		}
	}
	return ""
}

// inspectL2 fails only if the caller's context ended.
func (c *Cache[K, V]) inspectL2(ctx context.Context, skey string, floor uint64) (e L2Entry, held *Lease, err error) {
	full := c.s.l2.dataKey(c.name, skey)
	seen, err := c.s.l2.peek(ctx, full, c.s.l2.leaseKey(c.name, skey))
	if err != nil {
		return away(err)
	}
	if seen.token > 0 {
		held = &Lease{Token: seen.token, Left: max(seen.leaseLeft, 0)}
	}
	if !seen.present {
		return L2Entry{Why: "not in Redis"}, held, nil
	}
	e = L2Entry{Present: true, TTL: max(seen.left, 0), Size: len(seen.data)}
	hd, herr := parseHeader(seen.data)
	if herr == nil {
		e.Version, e.Age, e.Schema, e.Codec = hd.version, c.s.age(hd.version), hd.schema, hd.codec
		e.Tombstone, e.Negative = hd.tombstone(), hd.negative()
		e.LoadCost = time.Duration(hd.cost) * time.Microsecond
		soft, hard := time.UnixMicro(hd.soft).UTC(), time.UnixMicro(hd.hard).UTC()
		e.Soft, e.Hard, e.Compression = &soft, &hard, hd.compressor.String()
	}
	now := c.s.l2.now()
	entry := &wireEntry{}
	if reason := c.accept(entry, seen.data, full, uint64(now+dayMicros)); reason != "" {
		e.Corrupt, e.Why = reason, "of no use: "+string(reason)
		return e, held, nil
	}
	e.RawSize, e.PackedSize, e.ETag = len(entry.raw), packedSize(seen.data, entry), entry.etag
	if e.Tombstone {
		e.Why = "deleted"
		return e, held, nil
	}
	if e.Tags, err = c.tagStates(ctx, entry); err != nil {
		gone, _, err := away(err)
		e.Error, e.Why, e.refused = gone.Error, gone.Why, gone.refused
		return e, held, err
	}
	switch left := entry.left(now); {
	case entry.version <= floor:
		e.Why = "older than a write that Redis has not been told of"
	case firstInvalid(e.Tags) != "":
		e.Why = firstInvalid(e.Tags)
	case left <= 0:
		e.Why = "its TTL has passed"
	case c.defaults.skipL2:
		e.Why = "the cache's defaults skip Redis"
	default:
		e.Servable = true
	}
	return e, held, nil
}

// away says that Redis could not be asked, unless it was the caller who left.
func away(err error) (L2Entry, *Lease, error) {
	switch {
	case errors.Is(err, ErrUnavailable):
		return L2Entry{Error: errorType(err), Why: "Redis does not answer"}, nil, nil
	case forbidden(err):
		return L2Entry{Error: errorType(err), Why: "Redis refuses to say: its user needs +type, +pttl and +get for this prefix", refused: true}, nil, nil
	case isReply(err):
		return L2Entry{Error: errorType(err), Why: "Redis refuses to say", refused: true}, nil, nil
	}
	return L2Entry{}, nil, err
}

func packedSize(b []byte, e *wireEntry) int {
	// The value is what follows the last field, which ends with its length.
	var n [binary.MaxVarintLen64]byte
	fixed := headerLen + 8 + binary.PutUvarint(n[:], uint64(len(e.tags))) + binary.PutUvarint(n[:], uint64(len(e.raw)))
	for _, t := range e.tags {
		fixed += binary.PutUvarint(n[:], uint64(len(t.name))) + len(t.name) + 8
	}
	if e.etag != "" {
		fixed += binary.PutUvarint(n[:], uint64(len(e.etag))) + len(e.etag)
	}
	return max(len(b)-fixed, 0)
}

// tagStates compares an entry's tags with Redis's, which are only read: what is
// absent stays absent, though a read of the entry would make it anew.
func (c *Cache[K, V]) tagStates(ctx context.Context, e *wireEntry) ([]TagState, error) {
	states := []TagState{{Stored: e.nsVersion}}
	keys := []string{c.ns.key}
	for _, t := range e.tags {
		states = append(states, TagState{Tag: t.name, Stored: t.version})
		keys = append(keys, tagKey(c.s.prefix, t.name))
	}
	current, err := c.s.l2.peekTags(ctx, keys)
	if err != nil {
		return nil, err
	}
	for i := range states {
		states[i].Current = current[i]
		// This process may know of an invalidation that Redis was not told of.
		known := uint64(0)
		if cell := c.s.tags.find(keys[i]); cell != nil {
			known = cell.known.Load()
		}
		states[i].Valid = current[i] == states[i].Stored && known <= current[i]
	}
	return states, nil
}

// foretell follows look, read and decode.
func (c *Cache[K, V]) foretell(in *Inspection) (Verdict, string) {
	negative := func(n bool, hit Verdict, why string) (Verdict, string) {
		if n {
			return NotFound, why
		}
		return hit, why
	}
	switch {
	case !in.L1.Servable:
	case !in.L1.Suspect:
		return negative(in.L1.Negative, HitL1, "memory has it")
	case in.L2.refused:
		return Unknown, "memory has it, and Redis would be asked whether it is current: " + in.L2.Why
	case in.L2.Error != "":
		return negative(in.L1.Negative, HitL1, "memory has it, and Redis, which would be asked whether it is current, does not answer")
	case in.L2.Servable && in.L2.Version == in.L1.Version:
		return negative(in.L1.Negative, HitL1, "memory has it, and a header read of Redis will say that it is current")
	}
	if in.L2.Servable {
		return negative(in.L2.Negative, HitL2, "Redis has it")
	}
	if in.L2.refused {
		return Unknown, "memory: " + cmp.Or(in.L1.Why, "not current") + "; " + in.L2.Why
	}
	if c.s.l2 == nil {
		return Miss, in.L1.Why
	}
	return Miss, "memory: " + cmp.Or(in.L1.Why, "not current") + "; Redis: " + in.L2.Why
}

// keptForFailSafe reports whether Redis has what fail-safe may serve.
func (c *Cache[K, V]) keptForFailSafe(e *L2Entry) bool {
	if !e.Present || e.Corrupt != "" || e.Tombstone || e.Negative || e.Error != "" || e.Soft == nil || firstInvalid(e.Tags) != "" {
		return false
	}
	now := c.s.l2.now()
	return now < min(e.Hard.UnixMicro(), e.Soft.UnixMicro()+micros(c.defaults.failSafe))
}

// String names a compression.
func (c Compression) String() string {
	switch c {
	case NoCompression:
		return "none"
	case S2:
		return "s2"
	case Zstd:
		return "zstd"
	}
	return strconv.Itoa(int(c))
}

// peeked is what Redis has under the keys of an entry.
type peeked struct {
	present         bool
	data            []byte // nil also if the key is not a string
	left, leaseLeft time.Duration
	token           uint64
}

// peek reads an entry and its lease, and changes neither.
func (r *remote) peek(ctx context.Context, data, lease string) (p peeked, err error) {
	err = r.do(ctx, "inspect", func(ctx context.Context) error {
		pipe := r.c.Pipeline()
		kind, left := pipe.Type(ctx, data), pipe.PTTL(ctx, data)
		value, token, leaseLeft := pipe.Get(ctx, data), pipe.Get(ctx, lease), pipe.PTTL(ctx, lease)
		_, _ = pipe.Exec(ctx) // every cmd has its own error
		if err := errors.Join(kind.Err(), left.Err(), leaseLeft.Err()); err != nil {
			return err
		}
		b, err := value.Bytes()
		if err = ignoreReply(err); err != nil {
			return err
		}
		p = peeked{present: kind.Val() != "none", data: b, left: left.Val(), leaseLeft: leaseLeft.Val()}
		p.token, err = token.Uint64()
		if err != nil && ignoreReply(token.Err()) == nil {
			p.token, err = 0, nil // no lease, or nothing of ours
		}
		return err
	})
	return p, err
}

// peekTags reads versions, 0 where there is none.
func (r *remote) peekTags(ctx context.Context, keys []string) ([]uint64, error) {
	versions := make([]uint64, len(keys))
	err := r.do(ctx, "inspect", func(ctx context.Context) error {
		pipe := r.c.Pipeline()
		cmds := make([]*redis.StringCmd, len(keys))
		for i, key := range keys {
			cmds[i] = pipe.Get(ctx, key)
		}
		_, _ = pipe.Exec(ctx)
		for i, cmd := range cmds {
			if err := ignoreReply(cmd.Err()); err != nil {
				return err
			}
			versions[i], _ = cmd.Uint64() // what is no number is no version
		}
		return nil
	})
	return versions, err
}
