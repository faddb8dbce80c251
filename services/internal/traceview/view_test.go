package traceview_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// What the JSON API answers, as far as tests look.
type (
	listed struct {
		Items []struct {
			ID         string  `json:"id"`
			Name       string  `json:"name"`
			Service    string  `json:"service"`
			DurationMs float64 `json:"duration_ms"`
			Spans      int     `json:"spans"`
			Errors     int     `json:"errors"`
			Linked     int     `json:"linked"`
			Partial    bool    `json:"partial"`
		} `json:"items"`
		Services []string `json:"services"`
		Totals   struct {
			Traces  int    `json:"traces"`
			Bytes   int    `json:"bytes"`
			Evicted uint64 `json:"traces_evicted"`
			Dropped uint64 `json:"spans_dropped"`
		} `json:"totals"`
	}
	shown struct {
		ID       string      `json:"id"`
		Name     string      `json:"name"`
		LeaderID string      `json:"leader_id"`
		Spans    []shownSpan `json:"spans"`
		Linked   []shown     `json:"linked"`
	}
	shownSpan struct {
		ID         string       `json:"id"`
		ParentID   string       `json:"parent_id"`
		Name       string       `json:"name"`
		Service    string       `json:"service"`
		Kind       string       `json:"kind"`
		OffsetMs   float64      `json:"offset_ms"`
		DurationMs float64      `json:"duration_ms"`
		Error      bool         `json:"error"`
		Message    string       `json:"message"`
		Dropped    int          `json:"dropped"`
		Attributes []shownPair  `json:"attributes"`
		Events     []shownEvent `json:"events"`
		Links      []struct {
			TraceID string `json:"trace_id"`
			SpanID  string `json:"span_id"`
		} `json:"links"`
	}
	shownPair  struct{ Key, Value string }
	shownEvent struct {
		Name       string      `json:"name"`
		OffsetMs   float64     `json:"offset_ms"`
		Attributes []shownPair `json:"attributes"`
	}
)

func do(t *testing.T, v *traceview.View, method, path string, body []byte, headers ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, "http://crewbeat.example"+path, bytes.NewReader(body))
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	v.Handler().ServeHTTP(w, r)
	return w
}

func list(t *testing.T, v *traceview.View, query string) listed {
	t.Helper()
	var l listed
	w := do(t, v, http.MethodGet, "/traces/api/traces?"+query, nil)
	if err := json.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	return l
}

func show(t *testing.T, v *traceview.View, id string) shown {
	t.Helper()
	var s shown
	w := do(t, v, http.MethodGet, "/traces/api/traces/"+id, nil)
	if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%d %v: %s", w.Code, err, w.Body)
	}
	return s
}

// service makes spans of a service that go straight into v.
func service(v *traceview.View, name string) trace.Tracer {
	return sdktrace.NewTracerProvider(
		sdktrace.WithSyncer(v.Exporter()),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", name))),
	).Tracer("test")
}

func TestOneTickReadsAsOneTrace(t *testing.T) {
	v := traceview.New(traceview.Options{})
	web, api, realtime := service(v, "crewbeat-web"), service(v, "crewbeat-api"), service(v, "crewbeat-realtime")

	ctx, browser := web.Start(t.Context(), "tick habit")
	ctx, server := api.Start(ctx, "PUT /api/v1/habits/{id}/records/{day}", trace.WithSpanKind(trace.SpanKindServer))
	_, query := api.Start(ctx, "INSERT records", trace.WithSpanKind(trace.SpanKindClient))
	query.SetStatus(codes.Error, "connection refused")
	query.AddEvent("retry", trace.WithAttributes(attribute.Int("attempt", 2)))
	query.End()
	_, publish := api.Start(ctx, "publish", trace.WithSpanKind(trace.SpanKindProducer))
	publish.End()
	server.End()
	browser.End()

	cause := trace.WithLinks(trace.Link{SpanContext: publish.SpanContext()})
	for range 2 { // two nodes of realtime hear of it
		ctx, process := realtime.Start(t.Context(), "process", trace.WithSpanKind(trace.SpanKindConsumer), cause)
		_, broadcast := realtime.Start(ctx, "ws.broadcast")
		broadcast.End()
		process.End()
	}

	l := list(t, v, "")
	if len(l.Items) != 1 {
		t.Fatalf("the list has %d traces: %+v", len(l.Items), l.Items)
	}
	one := l.Items[0]
	if one.Name != "tick habit" || one.Service != "crewbeat-web" || one.Spans != 8 || one.Errors != 1 || one.Linked != 2 {
		t.Errorf("listed as %+v", one)
	}
	if want := []string{"crewbeat-api", "crewbeat-realtime", "crewbeat-web"}; !slices.Equal(l.Services, want) {
		t.Errorf("services = %q", l.Services)
	}
	if all := list(t, v, "all=true"); len(all.Items) != 3 {
		t.Errorf("with those that follow, the list has %d", len(all.Items))
	}

	s := show(t, v, one.ID)
	var names []string
	for _, span := range s.Spans {
		names = append(names, span.Kind+" "+span.Name)
	}
	want := []string{"internal tick habit", "server PUT /api/v1/habits/{id}/records/{day}", "client INSERT records", "producer publish"}
	if !slices.Equal(names, want) {
		t.Errorf("spans = %q, want %q", names, want)
	}
	if len(s.Linked) != 2 || len(s.Linked[0].Spans) != 2 || s.Linked[0].Spans[0].Links[0].SpanID != publish.SpanContext().SpanID().String() {
		t.Errorf("linked = %+v", s.Linked)
	}
	failed := s.Spans[2]
	if !failed.Error || failed.Message != "connection refused" || failed.ParentID != s.Spans[1].ID ||
		len(failed.Events) != 1 || failed.Events[0].Name != "retry" || failed.Events[0].Attributes[0] != (shownPair{"attempt", "2"}) {
		t.Errorf("the failed span = %+v", failed)
	}
	if follower := show(t, v, s.Linked[1].ID); follower.LeaderID != one.ID {
		t.Errorf("the follower does not know its leader: %+v", follower)
	}
}

func TestTheListIsSearched(t *testing.T) {
	v := traceview.New(traceview.Options{})
	api, web := service(v, "crewbeat-api"), service(v, "crewbeat-web")
	begin := time.Now()
	add := func(tr trace.Tracer, name string, took time.Duration, opts ...trace.SpanStartOption) {
		_, s := tr.Start(t.Context(), name, append(opts, trace.WithTimestamp(begin))...)
		s.End(trace.WithTimestamp(begin.Add(took)))
	}
	add(api, "GET /api/v1/me", time.Millisecond, trace.WithAttributes(attribute.String("http.route", "/api/v1/me")))
	add(api, "PUT /api/v1/habits/{id}", 80*time.Millisecond)
	add(web, "open today", 300*time.Millisecond, trace.WithAttributes(attribute.String("app.page", "Today")))
	_, s := api.Start(t.Context(), "broken", trace.WithTimestamp(begin))
	s.SetStatus(codes.Error, "")
	s.End(trace.WithTimestamp(begin))

	for query, want := range map[string][]string{
		"":           {"GET /api/v1/me", "PUT /api/v1/habits/{id}", "broken", "open today"},
		"q=HABITS":   {"PUT /api/v1/habits/{id}"},
		"q=today":    {"open today"},
		"q=app.page": {"open today"},
		"q=" + s.SpanContext().TraceID().String()[:12]: {"broken"},
		"service=crewbeat-web":                         {"open today"},
		"min_ms=80":                                    {"PUT /api/v1/habits/{id}", "open today"},
		"errors=true":                                  {"broken"},
		"errors=true&min_ms=1":                         {},
		"min_ms=2.5&service=nobody":                    {},
		"service=crewbeat-api&q=v1/me":                 {"GET /api/v1/me"},
	} {
		got := []string{}
		for _, item := range list(t, v, query).Items {
			got = append(got, item.Name)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("?%s = %q, want %q", query, got, want)
		}
	}
	if n := len(list(t, v, "limit=2").Items); n != 2 {
		t.Errorf("limit=2 answers %d", n)
	}
	for _, query := range []string{"min_ms=fast", "min_ms=-1", "min_ms=NaN", "limit=0", "limit=x", "errors=perhaps", "q=" + strings.Repeat("x", 300)} {
		w := do(t, v, http.MethodGet, "/traces/api/traces?"+query, nil)
		if w.Code != http.StatusBadRequest || w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("?%.20s = %d %s", query, w.Code, w.Body)
		}
	}
}

func TestTheListIsNotSentTwice(t *testing.T) {
	v := traceview.New(traceview.Options{})
	api := service(v, "crewbeat-api")
	_, s := api.Start(t.Context(), "one")
	s.End()
	tag := do(t, v, http.MethodGet, "/traces/api/traces", nil).Header().Get("ETag")
	if w := do(t, v, http.MethodGet, "/traces/api/traces", nil, "If-None-Match", tag); w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("unchanged: %d %s", w.Code, w.Body)
	}
	_, s = api.Start(t.Context(), "two")
	s.End()
	if w := do(t, v, http.MethodGet, "/traces/api/traces", nil, "If-None-Match", tag); w.Code != http.StatusOK {
		t.Errorf("changed: %d", w.Code)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	v := traceview.New(traceview.Options{MaxTraces: 20, MaxBytes: 64 << 10})
	api := service(v, "crewbeat-api")
	var last string
	for i := range 500 {
		_, s := api.Start(t.Context(), fmt.Sprint("request ", i), trace.WithAttributes(attribute.String("padding", strings.Repeat("x", i*50%40_000))))
		last = s.SpanContext().TraceID().String()
		s.End()
	}
	totals := list(t, v, "").Totals
	if totals.Traces > 20 || totals.Bytes > 64<<10 || totals.Bytes <= 0 || totals.Evicted != uint64(500-totals.Traces) {
		t.Errorf("totals = %+v", totals)
	}
	show(t, v, last) // the newest is the last to go

	ctx, root := api.Start(t.Context(), "runaway")
	for range 5000 {
		_, s := api.Start(ctx, "loop")
		s.End()
	}
	root.End()
	totals = list(t, v, "").Totals
	if totals.Bytes > 64<<10 || totals.Dropped == 0 || totals.Traces < 2 {
		t.Errorf("after a runaway trace: %+v", totals)
	}
}

func TestForgettingTakesBackEveryByte(t *testing.T) {
	v := traceview.New(traceview.Options{MaxTraces: 1})
	api := service(v, "crewbeat-api")
	_, a := api.Start(t.Context(), "a", trace.WithAttributes(attribute.String("k", "v")))
	a.End()
	before := list(t, v, "").Totals.Bytes
	_, big := api.Start(t.Context(), "big", trace.WithAttributes(attribute.String("k", strings.Repeat("x", 1000))),
		trace.WithLinks(trace.Link{SpanContext: a.SpanContext()}))
	big.AddEvent("e")
	big.End()
	_, b := api.Start(t.Context(), "b", trace.WithAttributes(attribute.String("k", "v")))
	b.End()
	if after := list(t, v, "").Totals.Bytes; after != before {
		t.Errorf("%d bytes, then %d", before, after)
	}
}

func TestASpanCarriesOnlySoMuch(t *testing.T) {
	v := traceview.New(traceview.Options{})
	tracer := sdktrace.NewTracerProvider(sdktrace.WithSyncer(v.Exporter()), sdktrace.WithRawSpanLimits(sdktrace.SpanLimits{
		AttributeValueLengthLimit: -1, AttributeCountLimit: -1, EventCountLimit: -1, LinkCountLimit: -1, AttributePerEventCountLimit: -1, AttributePerLinkCountLimit: -1,
	})).Tracer("")
	_, s := tracer.Start(t.Context(), strings.Repeat("ä", 5000))
	for i := range 200 {
		s.SetAttributes(attribute.String(fmt.Sprint("k", i), strings.Repeat("ü", 5000)))
		s.AddEvent("e")
	}
	s.End()
	got := show(t, v, s.SpanContext().TraceID().String()).Spans[0]
	if len(got.Name) > 256 || len(got.Attributes) != 64 || len(got.Events) != 64 || len(got.Attributes[0].Value) > 2048 || got.Dropped != 136+136 {
		t.Errorf("name %d, attributes %d of %d, events %d, dropped %d", len(got.Name), len(got.Attributes), len(got.Attributes[0].Value), len(got.Events), got.Dropped)
	}
}

func TestSpansThatNameEachOtherDoNoHarm(t *testing.T) {
	v := traceview.New(traceview.Options{})
	body := fmt.Sprintf(otlp, `
		{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"b7ad6b7169203332","name":"hen"},
		{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203332","parentSpanId":"b7ad6b7169203331","name":"egg",
		 "links":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"},{"traceId":"0af7651916cd43dd8448eb211c80319d","spanId":"b7ad6b7169203331"}]},
		{"traceId":"0af7651916cd43dd8448eb211c80319d","spanId":"b7ad6b7169203333","name":"other","links":[{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"}]}`)
	if w := do(t, v, http.MethodPost, "/v1/traces", []byte(body), "Content-Type", "application/json"); w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	if n := len(list(t, v, "").Items); n != 2 {
		t.Errorf("%d traces", n)
	}
	if s := show(t, v, "0af7651916cd43dd8448eb211c80319c"); len(s.Spans) != 2 || len(s.Linked) != 1 {
		t.Errorf("%+v", s)
	}
}

func TestConcurrentUse(t *testing.T) {
	v := traceview.New(traceview.Options{MaxTraces: 10})
	var all sync.WaitGroup
	for i := range 4 {
		api := service(v, fmt.Sprint("service ", i))
		all.Go(func() {
			for range 200 {
				ctx, a := api.Start(context.WithoutCancel(t.Context()), "a")
				_, b := api.Start(ctx, "b", trace.WithLinks(trace.Link{SpanContext: a.SpanContext()}))
				b.End()
				a.End()
			}
		})
		all.Go(func() {
			for range 50 {
				for _, item := range list(t, v, "q=a").Items {
					do(t, v, http.MethodGet, "/traces/api/traces/"+item.ID, nil)
				}
			}
		})
	}
	all.Wait()
}

const otlp = `{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"crewbeat-web"}}]},
	"scopeSpans":[{"scope":{"name":"fetch"},"spans":[%s]}]}]}`

const browserSpan = `{"traceId":"0AF7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","name":"HTTP PUT","kind":3,
	"startTimeUnixNano":"1795325470000000000","endTimeUnixNano":1795325470020500000,
	"attributes":[
		{"key":"http.url","value":{"stringValue":"https://u:p@crewbeat.example/join?token=hunter2#hunter2"}},
		{"key":"n","value":{"intValue":"42"}},{"key":"m","value":{"intValue":7}},{"key":"d","value":{"doubleValue":1.5}},{"key":"b","value":{"boolValue":true}},
		{"key":"list","value":{"arrayValue":{"values":[{"stringValue":"x"},{"kvlistValue":{"values":[{"key":"password","value":{"stringValue":"hunter2"}},{"key":"k","value":{"intValue":1}}]}}]}}},
		{"key":"user_agent.original","value":{"stringValue":"hunter2"}},{"key":"http.request.header.cookie","value":{"stringValue":"hunter2"}},
		{"key":"client.address","value":{"stringValue":"hunter2"}},{"key":"session.token","value":{"stringValue":"hunter2"}},{"key":"url.path","value":{"stringValue":"/hunter2"}}],
	"events":[{"timeUnixNano":"1795325470010000000","name":"half","attributes":[{"key":"enduser.id","value":{"stringValue":"hunter2"}}]}],
	"status":{"code":2,"message":"offline"}}`

func TestABrowserSendsJSON(t *testing.T) {
	v := traceview.New(traceview.Options{})
	w := do(t, v, http.MethodPost, "/v1/traces", fmt.Appendf(nil, otlp, browserSpan),
		"Content-Type", "application/json; charset=utf-8", "Origin", "https://crewbeat.example", "Sec-Fetch-Site", "same-origin")
	if w.Code != http.StatusOK || w.Body.String() != "{}" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	raw := do(t, v, http.MethodGet, "/traces/api/traces/0af7651916cd43dd8448eb211c80319c", nil).Body.String()
	if strings.Contains(raw, "hunter2") {
		t.Errorf("what must not be kept is shown: %s", raw)
	}
	s := show(t, v, "0af7651916cd43dd8448eb211c80319c").Spans[0]
	want := []shownPair{
		{"b", "true"}, {"d", "1.5"}, {"http.url", "https://crewbeat.example/join"}, {"list", "[x, {k=1}]"}, {"m", "7"}, {"n", "42"},
	}
	if !slices.Equal(s.Attributes, want) {
		t.Errorf("attributes = %v, want %v", s.Attributes, want)
	}
	if s.Service != "crewbeat-web" || s.Kind != "client" || s.DurationMs != 20.5 || !s.Error || s.Message != "offline" || len(s.Events) != 1 || s.Events[0].OffsetMs != 10 {
		t.Errorf("span = %+v", s)
	}
}

func protobuf(t *testing.T, spans ...*tracepb.Span) []byte {
	t.Helper()
	b, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: []*tracepb.ResourceSpans{{
		Resource:   &resourcepb.Resource{Attributes: []*commonpb.KeyValue{pair("service.name", "crewbeat-api")}},
		ScopeSpans: []*tracepb.ScopeSpans{{Spans: spans}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pair(key, value string) *commonpb.KeyValue {
	return &commonpb.KeyValue{Key: key, Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: value}}}
}

func TestAServiceSendsProtobuf(t *testing.T) {
	id, _ := hex.DecodeString("0af7651916cd43dd8448eb211c80319c")
	body := protobuf(t, &tracepb.Span{
		TraceId: id, SpanId: id[:8], ParentSpanId: id[8:], Name: "GET /api/v1/me", Kind: tracepb.Span_SPAN_KIND_SERVER,
		StartTimeUnixNano: 1795325470000000000, EndTimeUnixNano: 1795325470003000000,
		Attributes: []*commonpb.KeyValue{pair("http.route", "/api/v1/me"), pair("client.address", "192.0.2.7")},
		Links:      []*tracepb.Span_Link{{TraceId: id, SpanId: id[8:]}},
		Status:     &tracepb.Status{Code: tracepb.Status_STATUS_CODE_ERROR, Message: "no"},
	})
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = zip.Write(body)
	_ = zip.Close()
	for name, send := range map[string]struct {
		body    []byte
		headers []string
	}{
		"plain":  {body, []string{"Content-Type", "application/x-protobuf"}},
		"packed": {packed.Bytes(), []string{"Content-Type", "application/x-protobuf", "Content-Encoding", "gzip"}},
	} {
		v := traceview.New(traceview.Options{})
		w := do(t, v, http.MethodPost, "/v1/traces", send.body, send.headers...)
		if w.Code != http.StatusOK || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "application/x-protobuf" {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		s := show(t, v, hex.EncodeToString(id)).Spans[0]
		if s.Name != "GET /api/v1/me" || s.Service != "crewbeat-api" || s.Kind != "server" || s.DurationMs != 3 || !s.Error || len(s.Links) != 1 ||
			!slices.Equal(s.Attributes, []shownPair{{"http.route", "/api/v1/me"}}) {
			t.Errorf("%s: %+v", name, s)
		}
	}
}

func TestBadInputIsRefusedWithAReason(t *testing.T) {
	jsonType := []string{"Content-Type", "application/json"}
	one := fmt.Appendf(nil, otlp, browserSpan)
	packed := func(n int) []byte {
		var b bytes.Buffer
		zip := gzip.NewWriter(&b)
		_, _ = zip.Write(bytes.Repeat([]byte(" "), n))
		_ = zip.Close()
		return b.Bytes()
	}
	for _, tt := range []struct {
		name    string
		body    []byte
		headers []string
		want    int
	}{
		{"no type", one, nil, 415},
		{"a type that needs no preflight", one, []string{"Content-Type", "text/plain"}, 415},
		{"not JSON", []byte("{"), jsonType, 400},
		{"not protobuf", []byte("\xff\xff"), []string{"Content-Type", "application/x-protobuf"}, 400},
		{"no identifier", fmt.Appendf(nil, otlp, `{"name":"x"}`), jsonType, 400},
		{"an identifier of zeroes", fmt.Appendf(nil, otlp, `{"traceId":"00000000000000000000000000000000","spanId":"b7ad6b7169203331"}`), jsonType, 400},
		{"a bad parent", fmt.Appendf(nil, otlp, `{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","parentSpanId":"x"}`), jsonType, 400},
		{"a bad time", fmt.Appendf(nil, otlp, `{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","startTimeUnixNano":"now"}`), jsonType, 400},
		{"a bad identifier in protobuf", protobuf(t, &tracepb.Span{TraceId: []byte{1}}), []string{"Content-Type", "application/x-protobuf"}, 400},
		{"too many spans", fmt.Appendf(nil, otlp, strings.TrimSuffix(strings.Repeat(`{"traceId":"0af7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331"},`, 2001), ",")), jsonType, 400},
		{"too large", bytes.Repeat([]byte(" "), 1<<20+1), jsonType, 413},
		{"too large unpacked", packed(64 << 20), append(jsonType, "Content-Encoding", "gzip"), 413},
		{"not gzip", one, append(jsonType, "Content-Encoding", "gzip"), 400},
		{"another encoding", one, append(jsonType, "Content-Encoding", "br"), 415},
		{"another site", one, append(jsonType, "Sec-Fetch-Site", "cross-site"), 403},
		{"a sibling", one, append(jsonType, "Sec-Fetch-Site", "same-site"), 403},
		{"another origin", one, append(jsonType, "Origin", "https://evil.example"), 403},
		{"no origin at all", one, append(jsonType, "Origin", "null"), 403},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := traceview.New(traceview.Options{})
			w := do(t, v, http.MethodPost, "/v1/traces", tt.body, tt.headers...)
			var problem struct {
				Status       int
				Detail, Code string
			}
			if err := json.Unmarshal(w.Body.Bytes(), &problem); err != nil {
				t.Fatal(err)
			}
			if w.Code != tt.want || problem.Status != tt.want || problem.Detail == "" || problem.Code == "" || w.Header().Get("Content-Type") != "application/problem+json" {
				t.Errorf("%d %s, want %d", w.Code, w.Body, tt.want)
			}
			if n := len(list(t, v, "").Items); n != 0 {
				t.Errorf("%d traces were taken all the same", n)
			}
		})
	}
}

func TestIntakeIsBounded(t *testing.T) {
	now := time.Now()
	v := traceview.New(traceview.Options{MaxIntake: 1000, Now: func() time.Time { return now }, Admit: func(r *http.Request) bool { return r.Header.Get("Cookie") != "" }})
	body := fmt.Appendf(nil, otlp, strings.Repeat(" ", 900_000)+browserSpan)
	send := func() *httptest.ResponseRecorder {
		return do(t, v, http.MethodPost, "/v1/traces", body, "Content-Type", "application/json", "Cookie", "x")
	}
	codes := []int{send().Code, send().Code}
	w := send()
	if !slices.Equal(codes, []int{200, 200}) || w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("%v, then %d %s", codes, w.Code, w.Body)
	}
	now = now.Add(time.Hour)
	if w := send(); w.Code != http.StatusOK {
		t.Errorf("an hour later: %d", w.Code)
	}
	if w := do(t, v, http.MethodPost, "/v1/traces", body, "Content-Type", "application/json"); w.Code != http.StatusUnauthorized {
		t.Errorf("whom Admit refuses: %d", w.Code)
	}
}

func TestThePageLoadsOnlyItsOwn(t *testing.T) {
	v := traceview.New(traceview.Options{})
	for _, path := range []string{"/traces", "/traces/0af7651916cd43dd8448eb211c80319c"} {
		w := do(t, v, http.MethodGet, path, nil)
		policy := w.Header().Get("Content-Security-Policy")
		if w.Code != http.StatusOK || !strings.Contains(policy, "default-src 'none'; script-src 'self'; style-src 'self'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: %d %s", path, w.Code, policy)
		}
		page := w.Body.String()
		for _, forbidden := range []string{" style=", "<style", " onclick=", "javascript:", "http://", "https://"} {
			if strings.Contains(page, forbidden) {
				t.Errorf("the page has %q", forbidden)
			}
		}
		for _, name := range []string{"page.css", "page.js", "icon.svg"} {
			if !strings.Contains(page, "/traces/assets/"+name) {
				t.Errorf("the page does not load %s", name)
			}
		}
	}
	for name, kind := range map[string]string{
		"page.css": "text/css", "page.js": "text/javascript", "waterfall.js": "text/javascript", "format.js": "text/javascript", "icon.svg": "image/svg+xml",
	} {
		w := do(t, v, http.MethodGet, "/traces/assets/"+name, nil)
		if w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), kind) || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %d %v", name, w.Code, w.Header())
		}
	}
	for path, want := range map[string]int{
		"/traces/": 301, "/traces/nothing": 404, "/traces/assets/nothing": 404, "/traces/assets/..%2Fview.go": 404,
		"/traces/api/traces/nothing": 400, "/traces/api/traces/0af7651916cd43dd8448eb211c80319c": 404,
	} {
		if w := do(t, v, http.MethodGet, path, nil); w.Code != want {
			t.Errorf("%s: %d, want %d", path, w.Code, want)
		}
	}
}

func FuzzReceive(f *testing.F) {
	f.Add([]byte(fmt.Sprintf(otlp, browserSpan)), true)
	f.Add([]byte("\x0a\x02\x12\x00"), false)
	f.Fuzz(func(t *testing.T, body []byte, isJSON bool) {
		v := traceview.New(traceview.Options{})
		kind := "application/x-protobuf"
		if isJSON {
			kind = "application/json"
		}
		w := do(t, v, http.MethodPost, "/v1/traces", body, "Content-Type", kind)
		if w.Code >= 500 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for _, item := range list(t, v, "all=true").Items {
			show(t, v, item.ID)
		}
	})
}
