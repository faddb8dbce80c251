package traceview

import (
	"cmp"
	"slices"
)

// summary is a trace in the list, together with those that follow from it.
// JavaScript's numbers hold nanoseconds since 1970 only roughly, so times of
// day go out as milliseconds and durations as milliseconds with a fraction.
type summary struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Service    string         `json:"service"`
	StartMs    float64        `json:"start_ms"`
	DurationMs float64        `json:"duration_ms"`
	Spans      int            `json:"spans"`
	Errors     int            `json:"errors"`
	Services   []serviceCount `json:"services"`
	Linked     int            `json:"linked"`
	Partial    bool           `json:"partial,omitempty"` // its root has not come (yet)

	StartNs    int64 `json:"-"`
	DurationNs int64 `json:"-"`
}

type serviceCount struct {
	Name  string `json:"name"`
	Spans int    `json:"spans"`
}

// summarise sums up a family, whose first trace names it. Its duration is
// that of the first trace: what follows may come much later.
func summarise(family []*trace) summary {
	first := family[0]
	root := first.root()
	from, to := first.extent()
	sum := summary{
		ID: first.id.String(), Name: root.name, Service: root.service,
		StartMs: milliseconds(from), DurationMs: milliseconds(to - from),
		Linked: len(family) - 1, Partial: root.parent != (spanID{}),
		StartNs: from, DurationNs: to - from,
	}
	count := map[string]int{}
	for _, t := range family {
		sum.Spans += len(t.spans)
		for _, s := range t.spans {
			count[s.service]++
			if s.failed {
				sum.Errors++
			}
		}
	}
	sum.Services = make([]serviceCount, 0, len(count))
	for name, n := range count {
		sum.Services = append(sum.Services, serviceCount{name, n})
	}
	slices.SortFunc(sum.Services, func(a, b serviceCount) int {
		return cmp.Or(cmp.Compare(b.Spans, a.Spans), cmp.Compare(a.Name, b.Name))
	})
	return sum
}

func (t *trace) extent() (from, to int64) {
	from = t.start()
	for _, s := range t.spans {
		to = max(to, s.end)
	}
	return from, to
}

// detail is a whole trace.
type detail struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Service    string     `json:"service"`
	StartMs    float64    `json:"start_ms"`
	DurationMs float64    `json:"duration_ms"`
	Dropped    int        `json:"spans_dropped,omitempty"`
	LeaderID   string     `json:"leader_id,omitempty"` // the trace that this one follows from
	Spans      []spanJSON `json:"spans"`
	Linked     []detail   `json:"linked,omitempty"`
	// Deliveries are those of the events that it published.
	Deliveries []deliveryJSON `json:"deliveries,omitempty"`

	StartNs int64 `json:"-"`
}

type spanJSON struct {
	ID         string      `json:"id"`
	ParentID   string      `json:"parent_id,omitempty"`
	Name       string      `json:"name"`
	Service    string      `json:"service"`
	Scope      string      `json:"scope,omitempty"`
	Kind       string      `json:"kind"`
	StartMs    float64     `json:"start_ms"`  // Unix
	OffsetMs   float64     `json:"offset_ms"` // from the start of its trace
	DurationMs float64     `json:"duration_ms"`
	Error      bool        `json:"error,omitempty"`
	Message    string      `json:"message,omitempty"`
	Attributes []pairJSON  `json:"attributes,omitempty"`
	Events     []eventJSON `json:"events,omitempty"`
	Links      []linkJSON  `json:"links,omitempty"`
	Dropped    int         `json:"dropped,omitempty"`
}

type pairJSON struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

type eventJSON struct {
	Name       string     `json:"name"`
	OffsetMs   float64    `json:"offset_ms"` // from the start of the span
	Attributes []pairJSON `json:"attributes,omitempty"`
}

type linkJSON struct {
	TraceID    string     `json:"trace_id"`
	SpanID     string     `json:"span_id"`
	Attributes []pairJSON `json:"attributes,omitempty"`
}

// describe writes t out, its spans by start.
func describe(t *trace) detail {
	from, to := t.extent()
	root := t.root()
	d := detail{
		ID: t.id.String(), Name: root.name, Service: root.service,
		StartMs: milliseconds(from), DurationMs: milliseconds(to - from),
		Dropped: t.dropped, StartNs: from, Spans: make([]spanJSON, 0, len(t.spans)),
	}
	spans := make([]*span, 0, len(t.spans))
	for _, s := range t.spans {
		spans = append(spans, s)
	}
	slices.SortFunc(spans, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(b.end, a.end), slices.Compare(a.id[:], b.id[:]))
	})
	for _, s := range spans {
		d.Spans = append(d.Spans, s.json(from))
	}
	return d
}

func (s *span) json(from int64) spanJSON {
	j := spanJSON{
		ID: s.id.String(), Name: s.name, Service: s.service, Scope: s.scope, Kind: cmp.Or(s.kind, "internal"),
		StartMs: milliseconds(s.start), OffsetMs: milliseconds(s.start - from), DurationMs: milliseconds(s.end - s.start),
		Error: s.failed, Message: s.message, Attributes: pairs(s.attributes), Dropped: s.dropped,
	}
	if s.parent != (spanID{}) {
		j.ParentID = s.parent.String()
	}
	for _, e := range s.events {
		j.Events = append(j.Events, eventJSON{Name: e.name, OffsetMs: milliseconds(e.at - s.start), Attributes: pairs(e.attributes)})
	}
	for _, l := range s.links {
		j.Links = append(j.Links, linkJSON{TraceID: l.trace.String(), SpanID: l.span.String(), Attributes: pairs(l.attributes)})
	}
	return j
}

func pairs(attrs []keyValue) []pairJSON {
	out := make([]pairJSON, 0, len(attrs))
	for _, a := range attrs {
		out = append(out, pairJSON(a))
	}
	slices.SortStableFunc(out, func(a, b pairJSON) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

func milliseconds(ns int64) float64 { return float64(ns) / 1e6 }
