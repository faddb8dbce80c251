package tiered

import (
	"sync/atomic"
	"time"
)

// timeSource gives the two times the cache needs: monotonic nanoseconds since
// the store was opened, by which entries in memory expire, and wall-clock
// microseconds, which versions are made of.
//
// With the system's clock, nanos reads the monotonic clock alone. That is
// about a third of the cost of time.Now and exact, and still the largest part
// of a hit. So lately, which only hits ask, is advanced once a step while they
// are many; when they are few it is exact, and an idle process is not woken.
type timeSource struct {
	user Clock
	base time.Time

	coarse  atomic.Int64  // nanos; 0 while nobody advances it
	asked   atomic.Bool   // since the last step
	exact   atomic.Uint64 // calls of lately that read the clock
	started atomic.Int64  // nanos at which exact was last a multiple of busy
	keeping atomic.Bool   // coarse is being advanced
	stopped atomic.Bool
}

const (
	// clockStep is how late lately may be, when timers are on time.
	clockStep = time.Millisecond
	// busy is how many hits a step make the coarse clock pay: fewer cost less
	// than a timer.
	busy = 256
)

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

// lately is nanos, or what it was a step ago.
func (t *timeSource) lately() int64 {
	now := t.coarse.Load()
	if now == 0 {
		return t.counted()
	}
	if !t.asked.Load() {
		t.asked.Store(true)
	}
	return now
}

// counted is nanos, and has the coarse clock kept if it is asked for often.
func (t *timeSource) counted() int64 {
	now := t.nanos()
	if t.user != nil || t.exact.Add(1)%busy != 0 {
		return now
	}
	if before := t.started.Swap(now); now-before < int64(clockStep) && t.keeping.CompareAndSwap(false, true) {
		t.asked.Store(true)
		t.step()
	}
	return now
}

// step advances the coarse clock until nobody has asked for a whole step.
func (t *timeSource) step() {
	if t.stopped.Load() || !t.asked.Swap(false) {
		t.coarse.Store(0)
		t.keeping.Store(false)
		return
	}
	t.coarse.Store(max(t.nanos(), 1))
	time.AfterFunc(clockStep, t.step)
}

// stop ends the steps.
func (t *timeSource) stop() { t.stopped.Store(true) }

// micros is the wall clock as it was at the start, moved on by the monotonic
// clock: a step of the system's clock does not move it.
func (t *timeSource) micros() int64 { return t.microsAt(t.nanos()) }

func (t *timeSource) microsAt(nanos int64) int64 {
	return t.base.UnixMicro() + nanos/int64(time.Microsecond)
}
