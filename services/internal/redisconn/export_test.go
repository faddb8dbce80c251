package redisconn

// Backoff and BackoffCap are the time between looks at a Redis that is away.
var Backoff = backoff

// The bounds of [Backoff].
const (
	BackoffFloor = backoffFloor
	BackoffBase  = backoffBase
	BackoffCap   = backoffCap
)
