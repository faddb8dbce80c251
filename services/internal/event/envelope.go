package event

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrInvalid reports an event that can never be published: its channel, name,
// id or data break the rules. Trying again does not help.
var ErrInvalid = errors.New("invalid event")

// MaxData is the most bytes of JSON that an event may carry.
const MaxData = 32 << 10

// Envelope is an event as readers receive it. Offset is the position to resume
// from once the event has been handled; readers treat it as opaque.
type Envelope struct {
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp time.Time       `json:"timestamp"`
	ID        string          `json:"id"`
	Channel   string          `json:"channel"`
	Offset    string          `json:"offset,omitempty"`
	Epoch     string          `json:"epoch,omitempty"`
	Class     Class           `json:"class"`
	V         int             `json:"v"`
	Trace     string          `json:"trace,omitempty"`
}

// envelope returns e as it is stored: without a position, which is not known
// before it is published.
func (e Event) envelope() Envelope {
	if e.Class == "" {
		e.Class = Durable
	}
	return Envelope{
		Event: e.Name, Data: e.Data, Timestamp: e.At.UTC(), ID: e.ID,
		Channel: e.Channel, Class: e.Class, V: 1, Trace: e.Trace,
	}
}

// Validate reports, as [ErrInvalid], why e cannot be published.
func (e Event) Validate() error {
	switch {
	case !ValidChannel(e.Channel):
		return fmt.Errorf("%w: channel %q is not of the form kind:id:topic", ErrInvalid, clip(e.Channel))
	case !isToken(e.ID):
		return fmt.Errorf("%w: id %q is not a token of at most 64 letters, digits, - and _", ErrInvalid, clip(e.ID))
	case !isToken(e.Name):
		return fmt.Errorf("%w: name %q is not a token of at most 64 letters, digits, - and _", ErrInvalid, clip(e.Name))
	case len(e.Data) > MaxData:
		return fmt.Errorf("%w: %s: %d bytes of data, at most %d are allowed", ErrInvalid, e.Name, len(e.Data), MaxData)
	case !json.Valid(e.Data):
		return fmt.Errorf("%w: %s: data is not JSON", ErrInvalid, e.Name)
	case !utf8.Valid(e.Data): // a browser closes a socket that brings it
		return fmt.Errorf("%w: %s: data is not UTF-8", ErrInvalid, e.Name)
	}
	switch e.Class {
	case "", Durable, Latest, Ephemeral:
		return nil
	}
	return fmt.Errorf("%w: class %q is not one of durable, latest, ephemeral", ErrInvalid, clip(string(e.Class)))
}

// ValidChannel reports whether name has the form of a channel: two or three
// parts of letters, digits, - and _ joined by colons, as in
// "team:{id}:activity".
func ValidChannel(name string) bool {
	n := 0
	for part := range strings.SplitSeq(name, ":") {
		if n++; n > 3 || !isToken(part) {
			return false
		}
	}
	return n >= 2
}

func isToken(s string) bool {
	if s == "" || len(s) > 64 {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// Template returns the shape of a channel's name, for spans and metrics, which
// must not carry the ids of people: "team:{id}:activity".
func Template(channel string) string {
	kind, rest, ok := strings.Cut(channel, ":")
	if !ok {
		return "{id}"
	}
	_, topic, ok := strings.Cut(rest, ":")
	if !ok {
		return kind + ":" + rest
	}
	return kind + ":{id}:" + topic
}
