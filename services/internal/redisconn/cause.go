package redisconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// Cause is why Redis cannot be used, in words that may be shown to anyone.
type Cause string

// The causes that can be told apart.
const (
	CauseRefused      Cause = "connection refused"
	CauseNotFound     Cause = "host name not found"
	CauseTimeout      Cause = "timeout"
	CauseNoRoute      Cause = "no route to the host"
	CauseNoSocket     Cause = "socket file not found"
	CauseAuth         Cause = "authentication failed"
	CausePermission   Cause = "permission denied for this user"
	CauseCertificate  Cause = "certificate not accepted"
	CauseTLS          Cause = "TLS handshake failed"
	CauseClosed       Cause = "connection closed by the server"
	CauseDatabase     Cause = "no such database number"
	CauseLoading      Cause = "still loading its data"
	CauseReadOnly     Cause = "read-only replica"
	CauseNotSaving    Cause = "refusing writes since it cannot save"
	CauseOutOfMemory  Cause = "out of memory"
	CauseConnections  Cause = "too many connections"
	CauseProtected    Cause = "protected mode"
	CauseNoSentinel   Cause = "no Sentinel knows the group"
	CauseClusterDown  Cause = "cluster down"
	CauseWrongValue   Cause = "a value read differs from the one written"
	CauseUnknown      Cause = "unexpected error"
	causeNotLookedYet Cause = ""
)

// Hint says what to check; it completes "check …".
func (c Cause) Hint() string {
	switch c {
	case CauseRefused:
		return "that a Redis server runs there and that REDIS_URL, or REDIS_HOST and REDIS_PORT, name its port"
	case CauseNotFound:
		return "the host name in REDIS_URL or REDIS_HOST, and the name server of this machine"
	case CauseTimeout, CauseNoRoute:
		return "the address, and that no firewall or network policy drops the packets; a server that hangs shows the same"
	case CauseNoSocket:
		return "the path in REDIS_URL and the unixsocket setting of the server"
	case CauseAuth:
		return "REDIS_USERNAME and REDIS_PASSWORD, or the credentials in REDIS_URL"
	case CausePermission:
		return "the ACL of the user: it needs the commands that Crewbeat uses, on its keys and channels"
	case CauseCertificate:
		return "REDIS_TLS_CA, that the certificate names this host, and the clocks"
	case CauseTLS:
		return "that the server speaks TLS on this port; if it does not, use redis:// and no REDIS_TLS_*"
	case CauseClosed:
		return "that this is the port of a Redis server; if it speaks TLS, use rediss://"
	case CauseDatabase:
		return "REDIS_DB and the databases setting of the server"
	case CauseLoading:
		return "again in a moment: the server has just started"
	case CauseReadOnly:
		return "that the address is that of the master"
	case CauseNotSaving:
		return "the log of the server and its disk: its last snapshot failed"
	case CauseOutOfMemory:
		return "maxmemory and maxmemory-policy of the server"
	case CauseConnections:
		return "maxclients of the server and REDIS_MAX_CONNECTIONS"
	case CauseProtected:
		return "that the server has a password, or protected-mode no"
	case CauseNoSentinel:
		return "the name after ?master= in REDIS_URL, and the Sentinels"
	case CauseClusterDown:
		return "CLUSTER INFO on the server"
	case CauseWrongValue, CauseUnknown, causeNotLookedYet, causeBehind, causeFailed: // nothing more precise
	}
	return "the address and the log of the server"
}

// CauseOf tells why a command failed. It is [CauseUnknown] for what is no
// failure of the connection.
func CauseOf(err error) Cause {
	if re, ok := errors.AsType[redis.Error](err); ok {
		if c := causeOfReply(re.Error()); c != CauseUnknown {
			return c
		}
	}
	switch {
	case errors.Is(err, errWrongValue):
		return CauseWrongValue
	case isCertificate(err):
		return CauseCertificate
	case isTLS(err):
		return CauseTLS
	case errors.Is(err, syscall.ECONNREFUSED):
		return CauseRefused
	case errors.Is(err, os.ErrNotExist):
		return CauseNoSocket
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return CauseNoRoute
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && !dns.IsTimeout {
		return CauseNotFound
	}
	if ne, ok := errors.AsType[net.Error](err); (ok && ne.Timeout()) || errors.Is(err, context.DeadlineExceeded) {
		return CauseTimeout
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed),
		strings.Contains(err.Error(), "can't parse"):
		return CauseClosed
	}
	return causeOfReply(err.Error())
}

// causeOfReply looks for the codes that Redis begins its errors with. The
// errors of Sentinel clients hold them further inside.
func causeOfReply(s string) Cause {
	for _, known := range []struct {
		part  string
		cause Cause
	}{
		{"WRONGPASS", CauseAuth},
		{"NOAUTH", CauseAuth},
		{"ERR AUTH", CauseAuth},
		{"invalid password", CauseAuth},
		{"invalid username-password", CauseAuth},
		{"NOPERM", CausePermission},
		{"DENIED", CauseProtected},
		{"LOADING", CauseLoading},
		{"READONLY", CauseReadOnly},
		{"OOM ", CauseOutOfMemory},
		{"MISCONF", CauseNotSaving},
		{"max number of clients", CauseConnections},
		{"DB index is out of range", CauseDatabase},
		{"invalid DB index", CauseDatabase},
		{"CLUSTERDOWN", CauseClusterDown},
		{"cluster support disabled", CauseClusterDown},
		{"all sentinels", CauseNoSentinel},
	} {
		if strings.Contains(s, known.part) {
			return known.cause
		}
	}
	return CauseUnknown
}

func isCertificate(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return true
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return true
	}
	_, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok
}

func isTLS(err error) bool {
	if _, ok := errors.AsType[*handshakeError](err); ok {
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return true
	}
	_, ok := errors.AsType[tls.AlertError](err)
	return ok || strings.Contains(err.Error(), "tls: ")
}

// UnreachableError reports that a Redis without which the program must not
// start cannot be used.
type UnreachableError struct {
	Addr  string // host and port, or several
	Cause Cause
	err   error
}

// Error says where Redis was looked for, why it failed and what to check.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("redis at %s is required (REDIS_REQUIRED=true) but cannot be reached: %s; check %s",
		e.Addr, e.Cause, e.Cause.Hint())
}

// Unwrap returns what the client said. It holds no secret, but perhaps
// addresses.
func (e *UnreachableError) Unwrap() error { return e.err }
