package traceview

import (
	"cmp"
	"container/list"
	"slices"
	"strings"
	"sync"
)

// maxSpansOfTrace keeps one runaway trace from pushing all others out.
const maxSpansOfTrace = 2000

// store is the bounded memory of traces. The zero value is not usable.
type store struct {
	maxTraces, maxBytes int

	mu       sync.Mutex
	traces   map[traceID]*trace
	byNews   *list.List                       // of *trace; the one with the oldest news in front
	follows  map[traceID]map[traceID]struct{} // a trace to those that have links to it, kept or not
	bytes    int
	received uint64 // spans ever taken
	evicted  uint64 // traces forgotten to make room
	dropped  uint64 // spans not taken: their trace was full
	revision uint64 // grows with each change
}

// trace is what is known of one trace.
type trace struct {
	id      traceID
	spans   map[spanID]*span
	bytes   int
	dropped int
	place   *list.Element
}

func newStore(maxTraces, maxBytes int) *store {
	return &store{
		maxTraces: maxTraces,
		maxBytes:  maxBytes,
		traces:    map[traceID]*trace{},
		byNews:    list.New(),
		follows:   map[traceID]map[traceID]struct{}{},
	}
}

// add takes spans, which must not be changed after.
func (st *store) add(spans []*span) {
	if len(spans) == 0 {
		return
	}
	for _, s := range spans {
		s.fit()
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, s := range spans {
		st.addOne(s)
	}
	st.revision++
	for len(st.traces) > st.maxTraces || (st.bytes > st.maxBytes && len(st.traces) > 1) {
		st.forget(st.byNews.Front().Value.(*trace))
		st.evicted++
	}
}

func (st *store) addOne(s *span) {
	t := st.traces[s.trace]
	if t == nil {
		t = &trace{id: s.trace, spans: map[spanID]*span{}}
		t.place = st.byNews.PushBack(t)
		st.traces[s.trace] = t
	} else {
		st.byNews.MoveToBack(t.place)
	}
	size := s.size()
	if old := t.spans[s.id]; old != nil { // sent twice: the later one counts
		t.bytes -= old.size()
		st.bytes -= old.size()
	} else if len(t.spans) >= maxSpansOfTrace || t.bytes+size > st.maxBytes/2 {
		t.dropped++
		st.dropped++
		return
	}
	t.spans[s.id] = s
	t.bytes += size
	st.bytes += size
	st.received++
	for _, l := range s.links {
		if l.trace == s.trace {
			continue
		}
		if st.follows[l.trace] == nil {
			st.follows[l.trace] = map[traceID]struct{}{}
		}
		st.follows[l.trace][s.trace] = struct{}{}
	}
}

// forget drops a trace and the links that it had to others.
func (st *store) forget(t *trace) {
	for _, s := range t.spans {
		for _, l := range s.links {
			delete(st.follows[l.trace], t.id)
			if len(st.follows[l.trace]) == 0 {
				delete(st.follows, l.trace)
			}
		}
	}
	st.byNews.Remove(t.place)
	delete(st.traces, t.id)
	st.bytes -= t.bytes
}

// query says which traces are wanted.
type query struct {
	text    string // part of a name, an attribute value, a service or the identifier; any case
	service string
	minimum int64 // ns, of the whole trace
	failed  bool  // only those with an error
	all     bool  // also those that follow another
	limit   int
}

// totals are the figures of the whole memory.
type totals struct {
	Traces       int    `json:"traces"`
	Spans        uint64 `json:"spans_received"`
	Bytes        int    `json:"bytes"`
	MaxTraces    int    `json:"max_traces"`
	MaxBytes     int    `json:"max_bytes"`
	Evicted      uint64 `json:"traces_evicted"`
	SpansDropped uint64 `json:"spans_dropped"`
}

// newest returns the summaries of traces, newest start first, the services
// of all, and the figures.
func (st *store) newest(q query) ([]summary, []string, totals) {
	st.mu.Lock()
	defer st.mu.Unlock()
	found := []summary{}
	known := map[string]struct{}{}
	for _, t := range st.traces {
		for _, s := range t.spans {
			known[s.service] = struct{}{}
		}
		if !q.all && st.leader(t) != nil {
			continue
		}
		family := st.family(t)
		if !q.matches(family) {
			continue
		}
		if sum := summarise(family); sum.DurationNs >= q.minimum {
			found = append(found, sum)
		}
	}
	slices.SortFunc(found, func(a, b summary) int {
		return cmp.Or(cmp.Compare(b.StartNs, a.StartNs), strings.Compare(a.ID, b.ID))
	})
	services := make([]string, 0, len(known))
	for name := range known {
		services = append(services, name)
	}
	slices.Sort(services)
	return found[:min(len(found), q.limit)], services, st.totals()
}

func (st *store) totals() totals {
	return totals{
		Traces: len(st.traces), Spans: st.received, Bytes: st.bytes,
		MaxTraces: st.maxTraces, MaxBytes: st.maxBytes, Evicted: st.evicted, SpansDropped: st.dropped,
	}
}

// changed returns the revision of the memory.
func (st *store) changed() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.revision
}

// one returns a trace and those that follow from it.
func (st *store) one(id traceID) (detail, bool) {
	st.mu.Lock()
	defer st.mu.Unlock()
	t := st.traces[id]
	if t == nil {
		return detail{}, false
	}
	d := describe(t)
	if first := st.leader(t); first != nil {
		d.LeaderID = first.id.String()
	}
	family := st.family(t)
	d.Deliveries = deliveries(family)
	for _, follower := range family[1:] {
		d.Linked = append(d.Linked, describe(follower))
	}
	slices.SortStableFunc(d.Linked, func(a, b detail) int { return cmp.Compare(a.StartNs, b.StartNs) })
	return d, true
}

// maxFamily bounds how many traces are drawn as one: an event may be handled
// by a thousand sockets.
const maxFamily = 20

// family is t and the traces that follow from it, directly or not.
func (st *store) family(t *trace) []*trace {
	family := []*trace{t}
	for i := 0; i < len(family); i++ {
		followers := make([]*trace, 0, len(st.follows[family[i].id]))
		for id := range st.follows[family[i].id] {
			if f := st.traces[id]; f != nil && !slices.Contains(family, f) {
				followers = append(followers, f)
			}
		}
		slices.SortFunc(followers, func(a, b *trace) int { return cmp.Compare(a.start(), b.start()) })
		family = append(family, followers...)
		if len(family) >= maxFamily {
			return family[:maxFamily]
		}
	}
	return family
}

// leader is the trace that t follows from: one that its root has a link to
// and that began before it.
func (st *store) leader(t *trace) *trace {
	root := t.root()
	if root == nil || root.parent != (spanID{}) {
		return nil
	}
	for _, l := range root.links {
		if first := st.traces[l.trace]; first != nil && first != t && first.start() < root.start {
			return first
		}
	}
	return nil
}

// root is the span without a parent; failing that, the earliest.
func (t *trace) root() *span {
	var root *span
	for _, s := range t.spans {
		if root == nil {
			root = s
			continue
		}
		a, b := s.parent == (spanID{}), root.parent == (spanID{})
		if a != b {
			if a {
				root = s
			}
			continue
		}
		if s.start < root.start || (s.start == root.start && slices.Compare(s.id[:], root.id[:]) < 0) {
			root = s
		}
	}
	return root
}

func (t *trace) start() int64 {
	first := int64(0)
	for _, s := range t.spans {
		if first == 0 || s.start < first {
			first = s.start
		}
	}
	return first
}

func (q query) matches(family []*trace) bool {
	text := strings.ToLower(q.text)
	hasText, hasService, hasError := text == "", q.service == "", !q.failed
	for _, t := range family {
		hasText = hasText || strings.HasPrefix(t.id.String(), text)
		for _, s := range t.spans {
			hasService = hasService || s.service == q.service
			hasError = hasError || s.failed
			hasText = hasText || s.contains(text)
		}
		if hasText && hasService && hasError {
			return true
		}
	}
	return false
}

func (s *span) contains(lower string) bool {
	if strings.Contains(strings.ToLower(s.name), lower) || strings.Contains(strings.ToLower(s.service), lower) {
		return true
	}
	return slices.ContainsFunc(s.attributes, func(a keyValue) bool {
		return strings.Contains(strings.ToLower(a.Value), lower) || strings.HasPrefix(strings.ToLower(a.Key), lower)
	})
}
