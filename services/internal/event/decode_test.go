package event_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// sameEnvelope checks that a body says what an envelope does.
func sameEnvelope(t *testing.T, body []byte, want event.Envelope) {
	t.Helper()
	var got event.Envelope
	if err := json.Unmarshal(body, &got); err != nil {
		t.Fatalf("%q cannot be sent on: %v", body, err)
	}
	if !got.Timestamp.Equal(want.Timestamp) {
		t.Errorf("%q was read as of %s", body, want.Timestamp)
	}
	got.Timestamp, want.Timestamp = time.Time{}, time.Time{}
	// What is sent on is written anew, if it was not laid out as usual.
	if a, b := compact(t, got.Data), compact(t, want.Data); a != b {
		t.Errorf("%q was read as data %q", body, want.Data)
	}
	got.Data, want.Data = nil, nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q was read as %+v", body, want)
	}
}

func compact(t *testing.T, data json.RawMessage) string {
	t.Helper()
	b, err := json.Marshal(data)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestWhatIsPublishedIsReadInOnePass: or else every event would cost its node
// half as much again, and nobody would notice.
func TestWhatIsPublishedIsReadInOnePass(t *testing.T) {
	for name, change := range map[string]func(*event.Event){
		"plain":        func(*event.Event) {},
		"with a trace": func(e *event.Event) { e.Trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01" },
		"ephemeral":    func(e *event.Event) { e.Class = event.Ephemeral },
		"data like an envelope": func(e *event.Event) {
			e.Data = []byte(`{"a":{"x":1,"timestamp":"y","id":"z"},"class":"durable","v":1}`)
		},
		"data of letters and signs":  func(e *event.Event) { e.Data = []byte("{\n \"s\": \"a \\\"b\\\"\\nü </script> \u2028\" }") },
		"data that is null":          func(e *event.Event) { e.Data = []byte("null") },
		"another zone and no second": func(e *event.Event) { e.At = time.Date(2026, 5, 1, 8, 30, 0, 0, time.FixedZone("", 7200)) },
	} {
		e := numbered("team:7:activity", 1)
		change(&e)
		body := event.BodyOf(e)
		if !event.Scans(body) {
			t.Errorf("%s: %s is read the long way", name, body)
		}
		m, err := event.ParseMessage(append([]byte("1d k2x9 0-0 1746081000123-5 e1 "), body...))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		sameEnvelope(t, m.Body, m.Envelope)
		if got := m.Envelope; got.ID != "e1" || got.Event != e.Name || got.Channel != e.Channel || !got.Timestamp.Equal(e.At) ||
			got.Trace != e.Trace || got.V != 1 || got.Offset != "k2x9.1746081000123-5" || got.Epoch != "k2x9" || compact(t, got.Data) != compact(t, e.Data) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

// What is laid out otherwise, by another version or by hand, is read as JSON.
func TestAnyLayoutIsRead(t *testing.T) {
	const plain = `{"event":"x","data":{"n":1},"timestamp":"2026-05-01T06:30:00Z","id":"y","channel":"a:b","class":"durable","v":1}`
	for name, body := range map[string]string{
		"as usual":                 plain,
		"another order":            `{"v":1,"event":"x","data":{"n":1},"class":"durable","timestamp":"2026-05-01T06:30:00Z","id":"y","channel":"a:b"}`,
		"a field more":             plain[:len(plain)-1] + `,"more":true}`,
		"an offset of its own":     plain[:len(plain)-1] + `,"offset":"zz.1-1","epoch":"zz"}`,
		"spaces":                   "{ " + plain[1:] + " ",
		"a line break in the data": `{"event":"x","data":{` + "\n" + `"n":1},"timestamp":"2026-05-01T06:30:00Z","id":"y","channel":"a:b","class":"durable","v":1}`,
		"escapes":                  `{"event":"\u0078","data":{"n":1},"timestamp":"2026-05-01T06:30:00Z","id":"\u0079","channel":"a:b","class":"durable","v":1}`,
	} {
		m, err := event.ParseMessage([]byte("1d k2x9 0-0 1746081000123-5 y " + body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		sameEnvelope(t, m.Body, m.Envelope)
		if e := m.Envelope; e.Event != "x" || e.ID != "y" || e.Channel != "a:b" || e.Offset != m.At.String() || e.Epoch != "k2x9" || compact(t, e.Data) != `{"n":1}` {
			t.Errorf("%s: got %+v", name, e)
		}
	}
	for name, body := range map[string]string{
		"data that is no JSON": `{"event":"x","data":{"n":1}},"timestamp":"2026-05-01T06:30:00Z","id":"y","channel":"a:b","class":"durable","v":1}`,
		"something behind it":  plain + "}",
		"no time":              `{"event":"x","data":{"n":1},"timestamp":"today","id":"y","channel":"a:b","class":"durable","v":1}`,
	} {
		if m, err := event.ParseMessage([]byte("1d k2x9 0-0 1746081000123-5 y " + body)); err == nil {
			t.Errorf("%s: was read as %+v", name, m.Envelope)
		}
	}
}

// BenchmarkMessage reads what Redis brings, laid out as this version does it,
// and otherwise.
func BenchmarkMessage(b *testing.B) {
	e := numbered("team:7:activity", 1)
	e.Data, e.At = []byte(`{"habit_id":"01JX3V5H9Q6Y2M8K4N7P0R1S2T","user_id":"01JX3V5H9Q6Y2M8K4N7P0R1S2T","day":"2026-05-01","name":"Morning run","note":"the long way by the harbour, and back"}`), time.Now()
	for layout, more := range map[string]string{"ours": "", "other": " "} {
		b.Run("layout="+layout, func(b *testing.B) {
			wire := append(append([]byte("1d k2x9 0-0 1746081000123-5 e1 "), event.BodyOf(e)...), more...)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := event.ParseMessage(wire); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
