package serve

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Watch returns a part that looks at a dependency every interval, and the
// function that tells [Probes.Add] what it saw last. Each look may take as
// long as the interval. Cause turns an error into the few words of
// [Check.Cause]; nil means "unreachable" or "timeout".
func Watch(name string, interval time.Duration, look func(ctx context.Context) error, cause func(error) string) (Part, func() Check) {
	if cause == nil {
		cause = plainCause
	}
	var (
		mu   sync.Mutex
		last Check
	)
	note := func(err error, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		up := err == nil
		if last.Since.IsZero() || last.Up != up {
			last.Since = at
		}
		last.Up = up
		if up {
			last.Failures, last.Cause = 0, ""
			return
		}
		last.Failures++
		last.Cause = cause(err)
	}
	lookOnce := func(ctx context.Context) {
		each, cancel := context.WithTimeout(ctx, interval)
		defer cancel()
		err := guard(func() error { return look(each) })
		if ctx.Err() == nil { // else it is the end of the program that was seen
			note(err, time.Now())
		}
	}
	part := Task("watch "+name, func(ctx context.Context) error {
		ticker := time.NewTicker(interval)
		defer ticker.Stop()
		for {
			lookOnce(ctx)
			select {
			case <-ctx.Done():
				return nil
			case <-ticker.C:
			}
		}
	})
	return part, func() Check {
		mu.Lock()
		defer mu.Unlock()
		return last
	}
}

func plainCause(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "unreachable"
}
