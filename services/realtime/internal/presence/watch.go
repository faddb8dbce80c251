package presence

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"
)

// team is one that somebody on this node watches.
type team struct {
	watchers map[*Watch]struct{}
	ignore   context.CancelFunc // of what other nodes say
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

// Watch tells of who of a team is here.
type Watch struct {
	p       *Presence
	name    string
	team    *team
	changed func()
}

// Watch begins to watch a team. changed is called when there is a view, and
// with each that follows; it must not block, and must not call p. Stop ends it.
func (p *Presence) Watch(name string, changed func()) *Watch {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.teams[name]
	if t == nil {
		t = &team{watchers: map[*Watch]struct{}{}, ends: map[string]time.Time{}, gone: map[string]time.Time{}, due: true}
		var ctx context.Context
		ctx, t.ignore = context.WithCancel(p.ctx)
		p.teams[name] = t
		p.wg.Go(func() { p.o.Listen(ctx, name, func(node string) { p.news(t, node) }) })
		p.poke()
	}
	w := &Watch{p: p, name: name, team: t, changed: changed}
	t.watchers[w] = struct{}{}
	return w
}

// View returns who is here now, or nil while that is not known.
func (w *Watch) View() *View { return w.team.view.Load() }

// Stop ends the watch. changed may still be on its way.
func (w *Watch) Stop() {
	w.p.mu.Lock()
	defer w.p.mu.Unlock()
	delete(w.team.watchers, w)
	if len(w.team.watchers) == 0 && w.p.teams[w.name] == w.team {
		w.team.ignore()
		delete(w.p.teams, w.name)
	}
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
	for user, ends := range p.leases[name] {
		if ends.IsZero() || ends.After(now) {
			here[user] = struct{}{}
			again = sooner(again, ends)
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
