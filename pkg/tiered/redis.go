package tiered

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// remote is the tier in Redis: keys, scripts and messages on the wire. Every
// call goes through the breaker and is bounded by the timeout.
type remote struct {
	c       redis.UniversalClient
	breaker *breaker
	timeout time.Duration
	prefix  string
	channel string
	origin  string // of this store's messages, which it ignores itself
	micros  func() int64
	offset  atomic.Int64 // µs to add to the local clock for Redis's
	sharded atomic.Bool  // MGET of any keys is refused
	tracer  trace.Tracer
	about   []attribute.KeyValue // of every span: which server
	slots   int                  // see gather
	sets    *gather
	deletes *gather
	took    func(ctx context.Context, op string, d time.Duration, err error)
}

const (
	// tombstoneTTL outlives the longest lease, so that what was deleted while
	// somebody loaded is known to be deleted until that load has ended.
	tombstoneTTL = 2 * time.Minute
	tagTTL       = 7 * 24 * time.Hour
)

// dataKey and leaseKey are in one slot of a cluster: the braces hold the same.
// Braces of the key's own are escaped, so that it cannot choose its slot.
func (r *remote) dataKey(ns, key string) string {
	return r.prefix + ":{" + ns + ":" + escape(key) + "}"
}

// dataKeys makes data keys of the keys, in one piece of memory.
func (r *remote) dataKeys(ns string, keys []string) {
	size := 0
	for _, key := range keys {
		size += len(r.prefix) + len(ns) + len(key) + 4
	}
	var b strings.Builder
	b.Grow(size)
	for i, key := range keys {
		start := b.Len()
		b.WriteString(r.prefix)
		b.WriteString(":{")
		b.WriteString(ns)
		b.WriteByte(':')
		b.WriteString(escape(key))
		b.WriteByte('}')
		keys[i] = b.String()[start:]
	}
}

func (r *remote) leaseKey(ns, key string) string {
	return r.prefix + ":l:{" + ns + ":" + escape(key) + "}"
}

func tagKey(prefix, tag string) string { return prefix + ":t:" + tag }

func namespaceKey(prefix, ns string) string { return prefix + ":n:" + ns }

var escaper = strings.NewReplacer("%", "%25", "{", "%7B", "}", "%7D")

func escape(key string) string {
	if !strings.ContainsAny(key, "%{}") {
		return key
	}
	return escaper.Replace(key)
}

// now is Redis's clock as far as it is known here.
func (r *remote) now() int64 { return r.micros() + r.offset.Load() }

// instant is one moment by the two clocks that an entry's life is measured by.
type instant struct {
	mono  int64 // nanos of the store's clock
	redis int64 // µs of Redis's
}

func (s *Store) instant() instant {
	mono := s.time.nanos()
	return instant{mono: mono, redis: s.time.microsAt(mono) + s.l2.offset.Load()}
}

func (r *remote) available() bool { return !r.breaker.open() }

// do runs one round trip under the breaker, with a span. Keys and values are
// not in it: they may be about people.
func (r *remote) do(ctx context.Context, op string, f func(context.Context) error) error {
	if r.breaker.open() && ctx.Err() == nil {
		return ErrUnavailable // no span either: an outage must cost nothing
	}
	ctx, span := r.startSpan(ctx, op)
	began := time.Now()
	err := r.breaker.do(ctx, r.timeout, f)
	r.took(ctx, op, time.Since(began), err)
	endSpan(span, err, redis.Nil)
	return err
}

// syncClock measures the offset to Redis's clock. It is too large by up to a
// round trip and never too small, so that nothing lives too long by it.
func (r *remote) syncClock(ctx context.Context) error {
	return r.breaker.do(ctx, r.timeout, func(ctx context.Context) error {
		before := r.micros()
		t, err := r.c.Time(ctx).Result()
		if err != nil {
			return err
		}
		r.offset.Store(t.UnixMicro() - before)
		return nil
	})
}

// get returns the bytes of an entry, or nil.
func (r *remote) get(ctx context.Context, key string) (b []byte, err error) {
	err = r.do(ctx, "get", func(ctx context.Context) (err error) {
		b, err = r.c.Get(ctx, key).Bytes()
		return err
	})
	return b, ignoreReply(err)
}

// getMany returns the bytes of entries in one round trip, nil where there is
// none. Where the keys may be on several servers it is a pipeline to each.
func (r *remote) getMany(ctx context.Context, keys []string) ([][]byte, error) {
	entries := make([][]byte, len(keys))
	err := r.do(ctx, "mget", func(ctx context.Context) error {
		if one, ok := r.c.(*redis.Client); ok && !r.sharded.Load() {
			args := make([]any, 1+len(keys))
			args[0] = "mget"
			for i, key := range keys {
				args[1+i] = key
			}
			cmd := redis.NewStringSliceCmd(ctx, args...) // unlike MGet it keeps no any of each
			err := one.Process(ctx, cmd)
			if err == nil {
				for i, v := range cmd.Val() {
					entries[i] = owned(v)
				}
				return nil
			}
			var reply redis.Error
			if !errors.As(err, &reply) || !strings.HasPrefix(reply.Error(), "CROSSSLOT") {
				return err
			}
			r.sharded.Store(true) // a cluster behind one address
		}
		p := r.c.Pipeline()
		cmds := make([]*redis.StringCmd, len(keys))
		for i, key := range keys {
			cmds[i] = p.Get(ctx, key)
		}
		_, _ = p.Exec(ctx) // every cmd has its own error
		for i, cmd := range cmds {
			b, err := cmd.Bytes()
			if err = ignoreReply(err); err != nil {
				return err
			}
			entries[i] = b
		}
		return nil
	})
	return entries, err
}

// owned is the bytes of a string that nobody else has, such as a reply's.
func owned(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) } //nolint:gosec // see above

// header returns the first bytes of an entry, or nil.
func (r *remote) header(ctx context.Context, key string) (b []byte, err error) {
	err = r.do(ctx, "getrange", func(ctx context.Context) (err error) {
		b, err = r.c.GetRange(ctx, key, 0, headerLen-1).Bytes()
		return err
	})
	return b, ignoreReply(err)
}

// ignoreReply makes a miss of an answer that is no value: none, or a key of
// another type that somebody else wrote.
func ignoreReply(err error) error {
	var reply redis.Error
	if errors.Is(err, redis.Nil) || errors.As(err, &reply) && strings.HasPrefix(reply.Error(), "WRONGTYPE") {
		return nil
	}
	return err
}

// lease is what getlease answered: data, or the right to load (held is false),
// or that another has it. The token is the version of what is being loaded.
type lease struct {
	data    []byte
	stale   []byte // past its TTL, but wanted
	version uint64 // of whatever is there, 0 if nothing is
	token   uint64
	held    bool // by another
}

func (r *remote) getLease(ctx context.Context, ns, key string, unwanted uint64, ttl time.Duration) (l lease, err error) {
	err = r.do(ctx, "getlease", func(ctx context.Context) error {
		call := r.leaseCall(ns, key, unwanted, ttl)
		l, err = parseLease(call.script.Run(ctx, r.c, call.keys, call.args...))
		return err
	})
	return l, err
}

func (r *remote) leaseCall(ns, key string, unwanted uint64, ttl time.Duration) *call {
	return &call{script: scriptGetLease, keys: []string{r.dataKey(ns, key), r.leaseKey(ns, key)},
		args: []any{ttl.Milliseconds(), unwanted}}
}

func parseLease(cmd *redis.Cmd) (lease, error) {
	v, err := cmd.Slice()
	if err != nil {
		return lease{}, err
	}
	if len(v) != 4 {
		return lease{}, fmt.Errorf("getlease answered %d values", len(v))
	}
	status, _ := v[0].(int64)
	token, _ := v[2].(int64)
	version, _ := v[3].(int64)
	l := lease{token: uint64(token), version: uint64(version), held: status < 0}
	if data, ok := v[1].(string); ok && status == 0 {
		l.data = []byte(data)
	} else if ok {
		l.stale = []byte(data)
	}
	return l, nil
}

// fill stores an entry whose version is the token, and reports whether it was
// stored: not if anything was written since the load began.
func (r *remote) fill(ctx context.Context, ns, key string, token uint64, entry []byte, ttl time.Duration) (ok bool, err error) {
	err = r.do(ctx, "fill", func(ctx context.Context) error {
		call := r.fillCall(ns, key, token, entry, ttl)
		n, err := call.script.Run(ctx, r.c, call.keys, call.args...).Int()
		ok = n == 1
		return err
	})
	return ok, err
}

func (r *remote) fillCall(ns, key string, token uint64, entry []byte, ttl time.Duration) *call {
	return &call{script: scriptFill, keys: []string{r.dataKey(ns, key), r.leaseKey(ns, key)},
		args: []any{text(token), entry, millis(ttl)}}
}

func (r *remote) release(ctx context.Context, ns, key string, token uint64) {
	// If it fails the lease runs out by itself.
	_ = r.do(ctx, "release", func(ctx context.Context) error {
		call := r.releaseCall(ns, key, token)
		return call.script.Run(ctx, r.c, call.keys, call.args...).Err()
	})
}

func (r *remote) releaseCall(ns, key string, token uint64) *call {
	return &call{script: scriptRelease, keys: []string{r.leaseKey(ns, key)}, args: []any{text(token)}}
}

// set stores an entry with a version above min and everything that was there,
// takes the lease from whoever loads, and tells the other stores.
func (r *remote) set(ctx context.Context, ns, key string, entry []byte, ttl time.Duration, min uint64) (version uint64, err error) {
	call := r.setCall(ns, key, entry, ttl, min, 0)
	if err = r.sets.run(ctx, call, len(entry)); err != nil {
		return 0, err
	}
	return call.cmd.Uint64()
}

// setCall does nothing and returns 0 if newest is not 0 and what is stored is
// newer.
func (r *remote) setCall(ns, key string, entry []byte, ttl time.Duration, min, newest uint64) *call {
	head, tail := r.message('k', ns+" "+key)
	return &call{script: scriptSet, keys: []string{r.dataKey(ns, key), r.leaseKey(ns, key)},
		args: []any{r.channel, entry, millis(ttl), text(min), head, tail, text(newest)}}
}

// tombstone is an entry that says that there is none.
func (r *remote) tombstone(full string, version uint64) []byte {
	now := r.now()
	tomb := wireEntry{wireHeader: wireHeader{
		flags: flagTombstone, version: version, soft: now, hard: now + tombstoneTTL.Microseconds(), key: keyHash(full)}}
	return appendEntry(nil, &tomb, NoCompression, 0)
}

// delete leaves a tombstone as set leaves an entry. If newest is not 0 and
// what is stored is newer, it does nothing and returns 0.
func (r *remote) delete(ctx context.Context, ns, key string, min, newest uint64) (version uint64, err error) {
	call := r.deleteCall(ns, key, min, newest)
	if err = r.deletes.run(ctx, call, headerLen); err != nil {
		return 0, err
	}
	return call.cmd.Uint64()
}

func (r *remote) deleteCall(ns, key string, min, newest uint64) *call {
	full := r.dataKey(ns, key)
	head, tail := r.message('k', ns+" "+key)
	return &call{script: scriptDelete, keys: []string{full, r.leaseKey(ns, key)},
		args: []any{r.tombstone(full, 1), tombstoneTTL.Milliseconds(), text(min), r.channel, head, tail, text(newest)}}
}

// readTags brings the cells up to date in one round trip, which also makes the
// other calls.
func (r *remote) readTags(ctx context.Context, cells []*tagCell, epoch uint64, also ...*call) error {
	calls := make([]*call, len(cells))
	before := make([]uint64, len(cells))
	for i, c := range cells {
		before[i] = c.version.Load()
		head, tail := r.message('t', c.key)
		calls[i] = &call{script: scriptTag, keys: []string{c.key},
			args: []any{text(c.known.Load()), tagTTL.Milliseconds(), r.channel, head, tail}}
	}
	if err := r.do(ctx, "tags", func(ctx context.Context) error { return runAll(ctx, r.c, append(calls, also...)) }); err != nil {
		return err
	}
	for i, c := range cells {
		v, err := calls[i].cmd.Uint64()
		if err != nil {
			return err
		}
		c.learn(before[i], v, epoch)
	}
	return nil
}

// invalidate gives the tags new versions and tells the other stores. The cells
// that could be reached are raised also if there is an error; done says which.
// A tag that Redis has in its version of newest or above is left as it is.
func (r *remote) invalidate(ctx context.Context, cells []*tagCell, newest map[*tagCell]uint64) (done []bool, err error) {
	calls := make([]*call, len(cells))
	for i, c := range cells {
		head, tail := r.message('t', c.key)
		calls[i] = &call{script: scriptInvalidate, keys: []string{c.key},
			args: []any{text(c.version.Load()), tagTTL.Milliseconds(), r.channel, head, tail, text(newest[c])}}
	}
	done = make([]bool, len(cells))
	err = r.do(ctx, "invalidate", func(ctx context.Context) error { return runAll(ctx, r.c, calls) })
	for i, c := range cells {
		if calls[i].cmd == nil {
			continue
		}
		if v, verr := calls[i].cmd.Uint64(); verr == nil {
			c.raise(v)
			done[i] = true
		}
	}
	return done, err
}

// message splits a message around its version, which a script fills in:
// "1 op origin version name". Op k is a key, as "namespace key"; p a prefix, as
// "namespace prefix"; t is a tag or
// a namespace, as its Redis key.
func (r *remote) message(op byte, name string) (head, tail string) {
	return "1 " + string(op) + " " + r.origin + " ", " " + name
}

type message struct {
	op      string
	origin  string
	version uint64
	name    string
}

func parseMessage(s string) (m message, ok bool) {
	f := strings.SplitN(s, " ", 5)
	if len(f) != 5 || f[0] != "1" {
		return m, false
	}
	v, err := strconv.ParseUint(f[3], 10, 64)
	if err != nil || v > maxVersion {
		return m, false
	}
	return message{op: f[1], origin: f[2], version: v, name: f[4]}, true
}

// text is how the scripts write numbers.
func text(v uint64) string { return strconv.FormatUint(v, 10) }

func millis(d time.Duration) int64 { return max(d.Milliseconds(), 1) }

// peekVersion is the version of whatever calls itself an entry, even a damaged
// one; 0 if it does not.
func peekVersion(b []byte) uint64 {
	if len(b) < headerLen || b[0] != 'T' || b[1] != 'C' || b[2] != format {
		return 0
	}
	return binary.BigEndian.Uint64(b[8:])
}
