package tieredtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a throw-away certificate authority with one certificate, of
// 127.0.0.1 and localhost, that servers and clients share. It lives as long as
// the test.
type authority struct {
	root *x509.CertPool
	pair tls.Certificate
	pems map[string][]byte // by file name
}

const (
	caFile   = "ca.crt"
	certFile = "redis.crt"
	keyFile  = "redis.key"
)

// WithTLS makes the server speak TLS and nothing else, with certificates that
// are made for the test and that both sides must show. Servers that are given
// the same option trust each other. [Redis.TLSConfig] is the client's side.
func WithTLS(t testing.TB) RedisOption {
	t.Helper()
	a, err := newAuthority()
	if err != nil {
		t.Fatalf("make certificates: %v", err)
	}
	return func(r *Redis) { r.tls = a }
}

// TLSConfig is what a client of the server needs; nil without WithTLS.
func (r *Redis) TLSConfig() *tls.Config {
	if r.tls == nil {
		return nil
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS12,
		RootCAs:      r.tls.root,
		Certificates: []tls.Certificate{r.tls.pair},
	}
}

func newAuthority() (*authority, error) {
	from, until := time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "tieredtest"}, NotBefore: from, NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: from, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	a := &authority{root: x509.NewCertPool(), pems: map[string][]byte{
		caFile:   pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}),
		certFile: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyFile:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}}
	a.root.AppendCertsFromPEM(a.pems[caFile])
	a.pair, err = tls.X509KeyPair(a.pems[certFile], a.pems[keyFile])
	return a, err
}

// write puts the files where arguments says. A nil authority has none.
func (a *authority) write(dir string) error {
	if a == nil {
		return nil
	}
	for name, b := range a.pems {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return fmt.Errorf("write certificates: %w", err)
		}
	}
	return nil
}

func (a *authority) arguments(dir string) []string {
	return []string{
		"--tls-ca-cert-file", filepath.Join(dir, caFile), "--tls-cert-file", filepath.Join(dir, certFile),
		"--tls-key-file", filepath.Join(dir, keyFile), "--tls-auth-clients", "yes",
		"--tls-replication", "yes", "--tls-cluster", "yes",
	}
}

// over puts TLS on top of what dial connects, if there is a configuration:
// go-redis leaves that to a Dialer that it is given.
func over(dial DialFunc, conf *tls.Config) DialFunc {
	if dial == nil || conf == nil {
		return dial
	}
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		one := conf.Clone()
		if one.ServerName == "" {
			one.ServerName, _, _ = net.SplitHostPort(addr)
		}
		return tls.Client(conn, one), nil
	}
}
