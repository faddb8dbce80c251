package socket_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	coder "github.com/coder/websocket"
	"github.com/gobwas/ws"
	gorilla "github.com/gorilla/websocket"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// heard is what a reader made of some input: its messages and control frames
// in order, as "text …", "ping …", and what it refused at the end, if anything.
type heard struct {
	frames []string
	why    string // of the refusal; empty after a close frame
}

// canned is a connection on which a client has said everything already.
type canned struct{ io.Reader }

func (canned) Write(b []byte) (int, error)      { return len(b), nil }
func (canned) Close() error                     { return nil }
func (canned) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (canned) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (canned) SetDeadline(time.Time) error      { return nil }
func (canned) SetReadDeadline(time.Time) error  { return nil }
func (canned) SetWriteDeadline(time.Time) error { return nil }

// taken is an answer whose connection a library takes over.
type taken struct {
	http.ResponseWriter
	conn net.Conn
}

func (w taken) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

func offered(input []byte) (http.ResponseWriter, *http.Request) {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	return taken{httptest.NewRecorder(), canned{bytes.NewReader(input)}}, r
}

// byUs reads input as a connection does; code is what it closes with.
func byUs(input []byte) (h heard, code int) {
	code = socket.ReadFrames(bytes.NewReader(input), func(op ws.OpCode, b []byte) {
		switch op {
		case socket.Text:
			h.frames = append(h.frames, "text "+string(b))
		case socket.Ping:
			h.frames = append(h.frames, "ping "+string(b))
		case socket.Pong:
			h.frames = append(h.frames, "pong "+string(b))
		case socket.Close:
			h.frames = append(h.frames, closed(b))
		default:
			h.frames = append(h.frames, fmt.Sprint("frame of kind ", op))
		}
	})
	if code != 1000 {
		h.why = fmt.Sprint("closed with ", code)
	}
	return h, code
}

func closed(b []byte) string {
	if len(b) < 2 {
		return "close 1005 "
	}
	return fmt.Sprintf("close %d %s", int(b[0])<<8|int(b[1]), b[2:])
}

func byCoder(t testing.TB, input []byte) (h heard) {
	w, r := offered(input)
	c, err := coder.Accept(w, r, &coder.AcceptOptions{
		OnPingReceived: func(_ context.Context, b []byte) bool { h.frames = append(h.frames, "ping "+string(b)); return true },
		OnPongReceived: func(_ context.Context, b []byte) { h.frames = append(h.frames, "pong "+string(b)) },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.CloseNow() }()
	c.SetReadLimit(socket.MessageBytes)
	for {
		kind, b, err := c.Read(t.Context())
		if ce, ok := errors.AsType[coder.CloseError](err); ok {
			h.frames = append(h.frames, fmt.Sprintf("close %d %s", ce.Code, ce.Reason))
			return h
		}
		if err != nil {
			h.why = err.Error()
			return h
		}
		h.frames = append(h.frames, map[coder.MessageType]string{coder.MessageText: "text ", coder.MessageBinary: "binary "}[kind]+string(b))
	}
}

func byGorilla(t testing.TB, input []byte) (h heard) {
	w, r := offered(input)
	c, err := (&gorilla.Upgrader{}).Upgrade(w, r, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(socket.MessageBytes)
	c.SetPingHandler(func(s string) error { h.frames = append(h.frames, "ping "+s); return nil })
	c.SetPongHandler(func(s string) error { h.frames = append(h.frames, "pong "+s); return nil })
	for {
		kind, b, err := c.ReadMessage()
		if ce, ok := errors.AsType[*gorilla.CloseError](err); ok && ce.Code != gorilla.CloseAbnormalClosure {
			h.frames = append(h.frames, fmt.Sprintf("close %d %s", ce.Code, ce.Text))
			return h
		}
		if err != nil {
			h.why = err.Error()
			return h
		}
		h.frames = append(h.frames, map[int]string{gorilla.TextMessage: "text ", gorilla.BinaryMessage: "binary "}[kind]+string(b))
	}
}

// agree reports why theirs is not what ours should be. Where we refuse more,
// on purpose, what they say first instead must be just that.
func agree(name string, ours heard, code int, theirs heard) error {
	n := len(ours.frames)
	if len(theirs.frames) < n || !slices.Equal(theirs.frames[:n], ours.frames) {
		if name == "gorilla" && len(theirs.frames) < n && slices.Equal(theirs.frames, ours.frames[:len(theirs.frames)]) {
			switch next := ours.frames[len(theirs.frames)]; {
			case strings.HasPrefix(next, "close 1014 "): // Bad Gateway, which it does not know
				return nil
			case !strings.HasPrefix(next, "text ") && strings.Contains(theirs.why, "len > 125 for control"):
				return nil // it refuses a short length in its long form, but only of control frames
			}
		}
		return fmt.Errorf("%s heard %q (%s), we heard %q (%s)", name, theirs.frames, theirs.why, ours.frames, ours.why)
	}
	next := theirs.frames[n:]
	if len(next) == 0 {
		if (theirs.why == "") != (ours.why == "") {
			return fmt.Errorf("after %q: %s says %q, we say %q", ours.frames, name, theirs.why, ours.why)
		}
		return nil
	}
	kind, payload, _ := strings.Cut(next[0], " ")
	switch {
	case code == 4500: // we take no binary messages, and say so before they are complete
		i := slices.IndexFunc(next, func(s string) bool { return !strings.HasPrefix(s, "ping ") && !strings.HasPrefix(s, "pong ") })
		if i < 0 || strings.HasPrefix(next[i], "binary ") || strings.HasPrefix(next[i], "close ") {
			return nil
		}
	case code == 1007 && kind == "text": // they leave UTF-8 to the application
		if !utf8.ValidString(payload) {
			return nil
		}
	case code == 1007 && kind == "close" && name == "coder": // in reasons, too
		if !utf8.ValidString(payload) {
			return nil
		}
	case code == 1002 && next[0] == "close 1005 " && name == "gorilla": // it takes half a code for none
		return nil
	}
	return fmt.Errorf("we refuse with %d what %s takes as %q, after %q", code, name, next[0], ours.frames)
}

// FuzzFrameReader holds our reader against coder/websocket and
// gorilla/websocket: they hear the same messages and control frames, and
// refuse what we refuse. The differences are those of agree, each on purpose.
func FuzzFrameReader(f *testing.F) {
	m := "\x00\x00\x00\x00"
	for _, seed := range []string{
		"", "\x81\x82" + m + "{}", "\x81\x82\x01\x02\x03\x04{}", "\x01\x81" + m + "a\x00\x81" + m + "b\x80\x81" + m + "c",
		"\x01\x81" + m + "a\x89\x82" + m + "hi\x80\x81" + m + "b", "\x89\x80" + m + "\x8a\x81" + m + "x", "\x82\x81" + m + "x", "\x02\x81" + m + "x\x89\x80" + m + "\x80\x80" + m,
		"\x81\x02{}", "\xc1\x80" + m, "\xa1\x80" + m, "\x91\x80" + m, "\x83\x80" + m, "\x8b\x80" + m, "\x80\x80" + m, "\x01\x80" + m + "\x81\x80" + m,
		"\x09\x80" + m, "\x89\xfe\x00\x7e" + m, "\x81\xfe\x00\x05" + m + "short", "\x81\xff\x00\x00\x00\x00\x00\x00\x00\x05" + m + "short",
		"\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + m, "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00" + m, "\x81\xfe\x20\x00" + m, "\x81\xfe\x20\x01" + m, "\x01\xfe\x20\x00" + m,
		"\x88\x80" + m, "\x88\x81" + m + "\x03", "\x88\x82" + m + "\x03\xe8", "\x88\x85" + m + "\x03\xe8bye", "\x88\x83" + m + "\x03\xe8\xff", "\x88\x82" + m + "\x03\xed",
		"\x88\x82" + m + "\x03\xf6", "\x88\x82" + m + "\x13\x87", "\x88\x82" + m + "\x13\x88", "\x88\x82" + m + "\x00\x00", "\x81\x81" + m + "\xff", "\x01\x81" + m + "\xe2\x80\x82" + m + "\x82\xac",
	} {
		f.Add([]byte(seed))
	}
	// What is cut short goes on with zeros, which end as a frame without a mask.
	rest := make([]byte, 2*socket.MessageBytes)
	f.Fuzz(func(t *testing.T, input []byte) {
		input = append(slices.Clone(input), rest...)
		ours, code := byUs(input)
		if code == 0 {
			t.Fatalf("we read to the end: %q", ours.frames)
		}
		if err := agree("coder", ours, code, byCoder(t, input)); err != nil {
			t.Error(err)
		}
		if err := agree("gorilla", ours, code, byGorilla(t, input)); err != nil {
			t.Error(err)
		}
	})
}
