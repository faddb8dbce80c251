package presence

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
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
	var told []func()
	p.mu.Lock()
	for name, t := range p.teams {
		changed, at := p.show(name, t, now)
		again = sooner(again, at)
		for w := range t.watchers {
			if changed {
				told = append(told, w.changed)
			}
		}
		// Whose lease has ended may have put it off since it was read.
		for _, ends := range t.ends {
			if !ends.After(now) {
				t.due = true
			}
		}
	}
	for team, users := range p.leases {
		for user, ends := range users {
			if _, unsaid := p.dirty[pair{team, user}]; !unsaid && !ends.IsZero() && !ends.After(now) {
				delete(users, user)
			}
		}
		if len(users) == 0 {
			delete(p.leases, team)
		}
	}
	p.mu.Unlock()
	for _, changed := range told {
		changed()
	}
	return again
}

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
	asking, cancel := context.WithTimeout(ctx, p.o.Wait)
	defer cancel()
	err := p.o.Board.Write(asking, p.node, w.leases)
	if err == nil && len(w.changed) > 0 {
		if err := p.o.Tell(asking, p.node, w.changed); err != nil {
			p.o.Log.DebugContext(ctx, "other nodes will see later who is here", slog.Any("error", err))
		}
	}
	var sheets []Sheet
	if err == nil {
		sheets, err = p.o.Board.Read(asking, w.teams)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now = time.Now()
	for _, name := range w.teams {
		if t := p.teams[name]; t != nil {
			t.asked = now
		}
	}
	if err != nil {
		p.failed.Add(p.ctx, 1)
		if !p.lost && ctx.Err() == nil {
			p.o.Log.WarnContext(ctx, "who is here is known of this node alone", slog.Any("error", err))
		}
		maps.Copy(p.dirty, w.dirty)
		p.lost = true
		p.failures++
		pause := min(time.Second<<min(p.failures, 8), p.o.Every/5)
		p.renew = now.Add(pause/2 + rand.N(pause))
		return
	}
	p.flushed = now
	for i, name := range w.teams {
		t := p.teams[name]
		if t == nil {
			continue
		}
		t.due = false
		if t.take(sheets[i], now) || p.lost {
			// Others may not have written again what was lost, or what ended
			// because it could not be put off.
			t.hold = now.Add(p.o.Grace)
			if !w.all {
				p.renew = now
			}
		}
	}
	if w.all {
		p.lost, p.failures, p.renew = false, 0, now.Add(p.o.Every)
	}
}

// work is what there is to be said to the board, and to be asked of it.
type work struct {
	leases  []Lease
	dirty   map[pair]struct{} // those of the leases that have changed
	changed []string          // their teams
	teams   []string          // to be read
	all     bool              // everything is written and read
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
			w.teams = append(w.teams, name)
		}
	}
	return w
}

// collect takes what is to be written into w; p.mu is held.
func (p *Presence) collect(w *work) {
	w.dirty, p.dirty = p.dirty, map[pair]struct{}{}
	changed := map[string]struct{}{}
	for l := range w.dirty {
		changed[l.team] = struct{}{}
		if !w.all {
			w.leases = append(w.leases, p.write(l.team, l.user))
		}
	}
	for team := range changed {
		w.changed = append(w.changed, team)
		if t := p.teams[team]; t != nil {
			t.due = true // the board may know of others' leases
		}
	}
	if w.all {
		for team, users := range p.leases {
			for user := range users {
				w.leases = append(w.leases, p.write(team, user))
			}
		}
	}
}

// write returns a lease of this node as it goes to the board; p.mu is held.
func (p *Presence) write(team, user string) Lease {
	return Lease{Team: team, User: user, For: rest(p.leases[team][user], p.o.TTL)}
}

// rest is how long a lease lasts: otherwise, if it has no end.
func rest(ends time.Time, otherwise time.Duration) time.Duration {
	if ends.IsZero() {
		return otherwise
	}
	return max(0, time.Until(ends))
}
