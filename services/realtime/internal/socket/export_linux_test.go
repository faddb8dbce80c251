package socket

import "net"

// Strip returns nc as a connection that is only a descriptor, where there are.
func Strip(nc net.Conn) net.Conn { return strip(nc) }

// Rest is rest.
func (b *bare) Rest() { b.rest() }
