package traceview_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

func TestATraceSaysWhenItsEventsWereDeliveredAndRendered(t *testing.T) {
	v := traceview.New(traceview.Options{})
	web, api, realtime := service(v, "crewbeat-web"), service(v, "crewbeat-api"), service(v, "crewbeat-realtime")
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	span := func(tr trace.Tracer, name string, from, to int, opts ...trace.SpanStartOption) trace.Span {
		_, s := tr.Start(t.Context(), name, append(opts, trace.WithTimestamp(at(from)))...)
		s.End(trace.WithTimestamp(at(to)))
		return s
	}
	ctx, request := api.Start(t.Context(), "PUT", trace.WithTimestamp(at(0)))
	request.End(trace.WithTimestamp(at(9)))
	var events [2]trace.Span
	for i := range events {
		_, events[i] = api.Start(ctx, "publish team:{id}:activity", trace.WithSpanKind(trace.SpanKindProducer), trace.WithTimestamp(at(10+i)))
		events[i].End(trace.WithTimestamp(at(12)))
	}
	for _, end := range []int{14, 17} { // two nodes
		ctx, process := realtime.Start(t.Context(), "process", trace.WithLinks(trace.Link{SpanContext: events[0].SpanContext()}), trace.WithTimestamp(at(13)))
		_, broadcast := realtime.Start(ctx, "ws.broadcast", trace.WithTimestamp(at(13)))
		broadcast.End(trace.WithTimestamp(at(end)))
		process.End(trace.WithTimestamp(at(20)))
	}
	for _, end := range []int{40, 30, 35} { // three screens
		_, s := web.Start(trace.ContextWithRemoteSpanContext(t.Context(), events[0].SpanContext()), "show member_habit_completed",
			trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(at(21)))
		s.End(trace.WithTimestamp(at(end)))
	}
	span(api, "publish elsewhere", 1, 2, trace.WithSpanKind(trace.SpanKindProducer))

	w := do(t, v, http.MethodGet, "/traces/api/traces/"+request.SpanContext().TraceID().String(), nil)
	var got struct {
		Deliveries []struct {
			Name      string
			Delivered *float64 `json:"delivered_ms"`
			Rendered  *float64 `json:"rendered_ms"`
			Nodes     int
			Screens   int
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got.Deliveries) != 2 {
		t.Fatalf("%v, %s", err, w.Body)
	}
	one, two := got.Deliveries[0], got.Deliveries[1]
	if one.Delivered == nil || one.Rendered == nil || *one.Delivered != 7 || *one.Rendered != 30 || one.Nodes != 2 || one.Screens != 3 {
		t.Errorf("the first event: %s", w.Body)
	}
	if two.Delivered != nil || two.Rendered != nil || two.Nodes != 0 || two.Screens != 0 {
		t.Errorf("nobody has seen the second event: %s", w.Body)
	}
}
