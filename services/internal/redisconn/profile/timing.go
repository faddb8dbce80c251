package profile

import (
	"cmp"
	"slices"
	"time"
)

// Bounds are the upper ends of all buckets of a [Timing] but the last, which
// has none.
var Bounds = [...]time.Duration{
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond,
}

// Timing is how long the commands of a name that ended alike have taken since
// the recorder was made: a reset does not touch it, so that it only grows.
type Timing struct {
	Command string
	Failure string // "" of those that went well
	Count   uint64
	Sum     time.Duration
	Buckets [len(Bounds) + 1]uint64
}

// Timings returns those of all commands, by name and failure.
func (r *Recorder) Timings() []Timing {
	var all []Timing
	for _, c := range r.all() {
		c.mu.Lock()
		if c.well.Count > 0 {
			all = append(all, c.well)
		}
		for _, t := range c.failures {
			all = append(all, *t)
		}
		c.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Timing) int {
		return cmp.Or(cmp.Compare(a.Command, b.Command), cmp.Compare(a.Failure, b.Failure))
	})
	return all
}

func (t *Timing) add(took time.Duration) {
	t.Count++
	t.Sum += took
	i := 0
	for i < len(Bounds) && took > Bounds[i] {
		i++
	}
	t.Buckets[i]++
}

// timing is that of a failure. It needs mu.
func (c *Command) timing(failure string) *Timing {
	if failure == "" {
		return &c.well
	}
	if c.failures[failure] == nil && len(c.failures) >= mostErrors-1 {
		failure = other
	}
	t := c.failures[failure]
	if t == nil {
		t = &Timing{Command: c.name, Failure: failure}
		c.failures[failure] = t
	}
	return t
}
