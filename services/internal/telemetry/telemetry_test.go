package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/internal/telemetry"
	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup starts telemetry with a view, which every test then has to itself:
// the providers are those of the process, so no test here is parallel.
func setup(t *testing.T, vars map[string]string) (*telemetry.Telemetry, *traceview.View) {
	t.Helper()
	view := traceview.New(traceview.Options{})
	tel, err := telemetry.Setup(t.Context(), telemetry.Options{
		Service: "crewbeat-api", Version: "1.2.3", TraceView: view, Getenv: func(name string) string { return vars[name] },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tel.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return tel, view
}

type span struct {
	ID         string                        `json:"id"`
	ParentID   string                        `json:"parent_id"`
	Name       string                        `json:"name"`
	Service    string                        `json:"service"`
	Kind       string                        `json:"kind"`
	Error      bool                          `json:"error"`
	Attributes []struct{ Key, Value string } `json:"attributes"`
	Links      []struct {
		TraceID string `json:"trace_id"`
	} `json:"links"`
	trace string
}

func (s span) attribute(key string) string {
	for _, a := range s.Attributes {
		if a.Key == key {
			return a.Value
		}
	}
	return ""
}

// spans is what the view has been given.
func spans(t *testing.T, tel *telemetry.Telemetry, view *traceview.View) (all []span, raw string) {
	t.Helper()
	if err := tel.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	ask := func(path string, into any) {
		w := httptest.NewRecorder()
		view.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
		raw += w.Body.String()
		if err := json.Unmarshal(w.Body.Bytes(), into); err != nil {
			t.Fatal(err)
		}
	}
	var list struct{ Items []struct{ ID string } }
	ask("/traces/api/traces?all=true", &list)
	for _, item := range list.Items {
		var one struct{ Spans []span }
		ask("/traces/api/traces/"+item.ID, &one)
		for _, s := range one.Spans {
			s.trace = item.ID
			all = append(all, s)
		}
	}
	return all, raw
}

func request(t *testing.T, h http.Handler, method, target string, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, target, nil)
	r.RemoteAddr = "192.0.2.7:5555"
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const (
	browserTrace  = "0af7651916cd43dd8448eb211c80319c"
	browserParent = "00-" + browserTrace + "-b7ad6b7169203331-01"
)

func TestARequestIsNamedByItsRouteAndTellsNothingOfWhoSentIt(t *testing.T) {
	tel, view := setup(t, nil)
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /api/v1/habits/{id}", func(w http.ResponseWriter, r *http.Request) {
		_, s := tel.Tracer().Start(r.Context(), "habit.rename")
		s.SetAttributes(attribute.String("session.token", "hunter2"), attribute.String("url.full", "https://x.example/?t=hunter2"))
		s.AddEvent("e", trace.WithAttributes(attribute.String("client.address", "hunter2")))
		s.End()
		w.WriteHeader(http.StatusNoContent)
	})
	request(t, telemetry.HTTP(mux, nil), http.MethodPut, "http://crewbeat.example/api/v1/habits/hunter2?token=hunter2",
		"User-Agent", "hunter2", "X-Forwarded-For", "203.0.113.9", "Cookie", "crewbeat.sid=hunter2")

	got, raw := spans(t, tel, view)
	if len(got) != 2 || got[0].Name != "PUT /api/v1/habits/{id}" || got[0].Kind != "server" || got[0].Service != "crewbeat-api" ||
		got[0].attribute("http.route") != "/api/v1/habits/{id}" || got[0].attribute("http.response.status_code") != "204" || got[1].ParentID != got[0].ID {
		t.Errorf("spans = %+v", got)
	}
	for _, secret := range []string{"hunter2", "192.0.2.7", "203.0.113.9"} {
		if strings.Contains(raw, secret) {
			t.Errorf("%s is told: %s", secret, raw)
		}
	}
	metrics := metricsOf(t, tel)
	if !strings.Contains(metrics, `http_route="/api/v1/habits/{id}"`) || strings.Contains(metrics, "hunter2") || strings.Contains(metrics, "crewbeat.example") {
		t.Errorf("metrics: %s", metrics)
	}
}

func metricsOf(t *testing.T, tel *telemetry.Telemetry) string {
	t.Helper()
	return request(t, tel.MetricsHandler(), http.MethodGet, "/metrics").Body.String()
}

func TestExemplarsNameTheTraceAndNothingElse(t *testing.T) {
	tel, _ := setup(t, nil)
	h := telemetry.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(*http.Request) string { return "/x" })
	request(t, h, http.MethodGet, "http://"+strings.Repeat("long.", 30)+"example/x")
	m := request(t, tel.MetricsHandler(), http.MethodGet, "/metrics", "Accept", "application/openmetrics-text; version=1.0.0").Body.String()
	both := regexp.MustCompile(`# \{(trace_id="[0-9a-f]{32}",span_id="[0-9a-f]{16}"|span_id="[0-9a-f]{16}",trace_id="[0-9a-f]{32}")\}`)
	if !both.MatchString(m) || strings.Contains(m, "long.") {
		t.Errorf("metrics: %s", m)
	}
}

func TestARouterOfAnotherKindTellsTheRoute(t *testing.T) {
	tel, view := setup(t, nil)
	inner := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { telemetry.SetRoute(r.Context(), "/api/v1/teams/{id}") })
	request(t, telemetry.HTTP(inner, nil), http.MethodGet, "/api/v1/teams/7")
	known := telemetry.HTTP(http.NotFoundHandler(), func(*http.Request) string { return "/known" })
	request(t, known, http.MethodGet, "/api/v1/other")
	request(t, telemetry.HTTP(http.NotFoundHandler(), nil), "BREW", "/nowhere")

	got, raw := spans(t, tel, view)
	var names []string
	for _, s := range got {
		names = append(names, s.Name)
	}
	slices.Sort(names)
	if want := []string{"GET /api/v1/teams/{id}", "GET /known", "HTTP"}; !slices.Equal(names, want) {
		t.Errorf("names = %q, want %q: %s", names, want, raw)
	}
	if m := metricsOf(t, tel); !strings.Contains(m, `http_route="/api/v1/teams/{id}"`) || !strings.Contains(m, `http_route="/known"`) || strings.Contains(m, "BREW") {
		t.Errorf("metrics: %s", m)
	}
}

func TestAPanicIsAFailedSpanWithItsRoute(t *testing.T) {
	tel, view := setup(t, nil)
	h := telemetry.HTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		telemetry.SetRoute(r.Context(), "/boom")
		panic(http.ErrAbortHandler)
	}), nil)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		request(t, h, http.MethodGet, "/boom")
	}()
	if got, _ := spans(t, tel, view); len(got) != 1 || got[0].Name != "GET /boom" || !got[0].Error {
		t.Errorf("spans = %+v", got)
	}
}

func TestOnlyPagesOfTheSameOriginContinueTheirTrace(t *testing.T) {
	for _, tt := range []struct {
		name    string
		headers []string
		trusted bool
	}{
		{"same origin", []string{"Sec-Fetch-Site", "same-origin"}, true},
		{"same origin by Origin", []string{"Origin", "http://crewbeat.example"}, true},
		{"same origin by Referer", []string{"Referer", "http://crewbeat.example/today"}, true},
		{"a sibling", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://crewbeat.example"}, false},
		{"another site", []string{"Sec-Fetch-Site", "cross-site"}, false},
		{"another origin", []string{"Origin", "https://evil.example"}, false},
		{"no page at all", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tel, view := setup(t, nil)
			h := telemetry.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), func(*http.Request) string { return "/x" })
			request(t, h, http.MethodGet, "http://crewbeat.example/x", append(tt.headers, "Traceparent", browserParent)...)
			got, _ := spans(t, tel, view)
			if len(got) != 1 {
				t.Fatalf("spans = %+v", got)
			}
			if continued := got[0].trace == browserTrace && got[0].ParentID == "b7ad6b7169203331"; continued != tt.trusted {
				t.Errorf("continued: %v", continued)
			}
			if linked := len(got[0].Links) == 1 && got[0].Links[0].TraceID == browserTrace; linked == tt.trusted {
				t.Errorf("linked: %v", linked)
			}
		})
	}
}

func TestProbesAndSocketsAreLeftOut(t *testing.T) {
	tel, view := setup(t, nil)
	h := telemetry.HTTP(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), nil)
	for _, path := range []string{"/livez", "/readyz", "/startupz", "/metrics", "/api/health", "/api/health/redis", "/rt/v1/ws", "/traces", "/traces/api/traces", "/v1/traces", "/assets/app.js"} {
		request(t, h, http.MethodGet, path)
	}
	if got, _ := spans(t, tel, view); len(got) != 0 {
		t.Errorf("spans = %+v", got)
	}
	if m := metricsOf(t, tel); strings.Contains(m, "http_server_request_duration") {
		t.Error("they are measured")
	}
}

func TestMetricsAreThereForPrometheus(t *testing.T) {
	tel, _ := setup(t, map[string]string{"OTEL_SERVICE_NAME": "api-eu", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=eu, broken, service.name=no"})
	counter, err := tel.Meter().Int64Counter("crewbeat.ticks")
	if err != nil {
		t.Fatal(err)
	}
	counter.Add(t.Context(), 3)
	m := metricsOf(t, tel)
	for _, want := range []string{"crewbeat_ticks_total 3", "go_goroutines ", "process_resident_memory_bytes ", `service_name="api-eu"`, `service_version="1.2.3"`, `deployment_environment="eu"`} {
		if !strings.Contains(m, want) {
			t.Errorf("there is no %s in\n%s", want, m)
		}
	}
}

func TestATraceparentGoesThereAndBack(t *testing.T) {
	tel, view := setup(t, nil)
	ctx, writer := tel.Tracer().Start(t.Context(), "write")
	written := telemetry.Traceparent(ctx)
	writer.End()
	_, reader := tel.Tracer().Start(telemetry.WithTraceparent(t.Context(), written), "publish")
	reader.End()
	got, _ := spans(t, tel, view)
	if len(got) != 2 || got[1].ParentID != got[0].ID || got[0].trace != got[1].trace {
		t.Errorf("%s: spans = %+v", written, got)
	}
	if tp := telemetry.Traceparent(t.Context()); tp != "" {
		t.Errorf("without a span: %q", tp)
	}
	if ctx := telemetry.WithTraceparent(t.Context(), "nonsense"); trace.SpanContextFromContext(ctx).IsValid() {
		t.Error("nonsense became a span")
	}
}

func TestWithoutAnywhereToGoNoSpanIsRecorded(t *testing.T) {
	for _, vars := range []map[string]string{
		nil,
		{"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_SDK_DISABLED": "true"},
	} {
		tel, err := telemetry.Setup(t.Context(), telemetry.Options{Getenv: func(name string) string { return vars[name] }})
		if err != nil {
			t.Fatal(err)
		}
		if _, s := tel.Tracer().Start(t.Context(), "x"); s.IsRecording() {
			t.Error("a span is recorded for nobody")
		}
		if err := tel.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestSpansGoWhereTheVariablesSay(t *testing.T) {
	view := traceview.New(traceview.Options{}) // takes the part of a collector
	var sent bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = io.NopCloser(io.TeeReader(r.Body, &sent))
		view.Handler().ServeHTTP(w, r)
	}))
	defer collector.Close()
	// The exporter reads the environment of the process itself.
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.URL)
	vars := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector.URL}
	tel, err := telemetry.Setup(t.Context(), telemetry.Options{Service: "crewbeat-realtime", Getenv: func(name string) string { return vars[name] }})
	if err != nil {
		t.Fatal(err)
	}
	_, s := tel.Tracer().Start(t.Context(), "process", trace.WithAttributes(attribute.String("user.email", "hunter2")))
	s.End()
	got, raw := spans(t, tel, view)
	if len(got) != 1 || got[0].Name != "process" || got[0].Service != "crewbeat-realtime" {
		t.Errorf("spans = %+v: %s", got, raw)
	}
	if bytes.Contains(sent.Bytes(), []byte("hunter2")) || !bytes.Contains(sent.Bytes(), []byte("process")) {
		t.Errorf("what must not leave the process was sent: %q", sent.Bytes())
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestACollectorThatIsAwayCostsNothingAndIsMentionedOnce(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	url := gone.URL
	gone.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
	t.Setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "200")
	vars := map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": url}
	var log bytes.Buffer
	tel, err := telemetry.Setup(t.Context(), telemetry.Options{
		Getenv: func(name string) string { return vars[name] }, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for range 20_000 { // ten times what the queue holds
		_, s := tel.Tracer().Start(t.Context(), "x")
		s.End()
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("20000 spans took %v", took)
	}
	for range 3 {
		otel.Handle(fmt.Errorf("export: %w", io.ErrUnexpectedEOF))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begin = time.Now()
	_ = tel.Shutdown(ctx) // says that not all was sent
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("the end took %v", took)
	}
	if n := strings.Count(log.String(), "telemetry does not get through"); n != 1 {
		t.Errorf("mentioned %d times: %s", n, log.String())
	}
}

func TestVariablesThatCannotBeUnderstoodAreAnError(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "pigeon")
	_, err := telemetry.Setup(t.Context(), telemetry.Options{Getenv: func(name string) string { return map[string]string{"OTEL_TRACES_EXPORTER": "pigeon"}[name] }})
	if err == nil || !strings.Contains(err.Error(), "OTEL_") {
		t.Errorf("err = %v", err)
	}
}
