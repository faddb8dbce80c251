package tiered

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis replicates without waiting, so a replica that is promoted may not have
// what the old master acknowledged last: deleted values rise again, and tags
// are as before their invalidation. Every store therefore remembers what was
// acknowledged to it lately and, after a failover, says it again wherever
// Redis holds something older.
//
// A failover is noticed by the run ids of the masters, which are asked for with
// every beat: a process that was not a master before is one now. That includes
// a master that was restarted with old data.
const (
	// ackWindow is how far back acknowledged invalidations are remembered, from
	// the last time that the masters were known to be the same. It has to cover
	// the replication's lag, not the time that a failover takes.
	ackWindow = 30 * time.Second
	// maxAcks and maxAckBytes bound them: about 64 bytes each and the keys, so
	// 6 MiB at most. Beyond that the oldest go first: 32768 cover the window up
	// to 1,090 writes a second, and 10 s at three times that.
	maxAcks     = 1 << 15
	maxAckBytes = 4 << 20
	// failoverSettles is when all is said once more: until an old master has
	// been told that it is none, clients connected to it are acknowledged what
	// will be lost. Sentinel tells it 8 s after its return at the earliest.
	failoverSettles = 15 * time.Second
)

// ack is an invalidation that Redis has acknowledged: of a key, or of a tag if
// cell is not nil.
type ack struct {
	ns, key string
	cell    *tagCell
	version uint64
	at      int64 // nanos of acks.now
}

// acks are the last ones, in the order of their arrival.
type acks struct {
	now func() int64 // nanos of the store's clock

	mu    sync.Mutex
	buf   []ack // a ring: n from first. Its length is a power of two up to maxAcks
	first int
	n     int
	bytes int // of the keys
}

func (a *acks) add(e ack) {
	e.at = a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case len(e.key) > maxAckBytes:
		return
	case a.n == maxAcks:
		a.pop()
	case a.n == len(a.buf):
		bigger := make([]ack, max(2*a.n, 64))
		copy(bigger, a.list())
		a.buf, a.first = bigger, 0
	}
	a.bytes += len(e.key)
	for a.bytes > maxAckBytes {
		a.pop()
	}
	a.buf[(a.first+a.n)%len(a.buf)] = e
	a.n++
}

// pop forgets the oldest. It needs mu.
func (a *acks) pop() {
	a.bytes -= len(a.buf[a.first].key)
	a.buf[a.first] = ack{}
	a.first = (a.first + 1) % len(a.buf)
	a.n--
}

// list copies the ring. It needs mu.
func (a *acks) list() []ack {
	all := make([]ack, 0, a.n)
	for i := range a.n {
		all = append(all, a.buf[(a.first+i)%len(a.buf)])
	}
	return all
}

// trim forgets what is older than the window as of t, and gives the room of a
// burst back once it is over.
func (a *acks) trim(t int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.n > 0 && a.buf[a.first].at < t-int64(ackWindow) {
		a.pop()
	}
	if a.n == 0 {
		a.buf, a.first = nil, 0
	}
}

func (a *acks) all() []ack {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.list()
}

// masters is what the beat knows of them.
type masters struct {
	ids   map[string]bool
	blind bool   // INFO is forbidden
	epoch uint64 // while blind, of the last look
	again int64  // nanos of acks.now at which to say everything once more; 0 if not
}

// watch finds out whether a master has changed, and has everything that was
// acknowledged lately said again if so. Only the beat calls it.
func (s *Store) watch(ctx context.Context, all masterClients) {
	m, now := &s.masters, s.lost.acks.now()
	ids, err := s.l2.masterIDs(ctx, all)
	switch {
	case forbidden(err):
		// Then every gap may have been a failover.
		if !m.blind {
			m.blind = true
			what := "each reconnect is taken for a failover"
			if s.plane == Off {
				what = "failovers are not noticed" // there is no connection to lose
			}
			s.log.WarnContext(ctx, "the redis user may not run INFO", slog.String("effect", what), slog.Any("error", err))
		}
		if e := s.epoch.Load(); e != m.epoch {
			known := m.epoch != 0
			m.epoch = e
			if known && e%2 == 0 {
				s.failedOver(ctx, now)
				m.epoch += 2 // its own
			}
		}
	case errors.Is(err, errSomeMasters):
		// Not all answer: the new ones count, and none that is gone is forgotten.
		if m.changed(ids) {
			s.failedOver(ctx, now)
		}
		for id := range m.ids {
			ids[id] = true
		}
		m.ids = ids
		return // what was acknowledged by those who are silent must be kept
	case err != nil:
		return
	default:
		if m.changed(ids) {
			s.failedOver(ctx, now)
		}
		m.ids = ids
		s.watched.Store(true)
	}
	switch {
	case m.again == 0:
		s.lost.acks.trim(now)
	case now >= m.again:
		m.again = 0
		s.lost.repeat()
	}
}

func (m *masters) changed(ids map[string]bool) bool {
	if m.ids == nil {
		return false
	}
	for id := range ids {
		if !m.ids[id] {
			return true
		}
	}
	return false
}

func (s *Store) failedOver(ctx context.Context, now int64) {
	s.masters.again = now + int64(failoverSettles)
	n := s.lost.repeat()
	if s.plane != Off {
		// What memory took from the new master until now is asked about before
		// it is served again.
		s.epoch.Add(2)
	}
	s.metrics.failovers.Add(1)
	s.log.WarnContext(ctx, "redis has another master: repeating what the last one acknowledged", slog.Int("invalidations", n))
}

// repeat queues everything that was acknowledged lately, newest per key. From
// now on nothing older is taken from Redis.
func (q *recovery) repeat() (n int) {
	all := q.acks.all()
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, e := range all {
		switch {
		case e.cell != nil:
			q.ackedTags[e.cell] = max(q.ackedTags[e.cell], e.version)
		default:
			m := q.acked[e.ns]
			if m == nil {
				m = make(map[string]uint64)
				q.acked[e.ns] = m
			}
			m[e.key] = max(m[e.key], e.version)
		}
	}
	q.count()
	q.wake()
	return len(all)
}

// takeAcked returns what repeat has queued.
func (q *recovery) takeAcked() (keys []lostKey, tags map[*tagCell]uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for ns, m := range q.acked {
		for key, version := range m {
			// What is stored with the acknowledged version itself has survived.
			keys = append(keys, lostKey{ns, key, version, version - 1})
		}
	}
	return keys, maps.Clone(q.ackedTags)
}

// errSomeMasters reports that masters of a cluster did not answer, beside the
// ids of those that did.
var errSomeMasters = errors.New("not all masters answer")

// masterIDs returns the run ids of the masters: random, and new with every
// start of a server.
func (r *remote) masterIDs(ctx context.Context, all masterClients) (ids map[string]bool, err error) {
	silent := 0
	err = r.breaker.do(ctx, r.timeout, func(ctx context.Context) (err error) {
		var mu sync.Mutex
		ids = make(map[string]bool)
		silent, err = all.each(ctx, func(ctx context.Context, _ string, c redis.Cmdable) error {
			id, err := runID(ctx, c)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			ids[id] = true
			return nil
		})
		return err
	})
	if err == nil && silent > 0 {
		err = errSomeMasters
	}
	return ids, err
}

func runID(ctx context.Context, c redis.Cmdable) (string, error) {
	text, err := c.Info(ctx, "server").Result()
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(text) {
		if id, ok := strings.CutPrefix(line, "run_id:"); ok {
			return strings.TrimSpace(id), nil
		}
	}
	return "", errors.New("ask for the master's id: INFO has no run_id")
}

// forbidden reports that the user may not run the command.
func forbidden(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(reply.Error(), "NOPERM")
}
