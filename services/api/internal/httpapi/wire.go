package httpapi

import (
	"encoding/json"
	"reflect"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crewbeat/crewbeat/services/internal/civil"
)

// Nullable is a value that may be null in an answer; the document says
// "a T or null", which huma's own pointers to objects cannot.
type Nullable[T any] struct{ Value *T }

// null or value.
func nullable[T any](v *T) Nullable[T] { return Nullable[T]{v} }

// MarshalJSON implements [json.Marshaler].
func (n Nullable[T]) MarshalJSON() ([]byte, error) { return json.Marshal(n.Value) }

// UnmarshalJSON implements [json.Unmarshaler].
func (n *Nullable[T]) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &n.Value) }

// Schema implements [huma.SchemaProvider].
func (Nullable[T]) Schema(r huma.Registry) *huma.Schema {
	t := reflect.TypeFor[T]()
	return &huma.Schema{AnyOf: []*huma.Schema{r.Schema(t, true, t.Name()), {Type: "null"}}}
}

// Optional is a value of a change that may be left out (keep it as it is),
// null (take it away) or given.
type Optional[T any] struct {
	Sent  bool
	Value *T
}

// UnmarshalJSON implements [json.Unmarshaler].
func (o *Optional[T]) UnmarshalJSON(b []byte) error {
	o.Sent = true
	return json.Unmarshal(b, &o.Value)
}

// Schema implements [huma.SchemaProvider].
func (Optional[T]) Schema(r huma.Registry) *huma.Schema {
	s := *r.Schema(reflect.TypeFor[T](), true, "")
	s.Nullable = true
	return &s
}

// Date is a civil day on the wire.
type Date struct{ civil.Day }

// Schema implements [huma.SchemaProvider].
func (Date) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{
		Type: huma.TypeString, Format: "date", Examples: []any{"2026-11-22"},
		Pattern: `^\d{4}-\d{2}-\d{2}$`, PatternDescription: "a day as YYYY-MM-DD",
	}
}

func date(d *civil.Day) *Date {
	if d == nil {
		return nil
	}
	return &Date{*d}
}

func day(d *Date) *civil.Day {
	if d == nil {
		return nil
	}
	return &d.Day
}

// list maps a slice onto a slice that is never null on the wire.
func list[T, U any](in []T, f func(T) U) []U {
	out := make([]U, 0, len(in))
	for _, v := range in {
		out = append(out, f(v))
	}
	return out
}

// items is the answer of every list that has no cursor.
type items[T any] struct {
	Items []T `json:"items"`
}
