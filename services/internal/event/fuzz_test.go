package event_test

import (
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// FuzzMessage reads anything as a message that Redis brings: what is taken has
// a position that can be read again, and can be sent on as JSON.
func FuzzMessage(f *testing.F) {
	body := `{"event":"x","data":{"n":1},"timestamp":"2026-05-01T06:30:00Z","id":"y","channel":"a:b","class":"durable","v":1}`
	for _, seed := range []string{
		"1d k2x9 0-0 1746081000123-5 y " + body, "1r k2x9 5-0 5-0 - -", "1e k 1-1 1-1 y {}", "2d k 1-1 2-1 y {}", "1d K 1-1 2-1 y {}", "1d k 1 2 y {}", "1d k -1-1 2-1 y {}",
		"1d k 1-1 2-1 y " + strings.Replace(body, `{"n":1}`, `{"timestamp":",\"timestamp\":\"x",`+"\n"+`"n":1}`, 1), "1d k 1-1 2-1 y " + strings.Replace(body, `"v":1`, `"v":1,"offset":"k.1-1"`, 1) + " ", "1d k 1-1 2-1 y " + strings.Replace(body, `"v":1`, `"v":1,"trace":"00-1-2-01"`, 1),
		"1d k 99999999999999999999-1 2-1 y {}", "1d k 1-1 2-1 y", "1d k 1-1 2-1 y [" + strings.Repeat("[", 100), "1d k 01-1 +2-1 y {}", "", "     ",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := event.ParseMessage(b)
		if err != nil {
			return
		}
		if p, err := event.ParsePosition(m.Envelope.Offset); err != nil || p != m.At || m.Envelope.Epoch != m.At.Epoch {
			t.Errorf("offset %q of %v: %v", m.Envelope.Offset, m.At, err)
		}
		if strings.ContainsAny(string(m.Body), "\r\n\x00") {
			t.Errorf("sent on as %q", m.Body)
		}
		sameEnvelope(t, m.Body, m.Envelope)
	})
}

// FuzzPosition reads anything as the position that a client sends back.
func FuzzPosition(f *testing.F) {
	for _, seed := range []string{"", "k2x9.1746081000123-0", "k.0-0", ".1-1", "k.1", "K.1-1", "k.1-1-1", "k.-1-1", "k.1-18446744073709551615", "k.1-18446744073709551616", strings.Repeat("k", 33) + ".1-1", "k.+1-1", "k.1_0-1", "k. 1-1", "k.１-1", "unknown"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := event.ParsePosition(s)
		if err != nil {
			if len(err.Error()) > 4*64+100 {
				t.Errorf("the error is %q", err)
			}
			return
		}
		if again, err := event.ParsePosition(p.String()); err != nil || again != p {
			t.Errorf("%q is %v, then %v: %v", s, p, again, err)
		}
		if p.IsZero() != (s == "") {
			t.Errorf("%q is %v", s, p)
		}
	})
}
