// Package socket speaks the realtime protocol over WebSockets and, where these
// are blocked, over server-sent events.
//
// A connection has a goroutine only while there is something to read from it or
// left to write; where the system cannot tell when that is (see poller), one
// that reads. Writing happens in the goroutine of whoever has something to
// send, without waiting; only what the kernel does not take is left to a
// goroutine that drains it. What a slow reader cannot take is forgotten and read again from
// the history of the channel, so that memory is bounded and nothing is lost.
package socket

// The codes with which the server closes a connection. Of 4000 to 4499 the
// client connects again; from 4500 on it does not.
const (
	closeNormal   = 1000
	closeProtocol = 1002
	closeUTF8     = 1007

	closeDrain       = 4001 // the node is going away
	closeSlow        = 4002 // did not read for too long
	closeNoPong      = 4003
	closeAuthExpired = 4004
	closeStateLost   = 4005 // too much waited for a reset to be told
	closeRateLimited = 4006
	closeServer      = 4007 // our fault
	closeMaxAge      = 4008

	closeBadRequest      = 4500
	closeUnauthenticated = 4501
	closeTooMany         = 4502 // connections of this user
	closeTooBig          = 4503
	closeVersion         = 4504
	closeRevoked         = 4505
)

// reasons are sent with the codes.
var reasons = map[int]string{
	closeNormal: "", closeProtocol: "protocol error", closeUTF8: "text is not UTF-8",
	closeDrain: "draining", closeSlow: "too slow", closeNoPong: "no pong", closeAuthExpired: "sign-in expired",
	closeStateLost: "state lost", closeRateLimited: "too many messages", closeServer: "server error", closeMaxAge: "connection too old",
	closeBadRequest: "bad request", closeUnauthenticated: "not signed in", closeTooMany: "too many connections",
	closeTooBig: "message too big", closeVersion: "protocol version not supported", closeRevoked: "session revoked",
}
