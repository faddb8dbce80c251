package traceview

import "strings"

// Redact says what may be kept of an attribute: its value, perhaps shortened,
// and false if nothing. It drops what tells who somebody is, such as the address
// and the browser of a client, what may hold the identifiers of people, such
// as a path whose route is known anyway, and what may hold tokens, such as the
// query of a URL.
func Redact(key, value string) (string, bool) {
	switch key {
	case "client.address", "client.port", "client.socket.address",
		"network.peer.address", "network.peer.port", "net.peer.ip", "net.sock.peer.addr", "net.sock.peer.port",
		"http.client_ip", "user_agent.original", "http.user_agent", "enduser.id", "user.id", "user.email", "user.name",
		"url.path", "url.query", "http.target":
		return "", false
	case "url.full", "http.url", "http.referer":
		value, _, _ = strings.Cut(value, "?")
		value, _, _ = strings.Cut(value, "#")
		return withoutUserinfo(value), true
	}
	lower := strings.ToLower(key)
	if strings.HasPrefix(lower, "http.request.header.") || strings.HasPrefix(lower, "http.response.header.") ||
		strings.HasPrefix(lower, "db.query.parameter") {
		return "", false
	}
	for _, word := range [...]string{"password", "passwd", "secret", "token", "authorization", "cookie", "api_key", "apikey"} {
		if strings.Contains(lower, word) {
			return "", false
		}
	}
	return value, true
}

func withoutUserinfo(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	authority, path, _ := strings.Cut(rest, "/")
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		return scheme + "://" + strings.TrimSuffix(authority[at+1:]+"/"+path, "/")
	}
	return url
}
