package tiered

import (
	"context"
	_ "embed" // for the scripts
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/redis/go-redis/v9"
)

// A write-behind queue in Redis is some partitions, each of them a stream with
// one consumer group, and beside it in the same slot of a cluster:
//
//	{p}:wb:{ns:3}:s      the stream. An entry's id is its write's version: µs of
//	                     Redis's clock, above all that went before, "-0"
//	{p}:wb:{ns:3}:l      the lease: the one process that may flush the partition
//	{p}:wb:{ns:3}:d      the dead letters, a stream
//	{p}:wb:{ns:3}:k:key  the ids of a key's entries in the stream, a list
//	{p}:wb:{ns}:n        the number of partitions, the same for all processes
//	{p}:w:{ns:key}       the mark: which write the cached value has, see wb_mark.lua
//
// An entry has the fields k, the key; p, 1 for a partial; v, the value in the
// form of entry.go. What the sink has taken is acknowledged and deleted in one
// script: what is in the stream is what the sink has not had.
var (
	//go:embed lua/wb_put.lua
	luaQueuePut string
	//go:embed lua/wb_take.lua
	luaQueueTake string
	//go:embed lua/wb_ack.lua
	luaQueueAck string
	//go:embed lua/wb_park.lua
	luaQueuePark string
	//go:embed lua/wb_hold.lua
	luaQueueHold string
	//go:embed lua/wb_pending.lua
	luaQueuePending string
	//go:embed lua/wb_mark.lua
	luaQueueMark string
	//go:embed lua/wb_cache.lua
	luaQueueCache string
	//go:embed lua/wb_settle.lua
	luaQueueSettle string
	//go:embed lua/wb_open.lua
	luaQueueOpen string

	scriptQueuePut     = redis.NewScript(luaQueuePut)
	scriptQueueTake    = redis.NewScript(luaQueueTake)
	scriptQueueAck     = redis.NewScript(luaQueueAck)
	scriptQueuePark    = redis.NewScript(luaQueuePark)
	scriptQueueHold    = redis.NewScript(luaQueueHold)
	scriptQueuePending = redis.NewScript(luaQueuePending)
	scriptQueueCache   = redis.NewScript(luaEntry + luaQueueMark + luaQueueCache)
	scriptQueueSettle  = redis.NewScript(luaEntry + luaQueueMark + luaQueueSettle)
	scriptQueueOpen    = redis.NewScript(luaQueueOpen)
)

const queueGroup = "flush"

// queue is the part of a write-behind that is in Redis.
type queue struct {
	r        *remote
	ns       string
	parts    int
	max      int // entries of a partition
	batch    int
	lease    time.Duration
	replicas int
	token    string // this process's, as the lease's holder and as consumer
}

// queued is an entry of the stream.
type queued struct {
	id         string
	key        string
	partial    bool
	payload    []byte
	deliveries int // before this one
}

func (e *queued) version() uint64 {
	ms, _, _ := strings.Cut(e.id, "-")
	v, _ := strconv.ParseUint(ms, 10, 64)
	return v
}

func (q *queue) key(p int, kind string) string {
	return q.r.prefix + ":wb:{" + q.ns + ":" + strconv.Itoa(p) + "}:" + kind
}

func (q *queue) index(p int, key string) string { return q.key(p, "k:"+escape(key)) }

func (q *queue) mark(key string) string { return q.r.prefix + ":w:{" + q.ns + ":" + escape(key) + "}" }

// partition of a key: the same in all processes.
func (q *queue) partition(key string) int { return int(xxhash.Sum64String(key) % uint64(q.parts)) }

var (
	errFull = errors.New("stream is full")
	errLate = errors.New("too late")
	errHeld = errors.New("another process has the lease")
	errCopy = errors.New("not enough replicas have it")
)

// open agrees on the number of partitions, and refuses a Redis that would
// throw the queue away to make room.
func (q *queue) open(ctx context.Context) error {
	return q.r.do(ctx, "wb.open", func(ctx context.Context) error {
		n, err := scriptQueueOpen.Run(ctx, q.r.c, []string{q.r.prefix + ":wb:{" + q.ns + "}:n"}, q.parts).Int()
		if err != nil {
			return err
		}
		if n != q.parts {
			return fmt.Errorf("%w: %d partitions, but the queue in Redis has %d; all processes need the same, "+
				"and it can change only while the queue is empty (then delete %s)",
				errQueue, q.parts, n, q.r.prefix+":wb:{"+q.ns+"}:n")
		}
		info, err := q.r.c.Info(ctx, "memory").Result()
		if err != nil {
			return ignoreDenied(err)
		}
		if _, policy, ok := strings.Cut(info, "maxmemory_policy:allkeys"); ok {
			policy, _, _ = strings.Cut(policy, "\r")
			return fmt.Errorf("%w: redis evicts any key when it is full (maxmemory-policy allkeys%s), also acknowledged writes; "+
				"set it to noeviction or one of the volatile ones", errQueue, policy)
		}
		return nil
	})
}

// errQueue marks what no retry can mend.
var errQueue = errors.New("write-behind queue cannot be used")

// ignoreDenied: a user who may not read INFO has read the documentation.
func ignoreDenied(err error) error {
	if strings.HasPrefix(err.Error(), "NOPERM") {
		return nil
	}
	return err
}

// put appends a write and returns its version and the stream's length. Once
// the deadline (µs of Redis's clock) is past it is not appended any more, so
// that after an error its version is known to be at most the deadline.
func (q *queue) put(ctx context.Context, key string, partial bool, payload []byte, deadline, min uint64) (version uint64, length int, err error) {
	p := q.partition(key)
	kind := "0"
	if partial {
		kind = "1"
	}
	put := &call{script: scriptQueuePut, keys: []string{q.key(p, "s"), q.index(p, key)},
		args: []any{q.max, text(deadline), text(min), key, kind, payload}}
	err = q.r.do(ctx, "wb.put", func(ctx context.Context) error {
		v, err := q.run(ctx, put)
		if err != nil {
			return err
		}
		if len(v) != 2 {
			return fmt.Errorf("wb.put answered %d values", len(v))
		}
		length = v[1]
		switch v[0] {
		case -1:
			return errFullReply
		case -2:
			version = uint64(v[1])
			return errLateReply
		}
		version = uint64(v[0])
		return nil
	})
	switch {
	case errors.Is(err, errFullReply):
		return 0, length, errFull
	case errors.Is(err, errLateReply):
		return version, 0, errLate
	case errors.Is(err, errCopyReply):
		return 0, 0, errCopy
	}
	return version, length, err
}

// reply is an answer of Redis that is no failure of it: the breaker stays shut.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

const (
	errFullReply reply = "FULL"
	errLateReply reply = "LATE"
	errCopyReply reply = "NOCOPY"
)

// run runs a script, and waits for replicas if they are asked for: on the same
// connection, for WAIT is about the connection's writes.
func (q *queue) run(ctx context.Context, c *call) ([]int, error) {
	if q.replicas == 0 {
		return ints(c.script.Run(ctx, q.r.c, c.keys, c.args...))
	}
	node := q.r.c
	if cluster, ok := q.r.c.(*redis.ClusterClient); ok {
		master, err := cluster.MasterForKey(ctx, c.keys[0])
		if err != nil {
			return nil, err
		}
		node = master
	}
	sha := true
	for {
		pipe := node.Pipeline()
		eval := c.script.Eval
		if sha {
			eval = c.script.EvalSha
		}
		cmd := eval(ctx, pipe, c.keys, c.args...)
		wait := pipe.Do(ctx, "WAIT", q.replicas, max((q.r.timeout/2).Milliseconds(), 1))
		_, _ = pipe.Exec(ctx) // each has its own error
		v, err := ints(cmd)
		if sha && err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			sha = false
			continue
		}
		if err != nil || len(v) > 0 && v[0] < 0 {
			return v, err
		}
		n, err := wait.Int()
		if err == nil && n < q.replicas {
			err = errCopyReply
		}
		return v, err
	}
}

func ints(cmd *redis.Cmd) ([]int, error) {
	v, err := cmd.Int64Slice()
	if err != nil {
		return nil, err
	}
	out := make([]int, len(v))
	for i, n := range v {
		out[i] = int(n)
	}
	return out, nil
}

// take gets the lease and what is to be flushed: nothing if there are fewer
// than a batch and none has waited for age, and errHeld if another process has
// the lease. With widen, what was taken before is joined by new entries.
func (q *queue) take(ctx context.Context, p int, age time.Duration, widen bool) (batch []queued, err error) {
	held := false
	err = q.r.do(ctx, "wb.take", func(ctx context.Context) error {
		wide := "0"
		if widen {
			wide = "1"
		}
		v, err := scriptQueueTake.Run(ctx, q.r.c, []string{q.key(p, "s"), q.key(p, "l"), q.key(p, "x")},
			q.token, q.lease.Milliseconds(), q.batch, age.Microseconds(), wide, queueGroup).Slice()
		if err != nil {
			return err
		}
		if len(v) < 2 {
			return fmt.Errorf("wb.take answered %d values", len(v))
		}
		status, _ := v[0].(int64)
		if status < 0 {
			held = true
			return nil
		}
		if status == 0 || len(v) < 3 {
			return nil
		}
		rows, _ := v[2].([]any)
		for _, row := range rows {
			f, _ := row.([]any)
			if len(f) != 3 {
				return errors.New("wb.take answered an entry of another form")
			}
			e := parseQueued(f)
			n, _ := f[2].(int64)
			e.deliveries = int(n)
			batch = append(batch, e)
		}
		return nil
	})
	if err == nil && held {
		err = errHeld
	}
	return batch, err
}

// parseQueued reads {id, fields}. A field that is not there is empty, which the
// payload's checksum finds.
func parseQueued(f []any) queued {
	e := queued{}
	e.id, _ = f[0].(string)
	fields, _ := f[1].([]any)
	for i := 0; i+1 < len(fields); i += 2 {
		name, _ := fields[i].(string)
		value, _ := fields[i+1].(string)
		switch name {
		case "k":
			e.key = value
		case "p":
			e.partial = value == "1"
		case "v":
			e.payload = []byte(value)
		}
	}
	return e
}

// ackCall removes what the sink has taken.
func (q *queue) ackCall(p int, entries []queued) *call {
	c := &call{script: scriptQueueAck, keys: []string{q.key(p, "s")}, args: []any{queueGroup}}
	for _, e := range entries {
		c.keys = append(c.keys, q.index(p, e.key))
		c.args = append(c.args, e.id)
	}
	return c
}

// settleCall removes what is cached of a key unless it has the write of that
// version or, not with always, a newer one.
func (q *queue) settleCall(key string, version uint64, always bool) *call {
	force := "0"
	if always {
		force = "1"
	}
	full := q.r.dataKey(q.ns, key)
	head, tail := q.r.message('k', q.ns+" "+key)
	return &call{script: scriptQueueSettle, keys: []string{full, q.r.leaseKey(q.ns, key), q.mark(key)},
		args: []any{q.r.tombstone(full, 1), tombstoneTTL.Milliseconds(), text(version), q.r.channel, head, tail, force}}
}

// show caches a write's value. It returns the entry's version, or 0 if it was
// not stored, because a newer write's is there or, if have is not 0, because the
// entry has not that version. late says that what is there may stay: it builds on
// a whole write that is newer.
func (q *queue) show(ctx context.Context, key string, entry []byte, ttl time.Duration, version, have uint64, partial bool) (v uint64, late bool, err error) {
	head, tail := q.r.message('k', q.ns+" "+key)
	whole := "1"
	if partial {
		whole = "0"
	}
	err = q.r.do(ctx, "wb.cache", func(ctx context.Context) error {
		n, err := scriptQueueCache.Run(ctx, q.r.c, []string{q.r.dataKey(q.ns, key), q.r.leaseKey(q.ns, key), q.mark(key)},
			entry, millis(ttl), text(version), text(have), q.r.channel, head, tail, whole).Int64()
		v, late = uint64(max(n, 0)), n == -2
		return err
	})
	return v, late, err
}

// park moves an entry to the dead letters.
func (q *queue) park(ctx context.Context, p int, e *queued, cause string, attempts int) error {
	var n int
	err := q.r.do(ctx, "wb.park", func(ctx context.Context) (err error) {
		n, err = scriptQueuePark.Run(ctx, q.r.c,
			[]string{q.key(p, "s"), q.key(p, "l"), q.key(p, "x"), q.key(p, "d"), q.index(p, e.key)},
			q.token, queueGroup, e.id, cause, attempts).Int()
		return err
	})
	if err == nil && n == 0 {
		return errHeld
	}
	return err
}

// hold keeps the lease, or gives it back if d is 0.
func (q *queue) hold(ctx context.Context, p int, d time.Duration) error {
	var n int
	err := q.r.do(ctx, "wb.lease", func(ctx context.Context) (err error) {
		n, err = scriptQueueHold.Run(ctx, q.r.c, []string{q.key(p, "l")}, q.token, d.Milliseconds()).Int()
		return err
	})
	if err == nil && n == 0 {
		return errHeld
	}
	return err
}

// pending returns what is queued of a key, oldest first.
func (q *queue) pending(ctx context.Context, key string) (entries []queued, err error) {
	p := q.partition(key)
	err = q.r.do(ctx, "wb.pending", func(ctx context.Context) error {
		rows, err := scriptQueuePending.Run(ctx, q.r.c, []string{q.key(p, "s"), q.index(p, key)}).Slice()
		for _, row := range rows {
			if f, ok := row.([]any); ok && len(f) == 2 {
				entries = append(entries, parseQueued(f))
			}
		}
		return err
	})
	return entries, err
}
