package tiered

import (
	"sync/atomic"
	"unsafe"
)

// lanes count the reads of one cache. They are the one thing that every hit
// writes, so each is on a line of its own, and goroutines that run at the same
// time are likely to have different ones.
type lanes [laneCount]lane

const (
	laneBits  = 5
	laneCount = 1 << laneBits
)

type lane struct {
	hits, misses atomic.Uint64
	_            [48]byte
}

// mine is the caller's lane. It goes by where the goroutine's stack is, which
// differs between goroutines and seldom changes in one: there is no cheaper
// hint of the processor. Any lane is right.
func (l *lanes) mine() *lane {
	var here byte
	return &l[uint64(uintptr(unsafe.Pointer(&here))>>11)*0x9E3779B97F4A7C15>>(64-laneBits)] //nolint:gosec // only a number is made of it
}

func (l *lanes) counts() (hits, misses uint64) {
	for i := range l {
		hits += l[i].hits.Load()
		misses += l[i].misses.Load()
	}
	return hits, misses
}
