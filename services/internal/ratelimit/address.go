package ratelimit

import "net/netip"

// Address returns the part of an IP address that stands for one asker: all of
// IPv4, and the /64 of IPv6, since a single line is given that many. What is no
// address is one asker too: it must not be a way around the limit.
func Address(ip string) string {
	a, err := netip.ParseAddr(ip)
	if err != nil {
		return "unknown"
	}
	a = a.Unmap().WithZone("")
	if a.Is4() {
		return a.String()
	}
	p, err := a.Prefix(64)
	if err != nil {
		return "unknown"
	}
	return p.String()
}
