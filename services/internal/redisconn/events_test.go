package redisconn_test

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// journal is a log, or a list of events, that several goroutines write.
type journal struct {
	mu     sync.Mutex
	text   bytes.Buffer
	events []redisconn.Event
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) add(e redisconn.Event, _ redisconn.Status) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, e)
}

func (j *journal) seen() []redisconn.Event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.events)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

func TestALossIsToldStepByStep(t *testing.T) {
	t.Parallel()
	server := tieredtest.StartRedis(t)
	reader := sdkmetric.NewManualReader()
	var told journal
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL()}), redisconn.Options{
		Log:   slog.New(slog.NewTextHandler(&told, nil)),
		Meter: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)).Meter("test"),
	})
	defer conn.OnEvent(told.add)()
	eventually(t, "ready", 10*time.Second, func() bool { return conn.Status().Event == redisconn.EventReady })
	if _, body := health(t, conn); body["details"].(map[string]any)["event"] != "ready" {
		t.Errorf("health = %v", body)
	}
	server.Kill()
	eventually(t, "several tries", 10*time.Second, func() bool { return len(told.seen()) >= 5 })
	if e := conn.Status().Event; e != redisconn.EventReconnecting {
		t.Errorf("while it is away: %s", e)
	}
	server.Restart(t)
	eventually(t, "ready again", 10*time.Second, func() bool { return conn.Status().Event == redisconn.EventReady })

	got := told.seen()
	if i := slices.Index(got, redisconn.EventLost); i > 1 || i < 0 { // after a first "ready", if that was not yet
		t.Fatalf("events = %v", got)
	}
	got = got[slices.Index(got, redisconn.EventLost):]
	tries := 0
	for _, e := range got {
		if e == redisconn.EventReconnecting {
			tries++
		}
	}
	if want := slices.Concat([]redisconn.Event{redisconn.EventLost}, slices.Repeat([]redisconn.Event{redisconn.EventReconnecting}, tries),
		[]redisconn.Event{redisconn.EventConnected, redisconn.EventReady}); !slices.Equal(got, want) {
		t.Errorf("events = %v", got)
	}
	counts := countsOf(t, reader)
	if counts["lost"] != 1 || counts["connected"] != 2 || counts["ready"] != 2 || counts["reconnecting"] != int64(tries) {
		t.Errorf("%d tries, but counted: %v", tries, counts)
	}
	for event, want := range map[string]int{"connected": 2, "ready": 2, "lost": 1, "reconnecting": 1} {
		if n := strings.Count(told.String(), "event="+event+" "); n != want {
			t.Errorf("the log has %s %d times, want %d:\n%s", event, n, want, told.String())
		}
	}
	for _, says := range []string{`msg="redis is up"`, `level=WARN msg="redis is down: slower, nothing lost"`, `msg="redis is back"`, " away=", `cause="connection refused" check="that a Redis server runs there`} {
		if n := strings.Count(told.String(), says); n != 1 {
			t.Errorf("the log says %s %d times, want once:\n%s", says, n, told.String())
		}
	}
}

// countsOf reads redis.connection.events.
func countsOf(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	counts := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, one := range scope.Metrics {
			if sum, ok := one.Data.(metricdata.Sum[int64]); ok && one.Name == "redis.connection.events" {
				for _, p := range sum.DataPoints {
					event, _ := p.Attributes.Value(attribute.Key("event"))
					counts[event.AsString()] = p.Value
				}
			}
		}
	}
	return counts
}

func TestARedisThatAnswersButRefusesIsConnectedAndNotReady(t *testing.T) {
	t.Parallel()
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "1mb", "--maxmemory-policy", "noeviction"))
	var told journal
	conn := open(t, config(t, map[string]string{"REDIS_URL": server.URL(), "REDIS_HEALTH_CHECK_INTERVAL": "100"}),
		redisconn.Options{Log: slog.New(slog.NewTextHandler(&told, nil))})
	eventually(t, "unhealthy", 10*time.Second, func() bool { return conn.Report().Status == "unhealthy" })
	if s := conn.Status(); !s.Up || s.Event != redisconn.EventConnected {
		t.Errorf("status = %+v", s)
	}
	client := server.Client(t)
	limit := func(to string) {
		if err := client.ConfigSet(t.Context(), "maxmemory", to).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("64mb")
	eventually(t, "ready", 10*time.Second, func() bool { return conn.Status().Event == redisconn.EventReady })
	limit("1mb")
	eventually(t, "connected only", 10*time.Second, func() bool { return conn.Status().Event == redisconn.EventConnected })
	eventually(t, "told of both refusals, once each", 10*time.Second, func() bool {
		return strings.Count(told.String(), `level=WARN msg="redis answers, and cannot be used"`) == 2
	})
}

func TestTheBackOffDoublesWithFullJitterAndNeverEnds(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		failures int
		ceiling  time.Duration
	}{
		{2, redisconn.BackoffBase},
		{3, 2 * redisconn.BackoffBase},
		{4, 4 * redisconn.BackoffBase},
		{5, 8 * redisconn.BackoffBase},
		{6, redisconn.BackoffCap},
		{1000, redisconn.BackoffCap},
		{1 << 40, redisconn.BackoffCap}, // for years
	} {
		least, most := time.Hour, time.Duration(0)
		for range 2000 {
			d := redisconn.Backoff(tt.failures)
			least, most = min(least, d), max(most, d)
		}
		least, most = least-redisconn.BackoffFloor, most-redisconn.BackoffFloor
		// Full: over the whole range, not about its end.
		if least < 0 || least > tt.ceiling/20 || most >= tt.ceiling || most < tt.ceiling*19/20 {
			t.Errorf("after %d failures from %v to %v, want all of 0 to %v", tt.failures, least, most, tt.ceiling)
		}
	}
	if d := redisconn.Backoff(1); d != redisconn.BackoffFloor {
		t.Errorf("the second look comes after %v", d)
	}
}
