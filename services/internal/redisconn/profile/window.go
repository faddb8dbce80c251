package profile

import (
	"math/bits"
	"time"
)

const (
	slotLength = 10 * time.Second
	slots      = 31 // five minutes, and the slot that is being filled
)

// slot is what happened within ten seconds.
type slot struct {
	number        int64 // since the epoch
	count, failed int64
	took          histogram
}

// slot returns the slot of a time, cleared of what it held a round before; nil
// if a newer one is there already. It needs mu.
func (c *Command) slot(at time.Time) *slot {
	number := max(0, int64(at.Sub(c.epoch)/slotLength))
	place := &c.ring[number%slots]
	switch s := *place; {
	case s == nil:
		*place = &slot{number: number}
	case s.number < number:
		*s = slot{number: number}
	case s.number > number:
		return nil
	}
	return *place
}

// addTo adds what happened within d before now.
func (c *Command) addTo(sum *slot, now time.Time, d time.Duration) {
	newest := int64(now.Sub(c.epoch) / slotLength)
	oldest := newest - int64(d/slotLength)
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.ring {
		if s == nil || s.number < oldest || s.number > newest {
			continue
		}
		sum.count += s.count
		sum.failed += s.failed
		sum.took.merge(&s.took)
	}
}

// histogram counts durations in microseconds by their four leading bits, so
// that a bucket is at most an eighth wide.
type histogram struct {
	buckets [buckets]uint32
	longest time.Duration
}

const (
	leading = 3                       // bits after the first one that tell buckets apart
	longest = 1<<26 - 1               // microseconds; 67 s, and what is longer
	buckets = (26-leading)<<leading + // full octaves above the first,
		1<<leading // and those below, one bucket each microsecond
)

func bucket(d time.Duration) int {
	v := min(uint64(max(0, d.Microseconds())), longest)
	shift := max(0, bits.Len64(v)-leading-1)
	return shift<<leading + int(v>>shift)
}

// middle of a bucket.
func middle(bucket int) time.Duration {
	shift := max(0, bucket>>leading-1)
	low := (bucket - shift<<leading) << shift
	return time.Duration(low)*time.Microsecond + time.Duration(1<<shift)*time.Microsecond/2
}

func (h *histogram) add(d time.Duration) {
	h.buckets[bucket(d)]++
	h.longest = max(h.longest, d)
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
	h.longest = max(h.longest, o.longest)
}

func (h *histogram) count() (n int64) {
	for _, b := range h.buckets {
		n += int64(b)
	}
	return n
}

// quantile is the duration that a part q of all does not exceed.
func (h *histogram) quantile(q float64) time.Duration {
	rank := int64(q * float64(h.count()))
	for i, b := range h.buckets {
		if rank -= int64(b); rank < 0 {
			return min(middle(i), h.longest)
		}
	}
	return h.longest
}
