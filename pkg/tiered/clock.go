package tiered

import "time"

// timeSource gives the two times the cache needs: monotonic nanoseconds since
// the store was opened, by which entries in memory expire, and wall-clock
// microseconds, which versions are made of.
//
// With the system's clock, nanos reads the monotonic clock alone. That is
// about a third of the cost of time.Now, exact, and, unlike a coarse clock
// that a goroutine advances, it wakes nobody in an idle process.
type timeSource struct {
	user Clock
	base time.Time
}

func newTimeSource(user Clock) *timeSource {
	t := &timeSource{user: user, base: time.Now()}
	if user != nil {
		t.base = user.Now()
	}
	return t
}

func (t *timeSource) nanos() int64 {
	if t.user == nil {
		return int64(time.Since(t.base))
	}
	return int64(t.user.Now().Sub(t.base))
}

// micros is the wall clock as it was at the start, moved on by the monotonic
// clock: a step of the system's clock does not move it.
func (t *timeSource) micros() int64 {
	return t.base.UnixMicro() + t.nanos()/int64(time.Microsecond)
}
