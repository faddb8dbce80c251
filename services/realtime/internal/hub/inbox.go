package hub

import (
	"sync"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// What may wait to be handed out in a channel, beside as much that is on its
// way out. Beyond it the source waits, and is cut off by its server if that
// lasts; then it heals.
const (
	waitingFrames = 1024
	waitingBytes  = 4 << 20
)

// inbox is what has come and is not handed out yet. One goroutine empties it,
// and ends when it is empty. What comes while that writes to thousands is
// written together after it: the more there is to do, the less each event
// costs.
type inbox struct {
	mu      sync.Mutex
	waiting []arrival
	bytes   int
	busy    bool          // the goroutine runs
	room    chan struct{} // closed when there is room again; nil: nobody waits
}

// arrival is a frame, or a reset.
type arrival struct {
	frame  *Frame
	handed func(n int)

	reason string
	at     event.Position
}

// Deliver implements [Sink].
func (ch *channel) Deliver(f *Frame, handed func(n int)) {
	ch.arrive(arrival{frame: f, handed: handed}, len(f.Body))
}

// Reset implements [Sink].
func (ch *channel) Reset(reason string, at event.Position) {
	ch.arrive(arrival{reason: reason, at: at}, 0)
}

func (ch *channel) arrive(a arrival, bytes int) {
	in := &ch.in
	in.mu.Lock()
	for len(in.waiting) >= waitingFrames || in.bytes >= waitingBytes {
		if in.room == nil {
			in.room = make(chan struct{})
		}
		room := in.room
		in.mu.Unlock()
		<-room
		in.mu.Lock()
	}
	in.waiting = append(in.waiting, a)
	in.bytes += bytes
	if !in.busy {
		in.busy = true
		ch.hub.wg.Go(ch.handOut)
	}
	in.mu.Unlock()
}

// handOut empties the inbox.
func (ch *channel) handOut() {
	for {
		ch.in.mu.Lock()
		list := ch.in.waiting
		ch.in.waiting, ch.in.bytes = nil, 0
		if ch.in.room != nil {
			close(ch.in.room)
			ch.in.room = nil
		}
		ch.in.busy = len(list) > 0
		ch.in.mu.Unlock()
		if len(list) == 0 {
			return
		}
		for len(list) > 0 {
			list = list[ch.hand(list):]
		}
	}
}

// hand hands out the first reset, or run, of list, and returns how much of it
// that is.
func (ch *channel) hand(list []arrival) int {
	if list[0].frame == nil {
		ch.reset(list[0].reason, list[0].at)
		return 1
	}
	frames := make([]*Frame, 0, min(len(list), runFrames))
	for _, a := range list {
		if a.frame == nil {
			break
		}
		frames = append(frames, a.frame)
	}
	r := &Run{Frames: frames[:together(frames)]}
	all, some := ch.offer(r)
	for i, a := range list[:len(r.Frames)] {
		if a.handed != nil {
			a.handed(all + some[a.frame])
		}
		list[i] = arrival{} // it need not wait for the others
	}
	return len(r.Frames)
}

// offer gives r to who is live, and returns to how many all of it, and to how
// many more each of its frames.
func (ch *channel) offer(r *Run) (all int, some map[*Frame]int) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	first, last := r.stored()
	if last != nil {
		ch.pos = last.At
	}
	for _, w := range ch.followers.list {
		if !w.live {
			continue
		}
		news := r.after(w.pos, first)
		if len(news.Frames) == 0 {
			continue
		}
		if lost := w.member.Offer(news); lost != nil {
			w.lose(ch.name, lost)
			continue
		}
		if news == r {
			all++
			if last != nil {
				w.pos = last.At
			}
			continue
		}
		if some == nil {
			some = map[*Frame]int{}
		}
		for _, f := range news.Frames {
			some[f]++
		}
		if _, l := news.stored(); l != nil {
			w.pos = l.At
		}
	}
	return all, some
}

func (ch *channel) reset(reason string, at event.Position) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	ch.pos = at
	for _, w := range ch.followers.list {
		if w.pos.Epoch == at.Epoch && !w.pos.ID.Before(at.ID) {
			continue // it has learnt that from the history
		}
		w.pos, w.live = at, true
		w.member.Reset(ch.name, reason, at)
	}
}
