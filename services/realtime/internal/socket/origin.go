package socket

import (
	"net/http"
	"net/url"
	"strings"
)

// Owns reports whether r is from a page of this server or of a listed origin.
func (s *Server) Owns(r *http.Request) bool { return allowedOrigin(r, s.c.Origins) }

// allowedOrigin reports whether the page that opens the connection may use the
// cookies that come with it: it is of this host, or of a listed origin. Browsers
// apply no such rule to WebSockets themselves. A request without an Origin is
// not from a browser; since it could carry a stolen cookie as well as any
// other, it must say where it belongs.
func allowedOrigin(r *http.Request, listed []string) bool {
	values := r.Header.Values("Origin")
	if len(values) != 1 {
		return false
	}
	origin := values[0]
	for _, o := range listed {
		if strings.EqualFold(o, origin) {
			return true
		}
	}
	if r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return false
	}
	return u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
