// Package bench compares tiered with other caches, in one run, on what its
// documentation claims: the cost of a hit, of a miss, of a write and of bulk
// reads, the hit ratio, and the memory an entry takes.
//
//	go run ./cmd/table        # Markdown, part after part
//	go run ./cmd/table -readme ../README.md
//	go run ./cmd/table -only bulk -rows GetMany -cpuprofile cpu.prof
//	go test -bench . -benchtime 1x
//
// The second puts the figures into the README as well.
//
// Peers take turns in rounds (A B C, A B C, …) and each figure is the median of
// its rounds, so that what else the machine does hits all alike. Next to the
// time on the clock is the processor time, which a busy machine distorts less.
// It needs redis-server on PATH for what goes to Redis.
//
// It is a module of its own, so that nobody who uses tiered depends on its
// peers.
package bench
