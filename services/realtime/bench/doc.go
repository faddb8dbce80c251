// Package bench measures Crewbeat's realtime server, in one run with other
// WebSocket servers for Go, and what it goes through in operation: deploys,
// readers that stall, more nodes.
//
//	go run ./cmd/table                # Markdown, in about eight minutes
//	go run ./cmd/table -only fanout
//	go test .                         # only shows that everything runs
//
// Each server is a process of its own; the clients are in the process of the
// command. Processor time and memory are those that the kernel counts for the
// server, read from /proc: it runs on Linux. Servers take turns in rounds (A B
// C, A B C, …), so that what else the machine does hits all alike. It needs
// redis-server on PATH for what goes to Redis.
//
// It is a module of its own, so that the product does not depend on its peers.
package bench
