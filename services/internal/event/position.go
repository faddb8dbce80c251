package event

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrPosition reports a text that is not a [Position].
var ErrPosition = errors.New("not a position in a channel")

// ID orders the events of a channel. Ids grow but are not contiguous: what
// links them is that each event carries the id of the one before it.
type ID struct{ Ms, Seq uint64 }

// Compare returns -1, 0 or 1 as i is before, at or after j.
func (i ID) Compare(j ID) int {
	if c := cmp.Compare(i.Ms, j.Ms); c != 0 {
		return c
	}
	return cmp.Compare(i.Seq, j.Seq)
}

// Before reports whether i comes before j.
func (i ID) Before(j ID) bool { return i.Compare(j) < 0 }

// String returns the form in which Redis writes a stream id: "ms-seq".
func (i ID) String() string {
	b := make([]byte, 0, 24)
	b = strconv.AppendUint(b, i.Ms, 10)
	b = append(b, '-')
	return string(strconv.AppendUint(b, i.Seq, 10))
}

// ParseID reads what [ID.String] writes.
func ParseID(s string) (ID, error) {
	ms, seq, ok := strings.Cut(s, "-")
	if !ok {
		return ID{}, fmt.Errorf("%w: id %q", ErrPosition, clip(s))
	}
	m, err := strconv.ParseUint(ms, 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("%w: id %q", ErrPosition, clip(s))
	}
	n, err := strconv.ParseUint(seq, 10, 64)
	if err != nil {
		return ID{}, fmt.Errorf("%w: id %q", ErrPosition, clip(s))
	}
	return ID{Ms: m, Seq: n}, nil
}

// Position is a place in the history of a channel. Ids of different epochs
// cannot be compared: a new epoch begins whenever history was lost.
type Position struct {
	Epoch string
	ID    ID
}

// IsZero reports whether p is no position at all.
func (p Position) IsZero() bool { return p.Epoch == "" }

// String returns the opaque form that clients keep and send back: the epoch,
// a dot, the id. The zero position is the empty string.
func (p Position) String() string {
	if p.IsZero() {
		return ""
	}
	return p.Epoch + "." + p.ID.String()
}

// ParsePosition reads what [Position.String] writes; the empty string is the
// zero position.
func ParsePosition(s string) (Position, error) {
	if s == "" {
		return Position{}, nil
	}
	epoch, id, ok := strings.Cut(s, ".")
	if !ok || !isEpoch(epoch) {
		return Position{}, fmt.Errorf("%w: %q", ErrPosition, clip(s))
	}
	i, err := ParseID(id)
	if err != nil {
		return Position{}, err
	}
	return Position{Epoch: epoch, ID: i}, nil
}

func isEpoch(s string) bool {
	if s == "" || len(s) > 32 {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// clip bounds what an error repeats of somebody's input.
func clip(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
