package main

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func TestBatchesOfSpansAreLimitedWithRedisAndWithoutIt(t *testing.T) {
	redis := tieredtest.StartRedis(t)
	site := start(t, map[string]string{"REDIS_URL": redis.URL(), "TRUSTED_PROXIES": "127.0.0.1"}, "--addr", "127.0.0.1:0", "--data", t.TempDir(), "--demo=false")
	c := browser(t)
	send := func(from string) *http.Response {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, site.url+"/v1/traces", strings.NewReader(`{"resourceSpans":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("X-Forwarded-For", from)
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res
	}
	// of sends so many, and returns how many were taken.
	of := func(from string) (taken int) {
		t.Helper()
		for range spanBatches + 60 {
			switch res := send(from); res.StatusCode {
			case http.StatusOK:
				taken++
			case http.StatusTooManyRequests:
				if wait, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || wait < 1 || res.Header.Get("RateLimit-Policy") != `"spans";q=120;w=60` {
					t.Fatalf("refused with %v", res.Header)
				}
			default:
				t.Fatal(res.Status)
			}
		}
		return taken
	}
	// Two come back each second, while the machine may be slow.
	if n := of("198.51.100.7"); n < spanBatches || n > spanBatches+50 {
		t.Errorf("%d batches are taken of one address, want %d", n, spanBatches)
	}
	// Who is signed in is counted as a person, whatever others at the address did.
	register := map[string]any{"email": "ada@example.com", "name": "Ada", "password": "a long enough one", "tz": "Europe/Zurich"}
	if code, answer := call(t, c, "POST", site.url+"/api/v1/auth/register", register); code != http.StatusCreated {
		t.Fatalf("%d %v", code, answer)
	}
	if n := of("198.51.100.7"); n < spanBatches || n > spanBatches+50 {
		t.Errorf("%d batches are taken of one person, want %d", n, spanBatches)
	}
	redis.Kill()
	c.Jar = nil
	if n := of("198.51.100.8"); n < spanBatches || n > spanBatches+50 {
		t.Errorf("%d batches are taken of one address without Redis, want %d", n, spanBatches)
	}
}
