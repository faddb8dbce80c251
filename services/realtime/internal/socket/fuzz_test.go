package socket_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

// FuzzCursor reads anything as the cursor of a stream: what is taken is of at
// most 16 channels, each at a position that the broker can be asked for, and is
// the same when it has been sent and read again.
func FuzzCursor(f *testing.F) {
	c := socket.Cursor{}
	f.Add(c.Text())
	for i, ch := range []string{"team:harbor:activity", "user:mira:habits", "user:jonas:habits"} {
		c.Put(ch, event.Position{Epoch: strings.Repeat("k2", 1+i*5), ID: event.ID{Ms: 1_746_081_000_123 << i, Seq: uint64(i) << 40}})
		f.Add(c.Text())
	}
	for i := range socket.StreamMax {
		c.Put(strings.Repeat("x", i+1), event.Position{Epoch: strings.Repeat("z", 32), ID: event.ID{Ms: 1<<64 - 1, Seq: 1<<64 - 1}})
	}
	for _, seed := range []string{c.Text(), "", "AQ", "AQ==", "Ag", "AQE", "AQAAAAAAAAAAAWEB/w", "AQAAAAAAAAAAAWEAAA\n", "AQAAAAAAAAAAAUEAAA", "AQAAAAAAAAAAAWGAgICAgICAgIABAA"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := socket.ParseCursor(s)
		if err != nil {
			return
		}
		if len(c) > socket.StreamMax {
			t.Fatalf("%d channels", len(c))
		}
		for _, at := range c.Positions() {
			if p, err := event.ParsePosition(at.String()); err != nil || p != at || at.IsZero() {
				t.Errorf("position %+v: %v", at, err)
			}
		}
		text := c.Text()
		again, err := socket.ParseCursor(text)
		if err != nil || !reflect.DeepEqual(again, c) {
			t.Errorf("%q is %v, then %v: %v", s, c, again, err)
		}
		if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("sent as %q", text)
		}
	})
}

// FuzzClientMessage reads anything as a message of a client: what is sent back
// of it is JSON, no larger than the message allows, and the id is the same.
func FuzzClientMessage(f *testing.F) {
	for _, seed := range []string{
		`{"type":"subscribe","id":"1","channels":[{"ch":"team:T:activity","since":"a.1-2"},"user:U:habits"]}`,
		`{"type":"unsubscribe","id":2,"channels":["team:T:activity"]}`, `{"type":"refresh","id":"3","ticket":"t"}`, `{"type":"ack","ids":["x"]}`,
		`{"type":"pong"}`, `{"type":5}`, `{"type":"x","id":{}}`, `{"type":"x","id":-1}`, `{"type":"x","id":1e999}`, `{"type":"x","id":"\ud800"}`, `{"type":"x","id":"` + strings.Repeat("x", 70) + `"}`,
		`{"type":"subscribe","channels":[null,{},"",{"ch":5}]}`, `{"type":"subscribe","channels":{"0":"a:b"}}`, `{"TYPE":"ping"}`, `{"type":"ping","type":"pong"}`, `[]`, `null`, `{"type":"x"}{}`,
		strings.Repeat("[", 4000), `{"type":"subscribe","channels":["` + strings.Repeat(`\u0000`, 500) + `"]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > socket.MessageBytes {
			return // refused before
		}
		m, err := socket.ParseInbound(b)
		if err != nil {
			return
		}
		if !json.Valid(b) || m.Type == "" || len(m.ID) > 64 {
			t.Fatalf("%q is taken as %+v", b, m)
		}
		var sent struct{ ID any }
		if len(m.ID) > 0 {
			if err := json.Unmarshal([]byte(`{"id":`+string(m.ID)+`}`), &sent); err != nil && !isRange(err) {
				t.Fatalf("id %q: %v", m.ID, err)
			}
		}
		for _, answer := range socket.Answers(m) {
			var got struct{ ID any }
			if err := json.Unmarshal(answer, &got); err != nil && !isRange(err) || !reflect.DeepEqual(got, sent) {
				t.Errorf("answered %q: %v, want the id %v", answer, err, sent.ID)
			}
			if len(answer) > 200*6+64*6+400 { // a channel's name is cut at 200 bytes; JSON may write each as \u00xx
				t.Errorf("an answer of %d bytes", len(answer))
			}
		}
	})
}

// isRange reports a number that is JSON and too large for a float64.
func isRange(err error) bool {
	_, ok := errors.AsType[*json.UnmarshalTypeError](err)
	return ok
}

// FuzzStreamRequest reads anything as the query and the Last-Event-ID of a
// stream: what is asked for is at most 16 valid names, each once, from
// positions that can be read or lead to a reset.
func FuzzStreamRequest(f *testing.F) {
	c := socket.Cursor{}
	c.Put("team:T:activity", event.Position{Epoch: "k2", ID: event.ID{Ms: 5, Seq: 6}})
	for _, seed := range [][2]string{
		{"channels=team:T:activity,user:U:habits@k2.1-2", ""}, {"channels=team:T:activity", c.Text()}, {"channels=team:T:activity&cursor=" + c.Text(), ""},
		{"own=1", c.Text()}, {"own=1&channels=a:b@k2.1-2", ""}, {"own=1&channels=", ""}, {"own=2", ""},
		{"channels=a:b&channels=c:d", "x"}, {"channels=", ""}, {"", ""}, {"channels=%00:b", ""}, {"channels=a:b%0aid:1", ""}, {"channels=a:b@@", ""}, {"channels=a:b&v=2", ""}, {"%zz", ""}, {"channels=a:b;c", ""},
		{"channels=" + strings.Repeat("a:b,", 40) + "a:b", ""}, {"channels=a:b", "\r\nX: y"}, {"channels=a:b", strings.Repeat("A", 3000)},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, query, id string) {
		r := &http.Request{Method: http.MethodGet, URL: &url.URL{Path: "/rt/v1/events", RawQuery: query}, Header: http.Header{"Last-Event-Id": {id}}}
		channels, from, err := socket.StreamChannels(r)
		if err != nil {
			if text := err.Error(); len(text) > 1200 || strings.ContainsAny(text, "\r\n\x00") {
				t.Errorf("the error is %q", text)
			}
			return
		}
		if n := len(channels); n == 0 && r.URL.Query().Get("own") != "1" || n > socket.StreamMax {
			t.Fatalf("%d channels", n)
		}
		for i, ch := range channels {
			if !event.ValidChannel(ch) || slices.Contains(channels[:i], ch) {
				t.Errorf("%q of %q", ch, channels)
			}
			if id == "" || from[i] == "" || from[i] == "unknown" {
				continue
			}
			if p, err := event.ParsePosition(from[i]); err != nil || p.IsZero() {
				t.Errorf("from %q: %v", from[i], err)
			}
		}
	})
}

// FuzzTicketHeaders looks for a ticket in any header: what is found is in them,
// and holds none of what separates it from others.
func FuzzTicketHeaders(f *testing.F) {
	tk := strings.Repeat("a", 43)
	for _, seed := range [][2]string{
		{"crewbeat.v1, crewbeat.ticket." + tk, ""}, {"crewbeat.ticket." + tk, "Ticket " + tk}, {"", "Ticket " + tk}, {"", "ticket\t" + tk}, {"", "Bearer " + tk}, {"", "Ticket"}, {"", "Ticket  " + tk + " "},
		{"crewbeat.ticket.,crewbeat.ticket." + tk, ""}, {"crewbeat.ticket." + tk + ";q=1", ""}, {",,,", "Ticket a,b"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, protocols, authorization string) {
		r := httptest.NewRequest(http.MethodGet, "/rt/v1/ws?ticket="+tk+"&token="+tk, http.NoBody)
		r.Header.Set("Cookie", "ticket="+tk)
		r.Header["Sec-Websocket-Protocol"], r.Header["Authorization"] = []string{protocols}, []string{authorization}
		got := socket.TicketOf(r)
		switch {
		case got == "":
		case strings.Contains(protocols, "crewbeat.ticket."+got) && !strings.Contains(got, ","):
		case len(authorization) > 7 && strings.EqualFold(authorization[:7], "ticket ") && strings.Contains(authorization[7:], got):
		default:
			t.Errorf("found %q in %q and %q", got, protocols, authorization)
		}
	})
}

// FuzzEnvelope publishes anything that is valid, and reads what streams and
// WebSockets send of it as a client does: it is one event, and the same one.
func FuzzEnvelope(f *testing.F) {
	for _, seed := range []struct{ channel, name, id, data string }{
		{"team:T:activity", "member_left", "01JTA2", `{"n":1}`}, {"a:b", "x", "y", "{\r\n \"a\":\r\"b\\r\\n\\ndata: {}\\n\\nid: 9\\u0000\"\n}"},
		{"a:b", "x\nid: 1", "y", "{}"}, {"a:b", "x", "y\r", "{}"}, {"a:b\x00", "x", "y", "{}"}, {"a:b", "x", "y", "\"\u2028\u2029\ufeff\""}, {"a:b", "x", "y", `"\ud800"`}, {"a:b", "x", "y", "null"}, {"a:b", "x", "y", "\t[1,\n2]"},
		{"a:b", "x", "y", `"` + strings.Repeat("x", 70_000) + `"`}, {"a:b", "x", "y", `"` + strings.Repeat("x", 300) + `"`}, {"a:b", "x", "y", "\"\xff\""},
	} {
		f.Add(seed.channel, seed.name, seed.id, []byte(seed.data))
	}
	f.Fuzz(func(t *testing.T, channel, name, id string, data []byte) {
		e := event.Event{ID: id, Channel: channel, Name: name, Data: data, At: time.Unix(1_746_081_000, 0)}
		broker, err := event.NewMemory(event.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer broker.Close()
		before, err := broker.Position(t.Context(), "a:b")
		if err != nil {
			t.Fatal(err)
		}
		at, err := broker.Publish(t.Context(), e)
		if err != nil {
			if !errors.Is(err, event.ErrInvalid) || len(err.Error()) > 600 {
				t.Errorf("publish: %v", err)
			}
			return
		}
		if channel != "a:b" {
			if before, err = broker.Position(t.Context(), channel); err != nil {
				t.Fatal(err)
			}
			before.ID = event.ID{}
		}
		h, err := broker.Since(t.Context(), channel, before, 10)
		if err != nil || len(h.Messages) != 1 || h.Messages[0].At != at {
			t.Fatalf("%+v, %v", h, err)
		}
		body, err := json.Marshal(h.Messages[0].Envelope)
		if err != nil {
			t.Fatal(err)
		}
		asEvent, asFrame := socket.Rendered(&hub.Frame{Channel: channel, Event: name, Class: event.Durable, At: at, Body: body})
		cursor, sent := readEvent(t, asEvent)
		if !bytes.Equal(sent, body) {
			t.Errorf("a stream brings %q, want %q", sent, body)
		}
		c, err := socket.ParseCursor(cursor)
		if err != nil || c.At(channel) != at {
			t.Errorf("the cursor %q is at %v, want %v: %v", cursor, c.At(channel), at, err)
		}
		if sent := unframe(t, asFrame); !bytes.Equal(sent, body) {
			t.Errorf("a WebSocket brings %q, want %q", sent, body)
		}
		var got event.Envelope
		if err := json.Unmarshal(body, &got); err != nil || got.ID != id || got.Event != name || got.Channel != channel || got.Offset != at.String() {
			t.Errorf("got %+v, %v", got, err)
		}
		var a, b any
		if json.Unmarshal(got.Data, &a) != nil || json.Unmarshal(data, &b) != nil || !reflect.DeepEqual(a, b) {
			t.Errorf("the data is %q, want %q", got.Data, data)
		}
	})
}

// readEvent parses a stream of one event as the HTML standard says (section
// 9.2.6): lines end with CR, LF, or both.
func readEvent(t *testing.T, b []byte) (id string, data []byte) {
	t.Helper()
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(string(b))
	text, ok := strings.CutSuffix(text, "\n\n")
	if !ok || strings.Contains(text, "\n\n") {
		t.Fatalf("not one event: %q", b)
	}
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			id = value
		case "data":
			lines = append(lines, value)
		default:
			t.Fatalf("a line %q", line)
		}
	}
	return id, []byte(strings.Join(lines, "\n"))
}

// unframe returns the payload of the one text frame that b is.
func unframe(t *testing.T, b []byte) []byte {
	t.Helper()
	h, n := b[0], int(b[1])
	rest := b[2:]
	switch n {
	case 126:
		n, rest = int(b[2])<<8|int(b[3]), b[4:]
	case 127:
		n, rest = int(b[6])<<24|int(b[7])<<16|int(b[8])<<8|int(b[9]), b[10:]
	}
	if h != 0x81 || len(rest) != n {
		t.Fatalf("not one text frame: %x, %d bytes of %d", h, len(rest), n)
	}
	return rest
}
