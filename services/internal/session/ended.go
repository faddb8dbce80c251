package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

// How this node learns of sessions that ended elsewhere: it asks the database
// every lookEvery for what was revoked since it last asked, and overlap before,
// since clocks differ and a revocation is written a moment after its time.
const (
	lookEvery = 500 * time.Millisecond
	lookBound = 900 * time.Millisecond // who relies on an older look waits for the one under way
	lookLimit = 2 * time.Second        // a look that takes longer has failed
	overlap   = 15 * time.Second
	// keepDead is how long the node remembers; no cache keeps a session as long.
	keepDead = time.Minute
)

// Ended is a session that was revoked.
type Ended struct {
	SessionID, UserID string
	// Replaced tells that whoever had the session has a new one by now.
	Replaced bool

	hash string
}

// ended is what a node knows of sessions that were revoked lately.
type ended struct {
	mu      sync.Mutex // guards what follows
	dead    map[string]death
	order   []string // of dead, by when they were learned
	looked  time.Time
	tried   time.Time     // when the last look began, and
	failing bool          // whether it failed
	look    chan struct{} // closed when the look under way ends; nil: none is
	watch   map[int]func(Ended)
	watched int
}

type death struct {
	learned  time.Time
	replaced bool
}

// of returns the error that a hash deserves; nil: nothing is known against it.
func (e *ended) of(hash string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	d, dead := e.dead[hash]
	switch {
	case !dead:
		return nil
	case d.replaced:
		return ErrReplaced
	}
	return ErrNone
}

// add notes sessions, and tells the watchers of those that are new.
func (e *ended) add(now time.Time, all ...Ended) {
	if len(all) == 0 {
		return
	}
	e.mu.Lock()
	for len(e.order) > 0 && now.Sub(e.dead[e.order[0]].learned) > keepDead {
		delete(e.dead, e.order[0])
		e.order = e.order[1:]
	}
	var fresh []Ended
	for _, one := range all {
		if _, known := e.dead[one.hash]; known {
			continue
		}
		e.dead[one.hash] = death{now, one.Replaced}
		e.order = append(e.order, one.hash)
		fresh = append(fresh, one)
	}
	watchers := make([]func(Ended), 0, len(e.watch))
	for _, f := range e.watch {
		watchers = append(watchers, f)
	}
	e.mu.Unlock()
	for _, one := range fresh {
		for _, f := range watchers {
			f(one)
		}
	}
}

// current makes sure that this node knows what was revoked up to a moment ago.
// It reads the database at most every [lookEvery]; one caller reads, and the
// others wait for it only if the last look is [lookBound] old. Where the
// database does not answer, nobody but that one caller waits.
func (s *Sessions) current(ctx context.Context) {
	e := &s.ended
	now := s.config.Now()
	e.mu.Lock()
	if look := e.look; look != nil {
		wait := !e.failing && !within(now, e.looked, lookBound)
		e.mu.Unlock()
		if wait {
			select {
			case <-look:
			case <-ctx.Done():
			}
		}
		return
	}
	if within(now, e.tried, lookEvery) {
		e.mu.Unlock()
		return
	}
	done := make(chan struct{})
	e.look, e.tried = done, now
	since := e.looked
	e.mu.Unlock()

	if since.IsZero() || since.After(now) {
		since = now
	}
	// Others wait for it, whatever becomes of the one who asks.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookLimit)
	defer cancel()
	list, err := s.readEnded(ctx, since.Add(-overlap))
	e.add(now, list...)

	e.mu.Lock()
	defer e.mu.Unlock()
	if e.look = nil; err == nil {
		e.looked = now
	}
	if failing := err != nil; failing != e.failing {
		e.failing = failing
		if failing {
			s.config.Log.WarnContext(ctx, "sessions that end elsewhere are not heard of: the database does not answer", slog.Any("error", err))
		} else {
			s.config.Log.InfoContext(ctx, "sessions that end elsewhere are heard of again")
		}
	}
	close(done)
}

// within reports whether at is at most d before now, and not after it.
func within(now, at time.Time, d time.Duration) bool {
	age := now.Sub(at)
	return age >= 0 && age < d
}

// Watch calls f once for every session that is revoked from now on, here or on
// another node, at the latest a second later and whether Redis is there or not.
// It returns when ctx ends. f must not block, and may be called by several
// goroutines at once.
func (s *Sessions) Watch(ctx context.Context, f func(Ended)) {
	e := &s.ended
	e.mu.Lock()
	e.watched++
	id := e.watched
	e.watch[id] = f
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.watch, id)
	}()
	// Twice as often as there are looks: a tick that comes early does not cost half a second.
	t := time.NewTicker(lookEvery / 2)
	defer t.Stop()
	for {
		s.current(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Rotate gives a session a new token, and its list a new id; it keeps its user
// and its latest end, and the old token is dead. It is for when rights have
// changed. [ErrNone] if it has ended; [ErrReplaced] if somebody was faster.
func (s *Sessions) Rotate(ctx context.Context, old Session) (token string, _ Session, err error) {
	token, fresh, err := s.draft()
	if err != nil {
		return "", Session{}, fmt.Errorf("rotate session %s: %w", old.ID, err)
	}
	if err := s.swap(ctx, old, &fresh, true); err != nil {
		return "", Session{}, fmt.Errorf("rotate session %s: %w", old.ID, err)
	}
	return token, fresh, nil
}

// Exchange is [Sessions.Rotate] for a browser that has not asked for it, and may
// never hear of it: a page breaks requests off, a phone loses its network. Until
// the new token is used, [Sessions.Resume] has it for who comes with the old one.
func (s *Sessions) Exchange(ctx context.Context, old Session) (token string, _ Session, err error) {
	_, fresh, err := s.draft()
	if err != nil {
		return "", Session{}, fmt.Errorf("exchange session %s: %w", old.ID, err)
	}
	token = successor(s.config.Secrets[0], old.hash, fresh.ID)
	fresh.hash = digest(s.config.Secrets[0], token)
	fresh.LastSeenAt = fresh.LastSeenAt.Add(-touchEvery) // its first use is noted
	if err := s.swap(ctx, old, &fresh, true); err != nil {
		return "", Session{}, fmt.Errorf("exchange session %s: %w", old.ID, err)
	}
	return token, fresh, nil
}

// Resume returns the token that a request's was exchanged for, and its session.
// [ErrReplaced] if that has been used, or came of [Sessions.Rotate] or
// [Sessions.Replace]: then only who got it has it.
func (s *Sessions) Resume(ctx context.Context, r *http.Request) (token string, _ Session, err error) {
	for _, c := range r.CookiesNamed(s.config.CookieName) {
		if !wellFormed(c.Value) {
			continue
		}
		for _, secret := range s.config.Secrets {
			hash := digest(secret, c.Value)
			row, err := s.unused(ctx, hash)
			if errors.Is(err, ErrNone) {
				continue
			}
			if err != nil {
				return "", Session{}, fmt.Errorf("resume session: %w", err)
			}
			for _, by := range s.config.Secrets {
				if token := successor(by, hash, row.ID); digest(by, token) == row.hash {
					return token, row, nil
				}
			}
		}
	}
	return "", Session{}, ErrReplaced
}

// Replace is [Sessions.Create] for a browser that has a session already: that
// one ends, whoever's it is.
func (s *Sessions) Replace(ctx context.Context, old Session, userID, ip, ua string) (token string, _ Session, err error) {
	token, fresh, err := s.draft()
	if err != nil {
		return "", Session{}, fmt.Errorf("replace session %s: %w", old.ID, err)
	}
	s.begin(&fresh, userID, ip, ua)
	if err := s.swap(ctx, old, &fresh, false); err != nil {
		return "", Session{}, fmt.Errorf("replace session %s: %w", old.ID, err)
	}
	return token, fresh, nil
}

// Renew asks for all sessions of a user to be given new tokens at their next
// use, because the user's rights have changed: see [Session].Renew.
func (s *Sessions) Renew(ctx context.Context, userID string) error {
	hashes, err := s.markRenew(ctx, userID)
	if err != nil {
		return fmt.Errorf("renew sessions of user %s: %w", userID, err)
	}
	s.forget(ctx, hashes...)
	return nil
}

// swap ends old and begins fresh, both or neither. To inherit, old must be
// alive, and what fresh is to keep is read from the database: nothing that the
// caller holds can make it somebody else's.
func (s *Sessions) swap(ctx context.Context, old Session, fresh *Session, inherit bool) error {
	gone, err := s.writeSwap(ctx, old, fresh, inherit)
	if err != nil {
		return err
	}
	if gone.SessionID == "" {
		if !inherit {
			return nil
		}
		if _, err := s.read(ctx, old.hash); errors.Is(err, ErrNone) {
			return err
		}
		return ErrNone
	}
	s.ended.add(s.config.Now(), gone)
	s.forget(ctx, old.hash)
	return nil
}
