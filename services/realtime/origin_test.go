package realtime_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/crewbeat/crewbeat/services/realtime"
)

func TestOnlyOwnPagesMayConnect(t *testing.T) {
	n := start(t, nil, func(c *realtime.Config) {
		c.Origins, c.Limits.PerUser, c.Limits.Attempts = []string{"https://app.example"}, 1000, 1000
	})
	token, _ := n.signIn("mira")
	host := strings.TrimPrefix(n.http.URL, "http://")
	name, port, _ := strings.Cut(host, ":")
	for _, tt := range []struct {
		name   string
		header http.Header
		ok     bool
	}{
		{"the same host", http.Header{"Origin": {"http://" + host}}, true},
		{"the same host behind TLS", http.Header{"Origin": {"https://" + host}}, true},
		{"listed", http.Header{"Origin": {"https://app.example"}, "Sec-Fetch-Site": {"cross-site"}}, true},
		{"listed, in other case", http.Header{"Origin": {"https://APP.example"}}, true},
		{"missing", http.Header{"Origin": nil}, false},
		{"empty", http.Header{"Origin": {""}}, false},
		{"null", http.Header{"Origin": {"null"}}, false},
		{"two", http.Header{"Origin": {"http://" + host, "http://evil.example"}}, false},
		{"another", http.Header{"Origin": {"http://evil.example"}}, false},
		{"another port", http.Header{"Origin": {"http://" + name + ":1"}}, false},
		{"no port", http.Header{"Origin": {"http://" + name}}, false},
		{"a longer port", http.Header{"Origin": {"http://" + host + "0"}}, false},
		{"a suffix", http.Header{"Origin": {"http://" + host + ".evil.example"}}, false},
		{"a prefix", http.Header{"Origin": {"http://evil" + host}}, false},
		{"as user info", http.Header{"Origin": {"http://" + host + "@evil.example"}}, false},
		{"with user info", http.Header{"Origin": {"http://evil@" + host}}, false},
		{"with a path", http.Header{"Origin": {"http://" + host + "/"}}, false},
		{"another scheme", http.Header{"Origin": {"file://" + host}}, false},
		{"listed, without TLS", http.Header{"Origin": {"http://app.example"}}, false},
		{"listed, other port", http.Header{"Origin": {"https://app.example:8443"}}, false},
		{"a sibling of the listed", http.Header{"Origin": {"https://evil.example"}}, false},
		{"below the listed", http.Header{"Origin": {"https://x.app.example"}}, false},
		{"the port as host", http.Header{"Origin": {"http://" + port}}, false},
		{"upper case", http.Header{"Origin": {"HTTP://" + strings.ToUpper(host)}}, true},
		{"a final dot", http.Header{"Origin": {"http://" + name + ".:" + port}}, false},
		{"the scheme of WebSockets", http.Header{"Origin": {"ws://" + host}}, false},
		{"a blob", http.Header{"Origin": {"blob:http://" + host}}, false},
		{"an opaque scheme", http.Header{"Origin": {"http:" + host}}, false},
		{"a query", http.Header{"Origin": {"http://" + host + "?"}}, false},
		{"a fragment", http.Header{"Origin": {"http://" + host + "#x"}}, false},
		{"two in one line", http.Header{"Origin": {"http://" + host + ", http://evil.example"}}, false},
		{"two with a space", http.Header{"Origin": {"http://evil.example http://" + host}}, false},
		{"listed and another", http.Header{"Origin": {"https://app.example", "https://evil.example"}}, false},
		{"listed, with a path", http.Header{"Origin": {"https://app.example/"}}, false},
		{"listed, with a suffix", http.Header{"Origin": {"https://app.example.evil.example"}}, false},
		{"listed, with a prefix", http.Header{"Origin": {"https://evilapp.example"}}, false},
		{"listed, in letters that fold to it", http.Header{"Origin": {"http\u017f://app.example"}}, false},
		{"a wildcard", http.Header{"Origin": {"*"}}, false},
		{"own, but the browser says same-site", http.Header{"Origin": {"http://" + host}, "Sec-Fetch-Site": {"same-site"}}, false},
		{"own, and the browser says so", http.Header{"Origin": {"http://" + host}, "Sec-Fetch-Site": {"same-origin"}}, true},
		{"own, but the browser says cross-site", http.Header{"Origin": {"http://" + host}, "Sec-Fetch-Site": {"cross-site"}}, false},
	} {
		c, resp, err := n.dial(dialing{token: token, header: tt.header})
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err != nil && (resp == nil || resp.StatusCode != http.StatusForbidden || resp.Header.Get("Content-Type") != "application/problem+json") {
			t.Errorf("%s: answered %+v", tt.name, resp)
		}
		if c != nil {
			_ = c.ws.CloseNow()
		}
		if len(tt.header["Origin"]) == 0 {
			continue // see TestStreamRequestsAreChecked and the tests of tickets
		}
		want := map[bool]int{true: http.StatusOK, false: http.StatusForbidden}[tt.ok]
		if _, resp := n.ticket(token, tt.header); resp.StatusCode != want {
			t.Errorf("%s: a ticket: %s, want %d", tt.name, resp.Status, want)
		}
		e, err := n.stream(n.http, token, "channels="+team, "", tt.header)
		if err != nil || e.resp.StatusCode != want {
			t.Errorf("%s: a stream: %+v, %v, want %d", tt.name, e, err, want)
		} else {
			_ = e.resp.Body.Close()
		}
	}
}

// A page that came without TLS may have been written by anybody on the way.
func TestAPageWithoutTLSIsNotThatOfAServerWithIt(t *testing.T) {
	for _, tt := range []struct {
		name, scheme  string
		tls, believed bool
		forwarded     string
		ok            bool
	}{
		{name: "TLS, from a page with it", tls: true, scheme: "https", ok: true},
		{name: "TLS, from a page without", tls: true, scheme: "http"},
		{name: "a proxy with TLS, from a page with it", believed: true, forwarded: "https", scheme: "https", ok: true},
		{name: "a proxy with TLS, from a page without", believed: true, forwarded: "https", scheme: "http"},
		{name: "a proxy without TLS", believed: true, forwarded: "http", scheme: "http", ok: true},
		{name: "somebody says it is a proxy", forwarded: "https", scheme: "http", ok: true}, // as without a word
		{name: "nobody says anything", scheme: "https", ok: true},
	} {
		t.Run(strings.ReplaceAll(tt.name, " ", "_"), func(t *testing.T) {
			n := start(t, nil, func(c *realtime.Config) {
				if tt.believed {
					c.TrustedProxies = []string{"127.0.0.0/8"}
				}
			})
			web := n.http
			if tt.tls {
				web = httptest.NewTLSServer(n.server.Handler())
				defer web.Close()
			}
			token, _ := n.signIn("mira")
			_, host, _ := strings.Cut(web.URL, "://")
			h := http.Header{"Origin": {tt.scheme + "://" + host}, "Cookie": {"crewbeat.sid=" + token}}
			if tt.forwarded != "" {
				h.Set("X-Forwarded-Proto", tt.forwarded)
			}
			ws, resp, err := websocket.Dial(t.Context(), web.URL+"/rt/v1/ws", &websocket.DialOptions{HTTPHeader: h, HTTPClient: web.Client()})
			if (err == nil) != tt.ok || err != nil && (resp == nil || resp.StatusCode != http.StatusForbidden) {
				t.Errorf("got %+v, %v", resp, err)
			}
			if err == nil {
				_ = ws.CloseNow()
			}
		})
	}
}
