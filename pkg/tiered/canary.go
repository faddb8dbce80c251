package tiered

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// The canary finds what no error tells. Every second each store publishes a
// beat, to a channel of its own, on every master: it says which. As long as the
// beats of all masters come back, messages do. If those of one do not for
// canaryWindow, this store may be missing what is written there: the
// connection is half-open, a server is stalled or split off, or of a Cluster,
// whose nodes pass messages on to each other, one does not hear another.
//
// A subscription counts only once a beat of every master has come back by it.
//
// What finds the masters of a Cluster is also what makes the client look for
// them: by itself it asks once a minute, and tries a master that is dead until
// then.

// beat publishes the canary. It is also what finds out, without any traffic,
// that Redis is back.
func (s *Store) beat(ctx context.Context) {
	tick := time.NewTicker(beatEvery)
	defer tick.Stop()
	for n := 0; ; n++ {
		if all, err := s.publishBeats(ctx); err == nil {
			s.watch(ctx, all)
			s.lost.wake()
			if n%clockEvery == 0 || s.clockEpoch != s.epoch.Load() {
				s.clockEpoch = s.epoch.Load()
				_ = s.l2.syncClock(ctx) // the next beat tries again
			}
		}
		select {
		case <-tick.C:
		case <-s.beats:
		case <-ctx.Done():
			return
		}
	}
}

func (s *Store) beatNow() {
	select {
	case s.beats <- struct{}{}:
	default:
	}
}

// publishBeats publishes on all masters, which it returns. It fails if none
// of them takes it.
func (s *Store) publishBeats(ctx context.Context) (all masterClients, err error) {
	own := s.l2.own()
	// No span: it would be one a second, of nobody's request.
	err = s.l2.breaker.do(ctx, s.l2.timeout, func(ctx context.Context) (err error) {
		if all, err = s.l2.masterClients(ctx); err != nil {
			return err
		}
		s.expect(all)
		_, err = all.each(ctx, func(ctx context.Context, addr string, c redis.Cmdable) error {
			if s.plane == Off {
				return c.Time(ctx).Err() // nobody listens; a user who may use the cache may run this, and not PING
			}
			return c.Publish(ctx, own, addr).Err()
		})
		return err
	})
	return all, err
}

// own is the channel of this store's beats.
func (r *remote) own() string { return r.channel + ":" + r.origin }

// expect notes whose beats must come back.
func (s *Store) expect(all masterClients) {
	before := s.expected.Load()
	now := time.Now()
	since := make(map[string]time.Time, len(all))
	for addr := range all {
		since[addr] = now
		if before != nil {
			if t, ok := (*before)[addr]; ok {
				since[addr] = t
			}
		}
	}
	s.expected.Store(&since)
}

// ear is what one subscription has heard of the beats.
type ear struct {
	s     *Store
	began time.Time
	heard map[string]time.Time
	all   bool      // that are expected
	due   time.Time // when one of them, or before all were heard any, is late
	late  string
}

func (s *Store) listenFor() *ear {
	now := time.Now()
	return &ear{s: s, began: now, heard: make(map[string]time.Time), due: now.Add(canaryWindow)}
}

// hear notes a beat and reports whether all that are expected have come back.
func (e *ear) hear(addr string) bool {
	now := time.Now()
	e.heard[addr] = now
	e.s.lastBeat.Store(now.UnixNano())
	expected := e.s.expected.Load()
	if !e.all {
		e.due, e.late = now.Add(canaryWindow), ""
		for a := range *expected {
			if _, ok := e.heard[a]; !ok {
				return false
			}
		}
		e.all = true
	}
	first := now
	for a, since := range *expected {
		// One that is a master only since then had no time yet.
		if last := latest(e.heard[a], since); last.Before(first) {
			first, e.late = last, a
		}
	}
	e.due = first.Add(canaryWindow)
	maps.DeleteFunc(e.heard, func(a string, _ time.Time) bool {
		_, ok := (*expected)[a]
		return !ok
	})
	return true
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (e *ear) silence() error {
	if e.late == "" {
		return fmt.Errorf("no beat came back for %v", canaryWindow)
	}
	return fmt.Errorf("no beat of master %s came back for %v", e.late, canaryWindow)
}

// masterClients are clients of each server that takes writes, by its address; of one
// server, or what passes for one, under "".
type masterClients map[string]redis.Cmdable

func (r *remote) masterClients(ctx context.Context) (masterClients, error) {
	var mu sync.Mutex
	all := make(masterClients)
	collect := func(_ context.Context, c *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all[c.Options().Addr] = c
		return nil
	}
	switch c := r.c.(type) {
	case *redis.ClusterClient:
		return all, c.ForEachMaster(ctx, collect) // asks the Cluster first who they are
	case *redis.Ring:
		return all, c.ForEachShard(ctx, collect)
	}
	all[""] = r.c
	return all, nil
}

// each calls f for all at the same time. If some fail it returns how many, and
// an error only if all do: a cluster that has lost one master is not away.
func (m masterClients) each(ctx context.Context, f func(ctx context.Context, addr string, c redis.Cmdable) error) (failed int, err error) {
	errs := make(chan error, len(m))
	for addr, c := range m {
		go func() { errs <- f(ctx, addr, c) }()
	}
	for range m {
		if e := <-errs; e != nil {
			failed, err = failed+1, e
		}
	}
	if failed < len(m) || failed == 0 {
		err = nil
	}
	return failed, err
}
