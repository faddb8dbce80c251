package hub_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source is a channel whose events the test delivers itself.
type source struct {
	mu      sync.Mutex
	sink    hub.Sink
	history []*hub.Frame
	stopped int
}

func (s *source) Subscribe(_ context.Context, _ string, sink hub.Sink) (event.Position, func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sink = sink
	return event.Position{Epoch: "e", ID: event.ID{Ms: 1}}, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.stopped++
	}, nil
}

func (s *source) Since(_ context.Context, _ string, after event.Position, limit int) (hub.Page, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := hub.Page{Last: after}
	for _, f := range s.history {
		if p.Last = f.At; after.ID.Before(f.At.ID) && len(p.Frames) < limit {
			p.Frames = append(p.Frames, f)
		}
	}
	p.More = len(p.Frames) == limit
	return p, nil
}

func (s *source) channel() hub.Sink {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sink
}

// frame is the nth event of the channel.
func (s *source) frame(n int) *hub.Frame {
	f := &hub.Frame{
		Channel: "team:harbor:activity", Event: strconv.Itoa(n), Class: event.Durable, Body: make([]byte, 100),
		At: event.Position{Epoch: "e", ID: event.ID{Ms: uint64(n + 1)}}, Prev: event.ID{Ms: uint64(n)},
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history = append(s.history, f)
	return f
}

// reader notes what it is offered, a run at a time.
type reader struct {
	runs   [][]string
	gate   chan struct{} // not nil: an offer waits for it
	refuse string        // the frame that it has no room for
	behind int
	resets []string
}

func (r *reader) Offer(run *hub.Run) (lost *hub.Frame) {
	if r.gate != nil {
		<-r.gate
	}
	var names []string
	defer func() { r.runs = append(r.runs, names) }()
	for _, f := range run.Frames {
		if f.Event == r.refuse {
			return f
		}
		names = append(names, f.Event)
	}
	return nil
}

func (r *reader) Behind(string) { r.behind++ }

func (r *reader) Reset(_, reason string, _ event.Position) { r.resets = append(r.resets, reason) }

func (r *reader) all() []string { return slices.Concat(r.runs...) }

func numbers(from, to int) (list []string) {
	for n := from; n <= to; n++ {
		list = append(list, strconv.Itoa(n))
	}
	return list
}

// follow returns a hub on a source, with readers that follow its channel.
func follow(t *testing.T, readers ...*reader) (*hub.Hub, *source) {
	t.Helper()
	s := &source{}
	h := hub.New(t.Context(), s)
	for _, r := range readers {
		join(t, h, r, event.Position{})
	}
	return h, s
}

func join(t *testing.T, h *hub.Hub, r *reader, since event.Position) {
	t.Helper()
	anybody := func(context.Context) error { return nil }
	if err := h.Follow(t.Context(), r, "team:harbor:activity", since, anybody, func(hub.Joined) {}); err != nil {
		t.Fatal(err)
	}
}

func TestWhatComesWhileAChannelIsWrittenToIsOneRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, other := &reader{gate: make(chan struct{})}, &reader{}
		h, s := follow(t, slow, other)
		handed := map[string]int{}
		for n := 1; n <= 32; n++ {
			f := s.frame(n)
			s.channel().Deliver(f, func(n int) { handed[f.Event] = n })
			synctest.Wait() // the first is being written
		}
		close(slow.gate)
		synctest.Wait()
		h.Close()
		for _, r := range []*reader{slow, other} {
			if len(r.runs) != 2 || !slices.Equal(r.all(), numbers(1, 32)) {
				t.Errorf("got %v, want the first event and a run of the other 31", r.runs)
			}
		}
		for n := 1; n <= 32; n++ {
			if got := handed[strconv.Itoa(n)]; got != 2 {
				t.Errorf("event %d was handed to %d, want 2", n, got)
			}
		}
	})
}

func TestNothingOvertakesAnEventThatTakesRights(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stays, goes := &reader{}, &reader{}
		first := &reader{gate: make(chan struct{})}
		h, s := follow(t, first, stays, goes)
		for n := 1; n <= 10; n++ {
			f := s.frame(n)
			f.Final = n == 5
			s.channel().Deliver(f, func(int) {
				if f.Final {
					h.Unfollow(goes, f.Channel)
				}
			})
			synctest.Wait()
		}
		close(first.gate)
		synctest.Wait()
		h.Close()
		if !slices.Equal(goes.all(), numbers(1, 5)) || !slices.Equal(stays.all(), numbers(1, 10)) {
			t.Errorf("who lost the right got %v, who stays %v", goes.all(), stays.all())
		}
	})
}

func TestWhoHasNoRoomGetsTheRestFromTheHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &reader{refuse: "3"}
		h, s := follow(t, &reader{}, slow)
		for n := 1; n <= 6; n++ {
			s.channel().Deliver(s.frame(n), nil)
		}
		synctest.Wait()
		if slow.behind != 1 {
			t.Errorf("told %d times that it is behind", slow.behind)
		}
		slow.refuse = ""
		if err := h.CatchUp(t.Context(), slow, "team:harbor:activity"); err != nil {
			t.Fatal(err)
		}
		s.channel().Deliver(s.frame(7), nil)
		synctest.Wait()
		h.Close()
		if !slices.Equal(slow.all(), numbers(1, 7)) {
			t.Errorf("got %v", slow.runs)
		}
	})
}

func TestWhoHasLearntSomeOfARunFromTheHistoryGetsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		early, late := &reader{}, &reader{}
		h, s := follow(t, early)
		gate := make(chan struct{})
		first := s.frame(1)
		first.Final = true
		s.channel().Deliver(first, func(int) { <-gate })
		for n := 2; n <= 6; n++ { // wait to be handed out; of these 5 and 6 are not in the history yet
			s.channel().Deliver(s.frame(n), nil)
		}
		rest := s.history[4:]
		s.history = s.history[:4]
		join(t, h, late, event.Position{Epoch: "e", ID: event.ID{Ms: 3}})
		s.history = append(s.history, rest...)
		close(gate)
		synctest.Wait()
		s.channel().Reset("rewound", event.Position{Epoch: "f", ID: event.ID{Ms: 9}})
		synctest.Wait()
		h.Close()
		if !slices.Equal(late.all(), numbers(3, 6)) || !slices.Equal(early.all(), numbers(1, 6)) {
			t.Errorf("got %v and %v", late.runs, early.runs)
		}
		if len(late.resets) != 1 || len(early.resets) != 1 {
			t.Errorf("reset %v and %v", late.resets, early.resets)
		}
	})
}

func TestTheSourceWaitsWhileTooMuchIsToBeHandedOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := &reader{gate: make(chan struct{})}
		h, s := follow(t, slow)
		const total = 5000
		delivered := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for n := 1; n <= total; n++ {
				s.channel().Deliver(s.frame(n), nil)
				delivered = n
			}
		}()
		synctest.Wait()
		if delivered > 2*1024+1 { // what waits, and what is on its way out
			t.Errorf("%d events wait in memory", delivered)
		}
		close(slow.gate)
		<-done
		synctest.Wait()
		h.Close()
		if !slices.Equal(slow.all(), numbers(1, total)) {
			t.Errorf("got %d events", len(slow.all()))
		}
	})
}

func TestTheLastFollowerEndsTheSubscription(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		many := make([]*reader, 40)
		for i := range many {
			many[i] = &reader{}
		}
		h, s := follow(t, many...)
		s.channel().Deliver(s.frame(1), nil)
		synctest.Wait()
		for i, r := range many {
			if len(r.all()) != 1 {
				t.Errorf("reader %d got %v", i, r.runs)
			}
			if s.stopped > 0 || h.Channels() != 1 {
				t.Fatalf("ended with %d followers left", len(many)-i)
			}
			h.Unfollow(r, "team:harbor:activity")
			synctest.Wait()
		}
		if s.stopped != 1 || h.Channels() != 0 {
			t.Errorf("stopped %d times, %d channels are left", s.stopped, h.Channels())
		}
		h.Close()
	})
}
