package socket

import (
	"net/http"
	"net/netip"

	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/realtime/internal/quota"
)

// places are those of a connection: among those of its address, and among those
// of its user.
type places [2]quota.Place

// admit takes a place among the connections of a user and of an address.
func (s *Server) admit(r *http.Request, who Identity) (p places, ok bool) {
	if p[0], ok = s.admitIP(r); !ok {
		return places{}, false
	}
	if p[1], ok = s.admitUser(who); !ok {
		s.c.Quota.Give(p[0])
		return places{}, false
	}
	return p, true
}

// giveBack returns places.
func (s *Server) giveBack(p places) {
	for _, one := range p {
		s.c.Quota.Give(one)
	}
}

func (s *Server) admitUser(who Identity) (p quota.Place, ok bool) {
	p, ok = s.c.Quota.Take(s.ctx, "user:"+who.UserID, s.c.PerUser)
	if !ok {
		s.metrics.denied("connections")
	}
	return p, ok
}

func (s *Server) admitIP(r *http.Request) (p quota.Place, ok bool) {
	block, public := clientBlock(r, s.c.Proxies)
	if !public {
		// A network of its own, or a proxy that nobody said is one: its limit
		// would be one for everybody.
		return quota.Place{}, true
	}
	p, ok = s.c.Quota.Take(s.ctx, "ip:"+block.String(), s.c.PerIP)
	if !ok {
		s.metrics.denied("address")
	}
	return p, ok
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
