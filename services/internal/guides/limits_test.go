package guides_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// verdict is what checkRateLimit returns; resetTime is in ms since 1970.
type verdict struct {
	allowed   bool
	remaining int64
	resetTime int64
}

// limiter is rateLimiter of the guide. The clock is the pod's. between is
// called where other pods may come in, or the pod may die.
type limiter struct {
	r       redis.UniversalClient
	now     func() time.Time
	between func(step string)
}

func (l limiter) checkRateLimit(ctx context.Context, key string, limit int64, windowSeconds int64) (verdict, error) {
	now := l.now().UnixMilli()
	rateLimitKey := "rate_limit:" + key
	count, err := l.r.Get(ctx, rateLimitKey).Int64()
	if err != nil && !errors.Is(err, redis.Nil) {
		return verdict{}, err
	}
	l.between("read")
	if count >= limit {
		ttl, err := l.r.Do(ctx, "TTL", rateLimitKey).Int64()
		return verdict{false, 0, now + ttl*1000}, err
	}
	newCount, err := l.r.Incr(ctx, rateLimitKey).Result()
	if err != nil {
		return verdict{}, err
	}
	l.between("counted")
	if newCount == 1 {
		l.r.Expire(ctx, rateLimitKey, time.Duration(windowSeconds)*time.Second)
	}
	return verdict{true, limit - newCount, now + windowSeconds*1000}, nil
}

func (l limiter) slidingWindow(ctx context.Context, key string, limit int64, window time.Duration) bool {
	now := l.now().UnixMilli()
	rateLimitKey := "sliding:" + key
	l.r.ZRemRangeByScore(ctx, rateLimitKey, "0", strconv.FormatInt(now-window.Milliseconds(), 10))
	currentCount := l.r.ZCard(ctx, rateLimitKey).Val()
	l.between("counted")
	if currentCount >= limit {
		return false
	}
	l.r.ZAdd(ctx, rateLimitKey, redis.Z{Score: float64(now), Member: fmt.Sprintf("%d-%d", now, unique.Add(1))})
	l.r.Expire(ctx, rateLimitKey, window)
	return true
}

var unique atomic.Int64

// middleware is rateLimitMiddleware; req.ip is what Express makes of it where
// proxies are trusted.
func (l limiter) middleware(limit, windowSeconds int64, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ip, _, _ := strings.Cut(r.RemoteAddr, ":")
		if forwarded, _, _ := strings.Cut(r.Header.Get("X-Forwarded-For"), ","); forwarded != "" {
			ip = forwarded
		}
		result, err := l.checkRateLimit(r.Context(), ip+":"+r.URL.Path, limit, windowSeconds)
		if err != nil {
			next.ServeHTTP(w, r) // Allow request on error
			return
		}
		w.Header().Set("X-RateLimit-Limit", strconv.FormatInt(limit, 10))
		w.Header().Set("X-RateLimit-Remaining", strconv.FormatInt(result.remaining, 10))
		w.Header().Set("X-RateLimit-Reset", strconv.FormatInt(result.resetTime, 10))
		if !result.allowed {
			w.WriteHeader(http.StatusTooManyRequests)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func limiting(t *testing.T) limiter {
	t.Helper()
	return limiter{r: client(t, shared), now: time.Now, between: func(string) {}}
}

// ask sends requests to the middleware and returns the last answer and how
// many got through.
func (l limiter) ask(t *testing.T, n int, limit int64, change func(i int, r *http.Request)) (last http.Header, through int) {
	t.Helper()
	h := l.middleware(limit, 3600, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	for i := range n {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/"+t.Name(), nil)
		if change != nil {
			change(i, r)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == http.StatusOK {
			through++
		}
		last = w.Header()
	}
	return last, through
}

// together lets n callers of f all come to the named step before any goes on,
// which a busy moment does by chance, and returns how many were admitted.
func together(n int, step string, f func(between func(string)) bool) int64 {
	var there, all sync.WaitGroup
	there.Add(n)
	var admitted atomic.Int64
	for range n {
		all.Go(func() {
			if f(func(s string) {
				if s == step {
					there.Done()
					there.Wait()
				}
			}) {
				admitted.Add(1)
			}
		})
	}
	all.Wait()
	return admitted.Load()
}

var limits = []claim{
	{"fixed window: GET, INCR and EXPIRE race", func(t *testing.T) string {
		l := limiting(t)
		n := together(50, "read", func(between func(string)) bool {
			own := limiter{l.r, l.now, between}
			v, err := own.checkRateLimit(t.Context(), "race", 10, 60)
			return err == nil && v.allowed
		})
		return says(n > 10, "admitted %d of 50 at a limit of 10", n)
	}},
	{"fixed window: a crash between INCR and EXPIRE bans for ever", func(t *testing.T) string {
		l := limiting(t)
		func() {
			defer func() { _ = recover() }()
			l.between = func(s string) {
				if s == "counted" {
					panic("the pod dies")
				}
			}
			_, _ = l.checkRateLimit(t.Context(), "crash", 1, 1)
		}()
		ttl := l.r.TTL(t.Context(), "rate_limit:crash").Val()
		l.between = func(string) {}
		v, err := l.checkRateLimit(t.Context(), "crash", 1, 1)
		must(t, err)
		return says(ttl == -1 && !v.allowed, "the counter has no end, and whoever is behind it is refused")
	}},
	{"fixed window: the reset lies in the past for TTL -1 and -2", func(t *testing.T) string {
		l := limiting(t)
		must(t, l.r.Set(t.Context(), "rate_limit:past", 5, 0).Err())
		v, err := l.checkRateLimit(t.Context(), "past", 5, 60)
		must(t, err)
		ago := time.Now().UnixMilli() - v.resetTime
		return says(!v.allowed && ago > 0, "refused until %d ms ago", ago)
	}},
	{"headers: milliseconds where seconds are meant", func(t *testing.T) string {
		last, _ := limiting(t).ask(t, 1, 5, nil)
		reset, err := strconv.ParseInt(last.Get("X-RateLimit-Reset"), 10, 64)
		must(t, err)
		at := time.Unix(reset, 0)
		return says(time.Until(at) > 24*time.Hour, "X-RateLimit-Reset %d is in the year %d", reset, at.Year())
	}},
	{"headers: a 429 without Retry-After", func(t *testing.T) string {
		last, through := limiting(t).ask(t, 2, 1, nil)
		return says(through == 1 && last.Get("Retry-After") == "", "the refusal has the headers %v", last)
	}},
	{"sliding window: four commands that are not one step", func(t *testing.T) string {
		l := limiting(t)
		n := together(200, "counted", func(between func(string)) bool {
			return limiter{l.r, l.now, between}.slidingWindow(t.Context(), "race", 10, time.Minute)
		})
		return says(n > 10, "admitted %d of 200 at a limit of 10", n)
	}},
	{"sliding window: the clocks of pods", func(t *testing.T) string {
		l, admitted := limiting(t), 0
		ahead := l
		ahead.now = func() time.Time { return time.Now().Add(61 * time.Second) }
		for _, pod := range []limiter{l, ahead} {
			for range 10 {
				if pod.slidingWindow(t.Context(), "skew", 10, time.Minute) {
					admitted++
				}
			}
		}
		return says(admitted > 10, "two pods, one of them a minute ahead, admit %d within a moment at a limit of 10", admitted)
	}},
	{"without Redis everything is allowed", func(t *testing.T) string {
		l := limiting(t)
		must(t, l.r.Close())
		_, through := l.ask(t, 30, 10, nil)
		return says(through > 10, "%d of 30 got through at a limit of 10", through)
	}},
	{"any header says who asks", func(t *testing.T) string {
		_, through := limiting(t).ask(t, 30, 10, func(i int, r *http.Request) { r.Header.Set("X-Forwarded-For", fmt.Sprint("192.0.2.", i)) })
		return says(through > 10, "one client that makes up addresses got through %d times at a limit of 10", through)
	}},
	{"raw paths make keys without bound", func(t *testing.T) string {
		l := limiting(t)
		_, through := l.ask(t, 100, 1, func(i int, r *http.Request) {
			r.URL.Path = fmt.Sprint("/raw/", i)
		})
		keys, err := l.r.Keys(t.Context(), "rate_limit:*/raw/*").Result()
		must(t, err)
		return says(len(keys) == 100 && through == 100, "one client has made %d keys, and got through each time at a limit of 1", len(keys))
	}},
}
