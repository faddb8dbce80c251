package hub

import (
	"sync"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// What goes into one run, so that one write takes it.
const (
	runBytes  = 32 << 10
	runFrames = 256
)

// Run is frames that follow each other in a channel, at least one.
type Run struct {
	Frames []*Frame

	once sync.Once
	wire []byte
	memo any
}

// Memo returns what make has made for the first follower that asked. It is
// for use in [Member.Offer], that is by one at a time.
func (r *Run) Memo(make func() any) any {
	if r.memo == nil {
		r.memo = make()
	}
	return r.memo
}

// Wire returns the bodies as encode appends them, encoded once for all
// followers. Nobody changes it.
func (r *Run) Wire(encode func(b, body []byte) []byte) []byte {
	r.once.Do(func() {
		n := 0
		for _, f := range r.Frames {
			n += len(f.Body) + 16
		}
		r.wire = make([]byte, 0, n)
		for _, f := range r.Frames {
			r.wire = encode(r.wire, f.Body)
		}
	})
	return r.wire
}

// together returns how many of frames make one run.
func together(frames []*Frame) int {
	bytes := 0
	var epoch string
	for i, f := range frames {
		if bytes += len(f.Body); i > 0 && (bytes > runBytes || i == runFrames || f.Stored() && epoch != "" && f.At.Epoch != epoch) {
			return i
		}
		if f.Stored() {
			epoch = f.At.Epoch
		}
		if f.Final {
			return i + 1
		}
	}
	return len(frames)
}

// stored returns the first and the last frame of r that are stored, or nil.
func (r *Run) stored() (first, last *Frame) {
	for _, f := range r.Frames {
		if f.Stored() {
			if first == nil {
				first = f
			}
			last = f
		}
	}
	return first, last
}

// after returns what of r is news to who stands at pos: all, unless it has
// learnt some of it from the history already.
func (r *Run) after(pos event.Position, first *Frame) *Run {
	if first == nil || pos.Epoch == first.At.Epoch && pos.ID.Before(first.At.ID) {
		return r
	}
	var news []*Frame
	for _, f := range r.Frames {
		if !f.Stored() || pos.Epoch == f.At.Epoch && pos.ID.Before(f.At.ID) {
			news = append(news, f)
		}
	}
	return &Run{Frames: news}
}
