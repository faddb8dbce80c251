// Package env reads settings from environment variables.
//
// A program asks a [Reader] for everything it needs and then looks once at
// [Reader.Err], which names every variable that cannot be used, what it holds
// and what was expected. Whoever installs the program thus mends all of it in
// one go, not one restart at a time.
//
//	r := env.New(os.Getenv)
//	addr := r.String("METRICS_ADDR", ":9090", "where /metrics is served")
//	wait := r.Duration("DRAIN_DELAY", 5*time.Second, "how long to serve on after SIGTERM")
//	if err := r.Err(); err != nil {
//		return err
//	}
//
// # Guarantees
//
// A value asked for with [Reader.Secret] or [Reader.Secrets] appears in no
// error and in no [Var]. Of any other value that holds a URL the password is
// hidden. An unset variable and an empty one are the same.
//
// A Reader is for one goroutine.
package env
