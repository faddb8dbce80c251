package traceview

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// decodeProtobuf reads an ExportTraceServiceRequest. On the wire it is the same
// as TracesData, which does not bring gRPC with it.
func decodeProtobuf(body []byte) ([]*span, error) {
	var data tracepb.TracesData
	if err := proto.Unmarshal(body, &data); err != nil {
		return nil, errors.New("the body is not an OTLP trace request in protobuf")
	}
	var spans []*span
	for _, rs := range data.GetResourceSpans() {
		service := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = text(a.GetValue(), 0)
			}
		}
		for _, ss := range rs.GetScopeSpans() {
			for _, p := range ss.GetSpans() {
				s, err := fromProtobuf(p)
				if err != nil {
					return nil, fmt.Errorf("span %d: %w", len(spans), err)
				}
				s.service, s.scope = service, ss.GetScope().GetName()
				if spans = append(spans, s); len(spans) > maxSpans {
					return nil, fmt.Errorf("send at most %d spans at once", maxSpans)
				}
			}
		}
	}
	return spans, nil
}

func fromProtobuf(p *tracepb.Span) (*span, error) {
	s := &span{
		name:       p.GetName(),
		kind:       kindName(int(p.GetKind())),
		start:      nanoseconds(p.GetStartTimeUnixNano()),
		end:        nanoseconds(p.GetEndTimeUnixNano()),
		failed:     p.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR,
		message:    p.GetStatus().GetMessage(),
		attributes: texts(p.GetAttributes()),
		dropped:    int(p.GetDroppedAttributesCount()) + int(p.GetDroppedEventsCount()) + int(p.GetDroppedLinksCount()),
	}
	if len(p.GetTraceId()) != len(s.trace) || len(p.GetSpanId()) != len(s.id) {
		return nil, errors.New("trace_id must have 16 bytes and span_id 8")
	}
	copy(s.trace[:], p.GetTraceId())
	copy(s.id[:], p.GetSpanId())
	if s.trace == (traceID{}) || s.id == (spanID{}) {
		return nil, errors.New("trace_id and span_id must not be all zeroes")
	}
	if len(p.GetParentSpanId()) == len(s.parent) {
		copy(s.parent[:], p.GetParentSpanId())
	}
	for _, e := range p.GetEvents() {
		s.events = append(s.events, spanEvent{e.GetName(), nanoseconds(e.GetTimeUnixNano()), texts(e.GetAttributes())})
	}
	for _, l := range p.GetLinks() {
		if len(l.GetTraceId()) == len(traceID{}) && len(l.GetSpanId()) == len(spanID{}) {
			s.links = append(s.links, link{traceID(l.GetTraceId()), spanID(l.GetSpanId()), texts(l.GetAttributes())})
		}
	}
	return s, nil
}

func nanoseconds(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

func kindName(kind int) string {
	return map[int]string{2: "server", 3: "client", 4: "producer", 5: "consumer"}[kind]
}

func texts(attrs []*commonpb.KeyValue) []keyValue {
	out := make([]keyValue, 0, len(attrs))
	for _, a := range attrs {
		out = append(out, keyValue{a.GetKey(), text(a.GetValue(), 0)})
	}
	return out
}

// maxDepth bounds how deep values within values are read.
const maxDepth = 4

func text(v *commonpb.AnyValue, depth int) string {
	if depth > maxDepth {
		return "…"
	}
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_BoolValue:
		return strconv.FormatBool(v.BoolValue)
	case *commonpb.AnyValue_IntValue:
		return strconv.FormatInt(v.IntValue, 10)
	case *commonpb.AnyValue_DoubleValue:
		return strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
	case *commonpb.AnyValue_BytesValue:
		return base64.StdEncoding.EncodeToString(v.BytesValue)
	case *commonpb.AnyValue_ArrayValue:
		var items []string
		for _, item := range v.ArrayValue.GetValues() {
			items = append(items, text(item, depth+1))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case *commonpb.AnyValue_KvlistValue:
		var items []string
		for _, item := range v.KvlistValue.GetValues() {
			// Redacted here too: the outer key says nothing of the inner ones.
			if value, ok := Redact(item.GetKey(), text(item.GetValue(), depth+1)); ok {
				items = append(items, item.GetKey()+"="+value)
			}
		}
		return "{" + strings.Join(items, ", ") + "}"
	}
	return ""
}

// The JSON form of OTLP is not that of protobuf: identifiers are hexadecimal
// and numbers of 64 bits may be strings or numbers.
type (
	requestOTLP struct {
		ResourceSpans []struct {
			Resource struct {
				Attributes []attributeOTLP `json:"attributes"`
			} `json:"resource"`
			ScopeSpans []struct {
				Scope struct {
					Name string `json:"name"`
				} `json:"scope"`
				Spans []spanOTLP `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	}
	spanOTLP struct {
		TraceID           string          `json:"traceId"`
		SpanID            string          `json:"spanId"`
		ParentSpanID      string          `json:"parentSpanId"`
		Name              string          `json:"name"`
		Kind              kindOTLP        `json:"kind"`
		StartTimeUnixNano numberOTLP      `json:"startTimeUnixNano"`
		EndTimeUnixNano   numberOTLP      `json:"endTimeUnixNano"`
		Attributes        []attributeOTLP `json:"attributes"`
		Events            []struct {
			TimeUnixNano numberOTLP      `json:"timeUnixNano"`
			Name         string          `json:"name"`
			Attributes   []attributeOTLP `json:"attributes"`
		} `json:"events"`
		Links []struct {
			TraceID    string          `json:"traceId"`
			SpanID     string          `json:"spanId"`
			Attributes []attributeOTLP `json:"attributes"`
		} `json:"links"`
		Status struct {
			Code    kindOTLP `json:"code"`
			Message string   `json:"message"`
		} `json:"status"`
	}
	attributeOTLP struct {
		Key   string    `json:"key"`
		Value valueOTLP `json:"value"`
	}
	valueOTLP struct {
		String *string     `json:"stringValue"`
		Bool   *bool       `json:"boolValue"`
		Int    *numberOTLP `json:"intValue"`
		Double *float64    `json:"doubleValue"`
		Bytes  *string     `json:"bytesValue"`
		Array  *struct {
			Values []valueOTLP `json:"values"`
		} `json:"arrayValue"`
		List *struct {
			Values []attributeOTLP `json:"values"`
		} `json:"kvlistValue"`
	}
	numberOTLP int64
	kindOTLP   int
)

// UnmarshalJSON takes a number or a string that holds one.
func (n *numberOTLP) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	if s == "" || s == "null" {
		return nil
	}
	i, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a whole number", cut(s, 40))
	}
	*n = numberOTLP(i)
	return nil
}

// UnmarshalJSON takes the number of an enumeration or its name.
func (k *kindOTLP) UnmarshalJSON(b []byte) error {
	s := strings.Trim(string(b), `"`)
	named, known := map[string]kindOTLP{
		"SPAN_KIND_SERVER": 2, "SPAN_KIND_CLIENT": 3, "SPAN_KIND_PRODUCER": 4, "SPAN_KIND_CONSUMER": 5, "STATUS_CODE_ERROR": 2,
	}[s]
	if known {
		*k = named
		return nil
	}
	if i, err := strconv.Atoi(s); err == nil {
		*k = kindOTLP(i)
	}
	return nil // one that is not known is as good as none
}

func decodeJSON(body []byte) ([]*span, error) {
	var request requestOTLP
	if err := json.Unmarshal(body, &request); err != nil {
		return nil, fmt.Errorf("the body is not an OTLP trace request in JSON: %w", err)
	}
	var spans []*span
	for _, rs := range request.ResourceSpans {
		service := ""
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.text(0)
			}
		}
		for _, ss := range rs.ScopeSpans {
			for _, o := range ss.Spans {
				s, err := o.span()
				if err != nil {
					return nil, fmt.Errorf("span %d: %w", len(spans), err)
				}
				s.service, s.scope = service, ss.Scope.Name
				if spans = append(spans, s); len(spans) > maxSpans {
					return nil, fmt.Errorf("send at most %d spans at once", maxSpans)
				}
			}
		}
	}
	return spans, nil
}

func (o spanOTLP) span() (*span, error) {
	s := &span{
		name:       o.Name,
		kind:       kindName(int(o.Kind)),
		start:      int64(o.StartTimeUnixNano),
		end:        int64(o.EndTimeUnixNano),
		failed:     o.Status.Code == 2,
		message:    o.Status.Message,
		attributes: textsOTLP(o.Attributes),
	}
	var err error
	if s.trace, err = parseTraceID(o.TraceID); err != nil {
		return nil, fmt.Errorf("traceId: %w", err)
	}
	if s.id, err = parseSpanID(o.SpanID); err != nil {
		return nil, fmt.Errorf("spanId: %w", err)
	}
	if o.ParentSpanID != "" {
		if s.parent, err = parseSpanID(o.ParentSpanID); err != nil {
			return nil, fmt.Errorf("parentSpanId: %w", err)
		}
	}
	for _, e := range o.Events {
		s.events = append(s.events, spanEvent{e.Name, int64(e.TimeUnixNano), textsOTLP(e.Attributes)})
	}
	for _, l := range o.Links {
		to, err := parseTraceID(l.TraceID)
		if err != nil {
			return nil, fmt.Errorf("link: traceId: %w", err)
		}
		toSpan, err := parseSpanID(l.SpanID)
		if err != nil {
			return nil, fmt.Errorf("link: spanId: %w", err)
		}
		s.links = append(s.links, link{to, toSpan, textsOTLP(l.Attributes)})
	}
	return s, nil
}

func textsOTLP(attrs []attributeOTLP) []keyValue {
	out := make([]keyValue, 0, len(attrs))
	for _, a := range attrs {
		out = append(out, keyValue{a.Key, a.Value.text(0)})
	}
	return out
}

func (v valueOTLP) text(depth int) string {
	switch {
	case depth > maxDepth:
		return "…"
	case v.String != nil:
		return *v.String
	case v.Bool != nil:
		return strconv.FormatBool(*v.Bool)
	case v.Int != nil:
		return strconv.FormatInt(int64(*v.Int), 10)
	case v.Double != nil:
		return strconv.FormatFloat(*v.Double, 'g', -1, 64)
	case v.Bytes != nil:
		return *v.Bytes
	case v.Array != nil:
		var items []string
		for _, item := range v.Array.Values {
			items = append(items, item.text(depth+1))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case v.List != nil:
		var items []string
		for _, item := range v.List.Values {
			if value, ok := Redact(item.Key, item.Value.text(depth+1)); ok {
				items = append(items, item.Key+"="+value)
			}
		}
		return "{" + strings.Join(items, ", ") + "}"
	}
	return ""
}
