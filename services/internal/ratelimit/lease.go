package ratelimit

import "context"

// lease is what this node has taken from Redis for one asker, in advance. Times
// are in µs.
type lease struct {
	left      int           // may be admitted without asking,
	until     int64         // until then
	batch     int           // how many to ask for next
	asked     int64         // when it was last asked for
	remaining int           // what Redis then had left
	reset     int64         // when all is there again, as far as Redis then knew,
	more      int64         // and when one more is
	refused   int64         // until then Redis refuses, and need not be asked
	asking    chan struct{} // closed when the question under way is answered; nil: none is
}

func (l *lease) holds(now int64) bool { return l.left > 0 && now < l.until || now < l.refused }

// decideLeased decides by what this node holds, and asks Redis for more where
// that is used up: one caller for all that come meanwhile.
func (l *Limiter) decideLeased(ctx context.Context, key string) Decision {
	shared := l.limits
	server := shared.serverOf(ctx, l.prefix+key)
	for {
		now := shared.now()
		d, decided, answer, want := l.memory.spend(key, now)
		switch {
		case decided:
			return d
		case answer != nil:
			select {
			case <-answer:
				continue
			case <-ctx.Done():
				return l.memory.take(key, shared.now())
			}
		}
		if !shared.mayAsk(server) {
			l.memory.settle(key, now, want, 0, Decision{})
			return l.memory.take(key, shared.now())
		}
		given, d, err := l.ask(ctx, key, want)
		l.memory.settle(key, now, want, given, d)
		if err != nil {
			if ctx.Err() == nil {
				shared.failed(ctx, server, err)
			}
			return l.memory.take(key, shared.now())
		}
		shared.answered(ctx, server)
		if d.Allowed {
			d.Remaining += given - 1
			l.memory.take(key, shared.now())
		}
		return d
	}
}

// spend admits one by what is held, or refuses it by what Redis has said. If it
// can do neither, it returns what to wait for; or, with nil, says that this
// caller is to ask for want and settle.
func (m *memory) spend(key string, now int64) (d Decision, decided bool, answer <-chan struct{}, want int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entry(key)
	l := &e.lease
	switch {
	case l.left > 0 && now < l.until:
		l.left--
		e.state.take(m.policy, now) // or an outage would start afresh
		m.clear(now)
		d := admitted(m.policy, int64(l.remaining+l.left), max(0, l.reset-now), max(0, l.more-now))
		d.Shared = true
		return d, true, nil, 0
	case now < l.refused:
		d := refused(m.policy, max(0, l.reset-now), l.refused-now)
		d.Shared = true
		return d, true, nil, 0
	case l.asking != nil:
		return Decision{}, false, l.asking, 0
	}
	l.left = 0
	if l.batch > 1 { // single ones need not wait for each other
		l.asking = make(chan struct{})
	}
	return Decision{}, false, nil, max(1, l.batch)
}

// settle notes what Redis has given for a question that was asked at now; none
// and the zero Decision, if it did not answer.
func (m *memory) settle(key string, now int64, want, given int, d Decision) {
	m.mu.Lock()
	defer m.mu.Unlock()
	l := &m.entry(key).lease
	if want > 1 && l.asking != nil {
		close(l.asking)
		l.asking = nil
	}
	hold := m.policy.hold()
	reset := d.Reset.Microseconds()
	switch {
	case given == 0:
		l.batch = 0
		if d.RetryAfter > 0 {
			l.refused, l.reset = now+d.RetryAfter.Microseconds(), now+reset
		}
	case given < want: // little is left
		l.batch = given
	case now-l.asked < hold: // used up in time
		l.batch = min(2*want, m.policy.Lease)
	default:
		l.batch = want / 2
	}
	l.asked = now
	if given > 0 {
		// Measured from before Redis was asked: too short rather than too long.
		l.until, l.remaining, l.reset, l.more = now+hold, d.Remaining, now+reset, now+d.More.Microseconds()
		if m.policy.Algorithm == Fixed {
			l.until = min(l.until, l.reset) // nothing is taken into the next window
		}
		l.left += given - 1
	}
}
