package realtime_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// ticket asks for one as the page does.
func (n *node) ticket(token string, header http.Header) (string, *http.Response) {
	n.t.Helper()
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodPost, n.http.URL+"/rt/v1/ticket", nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Header.Set("Origin", n.http.URL)
	maps.Copy(req.Header, header)
	if token != "" {
		req.Header.Set("Cookie", "crewbeat.sid="+token)
	}
	resp, err := n.http.Client().Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	var v struct{ Ticket string }
	if err := json.NewDecoder(resp.Body).Decode(&v); err != nil {
		n.t.Fatal(err)
	}
	return v.Ticket, resp
}

// show connects with a ticket and without a cookie or an Origin, as a program
// that is no browser does.
func (n *node) show(ticket string) *client {
	n.t.Helper()
	c, _, err := n.dial(dialing{header: http.Header{"Origin": nil}, offers: offer(ticket)})
	if err != nil {
		n.t.Fatal(err)
	}
	return c
}

func offer(ticket string) []string { return []string{"crewbeat.v1", "crewbeat.ticket." + ticket} }

func hello(m message) bool { return m.Type == "hello" }

func TestATicketConnectsOnceOnAnyNode(t *testing.T) {
	redis := tieredtest.StartRedis(t)
	share := func(c *realtime.Config) { c.Redis = redis.Client(t) }
	one := start(t, nil, share)
	two := second(t, one.db, one.sessions, one.broker, share)
	token, _ := one.signIn("mira")

	tk, resp := one.ticket(token, nil)
	if resp.StatusCode != 200 || tk == "" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %q, %+v", tk, resp)
	}
	c := two.show(tk)
	c.await("hello", hello)
	c.subscribe("user:mira:habits", "")
	for _, n := range []*node{one, two} {
		if code := n.show(tk).awaitClose(); code != 4501 {
			t.Errorf("replayed: closed with %d", code)
		}
	}
	if code := one.show(strings.Repeat("a", 43)).awaitClose(); code != 4501 {
		t.Errorf("made up: closed with %d", code)
	}
	// As the first message.
	say := func(text string) *client {
		c, _, err := two.dial(dialing{query: "?auth=message", header: http.Header{"Origin": nil}})
		if err != nil {
			t.Fatal(err)
		}
		c.say(text)
		return c
	}
	tk, _ = one.ticket(token, nil)
	text := fmt.Sprintf(`{"type":"auth","ticket":%q}`, tk)
	say(text).await("hello", hello)
	for name, tt := range map[string]struct {
		text string
		code int
	}{
		"a replay": {text, 4501}, "another message": {`{"type":"subscribe"}`, 4501},
		"no JSON": {`{`, 4500}, "a big one": {strings.Repeat(" ", 9000), 4503},
	} {
		if code := say(tt.text).awaitClose(); code != tt.code {
			t.Errorf("%s: closed with %d, want %d", name, code, tt.code)
		}
	}
	// In a header, for a stream.
	tk, _ = two.ticket(token, nil)
	e, err := one.stream(one.http, "", "channels=user:mira:habits", "", http.Header{"Authorization": {"Ticket " + tk}})
	if err != nil || e.resp.StatusCode != 200 {
		t.Fatalf("%+v, %v", e, err)
	}
	e.untilSubscribed(1)
	if e, err := one.stream(one.http, "", "channels=user:mira:habits", "", http.Header{"Authorization": {"Ticket " + tk}}); err != nil || e.resp.StatusCode != 401 {
		t.Errorf("replayed: %+v, %v", e, err)
	}
	// With Redis away nobody gets in by a ticket.
	tk, _ = one.ticket(token, nil)
	redis.Kill()
	if _, resp := one.ticket(token, nil); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("issued without Redis: %s", resp.Status)
	}
	if _, resp, err := one.dial(dialing{offers: offer(tk)}); err == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("redeemed without Redis: %v", err)
	}
}

func TestTicketsAreForWhoIsSignedInAndOnOwnPages(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.Introduce = 50 * time.Millisecond })
	token, session := n.signIn("mira")
	if _, resp := n.ticket("", nil); resp.StatusCode != 401 {
		t.Errorf("nobody: %s", resp.Status)
	}
	for _, h := range []http.Header{{"Origin": {"https://evil.example"}}, {"Origin": {"null"}}, {"Origin": nil, "Sec-Fetch-Site": {"cross-site"}}} {
		if _, resp := n.ticket(token, h); resp.StatusCode != 403 {
			t.Errorf("%v: %s", h, resp.Status)
		}
	}
	// It is worth no more than the session.
	tk, _ := n.ticket(token, nil)
	if err := n.sessions.Revoke(t.Context(), "mira", session); err != nil {
		t.Fatal(err)
	}
	if code := n.show(tk).awaitClose(); code != 4501 {
		t.Errorf("of a revoked session: closed with %d", code)
	}
	c, _, err := n.dial(dialing{query: "?auth=message"})
	if err != nil {
		t.Fatal(err)
	}
	if code := c.awaitClose(); code != 4501 {
		t.Errorf("said nothing: closed with %d", code)
	}
	// A ticket does not make a foreign page ours.
	token, _ = n.signIn("mira")
	tk, _ = n.ticket(token, nil)
	if _, resp, err := n.dial(dialing{header: http.Header{"Origin": {"https://evil.example"}}, offers: offer(tk)}); err == nil || resp.StatusCode != 403 {
		t.Errorf("from another page: %v", err)
	}
}

func TestRefreshMovesAConnectionToAnotherSession(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) { c.Limits.Recheck = 30 * time.Millisecond })
	token, session := n.signIn("mira")
	c := n.connectAs(dialing{token: token})
	c.say(`{"type":"refresh","id":"0","ticket":"used"}`)
	c.await("a refusal", func(m message) bool { return m.Code == "bad_ticket" && m.ID == "0" })
	newer, _ := n.signIn("mira")
	tk, _ := n.ticket(newer, nil)
	c.say(fmt.Sprintf(`{"type":"refresh","id":"1","ticket":%q}`, tk))
	c.await("an answer", func(m message) bool { return m.Type == "refreshed" && m.ID == "1" })
	if err := n.sessions.Revoke(t.Context(), "mira", session); err != nil {
		t.Fatal(err)
	}
	other := n.connectAs(dialing{token: newer})
	other.subscribe(team, "")
	c.subscribe(team, "")
	n.publish(team, 1, 1)
	c.awaitEvents("e1")
	// Of somebody else it is an attack, or a client in confusion.
	stranger, _ := n.signIn("jonas")
	tk, _ = n.ticket(stranger, nil)
	c.say(fmt.Sprintf(`{"type":"refresh","ticket":%q}`, tk))
	if code := c.awaitClose(); code != 4501 {
		t.Errorf("closed with %d", code)
	}
}

func TestFiftyConnectionsOfOneUserOverTwoNodes(t *testing.T) {
	redis := tieredtest.StartRedis(t)
	share := func(c *realtime.Config) {
		c.Redis, c.Limits.PerIP, c.Limits.Wait, c.TrustedProxies = redis.Client(t), 3, 20*time.Second, []string{"127.0.0.0/8"}
	}
	one := start(t, nil, share)
	two := second(t, one.db, one.sessions, one.broker, share)
	token, _ := one.signIn("mira")
	stays, refused := 0, 0
	var last *client // of those that stay
	for i := range 50 {
		c, _, err := []*node{one, two}[i%2].dial(dialing{token: token})
		if err != nil {
			t.Fatal(err)
		}
		var m message
		c.wait("an answer", func() bool {
			all := c.messages()
			c.mu.Lock()
			defer c.mu.Unlock()
			if len(all) > 0 {
				m = all[0]
			}
			return len(all) > 0 || c.err != nil
		})
		if m.Type == "hello" {
			stays++
			last = c
		} else if code := c.awaitClose(); code != 4502 {
			t.Errorf("closed with %d", code)
		} else {
			refused++
		}
	}
	if stays != 20 || refused != 30 {
		t.Errorf("%d stay, %d were refused", stays, refused)
	}
	// Who goes makes room, on either node.
	_ = last.ws.CloseNow()
	until(t, "another may come", func() bool {
		c, _, err := two.dial(dialing{token: token})
		if err != nil {
			t.Fatal(err)
		}
		return answered(c) == 0
	})
	// And by address, over both.
	from := func(n *node, forwarded string, leaves bool) int {
		token, _ := n.signIn("jonas")
		c, _, err := n.dial(dialing{token: token, header: http.Header{"X-Forwarded-For": {forwarded}}})
		if err != nil {
			t.Fatal(err)
		}
		if code := answered(c); code != 0 {
			return code
		}
		if leaves {
			_ = c.ws.CloseNow()
		}
		return 0
	}
	for i, tt := range []struct {
		forwarded string
		want      int
	}{
		{"2001:db8:1:2::1", 0}, {"2001:db8:1:2:ffff::9", 0}, {"203.0.113.7, 2001:db8:1:2::3", 0},
		{"2001:db8:1:2::4", 4502}, {"2001:db8:1:2::4, 127.0.0.9", 4502}, {"2001:db8:1:3::1", 0}, {"203.0.113.7", 0},
		{"10.0.0.1", 0}, {"10.0.0.1", 0}, {"10.0.0.1", 0}, {"10.0.0.1", 0}, // a network of its own
	} {
		if got := from([]*node{one, two}[i%2], tt.forwarded, false); got != tt.want {
			t.Errorf("%d: from %s: %d, want %d", i, tt.forwarded, got, tt.want)
		}
	}
	for range 5 {
		until(t, "another may come from there", func() bool { return from(one, "203.0.113.99", true) == 0 })
	}
}

// answered returns 0 if the server says hello, and otherwise how it closes.
func answered(c *client) int {
	c.t.Helper()
	c.wait("an answer", func() bool {
		n := len(c.messages())
		c.mu.Lock()
		defer c.mu.Unlock()
		return n > 0 || c.err != nil
	})
	if len(c.messages()) > 0 {
		return 0
	}
	return c.awaitClose()
}

func TestNoTokenIsTakenFromAURL(t *testing.T) {
	n := start(t, nil, nil)
	token, _ := n.signIn("mira")
	tk, _ := n.ticket(token, nil)
	for _, q := range []string{"?ticket=" + tk, "?token=" + token, "?access_token=" + token, "?authorization=Ticket%20" + tk} {
		c, _, err := n.dial(dialing{query: q})
		if err != nil {
			t.Fatal(err)
		}
		if code := c.awaitClose(); code != 4501 {
			t.Errorf("%s: closed with %d", q, code)
		}
	}
	// Nor is one sent back.
	_, resp, err := n.dial(dialing{offers: offer(tk)})
	if err != nil || resp.Header.Get("Sec-Websocket-Protocol") != "crewbeat.v1" {
		t.Errorf("got %+v, %v", resp, err)
	}
}
