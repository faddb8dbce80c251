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
	keys map[lostKey]uint64 // the version from which on an entry is welcome
	tags map[*tagCell]struct{}
	size atomic.Int64 // of both; read without the lock
	kick chan struct{}
}

type lostKey struct{ ns, key string }

const (
	// maxLost bounds the keys; beyond it a whole namespace is invalidated.
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
		keys: make(map[lostKey]uint64),
		tags: make(map[*tagCell]struct{}),
		kick: make(chan struct{}, 1),
	}
}

// addKey remembers that an entry older than version must not survive. It
// reports whether there are too many keys of the namespace, which have been
// forgotten then: the caller invalidates the namespace.
func (q *recovery) addKey(ns, key string, version uint64) (overflow bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := lostKey{ns, key}
	q.keys[k] = max(q.keys[k], version)
	if len(q.keys) > maxLost {
		maps.DeleteFunc(q.keys, func(k lostKey, _ uint64) bool { return k.ns == ns })
		overflow = true
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
	return q.keys[lostKey{ns, key}]
}

// told forgets a key that Redis has a newer version of now.
func (q *recovery) told(ns, key string, version uint64) {
	if q.size.Load() == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	k := lostKey{ns, key}
	if v, ok := q.keys[k]; ok && v <= version {
		delete(q.keys, k)
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
func (q *recovery) count() { q.size.Store(int64(len(q.keys) + len(q.tags))) }

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

	// Tags first: they may be a whole namespace.
	q.mu.Lock()
	cells := slices.Collect(maps.Keys(q.tags))
	keys := maps.Clone(q.keys)
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
	n := 0
	for k, version := range keys {
		v, err := s.l2.delete(ctx, k.ns, k.key, version, version+replaySkew)
		if err != nil {
			return
		}
		// Zero means that somebody has written since, which is as good.
		q.told(k.ns, k.key, max(v, version))
		s.metrics.replayed.Add(1)
		if n++; n%replayBatch == 0 {
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
