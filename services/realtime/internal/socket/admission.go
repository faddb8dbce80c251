package socket

import (
	"net/http"
	"net/netip"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// admit takes a place among the connections of a user and of an address. give
// returns it.
func (s *Server) admit(r *http.Request, who Identity) (give func(), ok bool) {
	giveIP, ok := s.admitIP(r)
	if !ok {
		return nil, false
	}
	giveUser, ok := s.admitUser(who)
	if !ok {
		giveIP()
		return nil, false
	}
	return func() { giveUser(); giveIP() }, true
}

func (s *Server) admitUser(who Identity) (give func(), ok bool) {
	give, ok = s.c.Quota.Take(s.ctx, "user:"+who.UserID, s.c.PerUser)
	if !ok {
		s.metrics.denied("connections")
	}
	return give, ok
}

func (s *Server) admitIP(r *http.Request) (give func(), ok bool) {
	block, public := clientBlock(r, s.c.Proxies)
	if !public {
		// A network of its own, or a proxy that nobody said is one: its limit
		// would be one for everybody.
		return func() {}, true
	}
	give, ok = s.c.Quota.Take(s.ctx, "ip:"+block.String(), s.c.PerIP)
	if !ok {
		s.metrics.denied("address")
	}
	return give, ok
}

// clientBlock returns the addresses that count as one client with that of r,
// and whether they are public: an IPv4 address, or a /64 of IPv6, of which
// each subscriber has at least one.
func clientBlock(r *http.Request, proxies ratelimit.Proxies) (_ netip.Prefix, public bool) {
	addr := proxies.Client(r)
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	block, err := addr.Prefix(bits)
	if err != nil || !addr.IsGlobalUnicast() || addr.IsPrivate() || proxies.Trusts(addr) {
		return netip.Prefix{}, false
	}
	return block, true
}
