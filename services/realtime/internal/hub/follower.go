package hub

import (
	"slices"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// follower is where a member stands in a channel.
type follower struct {
	member Member
	pos    event.Position // of the last event offered and taken
	live   bool           // is handed events as they come
	place  int            // in the list of its channel
}

// lose puts the follower in front of a frame that it did not take.
func (f *follower) lose(channel string, lost *Frame) {
	f.live, f.pos = false, event.Position{Epoch: lost.At.Epoch, ID: lost.Prev}
	f.member.Behind(channel)
}

// few followers are found by looking at each.
const few = 16

// followers are those of a channel: a list, since it is gone through for each
// event, and an index once there are many.
type followers struct {
	list  []*follower
	index map[Member]*follower // nil while there are few
}

// of returns the follower that is m, or nil.
func (s *followers) of(m Member) *follower {
	if s.index != nil {
		return s.index[m]
	}
	for _, f := range s.list {
		if f.member == m {
			return f
		}
	}
	return nil
}

func (s *followers) add(f *follower) {
	f.place = len(s.list)
	s.list = append(s.list, f)
	switch {
	case s.index != nil:
		s.index[f.member] = f
	case len(s.list) > few:
		s.index = make(map[Member]*follower, len(s.list))
		for _, f := range s.list {
			s.index[f.member] = f
		}
	}
}

func (s *followers) drop(f *follower) {
	last := len(s.list) - 1
	s.list[f.place] = s.list[last]
	s.list[f.place].place = f.place
	s.list = slices.Delete(s.list, last, last+1)
	if s.index != nil {
		delete(s.index, f.member)
	}
	if last <= few/2 {
		s.index = nil
	}
}
