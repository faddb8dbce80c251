// Package serve starts the parts of a program in order and stops them in
// reverse, so that whatever a part stands on is still there while it winds up:
// HTTP drains before the stores it reads from are closed.
//
//	probes := serve.NewProbes()
//	err := serve.Run(ctx, serve.Options{Log: log, Probes: probes, DrainDelay: 5 * time.Second},
//		serve.Closer("database", db.Close),
//		serve.Task("relay", api.Run),
//		serve.HTTP("api", addr, handler, serve.HTTPOptions{}),
//		serve.Closer("sockets", realtime.Drain),
//	)
//
// # The end of a program
//
// On SIGTERM, SIGINT or the end of its context, [Run]
//
//  1. marks the probes as draining, so that /readyz answers 503,
//  2. serves on for DrainDelay, while load balancers look away,
//  3. stops the parts from the last to the first within ShutdownTimeout.
//
// A part that fails, panics or does not stop in time does not keep the others
// from stopping: each of those left is given at least a second. A second
// signal ends Run at once.
package serve
