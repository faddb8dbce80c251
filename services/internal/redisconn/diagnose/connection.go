package diagnose

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// explanations of why a Redis cannot be reached. What to check is the cause's
// own hint.
var explanations = map[redisconn.Cause]struct {
	id     string
	causes []string
}{
	redisconn.CauseRefused:     {"connection.refused", []string{"Redis does not run there.", "It listens on another port or another address (bind).", "A firewall refuses."}},
	redisconn.CauseNotFound:    {"connection.unresolved", []string{"The host name is misspelt.", "The name server of this machine does not know it, as outside the cluster or the compose network."}},
	redisconn.CauseTimeout:     {"connection.timeout", []string{"A firewall or a network policy drops the packets.", "The server hangs, or is busy with one long command.", "The network is slower than REDIS_CONNECT_TIMEOUT and REDIS_COMMAND_TIMEOUT allow."}},
	redisconn.CauseNoRoute:     {"connection.no_route", []string{"The address belongs to a network that this machine cannot reach."}},
	redisconn.CauseNoSocket:    {"connection.no_socket", []string{"Redis does not run, or keeps its socket elsewhere."}},
	redisconn.CauseAuth:        {"connection.auth", []string{"REDIS_PASSWORD is wrong, or was changed.", "The server has users, and REDIS_USERNAME is not set or unknown.", "The server has no password at all, and one was sent."}},
	redisconn.CausePermission:  {"connection.acl", []string{"The ACL of the user does not even allow PING or SELECT."}},
	redisconn.CauseDatabase:    {"connection.database", []string{"REDIS_DB is larger than the server's databases setting allows.", "A Cluster has only database 0."}},
	redisconn.CauseLoading:     {"connection.loading", []string{"Redis has just started and reads its data from the disk."}},
	redisconn.CauseConnections: {"connection.too_many", []string{"maxclients is reached.", "Many replicas with a large REDIS_MAX_CONNECTIONS."}},
	redisconn.CauseProtected:   {"connection.protected", []string{"The server has no password, and so serves only its own machine."}},
	redisconn.CauseNoSentinel:  {"connection.no_sentinel", []string{"No Sentinel can be reached.", "The group has another name than ?master= says."}},
	redisconn.CauseClusterDown: {"connection.cluster", []string{"The server is no Cluster: use redis:// instead of redis+cluster://.", "A master is gone and has no replica."}},
	redisconn.CauseClosed:      {"connection.closed", []string{"What listens there is no Redis.", "A proxy in between closes the connection."}},
}

// unreachable explains why there is no connection.
func (e *examination) unreachable(ctx context.Context, err error) {
	cause := redisconn.CauseOf(err)
	if cause == redisconn.CauseNotSaving { // even PING is refused then
		e.unusable(cause)
		return
	}
	f := Finding{
		ID: "connection.failed", Area: Connection, Severity: Critical,
		Seen:   "Redis at " + e.cfg.Addr() + " cannot be used: " + string(cause) + ".",
		Causes: []string{"The log of the server knows more."},
		Next:   []string{"Check " + cause.Hint() + "."},
	}
	if x, ok := explanations[cause]; ok {
		f.ID, f.Causes = x.id, x.causes
	}
	addr := e.cfg.Addrs[0]
	switch {
	case e.cfg.TLS == nil && (cause == redisconn.CauseClosed || cause == redisconn.CauseTimeout) && e.speaksTLS(ctx, addr):
		f.ID, f.Seen = "tls.expected", "The server at "+addr+" speaks TLS, and was spoken to without."
		f.Causes = []string{"REDIS_URL begins with redis:// where rediss:// is meant."}
		f.Next = []string{"Write rediss:// in REDIS_URL; set REDIS_TLS_CA if the server's authority is a private one."}
	case cause == redisconn.CauseTLS && e.speaksPlainly(ctx, addr):
		f.ID, f.Seen = "tls.not_spoken", "The server at "+addr+" speaks no TLS, and was spoken to with it."
		f.Causes = []string{"REDIS_URL begins with rediss:// or REDIS_TLS_* is set, but this is the plain port."}
		f.Next = []string{"Use the server's tls-port, or redis:// and no REDIS_TLS_* if the network is safe."}
	case cause == redisconn.CauseTLS:
		f.ID = "tls.failed"
		f.Causes = []string{"The server asks for a client's certificate, or does not accept the one that it got.", "The two have no version of TLS in common; Crewbeat speaks 1.2 and 1.3."}
		f.Next = []string{"Set REDIS_TLS_CERT and REDIS_TLS_KEY to a certificate of the authority that the server trusts (its tls-ca-cert-file)."}
	case cause == redisconn.CauseCertificate:
		f.ID = "tls.certificate"
		f.Causes, f.Next = certificate(err)
	}
	e.found(f)
}

// certificate says what about a certificate is wrong.
func certificate(err error) (causes, next []string) {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return []string{"It was signed by an authority that this machine does not know."}, []string{"Set REDIS_TLS_CA to the certificate of the server's authority."}
	}
	if h, ok := errors.AsType[x509.HostnameError](err); ok {
		names := strings.Join(h.Certificate.DNSNames, ", ")
		return []string{"It is of another name than " + h.Host + ": " + cmpOr(names, "it has none") + "."},
			[]string{"Use a name of the certificate in REDIS_URL, or have one made with this name."}
	}
	if i, ok := errors.AsType[x509.CertificateInvalidError](err); ok && i.Reason == x509.Expired {
		return []string{"It is valid from " + i.Cert.NotBefore.UTC().Format(time.RFC3339) + " to " + i.Cert.NotAfter.UTC().Format(time.RFC3339) + " only."},
			[]string{"Renew it, and check the clocks of both machines."}
	}
	return []string{"It is not what this machine accepts."}, []string{"Check REDIS_TLS_CA, and that the certificate names this host."}
}

func cmpOr(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// dial connects without saying anything.
func (e *examination) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(commandTimeout))
}

// speaksTLS reports whether a server answers a TLS greeting with TLS, be it by
// a refusal.
func (e *examination) speaksTLS(ctx context.Context, addr string) bool {
	conn, err := e.dial(ctx, addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	// Nothing is sent over it: who answers does not matter, only how.
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}) //nolint:gosec // see above
	err = secure.HandshakeContext(ctx)
	_, refused := errors.AsType[*net.OpError](err)
	return err == nil || refused && strings.Contains(err.Error(), "remote error: tls:")
}

// speaksPlainly reports whether a server answers PING as Redis does.
func (e *examination) speaksPlainly(ctx context.Context, addr string) bool {
	conn, err := e.dial(ctx, addr)
	if err != nil {
		return false
	}
	defer conn.Close()
	answer := make([]byte, 1)
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		return false
	}
	_, err = conn.Read(answer)
	return err == nil && (answer[0] == '+' || answer[0] == '-')
}
