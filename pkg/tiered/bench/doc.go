// Package bench compares tiered with other caches, in one run, on what its
// documentation claims: the cost of a hit, of a miss, of a write and of bulk
// reads, the hit ratio, and the memory an entry takes.
//
//	go run ./cmd/table        # Markdown, in about five minutes
//	go test -bench . -benchtime 1x
//
// Peers take turns in rounds (A B C, A B C, …) and each figure is the median of
// its rounds, so that what else the machine does hits all alike. Next to the
// time on the clock is the processor time, which a busy machine distorts less.
// It needs redis-server on PATH for what goes to Redis.
//
// It is a module of its own, so that nobody who uses tiered depends on its
// peers.
package bench
