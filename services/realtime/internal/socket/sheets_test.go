package socket_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

func position(n uint64) event.Position {
	return event.Position{Epoch: "k2", ID: event.ID{Ms: n, Seq: n}}
}

func framesOf(channel string, classes ...event.Class) (list []*hub.Frame) {
	for i, class := range classes {
		list = append(list, &hub.Frame{Channel: channel, Class: class, At: position(uint64(100 + i)), Body: fmt.Appendf(nil, `{"n":%d}`, i)})
	}
	return list
}

// What streams are handed of one run is what each would have been handed alone,
// wherever it stands; and it is one text for those who stand at the same places.
func TestEachStreamGetsTheIdsOfWhereItStands(t *testing.T) {
	const team, habits = "team:harbor:activity", "user:mira:habits"
	stands := []func(c *socket.Cursor){
		func(*socket.Cursor) {},
		func(c *socket.Cursor) { c.Put(team, position(7)) },
		func(c *socket.Cursor) { c.Put(team, position(99)) },
		func(c *socket.Cursor) { c.Put(team, position(7)); c.Put(habits, position(5)) },
		func(c *socket.Cursor) { c.Put(team, position(8)); c.Put(habits, position(5)) },
		func(c *socket.Cursor) { c.Put(team, position(8)); c.Put(habits, position(6)) },
	}
	for i := range 10 {
		stands = append(stands, func(c *socket.Cursor) { c.Put(team, position(1)); c.Put(habits, position(uint64(20+i))) })
	}
	for name, classes := range map[string][]event.Class{
		"durable":       {event.Durable, event.Durable, event.Durable},
		"one ephemeral": {event.Ephemeral},
		"mixed":         {event.Ephemeral, event.Durable, event.Ephemeral, event.Latest, event.Ephemeral},
	} {
		t.Run(name, func(t *testing.T) {
			frames := framesOf(team, classes...)
			r := &hub.Run{Frames: frames}
			var wires [][]byte
			for i, stand := range stands {
				var one, alone socket.Cursor
				stand(&one)
				stand(&alone)
				wire := socket.RenderRun(&one, r)
				var want []byte
				for _, f := range frames {
					want = socket.RenderFrame(&alone, want, f)
				}
				if !bytes.Equal(wire, want) {
					t.Errorf("stream %d gets %q, want %q", i, wire, want)
				}
				if one.Text() != alone.Text() {
					t.Errorf("stream %d stands at %s, want %s", i, one.Text(), alone.Text())
				}
				wires = append(wires, wire)
			}
			if &wires[1][0] != &wires[2][0] || &wires[3][0] != &wires[4][0] {
				t.Error("streams at the same places have texts of their own")
			}
		})
	}
}
