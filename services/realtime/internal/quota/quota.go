// Package quota counts who is connected, over all nodes.
//
// A place is a lease in Redis that its node renews. When a node is killed its
// leases end by themselves; when Redis is away each node goes on counting its
// own, and tells Redis of all of them once it is back.
package quota

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/caching"
)

// Options fit [New]. The zero value counts in this process alone.
type Options struct {
	Client redis.UniversalClient // shared by all nodes; nil: there is only one. Stays the caller's to close
	Secret string                // keys the hashes that stand for whom is counted
	Every  time.Duration         // between renewals; 0 means 20 s
	TTL    time.Duration         // of a lease that is not renewed; 0 means 60 s
	Wait   time.Duration         // for Redis to answer, and to leave it alone when it has not; 0 means 250 ms
	Log    *slog.Logger
}

func (o Options) withDefaults() Options {
	for d, otherwise := range map[*time.Duration]time.Duration{&o.Every: 20 * time.Second, &o.TTL: time.Minute, &o.Wait: 250 * time.Millisecond} {
		if *d <= 0 {
			*d = otherwise
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// batch is how many keys one round trip renews.
const batch = 256

// take adds a lease if fewer than ARGV[2] are alive. Times are those of Redis,
// so that the clocks of nodes do not matter.
var take = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('ZADD', KEYS[1], now + ARGV[3], ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1`)

// renew puts off the end of the leases ARGV[2] and on, also of those that
// Redis has lost.
const renew = `
local t = redis.call('TIME')
local ends = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1]
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], ends, ARGV[i]) end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 0`

// Quota is safe for concurrent use.
type Quota struct {
	o      Options
	node   string
	cancel context.CancelFunc
	wg     sync.WaitGroup
	wake   chan struct{} // something was given back

	mu     sync.Mutex
	leases map[tag][]uint64    // the numbers of this node's
	asked  map[uint64]struct{} // of these, those that Redis has not answered for: it may refuse them
	gone   map[tag][]string    // given back, and perhaps still in Redis
	number uint64
	away   time.Time // Redis is left alone until then
}

// tag stands for whom is counted, as [caching.Digest] does.
type tag [16]byte

func (q *Quota) tag(key string) (t tag) {
	if n, err := base64.RawURLEncoding.Decode(t[:], []byte(caching.Digest(q.o.Secret, "connections", key))); n != len(t) || err != nil {
		panic("quota: a digest is not of 128 bits") // it was made a moment ago
	}
	return t
}

// key is the name in Redis.
func (t tag) key() string { return "rt:q:{" + base64.RawURLEncoding.EncodeToString(t[:]) + "}" }

// Place is one that was taken. The zero value is none.
type Place struct {
	tag    tag
	number uint64
}

// New returns a quota that lives until Close.
func New(ctx context.Context, o Options) *Quota {
	q := &Quota{
		o: o.withDefaults(), node: rand.Text(), wake: make(chan struct{}, 1),
		leases: map[tag][]uint64{}, asked: map[uint64]struct{}{}, gone: map[tag][]string{},
	}
	ctx, q.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if o.Client != nil {
		q.wg.Go(func() { q.keep(ctx) })
	}
	return q
}

// Close gives everything back.
func (q *Quota) Close(ctx context.Context) {
	q.cancel()
	q.wg.Wait()
	if q.o.Client == nil {
		return
	}
	q.mu.Lock()
	for key, numbers := range q.leases {
		for _, n := range numbers {
			q.gone[key] = append(q.gone[key], q.id(n))
		}
	}
	clear(q.leases)
	q.mu.Unlock()
	if err := q.remove(ctx); err != nil {
		q.o.Log.WarnContext(ctx, "places are given back only when their time is over", slog.Any("error", err))
	}
}

// Take takes one of limit places under key, or reports that none is left. It
// waits for Redis for a moment at most; without it the places of this node
// alone count.
func (q *Quota) Take(ctx context.Context, key string, limit int) (p Place, ok bool) {
	p.tag = q.tag(key)
	q.mu.Lock()
	if len(q.leases[p.tag]) >= limit {
		q.mu.Unlock()
		return Place{}, false
	}
	q.number++
	p.number = q.number
	q.leases[p.tag] = append(q.leases[p.tag], p.number)
	ask := q.o.Client != nil && time.Now().After(q.away)
	if ask {
		q.asked[p.number] = struct{}{}
	}
	q.mu.Unlock()
	if ask {
		asking, cancel := context.WithTimeout(ctx, q.o.Wait)
		defer cancel()
		n, err := take.Run(asking, q.o.Client, []string{p.tag.key()}, q.id(p.number), limit, q.o.TTL.Milliseconds()).Int()
		q.mu.Lock()
		delete(q.asked, p.number)
		q.mu.Unlock()
		switch {
		case err != nil && ctx.Err() == nil:
			if q.leave(time.Now()) {
				q.o.Log.WarnContext(ctx, "connections are counted on this node alone: redis does not answer", slog.Any("error", err))
			}
		case err == nil && n == 0:
			q.give(p, false)
			return Place{}, false
		}
	}
	return p, true
}

// Give gives a place back. It does not wait, and does nothing if p is none or
// was given back before.
func (q *Quota) Give(p Place) { q.give(p, q.o.Client != nil) }

// leave has Redis left alone for a while, and reports whether it was not
// already: of many that wait for it at once, one is to say so.
func (q *Quota) leave(now time.Time) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := now.After(q.away)
	q.away = now.Add(q.o.Wait)
	return first
}

// id is the name of a lease in Redis.
func (q *Quota) id(number uint64) string { return q.node + strconv.FormatUint(number, 36) }

func (q *Quota) give(p Place, tell bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i := slices.Index(q.leases[p.tag], p.number)
	if i < 0 {
		return // it was given back before
	}
	q.leases[p.tag] = slices.Delete(q.leases[p.tag], i, i+1)
	if len(q.leases[p.tag]) == 0 {
		delete(q.leases, p.tag)
	}
	if !tell {
		return
	}
	q.gone[p.tag] = append(q.gone[p.tag], q.id(p.number))
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// keep renews what is held and removes what is not.
func (q *Quota) keep(ctx context.Context) {
	t := time.NewTicker(q.o.Every)
	defer t.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-q.wake:
			err = q.remove(ctx)
		case <-t.C:
			if err = q.remove(ctx); err == nil {
				err = q.renew(ctx)
			}
		}
		if err != nil && ctx.Err() == nil {
			q.o.Log.DebugContext(ctx, "leases of connections not kept, trying again", slog.Any("error", err))
		}
	}
}

func (q *Quota) renew(ctx context.Context) error {
	q.mu.Lock()
	held := make(map[tag][]any, len(q.leases))
	for key, numbers := range q.leases {
		args := []any{q.o.TTL.Milliseconds()}
		for _, n := range numbers {
			if _, asked := q.asked[n]; !asked {
				args = append(args, q.id(n))
			}
		}
		if len(args) > 1 {
			held[key] = args
		}
	}
	q.mu.Unlock()
	for keys := range slices.Chunk(slices.Collect(maps.Keys(held)), batch) {
		if _, err := q.o.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				p.Eval(ctx, renew, []string{key.key()}, held[key]...)
			}
			return nil
		}); err != nil {
			return fmt.Errorf("renew leases: %w", err)
		}
	}
	return nil
}

// remove takes what was given back out of Redis. What cannot be now is tried
// again with the next.
func (q *Quota) remove(ctx context.Context) error {
	q.mu.Lock()
	gone := q.gone
	q.gone = map[tag][]string{}
	q.mu.Unlock()
	for keys := range slices.Chunk(slices.Collect(maps.Keys(gone)), batch) {
		_, err := q.o.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				ids := make([]any, len(gone[key]))
				for i, id := range gone[key] {
					ids[i] = id
				}
				p.ZRem(ctx, key.key(), ids...)
			}
			return nil
		})
		if err != nil {
			q.mu.Lock()
			for key, ids := range gone { // those already removed do no harm
				q.gone[key] = append(q.gone[key], ids...)
			}
			q.mu.Unlock()
			return fmt.Errorf("remove leases: %w", err)
		}
	}
	return nil
}
