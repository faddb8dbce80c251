package presence

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// team is one that somebody on this node watches.
type team struct {
	name     string
	watchers []*Watch
	ignore   func() // what other nodes say
	view     atomic.Pointer[View]

	// Presence.mu guards these.
	ends  map[string]time.Time // of the people on the board, as it was read last
	epoch string
	hold  time.Time            // until then nobody leaves: the board has lost something
	asked time.Time            // when the board was asked last
	read  time.Time            // and when it answered
	shown time.Time            // when the view changed last
	due   bool                 // to be read
	gone  map[string]time.Time // of people who are no members any more, until when they are not shown
}

// Watcher is told by a watch that it has begun with a view, and of each view
// that follows. It must not block, and must not call the Presence.
type Watcher interface{ Changed() }

// Watch tells of who of a team is here. It is a part of whoever watches: there
// is one for each connection and team.
type Watch struct {
	team *team
	told Watcher
}

// Watch begins to watch a team by w, until Unwatch.
func (p *Presence) Watch(w *Watch, name string, told Watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.teams[name]
	if t == nil {
		t = &team{name: name, ends: map[string]time.Time{}, gone: map[string]time.Time{}, due: true}
		p.teams[name] = t
		p.listen(t)
		p.poke()
	}
	w.team, w.told = t, told
	t.watchers = append(t.watchers, w)
}

// listen has t hear what other nodes say until it is ignored; p.mu is held.
func (p *Presence) listen(t *team) {
	ctx, cancel := context.WithCancel(p.ctx)
	t.ignore = cancel
	p.wg.Go(func() {
		stop, err := p.o.Listen(ctx, t.name, func(node string) { p.news(t, node) })
		if err != nil {
			cancel()
			if p.ctx.Err() == nil && !errors.Is(err, context.Canceled) {
				p.o.Log.WarnContext(p.ctx, "who comes to other nodes is seen late", slog.Any("error", err))
			}
			return
		}
		p.mu.Lock()
		over := ctx.Err() != nil
		cancel()
		t.ignore = stop
		p.mu.Unlock()
		if over {
			stop()
		}
	})
}

// View returns who is here now, or nil while that is not known.
func (w *Watch) View() *View { return w.team.view.Load() }

// Unwatch ends a watch. Its watcher may still be about to be told.
func (p *Presence) Unwatch(w *Watch) {
	p.mu.Lock()
	t := w.team
	t.watchers = slices.DeleteFunc(t.watchers, func(o *Watch) bool { return o == w })
	ignore := func() {}
	if len(t.watchers) == 0 && p.teams[t.name] == t {
		delete(p.teams, t.name)
		ignore = t.ignore
	}
	p.mu.Unlock()
	ignore()
}

// news has a team read soon, unless it is from this node.
func (p *Presence) news(t *team, node string) {
	if node == p.node {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t.due = true
	p.poke()
}

// take puts what the board says of a team into t; p.mu is held. It reports
// whether the board has lost something since it was read last.
func (t *team) take(s Sheet, now time.Time) (lost bool) {
	view := t.view.Load()
	t.read = now
	lost = t.epoch != "" && s.Epoch != t.epoch && view != nil && view.Count > 0
	t.epoch = s.Epoch
	for user, left := range s.Ends {
		t.ends[user] = now.Add(left)
	}
	// Those that are not on the sheet stay until they were to end: a lease
	// leaves a board only some time after that, or by a loss.
	return lost
}

// show gives a team its next view, if that is another one, and returns when to
// look again; zero means not by time. p.mu is held.
func (p *Presence) show(name string, t *team, now time.Time) (changed bool, again time.Time) {
	here := map[string]struct{}{}
	for user, ends := range t.ends {
		if !ends.After(t.read) {
			delete(t.ends, user)
			continue
		}
		// Nobody leaves unread: it may have been put off meanwhile.
		here[user] = struct{}{}
		if ends.After(now) {
			again = sooner(again, ends)
		}
	}
	if list := p.leases[name]; list != nil {
		for user, ends := range list.ends {
			if ends == 0 || ends > p.moment(now) {
				here[user] = struct{}{}
				again = sooner(again, p.time(ends))
			}
		}
	}
	view := t.view.Load()
	if now.Before(t.hold) {
		again = sooner(again, t.hold)
		if view != nil {
			for _, user := range view.Users {
				here[user] = struct{}{}
			}
		}
	}
	for user, until := range t.gone {
		if until.After(now) {
			delete(here, user)
			again = sooner(again, until)
		} else {
			delete(t.gone, user)
		}
	}
	if view == nil && t.asked.IsZero() {
		return false, again // nobody was asked yet
	}
	next := view.next(slices.Collect(maps.Keys(here)))
	if next == view {
		return false, again
	}
	if at := t.shown.Add(p.o.Batch); view != nil && now.Before(at) {
		return false, sooner(again, at)
	}
	t.view.Store(next)
	t.shown = now
	if view != nil {
		p.count("joined", len(next.Joined))
		p.count("left", len(next.Left))
	}
	return true, again
}

// sooner returns the earlier of two times; zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
