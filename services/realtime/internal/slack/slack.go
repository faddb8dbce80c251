// Package slack gives memory back that a burst has left behind.
//
// When thousands connect at once, Go's heap grows by what their requests need
// for a moment, and lets go of it slowly: it collects garbage only when the
// heap has doubled, and keeps as much free. A node whose connections do nothing
// makes no garbage, and would hold that for hours. So the heap is collected and
// what is free given to the kernel once the number of connections stands still:
// after a burst, and later if there is enough of it.
package slack

import (
	"context"
	"log/slog"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	every = 500 * time.Millisecond // between looks
	calm  = 2                      // looks without a collection, and with as many connections
	rest  = 10 * time.Second       // between two givings back, unless many came or left
	least = 4 << 20                // what is worth it, in bytes
	share = 100                    // of the time at most one in so many goes into it
)

// Look is what there is to decide from.
type Look struct {
	At          time.Time
	Connections int
	Collections uint64 // so far, of the runtime's own accord
	Live        uint64 // bytes that the last collection found in use
	Heap        uint64 // and that hold objects now
	Free        uint64 // and that hold none, and are not given back
}

// Slack decides when to give back. The zero value is ready.
type Slack struct {
	last  Look
	calm  int
	given Look // of the last giving back
	took  time.Duration
}

// Worth reports whether it is time to give back.
func (s *Slack) Worth(l Look) bool {
	still := moved(l.Connections, s.last.Connections) <= max(5, l.Connections/500)
	if s.calm++; !still || l.Collections != s.last.Collections {
		s.calm = 0
	}
	s.last = l
	if s.calm < calm {
		return false
	}
	pause := s.took * share
	if moved(l.Connections, s.given.Connections) <= max(200, l.Connections/10) {
		// What the last collection found in use may have been garbage soon
		// after, so that this is not asked of a burst.
		slack := l.Free
		if l.Heap > l.Live {
			slack += l.Heap - l.Live
		}
		if slack < max(least, l.Live/4) {
			return false
		}
		pause = max(pause, rest)
	}
	return s.given.At.IsZero() || l.At.Sub(s.given.At) >= pause
}

// Given says that it was done after l, and how long that took.
func (s *Slack) Given(l Look, took time.Duration) { s.given, s.took, s.calm = l, took, 0 }

func moved(a, b int) int { return max(a-b, b-a) }

var sampled = []string{"/gc/cycles/automatic:gc-cycles", "/gc/heap/live:bytes", "/memory/classes/heap/objects:bytes", "/memory/classes/heap/free:bytes"}

// Run looks and gives back until ctx ends. It is for the whole process.
func Run(ctx context.Context, connections func() int, log *slog.Logger) {
	samples := make([]metrics.Sample, len(sampled))
	for i, name := range sampled {
		samples[i].Name = name
	}
	t := time.NewTicker(every)
	defer t.Stop()
	var s Slack
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		metrics.Read(samples)
		l := Look{
			At: time.Now(), Connections: connections(), Collections: samples[0].Value.Uint64(),
			Live: samples[1].Value.Uint64(), Heap: samples[2].Value.Uint64(), Free: samples[3].Value.Uint64(),
		}
		if !s.Worth(l) {
			continue
		}
		debug.FreeOSMemory()
		took := time.Since(l.At)
		s.Given(l, took)
		log.DebugContext(ctx, "memory given back", slog.Int("connections", l.Connections), slog.Duration("took", took))
	}
}
