package event

import (
	"context"
	"math/rand/v2"
	"time"
)

// firstRetry bounds the first pause before a lost connection is made again.
const firstRetry = 50 * time.Millisecond

// backoff spaces attempts: each pause is random up to a bound that doubles.
type backoff struct {
	first, most time.Duration
	bound       time.Duration
}

func (b *backoff) reset() { b.bound = 0 }

// next returns how long to wait before the next attempt.
func (b *backoff) next() time.Duration {
	b.bound = min(max(b.first, 2*b.bound), b.most)
	return b.bound/8 + rand.N(b.bound)*7/8 + 1
}

// wait pauses; it reports false if ctx ended first.
func (b *backoff) wait(ctx context.Context) bool {
	return sleep(ctx, b.next())
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
