package presence

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// gap is between writings of changes, so that those of a moment are written
// together.
const gap = 100 * time.Millisecond

// loop is what the goroutine that talks to the board keeps.
type loop struct {
	lost     bool // the board did not answer
	failures int  // and how often in a row
	flushed  time.Time
	renew    time.Time // when all leases are to be written next
}

func (p *Presence) run(ctx context.Context) {
	p.renew = time.Now().Add(p.o.Every)
	t := time.NewTimer(p.o.Every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-t.C:
		}
		p.showAll() // what this node knows by itself
		p.exchange(ctx)
		next := sooner(p.showAll(), sooner(p.renew, p.due()))
		t.Reset(max(time.Until(next), time.Millisecond))
	}
}

// due returns when there is something to be written or read again.
func (p *Presence) due() (at time.Time) {
	if p.lost {
		return time.Time{} // with all the rest
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.dirty) > 0 {
		at = p.flushed.Add(gap)
	}
	for _, t := range p.teams {
		if t.due {
			at = sooner(at, t.asked.Add(p.o.Batch))
		}
	}
	return at
}

// showAll brings the views up to date, tells of those that have changed, and
// returns when to do so again.
func (p *Presence) showAll() (again time.Time) {
	now := time.Now()
	var told []*Watch
	p.mu.Lock()
	for name, t := range p.teams {
		changed, at := p.show(name, t, now)
		again = sooner(again, at)
		if changed {
			told = append(told, t.watchers...)
		}
		// Whose lease has ended may have put it off since it was read.
		for _, ends := range t.ends {
			if !ends.After(now) {
				t.due = true
			}
		}
	}
	for team, list := range p.leases {
		for user, ends := range list.ends {
			if _, unsaid := p.dirty[pair{team, user}]; !unsaid && ends != 0 && ends <= p.moment(now) {
				delete(list.ends, user)
			}
		}
		if len(list.ends) == 0 {
			delete(p.leases, team)
		}
	}
	p.mu.Unlock()
	for _, w := range told {
		w.told.Changed()
	}
	return again
}

// What is written and read with one wait for the board: however much there is
// to be said, a busy board gets on with it.
const (
	leasesAtOnce = 256
	teamsAtOnce  = 64
)

// exchange writes what has changed, or all when it is time, and reads what is
// due.
func (p *Presence) exchange(ctx context.Context) {
	now := time.Now()
	w := p.work(now)
	if len(w.leases)+len(w.teams) == 0 {
		if w.all {
			p.lost, p.renew = false, now.Add(p.o.Every)
		}
		return
	}
	err := p.put(ctx, &w)
	if err == nil {
		err = p.get(ctx, &w)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now = time.Now()
	if err != nil {
		p.failed.Add(p.ctx, 1)
		if !p.lost && ctx.Err() == nil {
			p.o.Log.WarnContext(ctx, "who is here is known of this node alone", slog.Any("error", err))
		}
		maps.Copy(p.dirty, w.dirty)
		for _, name := range w.teams {
			if t := p.teams[name]; t != nil {
				t.asked, t.due = now, true
			}
		}
		p.lost = true
		p.failures++
		pause := min(time.Second<<min(p.failures, 8), p.o.Every/5)
		p.renew = now.Add(pause/2 + rand.N(pause))
		return
	}
	p.flushed = now
	if w.all {
		p.lost, p.failures, p.renew = false, 0, now.Add(p.o.Every)
	}
	if w.again {
		p.renew = now
	}
}

// put writes leases and tells other nodes of them. What was written is no
// longer among w.dirty.
func (p *Presence) put(ctx context.Context, w *work) error {
	for some := range slices.Chunk(w.leases, leasesAtOnce) {
		asking, cancel := context.WithTimeout(ctx, p.o.Wait)
		err := p.o.Board.Write(asking, p.node, some)
		cancel()
		if err != nil {
			return err
		}
		var changed []string
		for _, l := range some {
			if _, ok := w.dirty[pair{l.Team, l.User}]; ok {
				delete(w.dirty, pair{l.Team, l.User})
				changed = append(changed, l.Team)
			}
		}
		slices.Sort(changed)
		if changed = slices.Compact(changed); len(changed) == 0 {
			continue
		}
		telling, cancel := context.WithTimeout(ctx, p.o.Wait)
		if err := p.o.Tell(telling, p.node, changed); err != nil {
			p.o.Log.DebugContext(ctx, "other nodes will see later who is here", slog.Any("error", err))
		}
		cancel()
	}
	return nil
}

// get reads teams. What was read is no longer among w.teams.
func (p *Presence) get(ctx context.Context, w *work) error {
	for len(w.teams) > 0 {
		some := w.teams[:min(len(w.teams), teamsAtOnce)]
		asking, cancel := context.WithTimeout(ctx, p.o.Wait)
		sheets, err := p.o.Board.Read(asking, some)
		cancel()
		if err != nil {
			return err
		}
		p.learn(w, some, sheets)
		w.teams = w.teams[len(some):]
	}
	return nil
}

// learn takes what the board says of teams.
func (p *Presence) learn(w *work, names []string, sheets []Sheet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for i, name := range names {
		t := p.teams[name]
		if t == nil {
			continue
		}
		t.asked = now
		if t.take(sheets[i], now) || p.lost {
			// Others may not have written again what was lost, or what ended
			// because it could not be put off.
			t.hold = now.Add(p.o.Grace)
			w.again = w.again || !w.all
		}
	}
}

// work is what there is to be said to the board, and to be asked of it.
type work struct {
	leases []Lease
	dirty  map[pair]struct{} // those of the leases that have changed
	teams  []string          // to be read
	all    bool              // everything is written and read
	again  bool              // and is to be, since the board has lost something
}

func (p *Presence) work(now time.Time) (w work) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if w.all = !now.Before(p.renew); p.lost && !w.all {
		return w
	}
	if w.all || now.Sub(p.flushed) >= gap {
		p.collect(&w)
	}
	for name, t := range p.teams {
		if w.all || t.due && now.Sub(t.asked) >= p.o.Batch {
			t.due = false // what is heard from now on may not be in the answer
			w.teams = append(w.teams, name)
		}
	}
	return w
}

// collect takes what is to be written into w, what has changed first; p.mu is
// held.
func (p *Presence) collect(w *work) {
	w.dirty, p.dirty = p.dirty, map[pair]struct{}{}
	for l := range w.dirty {
		w.leases = append(w.leases, p.write(l.team, l.user))
		if t := p.teams[l.team]; t != nil {
			t.due = true // the board may know of others' leases
		}
	}
	if !w.all {
		return
	}
	for team, list := range p.leases {
		for user := range list.ends {
			if _, ok := w.dirty[pair{team, user}]; !ok {
				w.leases = append(w.leases, p.write(team, user))
			}
		}
	}
}

// write returns a lease of this node as it goes to the board; p.mu is held.
func (p *Presence) write(team, user string) Lease {
	return Lease{Team: team, User: user, For: rest(p.time(p.leases[team].ends[user]), p.o.TTL)}
}

// rest is how long a lease lasts: otherwise, if it has no end.
func rest(ends time.Time, otherwise time.Duration) time.Duration {
	if ends.IsZero() {
		return otherwise
	}
	return max(0, time.Until(ends))
}
