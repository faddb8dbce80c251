package ratelimit_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

func TestOnlyProxiesThatAreTrustedSayWhoAsks(t *testing.T) {
	for _, tt := range []struct {
		name, trusted, peer string
		forwarded           []string
		want                string
	}{
		{"nobody is trusted", "", "192.0.2.1:99", []string{"198.51.100.7"}, "192.0.2.1"},
		{"another is trusted", "10.0.0.0/8", "192.0.2.1:99", []string{"198.51.100.7"}, "192.0.2.1"},
		{"a trusted proxy", "10.0.0.0/8", "10.1.2.3:99", []string{"198.51.100.7"}, "198.51.100.7"},
		{"an address, not a network", "10.1.2.3", "10.1.2.3:99", []string{"198.51.100.7"}, "198.51.100.7"},
		{"its neighbour", "10.1.2.3", "10.1.2.4:99", []string{"198.51.100.7"}, "10.1.2.4"},
		{"what a client wrote stands before what the proxy did", "10.0.0.0/8", "10.1.2.3:99", []string{"203.0.113.9, 198.51.100.7"}, "198.51.100.7"},
		{"in lines of its own", "10.0.0.0/8", "10.1.2.3:99", []string{"203.0.113.9", "198.51.100.7"}, "198.51.100.7"},
		{"two proxies", "10.0.0.0/8, 192.0.2.0/24", "10.1.2.3:99", []string{"198.51.100.7, 192.0.2.5"}, "198.51.100.7"},
		{"no header", "10.0.0.0/8", "10.1.2.3:99", nil, "10.1.2.3"},
		{"a header of nothing sensible", "10.0.0.0/8", "10.1.2.3:99", []string{"198.51.100.7, unknown"}, "10.1.2.3"},
		{"IPv4 in IPv6", "10.0.0.0/8", "[::ffff:10.1.2.3]:99", []string{"::ffff:198.51.100.7"}, "198.51.100.7"},
		{"IPv6", "fd00::/8", "[fd00::1]:99", []string{"2001:db8::1"}, "2001:db8::1"},
		{"no address", "10.0.0.0/8", "@", []string{"198.51.100.7"}, "invalid IP"},
	} {
		proxies, err := ratelimit.ParseProxies(strings.FieldsFunc(tt.trusted, func(r rune) bool { return r == ',' || r == ' ' }))
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{RemoteAddr: tt.peer, Header: http.Header{"X-Forwarded-For": tt.forwarded}}
		if got := proxies.Client(r).String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
	if _, err := ratelimit.ParseProxies([]string{"10.0.0.0/8", "the proxy"}); err == nil || !strings.Contains(err.Error(), `"the proxy" is neither`) {
		t.Errorf("err = %v", err)
	}
}
