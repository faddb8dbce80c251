package tiered

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// breaker keeps calls away from a Redis that does not answer. Asking it whether
// it is open costs an atomic load: a timer, not the asker, looks at the clock.
type breaker struct {
	cb       *gobreaker.CircuitBreaker[struct{}]
	opening  atomic.Uint64 // which one it is; 0 while a call may be tried
	openings uint64        // gobreaker's lock
	state    atomic.Int32  // gobreaker.State
}

// errCaller marks an error that came of the caller's own context: it says
// nothing about Redis.
var errCaller = errors.New("caller gave up")

func newBreaker(s gobreaker.Settings, changed func(from, to gobreaker.State)) *breaker {
	b := &breaker{}
	if s.Name == "" {
		s.Name = "tiered"
	}
	if s.Interval <= 0 {
		s.Interval, s.BucketPeriod = 10*time.Second, time.Second // a rolling window
	}
	if s.Timeout <= 0 {
		s.Timeout = time.Second
	}
	if s.ReadyToTrip == nil {
		s.ReadyToTrip = func(c gobreaker.Counts) bool {
			return c.ConsecutiveFailures >= 5 || c.Requests >= 20 && c.TotalFailures*2 >= c.Requests
		}
	}
	s.IsSuccessful = func(err error) bool { return !isFailure(err) }
	s.IsExcluded = func(err error) bool { return errors.Is(err, errCaller) }
	user := s.OnStateChange
	// Called under gobreaker's lock: it must neither block nor ask the breaker.
	s.OnStateChange = func(name string, from, to gobreaker.State) {
		b.opening.Store(0)
		if to == gobreaker.StateOpen {
			b.openings++
			this := b.openings
			b.opening.Store(this)
			time.AfterFunc(s.Timeout, func() { b.opening.CompareAndSwap(this, 0) })
		}
		b.state.Store(int32(to))
		changed(from, to)
		if user != nil {
			user(name, from, to)
		}
	}
	b.cb = gobreaker.NewCircuitBreaker[struct{}](s)
	return b
}

// open reports whether a call would be refused for sure.
func (b *breaker) open() bool { return b.opening.Load() != 0 }

// do runs f unless the breaker is open. Its error is ErrUnavailable exactly if
// Redis did not do what it was asked to for want of being there.
func (b *breaker) do(ctx context.Context, timeout time.Duration, f func(context.Context) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if b.open() {
		return ErrUnavailable
	}
	_, err := b.cb.Execute(func() (struct{}, error) {
		tctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		err := f(tctx)
		if cause := gaveUp(ctx); err != nil && cause != nil {
			err = fmt.Errorf("%w: %w", errCaller, cause)
		}
		return struct{}{}, err
	})
	switch {
	case err == nil, errors.Is(err, redis.Nil), errors.Is(err, errCaller):
		return err
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		return ErrUnavailable
	case isFailure(err):
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// gaveUp is why the caller does not wait any more, or nil. The connection's
// deadline is the context's and may be noticed first, when ctx.Err is nil still.
func gaveUp(ctx context.Context) error {
	if d, ok := ctx.Deadline(); ok && !time.Now().Before(d) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

// isFailure tells a Redis that is not there, or not in a state to serve, from
// one that has answered: a miss, or an error about the command, is an answer.
func isFailure(err error) bool {
	if err == nil || errors.Is(err, redis.Nil) {
		return false
	}
	var reply redis.Error
	if !errors.As(err, &reply) {
		return true
	}
	code, _, _ := strings.Cut(reply.Error(), " ")
	switch code {
	case "LOADING", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "TRYAGAIN", "NOAUTH", "WRONGPASS", "MISCONF", "NOREPLICAS":
		return true
	case "MOVED", "ASK": // by the last of all redirections; so go-redis ends a TRYAGAIN
		return true
	}
	return false
}
