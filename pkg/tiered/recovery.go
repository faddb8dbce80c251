package tiered

import (
	"context"
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
	size atomic.Int64 // of both; read without the lock
	kick chan struct{}
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

func newRecovery() *recovery {
	return &recovery{
		keys: make(map[string]map[string]uint64),
		tags: make(map[*tagCell]struct{}),
		kick: make(chan struct{}, 1),
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
	return q.keys[ns][key]
}

// told forgets a key that Redis has a newer version of now.
func (q *recovery) told(ns, key string, version uint64) {
	if q.size.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if v, ok := q.keys[ns][key]; ok && v <= version {
		delete(q.keys[ns], key)
		q.n--
	}
	q.count()
}

func (q *recovery) toldTag(c *tagCell) {
	if q.size.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	delete(q.tags, c)
	q.count()
}

// count needs mu.
func (q *recovery) count() { q.size.Store(int64(q.n + len(q.tags))) }

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
	q.mu.Lock()
	cells := slices.Collect(maps.Keys(q.tags))
	type lostKey struct {
		ns, key string
		version uint64
	}
	keys := make([]lostKey, 0, q.n)
	for ns, m := range q.keys {
		for key, version := range m {
			keys = append(keys, lostKey{ns, key, version})
		}
	}
	q.mu.Unlock()
	for batch := range slices.Chunk(cells, replayBatch) {
		done, err := s.l2.invalidate(ctx, batch)
		for i, c := range batch {
			if done[i] {
				q.toldTag(c)
				s.metrics.replayed.Add(1)
			}
		}
		if err != nil {
			return
		}
	}
	for n, k := range keys {
		v, err := s.l2.delete(ctx, k.ns, k.key, k.version, k.version+replaySkew)
		if err != nil {
			return
		}
		// Zero means that somebody has written since, which is as good.
		q.told(k.ns, k.key, max(v, k.version))
		s.metrics.replayed.Add(1)
		if (n+1)%replayBatch == 0 {
			pause := time.NewTimer(replayPause + rand.N(replayPause))
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
				return
			}
		}
	}
}
