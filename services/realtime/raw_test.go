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
func upgrade(t testing.TB, n *node, token string, more ...string) *net.TCPConn {
	t.Helper()
	c, resp := handshake(t, n, "/rt/v1/ws", token, more...)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %+v", resp)
	}
	return c
}

// handshake asks for an upgrade as a page does, with more lines of header.
func handshake(t testing.TB, n *node, path, token string, more ...string) (*net.TCPConn, *http.Response) {
	t.Helper()
	return handshakeWith(t, n, path, append([]string{"Origin: " + n.http.URL, "Cookie: crewbeat.sid=" + token}, more...)...)
}

// handshakeWith asks for an upgrade with lines of header.
func handshakeWith(t testing.TB, n *node, path string, lines ...string) (*net.TCPConn, *http.Response) {
	t.Helper()
	host := strings.TrimPrefix(n.http.URL, "http://")
	c, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%s\r\n",
		path, host, strings.Join(append(lines, ""), "\r\n"))
	var head bytes.Buffer
	one := make([]byte, 1)
	for !bytes.HasSuffix(head.Bytes(), []byte("\r\n\r\n")) {
		if _, err := c.Read(one); err != nil {
			t.Fatal(err)
		}
		head.Write(one)
	}
	resp, err := http.ReadResponse(bufio.NewReader(&head), nil)
	if err != nil {
		t.Fatalf("handshake: %v", err)
	}
	return c.(*net.TCPConn), resp
}

// noMask is the key that changes nothing.
const noMask = "\x00\x00\x00\x00"

// masked is a frame of a client: first is its first byte.
func masked(first byte, payload string) string {
	head := string([]byte{first, 0x80 | byte(len(payload))})
	if n := len(payload); n > 125 {
		head = string([]byte{first, 0xfe, byte(n >> 8), byte(n)})
	}
	return head + noMask + payload
}

// closing is a close frame of a client.
func closing(code int, reason string) string {
	return masked(0x88, string([]byte{byte(code >> 8), byte(code)})+reason)
}

// closedWith returns the code of the close frame that ends what a server sent,
// or 0.
func closedWith(b []byte) int {
	for len(b) >= 2 {
		n, head := int(b[1]), 2
		if n == 126 && len(b) >= 4 {
			n, head = int(b[2])<<8|int(b[3]), 4
		}
		if len(b) < head+n {
			return 0
		}
		if b[0] == 0x88 && n >= 2 {
			return int(b[head])<<8 | int(b[head+1])
		}
		b = b[head+n:]
	}
	return 0
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

func TestFramesThatMayNotComeAreRefusedWithTheirCode(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.Attempts = 1000 })
	token, _ := n.signIn("mira")
	type attack struct {
		name, frames string
		code         int
	}
	all := []attack{
		{"not masked", "\x81\x02{}", 1002},
		{"a control frame that is not masked", "\x89\x00", 1002},
		{"a continuation of nothing", masked(0x80, ""), 1002},
		{"a message within a message", masked(0x01, "") + masked(0x81, ""), 1002},
		{"a binary message within a message", masked(0x01, "") + masked(0x82, ""), 1002},
		{"a continuation of what has ended", masked(0x01, "{") + masked(0x80, "}") + masked(0x80, ""), 4500}, // the message is none
		{"a ping in fragments", masked(0x09, ""), 1002},
		{"a pong in fragments", masked(0x0a, ""), 1002},
		{"a close in fragments", masked(0x08, ""), 1002},
		{"a ping of 126 bytes", masked(0x89, strings.Repeat("x", 126)), 1002},
		{"a close of 126 bytes", masked(0x88, "\x03\xe8"+strings.Repeat("x", 124)), 1002},
		{"a ping of exabytes", "\x89\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + noMask, 1002},
		{"a length of 2^63", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00" + noMask, 1002},
		{"a length of 2^64-1", "\x81\xff\xff\xff\xff\xff\xff\xff\xff\xff" + noMask, 1002},
		{"a length of 2^63-1", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + noMask, 4503},
		{"a length of 4 GiB", "\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00" + noMask, 4503},
		{"8 KiB and a byte", "\x81\xfe\x20\x01" + noMask, 4503},
		{"fragments that add up", masked(0x01, strings.Repeat(" ", 8191)) + "\x80\xfe\x1f\xff" + noMask, 4503},
		{"a fragment that claims 2^63-1", masked(0x01, " ") + "\x80\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + noMask, 4503},
		{"8 KiB of nothing", masked(0x81, strings.Repeat(" ", 8192)), 4500},
		{"binary", masked(0x82, "{}"), 4500},
		{"binary of exabytes", "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + noMask, 4500},
		{"an empty message", masked(0x81, ""), 4500},
		{"not UTF-8", masked(0x81, `{"type":"`+"\xff"+`"}`), 1007},
		{"a surrogate", masked(0x81, `{"type":"`+"\xed\xa0\x80"+`"}`), 1007},
		{"an overlong slash", masked(0x81, `{"type":"`+"\xc0\xaf"+`"}`), 1007},
		{"a rune that is cut", masked(0x81, "\xe2\x82"), 1007},
		{"not UTF-8 in the second fragment", masked(0x01, `{"type":"`) + masked(0x80, "\xff\"}"), 1007},
		{"a close of one byte", masked(0x88, "\x03"), 1002},
		{"a close whose reason is not UTF-8", closing(1000, "\xff"), 1007},
		{"fragments without end", masked(0x01, "") + strings.Repeat(masked(0x00, ""), 40), 4006},
		{"pings without end", strings.Repeat(masked(0x89, "x"), 40), 4006},
		{"pongs without end", strings.Repeat(masked(0x8a, ""), 40), 4006},
		{"messages without end", strings.Repeat(masked(0x81, `{"type":"ack"}`), 40), 4006},
		{"another handshake", "GET /rt/v1/ws HTTP/1.1\r\n\r\n", 1002},
	}
	for _, bit := range []byte{0x40, 0x20, 0x10} {
		for _, opcode := range []byte{0x1, 0x0, 0x8, 0x9} {
			all = append(all, attack{fmt.Sprintf("reserved bit %#x with opcode %#x", bit, opcode), masked(0x80|bit|opcode, ""), 1002})
		}
	}
	for _, opcode := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		all = append(all, attack{fmt.Sprintf("opcode %#x", opcode), masked(0x80|opcode, ""), 1002})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535} {
		all = append(all, attack{fmt.Sprintf("a close with %d", code), closing(code, ""), 1002})
	}
	for _, code := range []int{1000, 1001, 1003, 1007, 1014, 3000, 4999} { // these may
		all = append(all, attack{fmt.Sprintf("a close with %d", code), closing(code, "bye"), 1000})
	}
	all = append(all, attack{"a close without a code", masked(0x88, ""), 1000})
	for _, tt := range all {
		c := upgrade(t, n, token)
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write([]byte(tt.frames)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, c); closedWith(got) != tt.code {
			t.Errorf("%s: closed with %d, want %d; got %q", tt.name, closedWith(got), tt.code, got)
		}
		_ = c.Close()
	}
	until(t, "all are gone", func() bool { return n.server.Connections() == 0 })
}

// TestFirstMessagesAreRefusedLikeOthers is for clients that show a ticket in
// their first message: until then they are nobody.
func TestFirstMessagesAreRefusedLikeOthers(t *testing.T) {
	n := start(t, nil, nil)
	for _, tt := range []struct {
		name, frames string
		code         int
	}{
		{"not masked", "\x81\x02{}", 1002},
		{"a reserved bit", masked(0xc1, "{}"), 1002},
		{"a reserved opcode", masked(0x83, "{}"), 1002},
		{"a continuation of nothing", masked(0x80, "{}"), 1002},
		{"a length of 2^63", "\x81\xff\x80\x00\x00\x00\x00\x00\x00\x00" + noMask, 1002},
		{"a length of 2^63-1", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + noMask, 4503},
		{"binary", masked(0x82, "{}"), 4500},
		{"a fragment", masked(0x01, "{}"), 4500},
		{"a ping", masked(0x89, ""), 4500},
		{"not JSON", masked(0x81, "{"), 4500},
		{"not UTF-8", masked(0x81, "\xff"), 1007},
		{"no ticket", masked(0x81, `{"type":"auth"}`), 4501},
		{"a ticket of another kind", masked(0x81, `{"type":"auth","ticket":7}`), 4500},
		{"a cookie's token", masked(0x81, `{"type":"auth","ticket":"crewbeat.sid=x"}`), 4501},
		{"a subscription", masked(0x81, `{"type":"subscribe","channels":["team:harbor:activity"]}`), 4501},
	} {
		c, resp := handshake(t, n, "/rt/v1/ws?auth=message", "")
		if resp.StatusCode != http.StatusSwitchingProtocols {
			t.Fatalf("%s: %+v", tt.name, resp)
		}
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := c.Write([]byte(tt.frames)); err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, c); closedWith(got) != tt.code {
			t.Errorf("%s: closed with %d, want %d", tt.name, closedWith(got), tt.code)
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
	frames := masked(0x01, `{"type":`) + masked(0x89, "hi") + masked(0x80, `"ping"}`) + closing(1000, "")
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
	n := start(f, nil, func(c *realtime.Config) { c.Limits.PerUser, c.Limits.Attempts = 100_000, 50_000 })
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
