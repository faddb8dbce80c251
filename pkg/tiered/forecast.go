package tiered

import "sync/atomic"

// forecast guesses whether Redis will miss, by how often it lately did. A load
// that expects a miss asks for the value and the lease in one round trip; one
// that expects a hit asks by GET, which costs Redis half as much. Guessing
// wrong costs a round trip, or that difference.
type forecast struct {
	misses atomic.Int32 // share of the last ones, in 1/4096, old ones counting less
}

const (
	certain = 1 << 12
	// memory is how many answers it takes to change the mind for good.
	memory = 8
)

// likely reports whether a miss is more likely than a hit.
func (f *forecast) likely() bool { return f.misses.Load() > certain/2 }

// learn takes an answer in. Answers at one time may be lost.
func (f *forecast) learn(missed bool) {
	have, is := f.misses.Load(), int32(0)
	if missed {
		is = certain
	}
	if next := have + (is-have)/memory; next != have {
		f.misses.Store(next)
	}
}
