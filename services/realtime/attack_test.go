package realtime_test

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/serve"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// bomb is a deflated message that grows a thousandfold.
func bomb(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(bytes.Repeat([]byte(" "), 6<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff") // RFC 7692, section 7.2.1
}

// live returns the bytes of living objects; with sweep, after a collection.
func live(sweep bool) uint64 {
	if sweep {
		runtime.GC()
	}
	s := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// TestMemoryIsBoundedUnderAttack holds hundreds of connections in the states
// that cost a server most, and measures what it keeps for them.
func TestMemoryIsBoundedUnderAttack(t *testing.T) {
	const (
		each    = 60       // connections of an attack
		perConn = 48 << 10 // a message of 8 KiB twice, what net/http leaves, and the client's side, which is here too
		most    = 64 << 20 // at any time: the claims are of 2^62 bytes and more
	)
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerUser, c.Limits.Attempts = 10_000, 10_000 })
	token, _ := n.signIn("mira")
	healthy := n.connectAs(dialing{token: token})
	healthy.subscribe(team, "")
	kib := strings.Repeat(" ", 8<<10)
	deflated := bomb(t)
	if len(deflated) > 8<<10 {
		t.Fatalf("the bomb has %d bytes", len(deflated))
	}
	attacks := []struct {
		name, frames string
		holds        bool // the server waits for the rest
	}{
		{"a frame that is all there but for a byte", masked(0x81, kib)[:8+8<<10-1], true},
		{"fragments of 8 KiB that never end", masked(0x01, kib), true},
		{"8,191 bytes, and a frame that never ends", masked(0x01, kib[1:]) + "\x80\x81" + noMask, true},
		{"half a header", "\x81\xff\x00\x00", true},
		{"a claim of 2^63-1", "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff" + noMask + kib, false},
		{"a claim of 4 GiB", "\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00" + noMask + kib, false},
		{"a deflate bomb", masked(0xc1, deflated), false},
		{"a deflate bomb in fragments", masked(0x41, deflated) + masked(0x80, deflated), false},
	}
	before := live(true)
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var highest uint64
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			highest = max(highest, live(false))
			select {
			case <-stop:
				peak <- highest
				return
			case <-tick.C:
			}
		}
	}()
	var held []net.Conn
	for _, a := range attacks {
		for range each {
			c := upgrade(t, n, token, "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_max_window_bits=15")
			_ = c.SetDeadline(time.Now().Add(30 * time.Second))
			if _, err := c.Write([]byte(a.frames)); err != nil {
				t.Fatalf("%s: %v", a.name, err)
			}
			if a.holds {
				held = append(held, c)
				continue
			}
			want := 4503
			if strings.Contains(a.name, "deflate") {
				want = 1002 // it was not negotiated
			}
			if got := readAll(t, c); closedWith(got) != want {
				t.Errorf("%s: closed with %d, want %d", a.name, closedWith(got), want)
			}
			_ = c.Close()
		}
	}
	until(t, "only those that wait are left", func() bool { return n.server.Connections() == len(held)+1 })
	after := live(true)
	close(stop)
	highest := <-peak
	if grown := int64(after) - int64(before); grown > int64(len(held)*perConn) {
		t.Errorf("%d connections hold %d bytes, at most %d each are allowed", len(held), grown, perConn)
	}
	if highest > before+most {
		t.Errorf("the heap was at %d MiB, from %d MiB", highest>>20, before>>20)
	}
	t.Logf("%d connections hold %d bytes each; the heap was at most at %d MiB, from %d MiB",
		len(held), (int64(after)-int64(before))/int64(len(held)), highest>>20, before>>20)
	n.publish(team, 1, 20)
	healthy.awaitEvents(names(1, 20)...)
}

func TestCompressionIsNotNegotiated(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	for _, offer := range []string{"permessage-deflate", "permessage-deflate; client_max_window_bits", "x-webkit-deflate-frame", "permessage-deflate, permessage-deflate", ";;=,"} {
		c, resp := handshake(t, n, "/rt/v1/ws", token, "Sec-WebSocket-Extensions: "+offer)
		if got, ok := resp.Header["Sec-Websocket-Extensions"]; ok {
			t.Errorf("%q is answered with %q", offer, got)
		}
		_ = c.Close()
	}
}

// TestAPingFloodDoesNotMixWithFanOut has one client ping as fast as it can while
// events come: frames stay whole, and others are served.
func TestAPingFloodDoesNotMixWithFanOut(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerSecond = 100_000 })
	flooding, quiet := n.connect("jonas"), n.connect("mira")
	flooding.subscribe(team, "")
	quiet.subscribe(team, "")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	pings := 0
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			// Ping waits for its pong, and fails if the payload is another.
			if err := flooding.ws.Ping(t.Context()); err != nil {
				t.Errorf("ping %d: %v", pings, err)
				return
			}
			pings++
		}
	})
	const total = 2000
	n.publish(team, 1, total)
	flooding.awaitEvents(names(1, total)...)
	quiet.awaitEvents(names(1, total)...)
	close(stop)
	wg.Wait()
	if pings == 0 {
		t.Error("there was no ping")
	}
}

// TestAskingForChannelsIsBounded: each is a question to the database.
func TestAskingForChannelsIsBounded(t *testing.T) {
	n := start(t, nil, nil)
	codes := func(c *client) map[any]int {
		got := map[any]int{}
		for _, m := range c.messages() {
			if m.Type == "error" {
				got[m.Code]++
			}
		}
		return got
	}
	ask := func(c *client, from, to int) {
		var in []string
		for i := from; i < to; i++ {
			in = append(in, fmt.Sprintf(`"a:%d"`, i))
		}
		c.say(`{"type":"subscribe","channels":[` + strings.Join(in, ",") + `]}`)
	}
	t.Run("InOneMessage", func(t *testing.T) {
		c := n.connect("mira")
		ask(c, 0, 900)
		c.await("a refusal", func(m message) bool { return m.Code == "too_many_channels" })
		c.wait("all answers", func() bool { return codes(c)["forbidden"] == 64 })
		c.say(`{"type":"ping"}`)
		c.await("what comes after them", func(m message) bool { return m.Type == "pong" })
		if got := codes(c); got["too_many_channels"] != 1 {
			t.Errorf("got %v", got)
		}
	})
	t.Run("InManyMessages", func(t *testing.T) {
		c := n.connect("mira")
		for i := range 15 {
			ask(c, 64*i, 64*i+64)
		}
		sum := 0
		c.wait("all answers", func() bool {
			sum = 0
			for _, n := range codes(c) {
				sum += n
			}
			return sum == 15*64
		})
		// 128 at once, and 20 for each second that this took.
		if got := codes(c); got["unavailable"] < 15*64-128-20*20 || got["unavailable"] > 15*64-128 {
			t.Errorf("got %v", got)
		}
		if m := c.await("when to try again", func(m message) bool { return m.Code == "unavailable" }); m.Retry < 1000 {
			t.Errorf("got %+v", m)
		}
	})
	t.Run("OfOneChannel", func(t *testing.T) {
		c := n.connect("mira")
		c.say(`{"type":"subscribe","channels":[` + strings.Repeat(`"`+team+`",`, 60) + `"` + team + `"]}`)
		c.await("that it is followed", func(m message) bool { return m.Type == "subscribed" })
		n.publish(team, 1, 3)
		c.awaitEvents(names(1, 3)...)
	})
}

// TestTicketsAreTakenOnlyAsDocumented tries to smuggle one in, or to make one
// do for another's.
func TestTicketsAreTakenOnlyAsDocumented(t *testing.T) {
	n := start(t, nil, nil)
	mira, _ := n.signIn("mira")
	jonas, _ := n.signIn("jonas")
	const in = 0 // it is let in
	protocols := func(list ...string) http.Header { return http.Header{"Sec-Websocket-Protocol": list} }
	for _, tt := range []struct {
		name   string
		header func(tk string) http.Header
		code   int
		status int // of a handshake that is refused
	}{
		{"as documented", func(tk string) http.Header { return protocols("crewbeat.v1, crewbeat.ticket." + tk) }, in, 0},
		{"on two lines", func(tk string) http.Header { return protocols("crewbeat.v1", "crewbeat.ticket."+tk) }, in, 0},
		{"as Authorization", func(tk string) http.Header { return http.Header{"Authorization": {"ticket " + tk}} }, in, 0},
		{"with another case", func(tk string) http.Header { return protocols("crewbeat.v1, CREWBEAT.TICKET." + tk) }, 0, 403},
		{"in other letters", func(tk string) http.Header { return protocols("crewbeat.v1, crewbeat.ticket." + swapCase(tk)) }, 4501, 0},
		{"behind one that is made up", func(tk string) http.Header {
			return protocols("crewbeat.v1, crewbeat.ticket." + strings.Repeat("a", 43) + ", crewbeat.ticket." + tk)
		}, 4501, 0},
		{"cut", func(tk string) http.Header { return protocols("crewbeat.v1, crewbeat.ticket." + tk[:42]) }, 4501, 0},
		{"padded", func(tk string) http.Header { return protocols("crewbeat.v1, crewbeat.ticket." + tk + "=") }, 4501, 0},
		{"escaped", func(tk string) http.Header {
			return protocols(fmt.Sprintf("crewbeat.v1, crewbeat.ticket.%%%x%s", tk[0], tk[1:]))
		}, 4501, 0},
		{"as a bearer", func(tk string) http.Header { return http.Header{"Authorization": {"Bearer " + tk}} }, 0, 403},
		{"as a password", func(tk string) http.Header { return http.Header{"Authorization": {"Basic " + tk}} }, 0, 403},
		{"in a header of its own", func(tk string) http.Header { return http.Header{"Ticket": {tk}, "X-Ticket": {tk}} }, 0, 403},
		{"as a cookie", func(tk string) http.Header { return http.Header{"Cookie": {"crewbeat.sid=" + tk + "; ticket=" + tk}} }, 0, 403},
		{"a session's token", func(string) http.Header { return protocols("crewbeat.v1, crewbeat.ticket." + mira) }, 4501, 0},
		{"a session's token as Authorization", func(string) http.Header { return http.Header{"Authorization": {"Ticket " + mira}} }, 4501, 0},
		{"none", func(string) http.Header { return protocols("crewbeat.v1, crewbeat.ticket.") }, 0, 403},
		{"from a page of others", func(tk string) http.Header {
			h := protocols("crewbeat.v1, crewbeat.ticket." + tk)
			h.Set("Origin", "https://evil.example")
			return h
		}, 0, 403},
	} {
		tk, _ := n.ticket(mira, nil)
		var lines []string
		for k, list := range tt.header(tk) {
			for _, v := range list {
				lines = append(lines, k+": "+v)
			}
		}
		c, resp := handshakeWith(t, n, "/rt/v1/ws", lines...)
		want := http.StatusSwitchingProtocols
		if tt.status != 0 {
			want = tt.status
		}
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", tt.name, resp.Status, want)
			continue
		}
		if tt.status == 0 {
			_ = c.SetDeadline(time.Now().Add(20 * time.Second))
			if tt.code == in {
				if _, err := c.Write([]byte(closing(1000, ""))); err != nil {
					t.Fatal(err)
				}
			}
			got := readAll(t, c)
			if tt.code == in && !bytes.Contains(got, []byte(`"hello"`)) || tt.code != in && (closedWith(got) != tt.code || bytes.Contains(got, []byte(`"hello"`))) {
				t.Errorf("%s: got %q, want %d", tt.name, got, tt.code)
			}
		}
		_ = c.Close()
	}
	// A ticket counts for more than a cookie, and for its own user.
	tk, _ := n.ticket(jonas, nil)
	c := n.connectAs(dialing{token: mira, offers: offer(tk)})
	c.say(`{"type":"subscribe","channels":["user:mira:habits","user:jonas:habits"]}`)
	c.await("a refusal", func(m message) bool { return m.Code == "forbidden" && m.Ch == "user:mira:habits" })
	c.await("the own channel", func(m message) bool { return m.Type == "subscribed" && m.Ch == habits })
	// A made-up one is not forgiven for the cookie beside it.
	c, _, err := n.dial(dialing{token: mira, offers: offer(strings.Repeat("a", 43))})
	if err != nil || c.awaitClose() != 4501 {
		t.Errorf("a made-up ticket beside a cookie: %v", err)
	}
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 32
		case 'A' <= r && r <= 'Z':
			return r + 32
		}
		return r
	}, s)
}

// TestSlowAndHugeHandshakesAreCutOff is on the HTTP server of the programs.
func TestSlowAndHugeHandshakesAreCutOff(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.Introduce = 100 * time.Millisecond })
	token, _ := n.signIn("mira")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	part := serve.HTTP("realtime", "", n.server.Handler(), serve.HTTPOptions{Listener: listener, HeaderTimeout: 200 * time.Millisecond})
	if err := part.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- part.Run(t.Context()) }()
	defer func() {
		if err := errors.Join(part.Stop(t.Context()), <-served); err != nil {
			t.Error(err)
		}
	}()
	host := listener.Addr().String()
	head := "GET /rt/v1/ws HTTP/1.1\r\nHost: " + host + "\r\nOrigin: http://" + host + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nCookie: crewbeat.sid=" + token + "\r\n"
	for _, tt := range []struct {
		name, sent, want string
	}{
		{"a handshake that never ends", head, ""},
		{"half a request line", "GET /rt", ""},
		{"a header of a MiB", head + "X: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", "HTTP/1.1 431 "},
		{"thousands of headers", head + strings.Repeat("A: b\r\n", 100_000) + "\r\n", "HTTP/1.1 431 "},
		{"a thousand cookies", head + strings.Repeat("Cookie: crewbeat.sid=x\r\n", 1000) + "\r\n", "HTTP/1.1 101 "},
		{"a thousand subprotocols", head + "Sec-WebSocket-Protocol: crewbeat.v1" + strings.Repeat(", crewbeat.ticket.x", 1000) + "\r\n\r\n", "HTTP/1.1 101 "},
		{"two hosts", head + "Host: evil.example\r\n\r\n", "HTTP/1.1 400 "},
		{"a folded header", head + "X: a\r\n b\r\n\r\n", "HTTP/1.1 "},
		{"a NUL in a header", head + "X: a\x00b\r\n\r\n", "HTTP/1.1 400 "},
		{"a line break in a subprotocol", head + "Sec-WebSocket-Protocol: crewbeat.v1\r\r\n\r\n", "HTTP/1.1 400 "},
		{"a key of another length", strings.Replace(head, "dGhlIHNhbXBsZSBub25jZQ==", "dGhl", 1) + "\r\n", "HTTP/1.1 400 "},
		{"another version of WebSocket", strings.Replace(head, "Version: 13", "Version: 8", 1) + "\r\n", "HTTP/1.1 426 "},
		{"a body", strings.Replace(head, "GET", "POST", 1) + "Content-Length: 9999999\r\n\r\n", "HTTP/1.1 426 "},
	} {
		c, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			_, _ = io.WriteString(c, tt.sent) // the server may not want all of it
		}()
		got := make([]byte, len(tt.want))
		_, err = io.ReadFull(c, got)
		if tt.want == "" {
			// It closes by itself; whether it says something before is its own affair.
			rest, err2 := io.ReadAll(c)
			if ne, ok := errors.AsType[net.Error](err2); err != nil || ok && ne.Timeout() {
				t.Errorf("%s: kept open after %q: %v", tt.name, rest, err2)
			}
		} else if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
		_ = c.Close()
		<-wrote
	}
	// Nor may a client be slow to say who it is.
	c, resp := handshake(t, n, "/rt/v1/ws?auth=message", "")
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp.Status)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	drip := time.NewTicker(10 * time.Millisecond)
	defer drip.Stop()
	for _, b := range []byte(masked(0x81, `{"type":"auth","ticket":"`+strings.Repeat("a", 90)+`"}`)) {
		if _, err := c.Write([]byte{b}); err != nil {
			break
		}
		<-drip.C
	}
	if got := readAll(t, c); closedWith(got) != 4501 {
		t.Errorf("a slow introduction: closed with %d", closedWith(got))
	}
}

// TestNamesThatLookLikeChannelsAreNone: rights are checked on the very name
// that is followed.
func TestNamesThatLookLikeChannelsAreNone(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.PerSecond = 1000 })
	c := n.connect("jonas")
	long := strings.Repeat("a", 64)
	for name, code := range map[string]string{
		"TEAM:harbor:activity": "forbidden", "team:HARBOR:activity": "forbidden", "team:harbor:Activity": "forbidden",
		"user:Jonas:habits": "forbidden", "user:jonas-:habits": "forbidden", "team:" + long + ":activity": "forbidden", "user:mira:habits": "forbidden",
		"team:" + long + "a:activity": "bad_channel", "team:ｈarbor:activity": "bad_channel", "team:hаrbor:activity": "bad_channel", // a Cyrillic a
		"user:ſonas:habits": "bad_channel", "team:harbor\u200b:activity": "bad_channel", "team:harbor:activity\u202e": "bad_channel",
		"team:../harbor:activity": "bad_channel", "team:other/../harbor:activity": "bad_channel", "team:%68arbor:activity": "bad_channel",
		"team:harbor:*": "bad_channel", "team:>": "bad_channel", "team:h?rbor:activity": "bad_channel", "team:[a-z]:activity": "bad_channel", "*": "bad_channel", "#": "bad_channel",
		" team:harbor:activity": "bad_channel", "team:harbor:activity ": "bad_channel", "team:harbor:activity\n": "bad_channel", "team:harbor:activity\x00": "bad_channel", "team:harbor\r\n:activity": "bad_channel",
		":team:harbor": "bad_channel", "team:harbor:": "bad_channel", "::": "bad_channel", "team": "bad_channel", "team:harbor:activity:": "bad_channel", "team:harbor:activity,user:mira:habits": "bad_channel",
		"team:x' OR '1'='1:activity": "bad_channel", "rt:{team:other:activity}:c": "bad_channel", "team:harbor@1-1:activity": "bad_channel",
		strings.Repeat(":", 4000): "bad_channel", strings.Repeat("é", 3000): "bad_channel",
	} {
		before := len(c.messages())
		b, err := json.Marshal(map[string]any{"type": "subscribe", "channels": []string{name}})
		if err != nil {
			t.Fatal(err)
		}
		c.say(string(b))
		if m := c.awaitAfter(before, "an answer", func(m message) bool { return m.Type == "error" || m.Type == "subscribed" }); m.Code != code {
			t.Errorf("%q: got %+v, want %s", name[:min(60, len(name))], m, code)
		}
	}
	// A name in other words of JSON is the same name.
	c.say(`{"type":"subscribe","channels":["\u0074eam:harbor:activity"]}`)
	c.await("the channel", func(m message) bool { return m.Type == "subscribed" && m.Ch == team })
}
