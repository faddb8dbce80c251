package redisconn

import (
	"context"
	"crypto/tls"
	"net"
)

// handshakeError reports that a connection was made but TLS did not come
// about. A server that speaks no TLS shows it by silence, which would
// otherwise look like any time-out.
type handshakeError struct{ err error }

// Error says what the handshake ended with.
func (e *handshakeError) Error() string { return "tls: handshake: " + e.err.Error() }

// Unwrap returns what the handshake ended with.
func (e *handshakeError) Unwrap() error { return e.err }

// dialer connects, and speaks TLS if it is set up. The time for both together
// is bounded.
func dialer(cfg Config) func(ctx context.Context, network, addr string) (net.Conn, error) {
	plain := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: cfg.KeepAlive, Interval: cfg.KeepAlive / 3, Count: 3}}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
		defer cancel()
		conn, err := plain.DialContext(ctx, network, addr)
		if err != nil || cfg.TLS == nil || network == "unix" {
			return conn, err
		}
		own := cfg.TLS.Clone()
		if host, _, err := net.SplitHostPort(addr); err == nil && own.ServerName == "" {
			own.ServerName = host
		}
		secure := tls.Client(conn, own)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = conn.Close() // of no use to anyone
			return nil, &handshakeError{err}
		}
		return secure, nil
	}
}
