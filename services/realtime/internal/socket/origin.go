package socket

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// Owns reports whether r is from a page of this server or of a listed origin.
func (s *Server) Owns(r *http.Request) bool {
	return allowedOrigin(r, s.c.Origins, overTLS(r, s.c.Proxies))
}

// allowedOrigin reports whether the page that opens the connection may use the
// cookies that come with it: it is of this host, or of a listed origin. Browsers
// apply no such rule to WebSockets themselves. A request without an Origin is
// not from a browser; since it could carry a stolen cookie as well as any
// other, it must say where it belongs. A page that came without TLS, which
// anybody on the way may have written, is none of a server that came with it.
func allowedOrigin(r *http.Request, listed []string, secure bool) bool {
	values := r.Header.Values("Origin")
	if len(values) != 1 {
		return false
	}
	origin := values[0]
	if strings.ContainsFunc(origin, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
		return false // no browser sends that; letters of other scripts may be equal in another case
	}
	for _, o := range listed {
		if strings.EqualFold(o, origin) {
			return true
		}
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "https" && (u.Scheme != "http" || secure) || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	return u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// overTLS reports whether the client is known to have sent r over TLS, to this
// server or to a proxy whose word counts.
func overTLS(r *http.Request, proxies ratelimit.Proxies) bool {
	if r.TLS != nil {
		return true
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && r.Header.Get("X-Forwarded-Proto") == "https" && proxies.Trusts(peer.Addr().Unmap().WithZone(""))
}
