package bench

import "math/rand/v2"

// zipf is n reads of keys 0 to keys-1, Zipf-distributed with exponent s > 1.
// The same arguments give the same trace. Key 0 is the most frequent.
func zipf(seed uint64, n, keys int, s float64) []int {
	// ChaCha8 and NewZipf are specified by their algorithms, so that a trace is
	// the same on every machine.
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	z := rand.NewZipf(rand.New(rand.NewChaCha8(key)), s, 1, uint64(keys-1))
	trace := make([]int, n)
	for i := range trace {
		trace[i] = int(z.Uint64())
	}
	return trace
}

// polluted is a Zipf trace into which scans break: runs of keys that are read
// once and never again, every third thousand of reads.
func polluted(seed uint64, n, keys int, s float64) []int {
	trace := zipf(seed, n, keys, s)
	next := keys
	for i := range trace {
		if i/1000%3 == 2 {
			trace[i] = next
			next++
		}
	}
	return trace
}

// shifting is a Zipf trace whose popular keys are others after each fifth.
func shifting(seed uint64, n, keys int, s float64) []int {
	trace := zipf(seed, n, keys, s)
	for i := range trace {
		trace[i] = (trace[i] + 5*i/n*(keys/5)) % keys
	}
	return trace
}
