package traceview

import (
	"cmp"
	"slices"
	"strings"
)

// deliveryJSON is the way of one event: from its publication, over the nodes
// that handed it to connections, to the screens that showed it. What has not
// come, or is not sampled, is missing. Screens go by their own clocks, set by
// that of the server as well as they can be.
type deliveryJSON struct {
	Name        string   `json:"name"`                   // of the span that published it
	PublishedMs float64  `json:"published_ms"`           // Unix
	DeliveredMs *float64 `json:"delivered_ms,omitempty"` // after the publication: to the last connection of the last node
	RenderedMs  *float64 `json:"rendered_ms,omitempty"`  // after the publication: on the last screen
	Nodes       int      `json:"nodes"`
	Screens     int      `json:"screens"`
}

// deliveries returns those of the events that a family of traces published, in
// their order.
func deliveries(family []*trace) (list []deliveryJSON) {
	var published []*span
	children := map[spanID][]*span{} // of whatever trace: the id says it
	followers := map[spanID][]*span{}
	for _, t := range family {
		for _, s := range t.spans {
			if s.kind == "producer" {
				published = append(published, s)
			}
			children[s.parent] = append(children[s.parent], s)
			for _, l := range s.links {
				followers[l.span] = append(followers[l.span], s)
			}
		}
	}
	slices.SortFunc(published, func(a, b *span) int {
		return cmp.Or(cmp.Compare(a.start, b.start), slices.Compare(a.id[:], b.id[:]))
	})
	after := func(p *span, last *float64, end int64) *float64 {
		ms := milliseconds(end - p.start)
		if last != nil {
			ms = max(ms, *last)
		}
		return &ms
	}
	for _, p := range published {
		d := deliveryJSON{Name: p.name, PublishedMs: milliseconds(p.start)}
		for _, process := range followers[p.id] {
			for _, s := range children[process.id] {
				if s.trace == process.trace && s.name == "ws.broadcast" {
					d.DeliveredMs = after(p, d.DeliveredMs, s.end)
					d.Nodes++
				}
			}
		}
		for _, s := range children[p.id] {
			if s.trace == p.trace && s.kind == "consumer" && strings.HasPrefix(s.name, "show ") {
				d.RenderedMs = after(p, d.RenderedMs, s.end)
				d.Screens++
			}
		}
		list = append(list, d)
	}
	return list
}
