package tiered

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// recovery remembers what Redis was not told because it was away, and tells it
// when it is back. Until then, reads take nothing from Redis that is older.
//
// Writes are replayed as deletes: what this process has set is then read from
// the source again, by everybody, and no value has to be kept for an outage.
type recovery struct {
	mu   sync.Mutex
	keys map[string]map[string]uint64 // by namespace and key: what an entry must be newer than
	n    int                          // keys
	tags map[*tagCell]struct{}
	size atomic.Int64 // of all; read without the lock
	kick chan struct{}

	acks acks // what Redis was told lately; see failover.go
	// What of them is to be said again: by namespace and key, and by tag.
	acked     map[string]map[string]uint64
	ackedTags map[*tagCell]uint64
}

const (
	// maxLost bounds the keys; beyond it the namespace that has most of them is
	// invalidated as a whole.
	maxLost = 10_000
	// replayBatch keys are replayed between pauses, so that a Redis that has
	// just come back is not run over by all stores at once.
	replayBatch = 256
	replayPause = 20 * time.Millisecond
	// replaySkew: what was written to Redis this much after a lost write, by
	// this store's idea of Redis's clock, is not taken for older than it.
	replaySkew = uint64(time.Second / time.Microsecond)
)

func newRecovery(now func() int64) *recovery {
	return &recovery{
		keys: make(map[string]map[string]uint64),
		tags: make(map[*tagCell]struct{}),
		kick: make(chan struct{}, 1),

		acks:      acks{now: now},
		acked:     make(map[string]map[string]uint64),
		ackedTags: make(map[*tagCell]uint64),
	}
}

// addKey remembers that an entry older than version must not survive. If there
// are too many keys, those of the namespace it returns have been forgotten: the
// caller invalidates that namespace.
func (q *recovery) addKey(ns, key string, version uint64) (overflow string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	m := q.keys[ns]
	if m == nil {
		m = make(map[string]uint64)
		q.keys[ns] = m
	}
	before := len(m)
	m[key] = max(m[key], version)
	q.n += len(m) - before
	if q.n > maxLost {
		for ns, m := range q.keys {
			if len(m) > len(q.keys[overflow]) {
				overflow = ns
			}
		}
		q.n -= len(q.keys[overflow])
		delete(q.keys, overflow)
	}
	q.count()
	return overflow
}

func (q *recovery) addTag(c *tagCell) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tags[c] = struct{}{}
	q.count()
}

// floor is the version that Redis's entry of a key must exceed to be believed.
func (q *recovery) floor(ns, key string) uint64 {
	if q.size.Load() == 0 {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	floor := q.keys[ns][key]
	if v := q.acked[ns][key]; v > 0 {
		floor = max(floor, v-1) // the acknowledged version itself is good
	}
	return floor
}

// told notes that Redis has acknowledged a version of a key, and forgets that
// it had to be told of an older one.
func (q *recovery) told(ns, key string, version uint64) {
	q.acks.add(ack{ns: ns, key: key, version: version})
	q.settled(ns, key, version)
}

// settled forgets a key that Redis has a version of at least this of.
func (q *recovery) settled(ns, key string, version uint64) {
	if q.size.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if v, ok := q.keys[ns][key]; ok && v <= version {
		delete(q.keys[ns], key)
		q.n--
	}
	if v, ok := q.acked[ns][key]; ok && v <= version {
		delete(q.acked[ns], key)
		if len(q.acked[ns]) == 0 {
			delete(q.acked, ns)
		}
	}
	q.count()
}

// toldTag notes that Redis has acknowledged an invalidation of a tag.
func (q *recovery) toldTag(c *tagCell) {
	version := c.known.Load()
	q.acks.add(ack{cell: c, version: version})
	q.settledTag(c, version)
}

func (q *recovery) settledTag(c *tagCell, version uint64) {
	if q.size.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.tags, c)
	if v, ok := q.ackedTags[c]; ok && v <= version {
		delete(q.ackedTags, c)
	}
	q.count()
}

// count needs mu.
func (q *recovery) count() {
	n := q.n + len(q.tags) + len(q.ackedTags)
	for _, m := range q.acked {
		n += len(m)
	}
	q.size.Store(int64(n))
}

func (q *recovery) wake() {
	select {
	case q.kick <- struct{}{}:
	default:
	}
}

// recover replays when kicked, until its context ends.
func (s *Store) recover(ctx context.Context) {
	for {
		select {
		case <-s.lost.kick:
			s.replay(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// replay tells Redis what it missed, and stops at the first failure: the next
// beat that reaches Redis starts it again.
func (s *Store) replay(ctx context.Context) {
	q := s.lost
	if q.size.Load() == 0 {
		return
	}
	ctx, span := s.tracer.Start(ctx, "tiered.recover")
	defer span.End()
	defer s.recovered(time.Now(), s.metrics.replayed.Load())

	// Tags first: they may be a whole namespace.
	acked, ackedTags := q.takeAcked()
	q.mu.Lock()
	cells := slices.Collect(maps.Keys(q.tags))
	keys := make([]lostKey, 0, q.n)
	for ns, m := range q.keys {
		for key, version := range m {
			keys = append(keys, lostKey{ns, key, version, version + replaySkew})
		}
	}
	q.mu.Unlock()
	for batch := range slices.Chunk(cells, replayBatch) {
		if s.replayTags(ctx, batch, nil) != nil {
			return
		}
	}
	for batch := range slices.Chunk(slices.Collect(maps.Keys(ackedTags)), replayBatch) {
		if s.replayTags(ctx, batch, ackedTags) != nil {
			return
		}
	}
	for batch := range slices.Chunk(append(keys, acked...), replayBatch) {
		if s.replayKeys(ctx, batch) != nil {
			return
		}
	}
}

// replayTags invalidates the tags, but not those that Redis has in their
// version of newest or above, and pauses.
func (s *Store) replayTags(ctx context.Context, cells []*tagCell, newest map[*tagCell]uint64) error {
	done, err := s.l2.invalidate(ctx, cells, newest)
	for i, c := range cells {
		if done[i] {
			s.lost.settledTag(c, c.known.Load())
			s.metrics.replayed.Add(1)
		}
	}
	return errors.Join(err, pause(ctx))
}

// lostKey is a key that Redis must have a version of above min of, unless what
// it has is above newest.
type lostKey struct {
	ns, key     string
	min, newest uint64
}

// acked reports that Redis had it once, in version min.
func (k lostKey) acked() bool { return k.newest < k.min }

// replayKeys deletes the keys, in one round trip, and pauses.
func (s *Store) replayKeys(ctx context.Context, keys []lostKey) error {
	calls := make([]*call, len(keys))
	for i, k := range keys {
		calls[i] = s.l2.deleteCall(k.ns, k.key, k.min, k.newest)
	}
	err := s.l2.do(ctx, "delete", func(ctx context.Context) error { return runAll(ctx, s.l2.c, calls) })
	for i, k := range keys {
		if calls[i].cmd == nil {
			continue
		}
		// Zero means that somebody has written since, which is as good.
		if v, verr := calls[i].cmd.Uint64(); verr == nil {
			s.lost.settled(k.ns, k.key, max(v, k.min))
			s.metrics.replayed.Add(1)
			// What was read from the new master before it was told is here too,
			// and this store does not hear its own messages.
			if c := s.cache(k.ns); c != nil && k.acked() {
				c.invalidate(k.key, max(v, k.min))
			}
		}
	}
	return errors.Join(err, pause(ctx))
}

// pause is what is between two batches, at random, so that stores that lost
// Redis together do not return to it in step.
func pause(ctx context.Context) error {
	timer := time.NewTimer(replayPause + rand.N(replayPause))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
