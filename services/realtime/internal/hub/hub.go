// Package hub knows who on this node follows which channel, and brings every
// event of a channel to each of them once and in order, however slow they are.
//
// A follower is either live, and handed events as they come, or behind, and
// caught up from the history of the channel: after a resume, and after it was
// too slow to be handed everything. Only its position is kept meanwhile.
package hub

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

const (
	shards   = 64
	pageSize = 128 // events of the history read at once
)

// Frame is one event, ready to be sent to any number of followers.
type Frame struct {
	Channel string
	Event   string
	Class   event.Class
	At      event.Position
	Prev    event.ID // of the event before it in the channel
	Body    []byte   // the envelope, as JSON
	// Final holds what comes after it in the channel back until it was handed
	// out and whoever delivered it was told so.
	Final bool
}

// Stored reports whether the event can be read again from the history.
func (f *Frame) Stored() bool { return f.Class != event.Ephemeral }

// Page is a piece of the history of a channel.
type Page struct {
	Frames []*Frame
	Last   event.Position // the newest position of the channel
	More   bool
	Reset  string // not empty: why there is no history from the place asked for
}

// Source is where events come from.
type Source interface {
	// Subscribe brings what happens in a channel after at to s until stop is
	// called. It waits until that is possible or ctx ends.
	Subscribe(ctx context.Context, channel string, s Sink) (at event.Position, stop func(), err error)
	Since(ctx context.Context, channel string, after event.Position, limit int) (Page, error)
}

// Sink takes the events of one channel, in order.
type Sink interface {
	// Deliver has f handed out, and tells by a call of handed to how many. It
	// waits only if so much is to be handed out before f that memory would not
	// be bounded.
	Deliver(f *Frame, handed func(n int))
	Reset(reason string, at event.Position)
}

// Member is somebody who follows channels. Its methods are called with the
// channel held: they must not block and must not call the hub.
type Member interface {
	// Offer takes the frames of r, or reports that there is no room for all of
	// them: lost is then the first stored frame of their channel that was not
	// and will not be sent, nor will those after it.
	Offer(r *Run) (lost *Frame)
	// Behind says that frames of channel were lost, so that CatchUp is to be
	// called once there is room.
	Behind(channel string)
	// Reset says that the continuity of channel was lost.
	Reset(channel, reason string, at event.Position)
}

// Joined says where a follower begins.
type Joined struct {
	At        event.Position // events after this one follow
	Recovered bool           // nothing is missing between the position asked for and At
	Replayed  int            // how many of the events that follow are from the past
}

// Hub is all channels of a node.
type Hub struct {
	source Source
	ctx    context.Context //nolint:containedctx // the life of the hub; ended by Close
	cancel context.CancelFunc
	wg     sync.WaitGroup
	seed   maphash.Seed
	shards [shards]shard
}

type shard struct {
	mu       sync.Mutex
	channels map[string]*channel
}

// New returns a hub on source. ctx bounds its life as Close does.
func New(ctx context.Context, source Source) *Hub {
	h := &Hub{source: source, seed: maphash.MakeSeed()}
	h.ctx, h.cancel = context.WithCancel(ctx)
	for i := range h.shards {
		h.shards[i].channels = map[string]*channel{}
	}
	return h
}

// Close ends all subscriptions.
func (h *Hub) Close() {
	h.cancel()
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		for _, ch := range s.channels {
			if ch.stop != nil {
				h.wg.Go(ch.stop)
				ch.stop = nil
			}
		}
		s.mu.Unlock()
	}
	h.wg.Wait()
}

// Channels returns how many channels are followed on this node.
func (h *Hub) Channels() int {
	n := 0
	for i := range h.shards {
		s := &h.shards[i]
		s.mu.Lock()
		n += len(s.channels)
		s.mu.Unlock()
	}
	return n
}

// Follows reports whether a channel is subscribed, so that what happens in it
// comes here.
func (h *Hub) Follows(name string) bool {
	s := &h.shards[maphash.String(h.seed, name)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[name]
	return ch != nil && ch.stop != nil
}

// acquire returns a channel and counts the caller as using it; the first one
// has it subscribed. That is done when ready is closed, or if it is nil.
func (h *Hub) acquire(name string) (_ *channel, ready chan struct{}) {
	s := &h.shards[maphash.String(h.seed, name)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	ch := s.channels[name]
	if ch == nil {
		ch = &channel{name: name, hub: h, shard: s, ready: make(chan struct{})}
		s.channels[name] = ch
		var ctx context.Context
		ctx, ch.cancel = context.WithCancel(h.ctx)
		h.wg.Go(func() { h.subscribe(ctx, ch) })
	}
	ch.users++
	return ch, ch.ready
}

// subscribe follows the channel at the source, unless nobody uses it any more.
func (h *Hub) subscribe(ctx context.Context, ch *channel) {
	at, stop, err := h.source.Subscribe(ctx, ch.name, ch)
	ch.mu.Lock()
	if ch.pos.IsZero() { // nothing was delivered already
		ch.pos = at
	}
	ch.mu.Unlock()
	s := ch.shard
	s.mu.Lock()
	ch.err = err
	ch.cancel() // what there was to wait for is over
	ch.cancel = nil
	close(ch.ready)
	ch.ready = nil
	over := ch.users == 0 || h.ctx.Err() != nil
	if !over {
		ch.stop = stop
	}
	s.mu.Unlock()
	if over && err == nil {
		stop()
	}
}

func (ch *channel) release() {
	s := ch.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch.users--; ch.users > 0 {
		return
	}
	delete(s.channels, ch.name)
	if ch.cancel != nil {
		ch.cancel()
	}
	if ch.stop != nil {
		// Not here: it waits for a delivery under way, which may wait for
		// whoever has called this.
		ch.hub.wg.Go(ch.stop)
		ch.stop = nil
	}
}

// Follow makes m follow a channel: after since, or from now if that is zero.
// It waits until the channel is subscribed. Then it asks allow, which may take
// its time; only then is m a follower. joined is called before the first
// event is offered. Follow returns when m is live or has fallen behind again.
func (h *Hub) Follow(ctx context.Context, m Member, name string, since event.Position, allow func(context.Context) error, joined func(Joined)) error {
	ch, ready := h.acquire(name)
	f := &follower{member: m, pos: since}
	done := false
	defer func() {
		if !done && !ch.has(m, f) { // also when a panic passes: Unfollow gives the others back
			ch.release()
		}
	}()
	err := h.follow(ctx, ch, ready, f, allow, joined)
	done = err == nil
	return err
}

func (h *Hub) follow(ctx context.Context, ch *channel, ready chan struct{}, f *follower, allow func(context.Context) error, joined func(Joined)) error {
	if ready != nil {
		select {
		case <-ready:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if ch.err != nil {
		return ch.err
	}
	m := f.member
	if err := allow(ctx); err != nil {
		return err
	}
	if done, err := ch.join(ctx, m, f, joined); done || err != nil {
		return err
	}
	err := h.catchUp(ctx, ch, m, f, joined)
	if err == nil {
		return nil
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.followers.of(m) != f {
		return nil // Unfollow came first, and gave the channel back
	}
	ch.followers.drop(f)
	return err
}

// join makes m a follower as f; done reports whether it need not catch up.
func (ch *channel) join(ctx context.Context, m Member, f *follower, joined func(Joined)) (done bool, err error) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if old := ch.followers.of(m); old != nil {
		// It follows already: nothing to do, and nothing to give back later.
		defer ch.release()
		joined(Joined{At: old.pos, Recovered: true})
		return true, nil
	}
	since := f.pos
	ch.followers.add(f)
	if f.live = since.IsZero() || since == ch.pos; f.live {
		f.pos = ch.pos
		joined(Joined{At: f.pos, Recovered: !since.IsZero()})
	}
	return f.live, nil
}

func (ch *channel) has(m Member, f *follower) bool {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	return ch.followers.of(m) == f
}

// Unfollow ends m's following; nothing of the channel is offered any more when
// it returns.
func (h *Hub) Unfollow(m Member, name string) {
	ch := h.lookup(name)
	if ch == nil {
		return
	}
	ch.mu.Lock()
	f := ch.followers.of(m)
	if f != nil {
		ch.followers.drop(f)
	}
	ch.mu.Unlock()
	if f != nil {
		ch.release()
	}
}

// CatchUp offers what m has missed of a channel, until it is live again or
// there is no more room. It tries until ctx ends.
func (h *Hub) CatchUp(ctx context.Context, m Member, name string) error {
	ch := h.lookup(name)
	if ch == nil {
		return nil
	}
	ch.mu.Lock()
	f := ch.followers.of(m)
	ch.mu.Unlock()
	if f == nil {
		return nil
	}
	return h.catchUp(ctx, ch, m, f, nil)
}

func (h *Hub) lookup(name string) *channel {
	s := &h.shards[maphash.String(h.seed, name)%shards]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.channels[name]
}

func (h *Hub) catchUp(ctx context.Context, ch *channel, m Member, f *follower, joined func(Joined)) error {
	pause := 20 * time.Millisecond
	for {
		after, done := ch.behind(m, f, joined)
		if done {
			return nil
		}
		page, err := h.source.Since(ctx, ch.name, after, pageSize)
		if err == nil {
			var progress bool
			if done, progress = ch.replay(m, f, after, page, &joined); done {
				return nil
			} else if progress {
				pause = 20 * time.Millisecond
				continue
			}
		}
		// The source is away, or behind what it brought here; it will say so
		// with a reset.
		t := time.NewTimer(pause/2 + rand.N(pause))
		pause = min(2*pause, 2*time.Second)
		select {
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		case <-t.C:
		}
	}
}

// behind returns where a follower stands, or that it has nothing to catch up
// with (any more).
func (ch *channel) behind(m Member, f *follower, joined func(Joined)) (after event.Position, done bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	done = f.live || ch.followers.of(m) != f
	if done && joined != nil && ch.followers.of(m) == f {
		joined(Joined{At: f.pos}) // a reset has overtaken the resume
	}
	return f.pos, done
}

// channel is one channel that somebody on this node follows.
type channel struct {
	name   string
	hub    *Hub
	shard  *shard
	users  int                // shard.mu: followers and those about to be
	cancel context.CancelFunc // shard.mu: nil once subscribed or failed
	ready  chan struct{}      // shard.mu: closed, and nil, once subscribed or failed
	err    error              // why it failed; set before ready
	stop   func()             // shard.mu: ends the subscription; nil: there is none

	in inbox

	mu        sync.Mutex
	pos       event.Position // of the last event handed out
	followers followers
}

// replay offers a page of the history to a follower that stands at after. It
// reports whether that is all for now, and otherwise whether it got further.
func (ch *channel) replay(m Member, f *follower, after event.Position, page Page, joined *func(Joined)) (done, progress bool) {
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if ch.followers.of(m) != f || f.live || f.pos != after {
		return false, true // a reset came in between; look again
	}
	if page.Reset != "" {
		f.pos, f.live = page.Last, true
		if *joined != nil {
			(*joined)(Joined{At: page.Last})
			*joined = nil
		}
		m.Reset(ch.name, page.Reset, page.Last)
		return true, true
	}
	if *joined != nil {
		(*joined)(Joined{At: after, Recovered: true, Replayed: len(page.Frames)})
		*joined = nil
	}
	for frames := page.Frames; len(frames) > 0; {
		r := &Run{Frames: frames[:together(frames)]}
		frames = frames[len(r.Frames):]
		if lost := m.Offer(r); lost != nil {
			f.lose(ch.name, lost)
			return true, true
		}
		f.pos = r.Frames[len(r.Frames)-1].At
	}
	if !page.More && (f.pos.Epoch != ch.pos.Epoch || !f.pos.ID.Before(ch.pos.ID)) {
		f.live = true
		return true, true
	}
	return false, len(page.Frames) > 0
}
