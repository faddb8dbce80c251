package realtime_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/realtime"
)

// upgrade makes the handshake by hand, for frames that no library sends.
func upgrade(t testing.TB, n *node, token string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(n.http.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET /rt/v1/ws HTTP/1.1\r\nHost: %s\r\nOrigin: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nCookie: crewbeat.sid=%s\r\n\r\n",
		strings.TrimPrefix(n.http.URL, "http://"), n.http.URL, token)
	var head bytes.Buffer
	one := make([]byte, 1)
	for !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) {
		if _, err := c.Read(one); err != nil {
			t.Fatal(err)
		}
		head.Write(one)
	}
	resp, err := http.ReadResponse(bufio.NewReader(&head), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %v %+v", err, resp)
	}
	return c.(*net.TCPConn)
}

// readAll returns what the server sends until it closes.
func readAll(t testing.TB, c net.Conn) []byte {
	t.Helper()
	b, err := io.ReadAll(c)
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		t.Fatalf("the server neither answers nor closes; it sent %q", b)
	}
	return b
}

func TestBrokenFramesCloseWithAProtocolError(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	mask := "\x00\x00\x00\x00"
	for _, tt := range []struct {
		name, frames string
		code         int
	}{
		{"not masked", "\x81\x02{}", 1002},
		{"a reserved bit", "\xc1\x80" + mask, 1002},
		{"a reserved opcode", "\x83\x80" + mask, 1002},
		{"a continuation of nothing", "\x80\x80" + mask, 1002},
		{"a message within a message", "\x01\x80" + mask + "\x81\x80" + mask, 1002},
		{"a ping in fragments", "\x09\x80" + mask, 1002},
		{"a ping of 126 bytes", "\x89\xfe\x00\x7e" + mask + strings.Repeat("x", 126), 1002},
		{"a length with the highest bit", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + mask, 1002},
		{"a length of exabytes", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + mask, 4503},
		{"fragments that add up", "\x01\xfe\x1f\xff" + mask + strings.Repeat(" ", 8191) + "\x80\xfe\x1f\xff" + mask, 4503},
	} {
		c := upgrade(t, n, token)
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write([]byte(tt.frames)); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, c)
		if want := []byte{byte(tt.code >> 8), byte(tt.code)}; !bytes.Contains(got, want) {
			t.Errorf("%s: got %q, want a close with %d", tt.name, got, tt.code)
		}
		_ = c.Close()
	}
}

func TestAMessageMayComeInFragmentsWithAPingBetween(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	c := upgrade(t, n, token)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	mask := "\x00\x00\x00\x00"
	frames := "\x01\x88" + mask + `{"type":` + "\x89\x82" + mask + "hi" + "\x80\x87" + mask + `"ping"}` + "\x88\x82" + mask + "\x03\xe8"
	if _, err := c.Write([]byte(frames)); err != nil {
		t.Fatal(err)
	}
	got := readAll(t, c)
	for _, want := range []string{"\x8a\x02hi", `{"type":"pong"}`, "\x88\x02\x03\xe8"} {
		if !bytes.Contains(got, []byte(want)) {
			t.Errorf("got %q, want %q in it", got, want)
		}
	}
}

// FuzzFrames throws bytes at a connection: whatever they are, the server goes
// on serving others, and does not allocate what a header merely claims.
func FuzzFrames(f *testing.F) {
	for _, seed := range [][]byte{
		{0x81, 0x82, 0, 0, 0, 0, '{', '}'},
		{0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4},
		{0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4},
		{0xc1, 0x80, 0, 0, 0, 0},
		{0x01, 0x81, 0, 0, 0, 0, 'a', 0x81, 0x80, 0, 0, 0, 0},
		{0x80, 0x80, 0, 0, 0, 0},
		{0x89, 0xfe, 0, 200, 0, 0, 0, 0},
		{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8},
		bytes.Repeat([]byte{0x01, 0x80, 0, 0, 0, 0}, 50),
	} {
		f.Add(seed)
	}
	n := start(f, nil, func(c *realtime.Config) { c.Limits.PerUser = 100_000 })
	token, _ := n.signIn("mira")
	healthy := n.connectAs(dialing{token: token})
	healthy.subscribe("user:mira:habits", "")
	count := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		raw := upgrade(t, n, token)
		defer raw.Close()
		_ = raw.SetDeadline(time.Now().Add(5 * time.Second))
		_, _ = raw.Write(b)
		_ = raw.CloseWrite()
		readAll(t, raw)
		count++
		e := numbered("user:mira:habits", count)
		if _, err := n.broker.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		until(t, "others are served", func() bool { return slices.Contains(healthy.events(), e.ID) })
		healthy.mu.Lock()
		healthy.got = nil
		healthy.mu.Unlock()
	})
}
