package presence

import (
	"context"
	"time"
)

// askersMost is how many look teams up at once. When thousands connect, their
// names wait in a list, not each with a goroutine.
const askersMost = 8

// lookUp has the teams of a user looked up; p.mu is held.
func (p *Presence) lookUp(user string, who *person) {
	if who.asking {
		who.again = true
		return
	}
	who.asking = true
	p.enlist(user)
}

// enlist has somebody ask for a user's teams; p.mu is held.
func (p *Presence) enlist(user string) {
	p.ask = append(p.ask, user)
	if p.askers < askersMost {
		p.askers++
		p.wg.Go(p.lookUpAll)
	}
}

// lookUpAll looks up the teams of who waits, until nobody does.
func (p *Presence) lookUpAll() {
	var failures int
	for {
		p.mu.Lock()
		if len(p.ask) == 0 || p.ctx.Err() != nil {
			p.askers--
			if len(p.ask) == 0 {
				p.ask = nil
			}
			p.mu.Unlock()
			return
		}
		user := p.ask[0]
		p.ask = p.ask[1:]
		who := p.people[user]
		p.mu.Unlock()
		if who == nil {
			continue // they have left
		}
		ctx, cancel := context.WithTimeout(p.ctx, 5*time.Second)
		teams, err := p.o.Teams(ctx, user)
		cancel()
		p.mu.Lock()
		over := p.people[user] != who
		again := who.again || err != nil
		who.again = false
		if err == nil && !over {
			p.setTeams(user, who, teams)
		}
		if who.asking = again && !over; who.asking {
			p.ask = append(p.ask, user)
		}
		p.mu.Unlock()
		if err == nil {
			failures = 0
			continue
		}
		t := time.NewTimer(min(100*time.Millisecond<<min(failures, 7), 10*time.Second))
		failures++
		select {
		case <-t.C:
		case <-p.ctx.Done():
			t.Stop()
		}
	}
}
