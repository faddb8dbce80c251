package redisconn_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

func TestSpansNameTheCommandAndNothingOfItsContent(t *testing.T) {
	server := tieredtest.StartRedis(t)
	spans := tracetest.NewInMemoryExporter()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSyncer(spans))
	tracer := provider.Tracer("test")
	var log bytes.Buffer
	cfg := config(t, map[string]string{"REDIS_URL": server.URL(), "REDIS_DEBUG": "true"})
	conn := open(t, cfg, redisconn.Options{Tracer: tracer, Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	client := conn.Client()

	if err := client.Set(t.Context(), "idle", "x", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("%d spans of what nobody asked for", n)
	}

	const secret = "mira@demo.crewbeat.example"
	ctx, parent := tracer.Start(t.Context(), "parent")
	_ = client.Set(ctx, "user:"+secret, secret, time.Minute)
	_ = client.Get(ctx, "none:"+secret)
	_ = client.LPush(ctx, "user:"+secret, secret)       // of the wrong type
	_ = client.Do(ctx, "NOSUCHCOMMAND", secret, secret) // Redis repeats it in its error
	_, _ = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		p.Get(ctx, "user:"+secret)
		p.Del(ctx, "user:"+secret)
		return nil
	})
	parent.End()

	var names []string
	for _, s := range spans.GetSpans() {
		names = append(names, s.Name)
		if all := fmt.Sprintf("%+v", s); strings.Contains(all, secret) {
			t.Errorf("span %s shows what it was about: %s", s.Name, all)
		}
		if failed := s.Name == "redis LPUSH" || s.Name == "redis NOSUCHCOMMAND"; failed != (s.Status.Code == codes.Error) {
			t.Errorf("span %s has status %v", s.Name, s.Status)
		}
	}
	want := []string{"redis SET", "redis GET", "redis LPUSH", "redis NOSUCHCOMMAND", "redis PIPELINE", "parent"}
	if !slices.Equal(names, want) {
		t.Errorf("spans = %q, want %q", names, want)
	}
	_ = conn.Close()
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log shows what commands were about: %s", log.String())
	}
	if !strings.Contains(log.String(), "operation=SET") {
		t.Errorf("REDIS_DEBUG logs no commands: %s", log.String())
	}
}

func TestMetricsTellUpAndDown(t *testing.T) {
	server := tieredtest.StartRedis(t)
	reader := sdkmetric.NewManualReader()
	meter := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test")
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{Meter: meter})
	if err := conn.Client().Set(t.Context(), "k", "v", time.Minute).Err(); err != nil {
		t.Fatal(err)
	}
	if got := gauge(t, reader, "app.dependency.up"); got != 1 {
		t.Errorf("app.dependency.up = %d", got)
	}
	server.Kill()
	eventually(t, "three failures", 3*time.Second, func() bool { return conn.Status().Failures >= 3 })
	if got := gauge(t, reader, "app.dependency.up"); got != 0 {
		t.Errorf("app.dependency.up = %d", got)
	}
	if got := gauge(t, reader, "app.dependency.failures"); got < 3 {
		t.Errorf("app.dependency.failures = %d", got)
	}
}

func gauge(t *testing.T, reader sdkmetric.Reader, name string) int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if g, ok := m.Data.(metricdata.Gauge[int64]); ok && m.Name == name {
				return g.DataPoints[0].Value
			}
		}
	}
	t.Fatalf("there is no gauge %s", name)
	return 0
}

func TestTLSWithACertificateOfItsOwn(t *testing.T) {
	dir := t.TempDir()
	ca, cert, key := certificate(t, dir)
	tlsAddr := freeAddr(t)
	_, tlsPort, err := net.SplitHostPort(tlsAddr)
	if err != nil {
		t.Fatal(err)
	}
	server := tieredtest.StartRedis(t, tieredtest.WithArgs(
		"--tls-port", tlsPort, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", ca, "--tls-auth-clients", "yes"))
	plain := server.Addr()

	vars := func(url string, more ...string) map[string]string {
		m := map[string]string{"REDIS_URL": url, "REDIS_REQUIRED": "true"}
		for pair := range slices.Chunk(more, 2) {
			m[pair[0]] = pair[1]
		}
		return m
	}
	inline, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	good := []string{"REDIS_TLS_CA", string(inline), "REDIS_TLS_CERT", cert, "REDIS_TLS_KEY", key}
	conn := open(t, config(t, vars("rediss://"+tlsAddr, good...)), redisconn.Options{})
	if err := conn.Client().Set(t.Context(), "k", "v", time.Minute).Err(); err != nil {
		t.Error(err)
	}

	for _, tt := range []struct {
		name string
		vars map[string]string
		want redisconn.Cause
	}{
		{"an authority that nobody knows", vars("rediss://" + tlsAddr), redisconn.CauseCertificate},
		{"no client certificate", vars("rediss://"+tlsAddr, "REDIS_TLS_CA", ca), redisconn.CauseTLS},
		{"plain to a port that speaks TLS", vars("redis://" + tlsAddr), redisconn.CauseClosed},
		{"TLS to a port that does not", vars("rediss://"+plain, good...), redisconn.CauseTLS},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := redisconn.Open(t.Context(), config(t, tt.vars), redisconn.Options{})
			unreachable, ok := errors.AsType[*redisconn.UnreachableError](err)
			if !ok || unreachable.Cause != tt.want {
				t.Errorf("err = %v (%v), want %q", err, errors.Unwrap(err), tt.want)
			}
		})
	}
}

// certificate makes a certificate for 127.0.0.1 that is its own authority.
func certificate(t *testing.T, dir string) (ca, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "crewbeat test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert = write("cert.pem", "CERTIFICATE", der)
	return cert, cert, write("key.pem", "PRIVATE KEY", keyDER)
}
