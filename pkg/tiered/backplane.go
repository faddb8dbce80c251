package tiered

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// The backplane is a channel on which the stores tell each other what has
// changed. Nothing depends on every message arriving. The epoch is odd while
// the store may be missing some and even while it is not; entries in memory
// that were last checked in another epoch are suspect, and a read of one first
// asks Redis, by a header, whether it is still current. So nothing is flushed
// when a connection breaks, and nothing stale is served either.
//
// The canary finds what no error tells; see canary.go.
//
// With the backplane Off the epoch is 0, which every entry has then, and nobody
// listens; the beat goes on without being heard, to find out that Redis is back
// or has another master. What Tracking adds is in track.go.
const (
	beatEvery    = time.Second
	canaryWindow = 2500 * time.Millisecond
	clockEvery   = 30 // beats between measurements of Redis's clock
)

// coherent is the epoch with which what is read now may be stamped; 0 if the
// store may be missing messages, which matches no epoch. Without a memory tier
// nothing is taken from memory, not even the versions of tags: then Redis alone
// decides, and not even a message's latency is between a write and its readers.
// It is 0 as well if nobody listens: memory is then believed until its L1 TTL,
// but nothing else is.
func (s *Store) coherent() uint64 {
	if e := s.epoch.Load(); e%2 == 0 && s.l1 != nil {
		return e
	}
	return 0
}

// listening reports whether invalidations of other processes arrive.
func (s *Store) listening() bool {
	e := s.epoch.Load()
	return e != 0 && e%2 == 0
}

// deaf reports that what other processes write while this one reads or loads is
// to be found out from Redis alone.
func (s *Store) deaf() bool { return s.l2 != nil && (s.l1 == nil || s.plane == Off) }

// setCoherent is called by the one goroutine that listens.
func (s *Store) setCoherent(ok bool) {
	if even := s.epoch.Load()%2 == 0; even != ok {
		s.epoch.Add(1)
		if !ok {
			s.metrics.gaps.Add(1)
		}
		s.gapChanged(!ok)
	}
}

// listen keeps the subscription up until ctx ends.
func (s *Store) listen(ctx context.Context) {
	wait := 10 * time.Millisecond
	refused := false
	for {
		began := time.Now()
		err := s.subscribe(ctx)
		s.setCoherent(false)
		s.firstContact()
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > canaryWindow {
			wait = 10 * time.Millisecond // it had worked
			s.log.WarnContext(ctx, "cache backplane lost", slog.Any("error", err))
		} else if isReply(err) && !refused {
			refused = true
			s.log.WarnContext(ctx, "redis refuses the cache backplane: every read of memory asks redis first", slog.Any("error", err))
		}
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		wait = min(wait*2, time.Second)
	}
}

// subscribe receives until the subscription fails. It has its own receive loop
// because PubSub.Channel drops messages when its buffer is full.
func (s *Store) subscribe(ctx context.Context) error {
	own := s.l2.own()
	subscribe, channels := s.l2.c.Subscribe, []string{s.l2.channel, own}
	if s.tracker != nil {
		subscribe, channels = s.tracker.c.Subscribe, append(channels, trackChannel)
	}
	sub := subscribe(ctx)
	hangUp := func() { _ = sub.Close() } // it may have hung up already
	defer hangUp()
	defer context.AfterFunc(ctx, hangUp)() // receiving ignores ctx
	if err := sub.Subscribe(ctx, channels...); err != nil {
		return err
	}
	confirmed := 0
	ear := s.listenFor()
	for {
		left := time.Until(ear.due)
		if left <= 0 {
			return ear.silence()
		}
		m, err := sub.ReceiveTimeout(ctx, left)
		if s.tracker != nil && isFlush(err) {
			s.flushed()
			continue
		}
		if err != nil {
			if ctx.Err() == nil && time.Until(ear.due) <= 0 {
				err = ear.silence()
			}
			return err
		}
		switch m := m.(type) {
		case *redis.Subscription:
			if confirmed++; confirmed == len(channels) {
				s.beatNow() // what comes back proves that messages do
			}
		case *redis.Message:
			switch m.Channel {
			case own:
				if ear.hear(m.Payload) && confirmed >= len(channels) {
					s.setCoherent(true)
					s.firstContact()
				}
			case trackChannel:
				s.reported(m.PayloadSlice)
			default:
				s.receive(m.Payload)
			}
		}
	}
}

// receive applies a message of another store.
func (s *Store) receive(payload string) {
	m, ok := parseMessage(payload)
	if !ok || m.origin == s.l2.origin {
		return
	}
	defer s.metrics.received.Add(1) // after it has been applied: who counts it may rely on it
	switch m.op {
	case "k":
		ns, key, _ := strings.Cut(m.name, " ")
		if c := s.cache(ns); c != nil {
			c.invalidate(key, m.version)
			tell(s.hooks, s.hooks.OnInvalidate, InvalidateEvent{Namespace: ns, Key: key, Version: m.version, Remote: true})
		}
	case "p":
		ns, prefix, _ := strings.Cut(m.name, " ")
		if c := s.cache(ns); c != nil && prefix != "" {
			c.dropPrefix(prefix, m.version)
		}
	case "t":
		if c := s.tags.find(m.name); c != nil {
			c.raise(m.version)
			s.invalidated(c, true)
		}
		s.tagGen.Add(1)
	}
}
