package socket

import (
	"errors"
	"io"
	"net/http"

	"github.com/gobwas/ws"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

// The limits that the tests give to what they read.
const (
	MessageBytes = 8 << 10
	StreamMax    = 16
)

// Opcodes of what ReadFrames tells of.
const (
	Text  = ws.OpText
	Close = ws.OpClose
	Ping  = ws.OpPing
	Pong  = ws.OpPong
)

// ReadFrames reads as a connection does, telling of each message and control
// frame until in ends (0), a close frame comes (1000), or something may not come.
func ReadFrames(in io.Reader, tell func(ws.OpCode, []byte)) (code int) {
	f := frames{in: in, most: MessageBytes}
	for {
		op, payload, err := f.next()
		if code, ok := errors.AsType[refused](err); ok {
			return int(code)
		}
		if err != nil {
			return 0
		}
		if op != ws.OpContinuation {
			tell(op, payload)
		}
		if op == ws.OpClose {
			return closeNormal
		}
	}
}

// Cursor is a cursor by the names of channels.
type Cursor = cursor

// At returns where c is in a channel.
func (c cursor) At(channel string) event.Position { at, _ := c.get(keyOf(channel)); return at }

// Put sets where c is in a channel.
func (c *cursor) Put(channel string, at event.Position) { c.set(keyOf(channel), at) }

// Positions returns where c is in its channels.
func (c cursor) Positions() (list []event.Position) {
	for _, p := range c {
		list = append(list, p.at)
	}
	return list
}

// Text returns c as clients get it.
func (c cursor) Text() string { return string(c.append(nil)) }

// ParseCursor reads a cursor.
func ParseCursor(s string) (Cursor, error) { return parseCursor(s, StreamMax) }

// Inbound is a message of a client.
type Inbound = inbound

// ParseInbound reads one.
func ParseInbound(b []byte) (Inbound, error) { return parseInbound(b) }

// Answers returns all that may be sent back of m.
func Answers(m Inbound) [][]byte {
	list := [][]byte{encode(refreshedMessage{Type: "refreshed", ID: m.ID}), encode(errorMessage{Type: "error", ID: m.ID, Code: codeUnknownType})}
	for _, ref := range m.Channels {
		list = append(list,
			encode(errorMessage{Type: "error", ID: m.ID, Ch: clip(ref.Ch), Code: codeBadChannel}),
			encode(unsubscribedMessage{Type: "unsubscribed", ID: m.ID, Ch: clip(ref.Ch)}),
			encode(subscribedMessage{Type: "subscribed", ID: m.ID, Ch: clip(ref.Ch), Offset: since(ref.Since).String()}))
	}
	return list
}

// StreamChannels returns the channels that r asks a stream for, and from where.
func StreamChannels(r *http.Request) (channels, from []string, err error) {
	in, err := parseStreamRequest(r, StreamMax)
	for _, ref := range in.channels {
		channels, from = append(channels, ref.Ch), append(from, ref.Since)
	}
	return channels, from, err
}

// TicketOf returns the ticket of r.
func TicketOf(r *http.Request) string { return ticketOf(r) }

// Rendered returns f as streams and WebSockets send it.
func Rendered(f *hub.Frame) (asEvent, asFrame []byte) {
	s := stream{}
	return s.render(nil, queued{frame: f}), (&hub.Run{Frames: []*hub.Frame{f}}).Wire(appendText)
}

// Scribble writes over buffers that nobody may be using any more, until stop
// is closed.
func Scribble(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		buf := writeBuffers.Get().(*[]byte)
		b := (*buf)[:cap(*buf)]
		for i := range b {
			b[i] = '#'
		}
		writeBuffers.Put(buf)
	}
}

// RenderRun returns r as a stream that stands at c gets it, and moves c.
func RenderRun(c *Cursor, r *hub.Run) []byte {
	s := stream{cursor: *c}
	wire, _ := s.run(nil, r)
	*c = s.cursor
	return wire
}

// RenderFrame appends f as a stream that stands at c gets it, and moves c.
func RenderFrame(c *Cursor, b []byte, f *hub.Frame) []byte {
	s := stream{cursor: *c}
	b = s.render(b, queued{frame: f})
	*c = s.cursor
	return b
}
