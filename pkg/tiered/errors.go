package tiered

import (
	"errors"
	"fmt"
)

var (
	// ErrMiss reports that Get found the key in neither tier. It says nothing
	// about whether the thing exists.
	ErrMiss = errors.New("tiered: miss")

	// ErrNotFound reports that a key is known to have no value. Loaders return
	// it, wrapped or not, so that an absence is not mistaken for a failure;
	// it is then cached for [NegativeTTL], and Get and GetOrLoad return it.
	ErrNotFound = errors.New("tiered: not found")

	// ErrTimeout reports that a load took longer than it may and that nothing
	// older could be served instead.
	ErrTimeout = errors.New("tiered: load timed out")

	// ErrClosed reports the use of a Store that was closed.
	ErrClosed = errors.New("tiered: closed")

	// ErrNamespace reports that a store has no cache of a name.
	ErrNamespace = errors.New("tiered: no such namespace")

	// ErrKey reports a key that cannot be cached: the empty string, or a text
	// that is no key of its cache. Its text does not have the key.
	ErrKey = errors.New("tiered: invalid key")

	// ErrEncode reports a value that the codec cannot encode, or that takes more
	// than 64 MiB encoded. Set returns it and stores nothing. A loader's value that cannot be encoded still goes
	// to its callers and to this process's memory.
	ErrEncode = errors.New("tiered: cannot encode value")

	// ErrUnavailable reports that Redis could not be reached. Only stores
	// opened with WithRedisRequired(true) return it; the write has been
	// applied in this process and is repeated when Redis is back. Update, which
	// cannot do without Redis, returns it in any store and has changed nothing,
	// unless the error is also ErrUncertain.
	ErrUnavailable = errors.New("tiered: redis is unavailable")

	// ErrConflict reports that Update found the entry changed by others each
	// time it tried. Nothing was stored.
	ErrConflict = errors.New("tiered: conflict")

	// ErrUncertain reports that Update has sent its write to Redis and could
	// not learn whether it was made. It may be made still, at most once.
	ErrUncertain = errors.New("tiered: outcome unknown")

	// ErrPanic reports a loader that panicked or called runtime.Goexit. The
	// error is a [*PanicError].
	ErrPanic = errors.New("tiered: loader panicked")
)

// errEmptyKey is the mistake that ErrKey is mostly.
var errEmptyKey = fmt.Errorf("%w: it is the empty string", ErrKey)

// PanicError is what a loader's panic looks like to everybody who waited for
// the load. It matches [ErrPanic], and the panic's value if that is an error.
type PanicError struct {
	Value any    // nil if the loader called runtime.Goexit
	Stack []byte // of the loading goroutine
}

// Error describes the panic without its stack.
func (e *PanicError) Error() string {
	if e.Value == nil {
		return "tiered: loader ended its goroutine (runtime.Goexit)"
	}
	return fmt.Sprintf("tiered: loader panicked: %v", e.Value)
}

// Unwrap makes errors.Is match ErrPanic and the panic's value.
func (e *PanicError) Unwrap() []error {
	if err, ok := e.Value.(error); ok {
		return []error{ErrPanic, err}
	}
	return []error{ErrPanic}
}
