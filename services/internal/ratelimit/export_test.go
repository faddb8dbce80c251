package ratelimit

import (
	"strings"

	"github.com/redis/go-redis/v9"
)

// ClockKey is where the scripts of limits that [OnClock] changed read the time.
const ClockKey = "test:clock"

// OnClock makes the scripts read the time from a list in Redis, which a test
// moves, instead of from the server's clock. Nothing else of them changes.
func OnClock(l *Limits) {
	own := map[Algorithm]*redis.Script{}
	for name, source := range map[Algorithm]string{Fixed: fixedSource, Sliding: slidingSource, GCRA: gcraSource} {
		const call = `redis.call('TIME')`
		if strings.Count(source, call) != 1 {
			panic(name + ": a script asks for the time once")
		}
		own[name] = redis.NewScript(strings.Replace(source, call, `redis.call('LRANGE', '`+ClockKey+`', 0, 1)`, 1))
	}
	l.scripts = own
}

// Held is how many askers memory holds.
func (l *Limiter) Held() int { return l.memory.len() }

// Key is the key in Redis of who.
func (l *Limiter) Key(who ...string) string { return l.prefix + l.key(who) }
