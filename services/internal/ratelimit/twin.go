package ratelimit

import "time"

// state is what is kept for one asker of a policy: what the scripts keep in
// Redis. Times are in µs.
type state struct {
	used int64   // fixed
	ends int64   // fixed: of the window; gcra: when all is there again
	log  []int64 // sliding: when calls were admitted, oldest first
}

// take does in Go what the script of the policy's algorithm does in Redis; the
// suite holds them to it.
func (s *state) take(p Policy, now int64) Decision {
	switch p.Algorithm {
	case Fixed:
		return s.fixed(p, now)
	case Sliding:
		return s.sliding(p, now)
	case GCRA:
		return s.gcra(p, now)
	}
	return refused(p, p.micros(), p.micros()) // no policy comes here unvalidated
}

func (s *state) fixed(p Policy, now int64) Decision {
	limit, window := int64(p.Limit), p.micros()
	if s.ends <= now || s.ends > now+2*window {
		s.used, s.ends = 0, now+window
	}
	ends := min(s.ends, now+window)
	if s.used >= limit {
		return refused(p, ends-now, ends-now)
	}
	s.used, s.ends = s.used+1, ends
	return admitted(p, limit-s.used, ends-now, ends-now)
}

func (s *state) sliding(p Policy, now int64) Decision {
	limit, window := p.Limit, p.micros()
	if n := len(s.log); n > 0 && s.log[n-1] > now+window {
		s.log = nil
	}
	gone := 0
	for gone < len(s.log) && s.log[gone] <= now-window {
		gone++
	}
	s.log = append(s.log[:0], s.log[gone:]...)
	newest := now
	if n := len(s.log); n > 0 {
		newest = max(now, s.log[n-1])
		if n >= limit {
			return refused(p, s.log[n-1]+window-now, s.log[n-limit]+window-now)
		}
	}
	s.log = append(s.log, newest)
	return admitted(p, int64(limit-len(s.log)), newest+window-now, s.log[0]+window-now)
}

func (s *state) gcra(p Policy, now int64) Decision {
	step := p.step()
	full := int64(p.Limit) * step
	whole := s.ends
	if whole > now+2*full {
		whole = now
	}
	whole = min(max(whole, now), now+full)
	if whole+step > now+full {
		return refused(p, whole-now, whole+step-full-now)
	}
	s.ends = whole + step
	left := (full - (s.ends - now)) / step
	return admitted(p, left, s.ends-now, s.ends-now+(left+1)*step-full)
}

// over reports whether s holds nothing that counts any more.
func (s *state) over(p Policy, now int64) bool {
	if p.Algorithm == Sliding {
		return len(s.log) == 0 || s.log[len(s.log)-1] <= now-p.micros()
	}
	return s.ends <= now
}

func admitted(p Policy, remaining, reset, more int64) Decision {
	return Decision{Policy: p, Allowed: true, Remaining: int(remaining), Reset: micros(reset), More: micros(more)}
}

func refused(p Policy, reset, retry int64) Decision {
	return Decision{Policy: p, Reset: micros(reset), More: micros(retry), RetryAfter: micros(retry)}
}

func micros(n int64) time.Duration { return time.Duration(n) * time.Microsecond }
