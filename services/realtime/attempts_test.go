package realtime_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/realtime"
)

func TestTriesToConnectAreLimitedOverNodesAndWithoutRedis(t *testing.T) {
	redis := tieredtest.StartRedis(t)
	share := func(c *realtime.Config) {
		c.Redis, c.Secret, c.Limits.Attempts, c.TrustedProxies = redis.Client(t), "one for both", 10, []string{"127.0.0.0/8"}
		c.Limits.Wait = 20 * time.Second
	}
	one := start(t, nil, share)
	two := second(t, one.db, one.sessions, one.broker, share)
	nodes := []*node{one, two}
	wantRefused := func(resp *http.Response) {
		t.Helper()
		wait, err := strconv.Atoi(resp.Header.Get("Retry-After"))
		if resp.StatusCode != 429 || err != nil || wait < 1 || wait > 60 || resp.Header.Get("RateLimit-Policy") != `"connections";q=10;w=60` {
			t.Errorf("%s, %v", resp.Status, resp.Header)
		}
	}
	token, _ := one.signIn("mira")
	for i := range 10 {
		if _, resp := nodes[i%2].ticket(token, nil); resp.StatusCode != 200 {
			t.Fatalf("try %d: %s", i, resp.Status)
		}
	}
	for _, n := range nodes {
		_, resp := n.ticket(token, nil)
		wantRefused(resp)
		if _, resp, err := n.dial(dialing{token: token}); err == nil {
			t.Error("a socket is opened")
		} else {
			wantRefused(resp)
		}
		// An EventSource that is answered 429 never comes again.
		e, err := n.stream(n.http, token, "channels=user:mira:habits", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		said, err := io.ReadAll(e.resp.Body)
		if e.resp.StatusCode != 200 || err != nil || !strings.Contains(string(said), "retry: ") || !strings.Contains(string(said), `"code":4006`) {
			t.Errorf("a stream is answered %s: %s, %v", e.resp.Status, said, err)
		}
	}
	// Others are others, by person and by address.
	other, _ := one.signIn("jonas")
	if _, resp := one.ticket(other, nil); resp.StatusCode != 200 {
		t.Errorf("somebody else: %s", resp.Status)
	}
	stranger := func(n *node, from string) int {
		_, resp := n.ticket("", http.Header{"X-Forwarded-For": {from}})
		return resp.StatusCode
	}
	for i := range 10 {
		if got := stranger(nodes[i%2], "2001:db8::"+strconv.Itoa(i)); got != 401 {
			t.Fatalf("try %d: %d", i, got)
		}
	}
	if got, elsewhere := stranger(two, "2001:db8::ffff"), stranger(two, "2001:db8:0:1::"); got != 429 || elsewhere != 401 {
		t.Errorf("the address: %d; another one: %d", got, elsewhere)
	}

	redis.Kill()
	third, _ := one.signIn("lena")
	admitted := 0
	for range 30 {
		if _, resp := one.ticket(third, nil); resp.StatusCode != 429 {
			admitted++ // 503: tickets are kept in Redis
		}
	}
	// The clock goes on: one comes back every six seconds.
	if admitted < 10 || admitted > 14 {
		t.Errorf("%d of 30 are admitted without Redis, want ten", admitted)
	}
}
