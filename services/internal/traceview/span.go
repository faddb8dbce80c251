package traceview

import (
	"encoding/hex"
	"errors"
	"strings"
)

// Bounds on what one span may carry. What is beyond them is cut off and
// counted.
const (
	maxName       = 256
	maxValue      = 2048
	maxAttributes = 64
	maxEvents     = 64
	maxLinks      = 32
)

type (
	traceID [16]byte
	spanID  [8]byte
)

var errID = errors.New("not an identifier of the right length, in hexadecimal")

func parseTraceID(s string) (id traceID, err error) {
	if len(s) != 2*len(id) {
		return id, errID
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id == (traceID{}) {
		return id, errID
	}
	return id, nil
}

func parseSpanID(s string) (id spanID, err error) {
	if len(s) != 2*len(id) {
		return id, errID
	}
	if _, err := hex.Decode(id[:], []byte(s)); err != nil || id == (spanID{}) {
		return id, errID
	}
	return id, nil
}

func (id traceID) String() string { return hex.EncodeToString(id[:]) }

func (id spanID) String() string { return hex.EncodeToString(id[:]) }

// span is one as it is kept, whichever way it came.
type span struct {
	trace                traceID
	id                   spanID
	parent               spanID // zero for a root
	name, service, scope string
	kind                 string // "server", "client", …; "" for internal
	start, end           int64  // Unix ns
	failed               bool
	message              string // of the failure
	attributes           []keyValue
	events               []spanEvent
	links                []link
	dropped              int // attributes, events and links that did not fit
}

type keyValue struct{ Key, Value string }

type spanEvent struct {
	name       string
	at         int64
	attributes []keyValue
}

type link struct {
	trace      traceID
	span       spanID
	attributes []keyValue
}

// fit cuts s down to the bounds, drops what must not be kept and mends times
// that cannot be.
func (s *span) fit() {
	s.name = cut(s.name, maxName)
	s.service = cut(s.service, maxName)
	s.scope = cut(s.scope, maxName)
	s.message = cut(s.message, maxValue)
	if s.name == "" {
		s.name = "unnamed"
	}
	if s.service == "" {
		s.service = "unknown"
	}
	s.end = max(s.end, s.start)
	s.attributes = s.keep(s.attributes)
	if over := len(s.events) - maxEvents; over > 0 {
		s.events, s.dropped = s.events[:maxEvents:maxEvents], s.dropped+over
	}
	for i := range s.events {
		s.events[i].name = cut(s.events[i].name, maxName)
		s.events[i].attributes = s.keep(s.events[i].attributes)
	}
	if over := len(s.links) - maxLinks; over > 0 {
		s.links, s.dropped = s.links[:maxLinks:maxLinks], s.dropped+over
	}
	for i := range s.links {
		s.links[i].attributes = s.keep(s.links[i].attributes)
	}
}

func (s *span) keep(attrs []keyValue) []keyValue {
	kept := make([]keyValue, 0, min(len(attrs), maxAttributes))
	for _, a := range attrs {
		value, ok := Redact(a.Key, a.Value)
		if !ok {
			continue
		}
		if len(kept) == maxAttributes {
			s.dropped++
			continue
		}
		kept = append(kept, keyValue{cut(a.Key, maxName), cut(value, maxValue)})
	}
	return kept
}

// cut shortens to at most n bytes of valid UTF-8 and lets go of whatever
// larger text it was part of.
func cut(s string, n int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= n {
		return strings.Clone(s)
	}
	return strings.ToValidUTF8(s[:n-len("…")], "") + "…"
}

// size is about what s takes in memory.
func (s *span) size() int {
	const (
		perSpan      = 320
		perAttribute = 32
		perEvent     = 72
		perLink      = 48
	)
	ofAll := func(attrs []keyValue) (n int) {
		for _, a := range attrs {
			n += perAttribute + len(a.Key) + len(a.Value)
		}
		return n
	}
	n := perSpan + len(s.name) + len(s.service) + len(s.scope) + len(s.message) + ofAll(s.attributes)
	for _, e := range s.events {
		n += perEvent + len(e.name) + ofAll(e.attributes)
	}
	for _, l := range s.links {
		n += perLink + ofAll(l.attributes)
	}
	return n
}
