package ratelimit_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

func TestMemoryHoldsNoMoreThanItMay(t *testing.T) {
	each(t, 1, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		p := inMemory(t, func(o *ratelimit.Options) { o.MaxKeys = 100 })
		l, logins := p.limiter(t, policy), p.limiter(t, ratelimit.Policy{Name: "login", Algorithm: ratelimit.Sliding, Limit: 1, Window: time.Hour})
		logins.take(t, "ann")
		for i := range 1000 {
			l.take(t, "first")
			l.take(t, strconv.Itoa(i))
			if n := l.Held(); n > 100 {
				t.Fatalf("memory holds %d askers, want at most 100", n)
			}
		}
		if l.take(t, "first").Allowed {
			t.Error("who asks all the time was forgotten")
		}
		if logins.take(t, "ann").Allowed {
			t.Error("the askers of one policy push out those of another")
		}
	})
}

func TestMemoryForgetsWhatIsOver(t *testing.T) {
	each(t, 2, time.Minute, func(t *testing.T, policy ratelimit.Policy) {
		p := inMemory(t)
		l := p.limiter(t, policy)
		for i := range 90 {
			l.take(t, strconv.Itoa(i))
		}
		p.advance(t, time.Minute)
		for range 30 {
			l.take(t, "ann")
		}
		if n := l.Held(); n != 1 {
			t.Errorf("memory holds %d askers a window later, want 1", n)
		}
	})
}

// On the server's own clock: what a key holds and how long it lives is one
// thing, and no name of an asker is in it.
func TestEveryKeyInRedisHasAnEndAndNoName(t *testing.T) {
	c := patient(t, shared)
	if err := c.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	limits, err := ratelimit.New(ratelimit.Options{Client: c, Secret: "s", Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	each(t, 3, time.Hour, func(t *testing.T, policy ratelimit.Policy) {
		l, err := limits.Limiter(policy)
		if err != nil {
			t.Fatal(err)
		}
		for call := range 5 {
			d := l.Take(t.Context(), "ann@example.org", "192.0.2.1")
			if !d.Shared || d.Allowed != (call < 3) {
				t.Fatalf("call %d: shared %v, allowed %v", call, d.Shared, d.Allowed)
			}
			left, err := c.PTTL(t.Context(), l.Key("ann@example.org", "192.0.2.1")).Result()
			if err != nil || left <= 0 || left > time.Hour {
				t.Fatalf("after call %d the key lives for %v (%v), want at most an hour", call, left, err)
			}
		}
	})
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 3 {
		t.Fatalf("keys %q (%v), want one for each algorithm", keys, err)
	}
	for _, k := range keys {
		if strings.Contains(k, "ann") || strings.Contains(k, "192") || !strings.HasPrefix(k, "cb:rl:test:") {
			t.Errorf("key %q", k)
		}
	}
}

// The counter of the guide banned for ever where a crash had come between INCR
// and EXPIRE.
func TestAKeyThatLostItsTTLBansNobodyForEver(t *testing.T) {
	p := inRedis(t)
	each(t, 1, time.Minute, func(t *testing.T, policy ratelimit.Policy) {
		l := p.limiter(t, policy)
		l.take(t, "ann")
		if err := p.redis.Persist(t.Context(), l.Key("ann")).Err(); err != nil {
			t.Fatal(err)
		}
		if l.take(t, "ann").Allowed {
			t.Fatal("admitted twice")
		}
		p.advance(t, time.Minute)
		if !l.take(t, "ann").Allowed {
			t.Error("still refused a window later")
		}
		if left := p.redis.PTTL(t.Context(), l.Key("ann")).Val(); left <= 0 {
			t.Errorf("the key lives for %v", left)
		}
	})
}

func TestTheSecretDecidesWhatAKeyIs(t *testing.T) {
	key := func(secret string) string {
		p := inMemory(t, func(o *ratelimit.Options) { o.Secret = secret })
		return p.limiter(t, policy(ratelimit.Fixed, 1, time.Minute)).Key("192.0.2.1")
	}
	one, again, two := key("one"), key("one"), key("two")
	if one != again || one == two {
		t.Errorf("keys %s and %s of one secret, %s of another", one, again, two)
	}
}

func TestAddressesOfOneLineAreOneAsker(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"192.0.2.7", "192.0.2.7"},
		{"::ffff:192.0.2.7", "192.0.2.7"},
		{"2001:db8:1:2::1", "2001:db8:1:2::/64"},
		{"2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"},
		{"2001:db8:1:3::1", "2001:db8:1:3::/64"},
		{"fe80::1%eth0", "fe80::/64"},
		{"", "unknown"},
		{"192.0.2.7:80", "unknown"},
		{"x", "unknown"},
	} {
		if got := ratelimit.Address(tt.in); got != tt.want {
			t.Errorf("Address(%q) = %q, want %q", tt.in, got, tt.want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	f.Add("2001:db8::1")
	f.Fuzz(func(t *testing.T, in string) {
		got := ratelimit.Address(in)
		if _, err := netip.ParseAddr(in); (err != nil) != (got == "unknown") {
			t.Errorf("Address(%q) = %q", in, got)
		}
	})
}

func TestAPolicyThatCannotBeHeldIsRefused(t *testing.T) {
	p := inMemory(t)
	for _, tt := range []struct {
		policy ratelimit.Policy
		about  string
	}{
		{ratelimit.Policy{Name: "A b", Algorithm: ratelimit.Fixed, Limit: 1, Window: time.Second}, "name"},
		{ratelimit.Policy{Name: "a", Limit: 1, Window: time.Second}, "algorithm"},
		{ratelimit.Policy{Name: "a", Algorithm: ratelimit.Fixed, Window: time.Second}, "limit 0"},
		{ratelimit.Policy{Name: "a", Algorithm: ratelimit.GCRA, Limit: 2000, Window: time.Second}, "window"},
		{ratelimit.Policy{Name: "a", Algorithm: ratelimit.GCRA, Limit: 1, Window: 1000 * 24 * time.Hour}, "a year"},
		{ratelimit.Policy{Name: "a", Algorithm: ratelimit.Sliding, Limit: 10_001, Window: time.Hour}, "use GCRA"},
	} {
		if _, err := p.limits.Limiter(tt.policy); err == nil || !strings.Contains(err.Error(), tt.about) {
			t.Errorf("%+v: %v, want an error about %q", tt.policy, err, tt.about)
		}
	}
}

func TestHeadersTellSecondsAndTheTightestLimit(t *testing.T) {
	login := ratelimit.Policy{Name: "login", Algorithm: ratelimit.Sliding, Limit: 5, Window: time.Minute}
	address := ratelimit.Policy{Name: "sign-in", Algorithm: ratelimit.Sliding, Limit: 30, Window: time.Minute}
	for _, tt := range []struct {
		name string
		all  []ratelimit.Decision
		want map[string]string
	}{
		{"none", nil, map[string]string{}},
		{"the least is left of the second", []ratelimit.Decision{
			{Policy: address, Allowed: true, Remaining: 29, Reset: 60 * time.Second, More: 7 * time.Second},
			{Policy: login, Allowed: true, Remaining: 4, Reset: 59*time.Second + 1, More: 58*time.Second + 1},
		}, map[string]string{
			"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "4", "X-RateLimit-Reset": "60",
			"RateLimit-Policy": `"sign-in";q=30;w=60, "login";q=5;w=60`,
			"RateLimit":        `"sign-in";r=29;t=7, "login";r=4;t=59`,
		}},
		{"one that refused comes before one of which nothing is left", []ratelimit.Decision{
			{Policy: address, Allowed: true, Reset: time.Second, More: time.Second},
			{Policy: login, Reset: 50 * time.Second, More: 2100 * time.Millisecond, RetryAfter: 2100 * time.Millisecond},
		}, map[string]string{
			"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "50", "Retry-After": "3",
			"RateLimit-Policy": `"sign-in";q=30;w=60, "login";q=5;w=60`,
			"RateLimit":        `"sign-in";r=0;t=1, "login";r=0;t=3`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := ratelimit.Headers(tt.all...)
			if len(got) != len(tt.want) {
				t.Errorf("%d headers, want %d", len(got), len(tt.want))
			}
			for _, h := range got {
				if tt.want[h[0]] != h[1] {
					t.Errorf("%s: %s, want %s", h[0], h[1], tt.want[h[0]])
				}
			}
		})
	}
}
