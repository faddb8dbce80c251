package socket

import (
	"slices"

	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

// sheets are a run as streams get it. Its ids say where a client stands in all
// of its channels, so that one text is for all who stand at the same places in
// the others: those who follow this one alone, to begin with.
type sheets struct {
	channel channelKey
	last    *hub.Frame // that is stored; nil: none is, and nobody moves
	list    []sheet
}

type sheet struct {
	cursor cursor // before the run
	wire   []byte
}

// sheetsMost bounds how many texts of a run are kept. Those for whom there is
// none have it made for themselves.
const sheetsMost = 4

// sheetsOf returns the sheets of r: the same for all. It is called by one
// follower at a time.
func sheetsOf(r *hub.Run) *sheets {
	return r.Memo(func() any {
		all := &sheets{channel: keyOf(r.Frames[0].Channel)}
		for _, f := range r.Frames {
			if f.Stored() {
				all.last = f
			}
		}
		return all
	}).(*sheets) // nobody else uses it
}

// run returns r as s gets it, and moves its cursor behind it. What is shared is
// for nobody to change; otherwise it is in the room of b.
func (s *stream) run(b []byte, r *hub.Run) (wire []byte, shared bool) {
	all := sheetsOf(r)
	for i := range all.list {
		if one := &all.list[i]; s.cursor.besides(all.channel, one.cursor) {
			if all.last != nil {
				s.cursor.set(all.channel, all.last.At)
			}
			return one.wire, true
		}
	}
	keep := len(all.list) < sheetsMost
	var before cursor
	if keep {
		before, b = slices.Clone(s.cursor), nil
	}
	for _, f := range r.Frames {
		b = s.event(b, f, all.channel)
	}
	if keep {
		all.list = append(all.list, sheet{cursor: before, wire: b})
	}
	return b, keep
}
