package realtime_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// instruments returns every instrument with its points and their attributes.
func instruments(t *testing.T, reader sdkmetric.Reader) (all []string) {
	t.Helper()
	var rm metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &rm); err != nil {
		t.Fatal(err)
	}
	for _, scope := range rm.ScopeMetrics {
		for _, m := range scope.Metrics {
			b, err := json.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, string(b))
		}
	}
	return all
}

// TestNothingSecretIsToldAndNobodyIsALabel has all kinds of clients do all kinds
// of things, with everything below failing in the end, and then reads the whole
// log, each span, and the attributes of each instrument.
func TestNothingSecretIsToldAndNobodyIsALabel(t *testing.T) {
	server := tieredtest.StartRedis(t)
	logged, reader, spans := &record{}, sdkmetric.NewManualReader(), tracetest.NewSpanRecorder()
	log := slog.New(slog.NewJSONHandler(logged, &slog.HandlerOptions{Level: slog.LevelDebug, AddSource: true}))
	meter, tracer := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	broker, err := event.NewRedis(t.Context(), server.Client(t), event.Options{Retry: 50 * time.Millisecond, Idle: time.Second, Log: log, Tracer: tracer, Meter: meter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = broker.Close() })
	m := &mine{}
	n := start(t, broker, func(c *realtime.Config) {
		c.Log, c.Meter, c.Tracer, c.Redis = log, meter, tracer, server.Client(t)
		c.Sessions = minedSessions{c.Sessions, m}
		c.Limits.Recheck, c.Limits.QueueBytes = 50*time.Millisecond, 16<<10
	})
	var secrets, people []string
	signIn := func(user string) string {
		token, id := n.signIn(user)
		secrets, people = append(secrets, token), append(people, id)
		return token
	}
	ticket := func(token string) string {
		tk, _ := n.ticket(token, nil)
		secrets = append(secrets, tk)
		return tk
	}
	people = append(people, "mira", "jonas", "harbor", "127.0.0.1", `"e1"`)

	// Who is let in, in every way.
	mira, jonas := signIn("mira"), signIn("jonas")
	c := n.connectAs(dialing{token: mira})
	people = append(people, c.await("hello", hello).Conn)
	offset := c.subscribe(team, "").Offset
	byTicket := n.show(ticket(jonas))
	byTicket.await("hello", hello)
	byTicket.subscribe(habits, "")
	byTicket.say(`{"type":"refresh","ticket":"` + ticket(jonas) + `"}`)
	byTicket.await("an answer", func(m message) bool { return m.Type == "refreshed" })
	said, _, err := n.dial(dialing{query: "?auth=message", header: http.Header{"Origin": nil}})
	if err != nil {
		t.Fatal(err)
	}
	said.say(`{"type":"auth","ticket":"` + ticket(mira) + `"}`)
	said.await("hello", hello)
	stream := n.follow(n.http, jonas, "channels="+team+"@"+offset, "")
	stream.untilSubscribed(1)
	slow, resume := n.slow("jonas")
	for i := 1; i <= 100; i++ {
		e := bulky(team, i)
		e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		n.emit(e)
	}
	resume()
	slow.wait("everything", func() bool { return len(slow.events()) >= 100 })
	// Who is not.
	c.say(`{"type":"subscribe","channels":["user:jonas:habits","team:other:activity","` + strings.Repeat("x", 99) + `"]}`)
	c.await("a refusal", func(m message) bool { return m.Code == "forbidden" })
	used := ticket(mira)
	n.show(used).awaitAfter(0, "hello", hello)
	forged := strings.Repeat("F", len(mira))
	secrets = append(secrets, forged)
	for _, d := range []dialing{
		{offers: offer(used)}, {token: forged}, {query: "?ticket=" + used + "&token=" + mira, token: "x"}, {header: http.Header{"Origin": {"https://evil.example"}}, token: mira},
	} {
		if c, _, err := n.dial(d); err == nil {
			c.awaitClose()
		}
	}
	bad := n.connectAs(dialing{token: mira})
	bad.say(`{"type":"refresh","ticket":"` + used + `"}`)
	bad.await("a refusal", func(m message) bool { return m.Code == "bad_ticket" })
	bad.say(`{"type":"refresh","ticket":"` + mira + `"`) // no JSON
	bad.awaitClose()
	n.leave("jonas")
	byTicket.say(`{"type":"ping"}`)
	// A bug, in the hands of a secret.
	tk := ticket(jonas)
	m.lookup.Store(true)
	byTicket.say(`{"type":"refresh","ticket":"` + tk + `"}`)
	byTicket.awaitClose()
	m.lookup.Store(false)
	// Redis is away, then the database.
	tk = ticket(mira)
	server.Kill()
	c.await("the status", func(m message) bool { return m.Status == "degraded" })
	if _, _, err := n.dial(dialing{offers: offer(tk)}); err == nil {
		t.Error("let in without Redis")
	}
	c.say(`{"type":"refresh","ticket":"` + tk + `"}`)
	c.await("an answer", func(m message) bool { return m.Code == "unavailable" })
	if err := n.db.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.dial(dialing{token: mira}); err == nil {
		t.Error("let in without a database")
	}
	c.say(`{"type":"subscribe","channels":["team:other:activity"]}`)
	c.await("an answer", func(m message) bool { return m.Code == "unavailable" && m.Ch == "team:other:activity" })
	_ = n.server.Close()

	told := logged.String()
	for _, s := range spans.Ended() {
		told += fmt.Sprintln(s.Name(), s.Attributes(), s.Events(), s.Status())
	}
	if strings.Count(told, "\n") < 5 || len(spans.Ended()) == 0 {
		t.Fatalf("hardly anything was told: %q", told)
	}
	for _, secret := range secrets {
		// Not even a part that helps to guess the rest.
		for _, part := range []string{secret, secret[:len(secret)/2], secret[len(secret)/2:]} {
			if i := strings.Index(told, part); i >= 0 {
				t.Errorf("%q is told in %q", part, told[max(0, i-200):min(len(told), i+200)])
			}
		}
	}
	all := instruments(t, reader)
	if len(all) < 10 {
		t.Errorf("only %q is measured", all)
	}
	for _, instrument := range all {
		for _, s := range slices.Concat(people, secrets) {
			if strings.Contains(instrument, s) {
				t.Errorf("%q is measured: %s", s, instrument)
			}
		}
	}
}
