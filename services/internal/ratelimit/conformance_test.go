package ratelimit_test

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// The suite that both places have to pass.
func TestConformance(t *testing.T) {
	for _, at := range []struct {
		name string
		open func(testing.TB, ...func(*ratelimit.Options)) *place
	}{{"memory", inMemory}, {"redis", inRedis}} {
		t.Run(at.name, func(t *testing.T) {
			for _, claim := range []struct {
				name string
				hold func(*testing.T, *place)
			}{
				{"a fixed window ends for all at once", fixedWindow},
				{"a sliding window gives back what has left it", slidingWindow},
				{"GCRA gives back one after the other", gcra},
				{"of a thousand calls at once exactly the limit is admitted", atOnce},
				{"who waits as told is admitted", retryAfter},
				{"after the time that is told, one more is there", oneMore},
				{"who waits for the reset has the whole limit", reset},
				{"a refused call costs nothing", refusedIsFree},
				{"one asker does not touch another", askersApart},
				{"a clock that is set back bans nobody for long", setBack},
				{"no span of a sliding window holds more than the limit", exactSpans},
			} {
				t.Run(claim.name, func(t *testing.T) { claim.hold(t, at.open(t)) })
			}
		})
	}
}

func policy(a ratelimit.Algorithm, limit int, window time.Duration) ratelimit.Policy {
	return ratelimit.Policy{Name: "test", Algorithm: a, Limit: limit, Window: window}
}

var algorithms = []ratelimit.Algorithm{ratelimit.Fixed, ratelimit.Sliding, ratelimit.GCRA}

func each(t *testing.T, limit int, window time.Duration, f func(*testing.T, ratelimit.Policy)) {
	for _, a := range algorithms {
		t.Run(string(a), func(t *testing.T) { f(t, policy(a, limit, window)) })
	}
}

func fixedWindow(t *testing.T, p *place) {
	l := p.limiter(t, policy(ratelimit.Fixed, 2, time.Minute))
	l.want(t, "ann", true, 1, time.Minute, 0)
	p.advance(t, 45*time.Second)
	l.want(t, "ann", true, 0, 15*time.Second, 0)
	p.advance(t, 15*time.Second-time.Microsecond)
	l.want(t, "ann", false, 0, time.Microsecond, time.Microsecond)
	p.advance(t, time.Microsecond)
	l.want(t, "ann", true, 1, time.Minute, 0)
}

func slidingWindow(t *testing.T, p *place) {
	l := p.limiter(t, policy(ratelimit.Sliding, 2, time.Minute))
	l.want(t, "ann", true, 1, time.Minute, 0)
	p.advance(t, 45*time.Second)
	l.want(t, "ann", true, 0, time.Minute, 0)
	l.want(t, "ann", false, 0, time.Minute, 15*time.Second)
	p.advance(t, 15*time.Second-time.Microsecond)
	l.want(t, "ann", false, 0, 45*time.Second+time.Microsecond, time.Microsecond)
	p.advance(t, time.Microsecond)
	l.want(t, "ann", true, 0, time.Minute, 0)
	l.want(t, "ann", false, 0, time.Minute, 45*time.Second)
}

func gcra(t *testing.T, p *place) {
	l := p.limiter(t, policy(ratelimit.GCRA, 3, time.Minute))
	l.want(t, "ann", true, 2, 20*time.Second, 0)
	l.want(t, "ann", true, 1, 40*time.Second, 0)
	l.want(t, "ann", true, 0, 60*time.Second, 0)
	l.want(t, "ann", false, 0, 60*time.Second, 20*time.Second)
	p.advance(t, 20*time.Second-time.Microsecond)
	l.want(t, "ann", false, 0, 40*time.Second+time.Microsecond, time.Microsecond)
	p.advance(t, time.Microsecond)
	l.want(t, "ann", true, 0, 60*time.Second, 0)
	l.want(t, "ann", false, 0, 60*time.Second, 20*time.Second)
}

// burst asks n times at once and returns how many calls were admitted.
func burst(t *testing.T, l *asking, n int) int {
	t.Helper()
	var admitted atomic.Int64
	var elsewhere atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for range n {
		all.Go(func() {
			<-start
			d := l.Take(t.Context(), "everybody")
			if d.Shared != l.place.shared {
				elsewhere.Add(1)
			}
			if d.Allowed {
				admitted.Add(1)
			}
		})
	}
	close(start)
	all.Wait()
	if n := elsewhere.Load(); n > 0 {
		t.Fatalf("%d calls were decided elsewhere", n)
	}
	return int(admitted.Load())
}

func atOnce(t *testing.T, p *place) {
	each(t, 100, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		if n := burst(t, p.limiter(t, policy), 1000); n != 100 {
			t.Errorf("admitted %d of 1000, want 100", n)
		}
	})
}

func retryAfter(t *testing.T, p *place) {
	each(t, 3, 10*time.Second, func(t *testing.T, policy ratelimit.Policy) {
		l := p.limiter(t, policy)
		for range 3 {
			l.take(t, "ann")
			p.advance(t, time.Second)
		}
		for range 10 {
			d := l.take(t, "ann")
			if d.Allowed {
				continue
			}
			if d.RetryAfter <= 0 || d.RetryAfter > policy.Window {
				t.Fatalf("retry after %v", d.RetryAfter)
			}
			p.advance(t, d.RetryAfter)
			if again := l.take(t, "ann"); !again.Allowed {
				t.Fatalf("refused after waiting %v", d.RetryAfter)
			}
		}
	})
}

func oneMore(t *testing.T, p *place) {
	each(t, 5, 10*time.Second, func(t *testing.T, policy ratelimit.Policy) {
		// remaining is what is left of a few calls; they cannot be taken back.
		remaining := func(who string, wait func(ratelimit.Decision) time.Duration) int {
			l := p.limiter(t, policy)
			l.take(t, who)
			p.advance(t, 700*time.Millisecond)
			d := l.take(t, who)
			if d.More <= 0 || d.More > d.Reset {
				t.Fatalf("more after %v, and all after %v", d.More, d.Reset)
			}
			p.advance(t, wait(d))
			return l.take(t, who).Remaining
		}
		early := remaining("ann", func(d ratelimit.Decision) time.Duration { return d.More - time.Microsecond })
		late := remaining("ben", func(d ratelimit.Decision) time.Duration { return d.More })
		if early != 2 || late < 3 {
			t.Errorf("a moment before, %d remain after the call, and %d then; want 2, and 3 or more", early, late)
		}
	})
}

func reset(t *testing.T, p *place) {
	each(t, 5, 10*time.Second, func(t *testing.T, policy ratelimit.Policy) {
		l := p.limiter(t, policy)
		for range 4 {
			p.advance(t, l.take(t, "ann").Reset)
			if d := l.take(t, "ann"); d.Remaining != 4 {
				t.Fatalf("remaining after the reset and one call: %d, want 4", d.Remaining)
			}
			l.take(t, "ann")
		}
	})
}

func refusedIsFree(t *testing.T, p *place) {
	each(t, 1, 10*time.Second, func(t *testing.T, policy ratelimit.Policy) {
		l := p.limiter(t, policy)
		l.take(t, "ann")
		for range 9 {
			p.advance(t, time.Second)
			if l.take(t, "ann").Allowed {
				t.Fatal("admitted too early")
			}
		}
		p.advance(t, time.Second)
		if !l.take(t, "ann").Allowed {
			t.Error("asking in vain has put the end off")
		}
	})
}

func askersApart(t *testing.T, p *place) {
	each(t, 1, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		l := p.limiter(t, policy)
		other := policy
		other.Name = "other"
		for i, who := range [][]string{{"ann"}, {"ben"}, {"a", "bc"}, {"ab", "c"}, {"abc"}, {"", "abc"}} {
			for name, l := range map[string]*asking{"test": l, "other": p.limiter(t, other)} {
				if !l.take(t, who...).Allowed {
					t.Errorf("%d: %q is refused by %s for what somebody else did", i, who, name)
				}
			}
			if l.take(t, who...).Allowed {
				t.Errorf("%d: %q is admitted twice", i, who)
			}
		}
	})
}

// Only Redis outlives a limiter, and so a change of its policy.
func TestALimitThatIsLoweredHoldsAtOnce(t *testing.T) {
	p := inRedis(t)
	for _, a := range []ratelimit.Algorithm{ratelimit.Fixed, ratelimit.Sliding} {
		was, is := p.limiter(t, policy(a, 5, time.Minute)), p.limiter(t, policy(a, 2, time.Minute))
		for range 5 {
			was.take(t, "ann")
			p.advance(t, time.Second)
		}
		d := is.take(t, "ann")
		if d.Allowed || d.Remaining != 0 {
			t.Errorf("%s: the sixth call is admitted at a limit of 2", a)
		}
		p.advance(t, d.RetryAfter)
		if !is.take(t, "ann").Allowed {
			t.Errorf("%s: refused after waiting %v", a, d.RetryAfter)
		}
	}
}

func setBack(t *testing.T, p *place) {
	each(t, 1, time.Minute, func(t *testing.T, policy ratelimit.Policy) {
		l := p.limiter(t, policy)
		l.take(t, "ann")
		p.advance(t, -24*time.Hour)
		p.advance(t, 2*time.Minute)
		if !l.take(t, "ann").Allowed {
			t.Error("still refused two windows after the clock was set back by a day")
		}
		// A little, as when another node becomes the primary, is no amnesty.
		p.advance(t, -time.Second)
		if l.take(t, "ann").Allowed {
			t.Error("a clock that is set back by a second gives the limit back")
		}
	})
}

func exactSpans(t *testing.T, p *place) {
	const limit, window = 7, 10 * time.Second
	l := p.limiter(t, policy(ratelimit.Sliding, limit, window))
	r := rand.New(rand.NewPCG(1, 2))
	var admitted []time.Time
	for range 400 {
		p.advance(t, time.Duration(r.Int64N(int64(3*time.Second))).Truncate(time.Microsecond))
		now := p.clock.Now()
		recent := 0
		for _, at := range admitted {
			if now.Sub(at) < window {
				recent++
			}
		}
		d := l.take(t, "ann")
		if d.Allowed != (recent < limit) {
			t.Fatalf("allowed %v with %d in the last %v", d.Allowed, recent, window)
		}
		if d.Allowed {
			admitted = append(admitted, now)
		}
	}
}

// What the suite does not think of: whatever is asked, and whenever, both
// places say the same.
func TestMemoryDecidesAsRedisDoes(t *testing.T) {
	for _, a := range algorithms {
		for _, shape := range []struct {
			limit  int
			window time.Duration
		}{{1, time.Second}, {3, time.Second}, {7, 10 * time.Second}, {600, time.Minute}} {
			t.Run(fmt.Sprintf("%s/%d", a, shape.limit), func(t *testing.T) {
				m, s := inMemory(t), inRedis(t)
				p := policy(a, shape.limit, shape.window)
				memory, server := m.limiter(t, p), s.limiter(t, p)
				r := rand.New(rand.NewPCG(uint64(shape.limit), 7))
				for i := range 500 {
					d := time.Duration(r.Int64N(3 * int64(shape.window) / int64(shape.limit))).Truncate(time.Microsecond)
					switch r.IntN(40) {
					case 0:
						d = shape.window
					case 1:
						d = -d
					case 2:
						d = -4 * shape.window
					}
					m.advance(t, d)
					s.advance(t, d)
					got, want := memory.take(t, "ann"), server.take(t, "ann")
					want.Shared = false
					if got != want {
						t.Fatalf("call %d: memory says %+v, redis %+v", i, got, want)
					}
				}
			})
		}
	}
}
