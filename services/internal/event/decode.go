package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

// message completes w with its position. Every event of every channel that a
// node follows comes by here: the body that another node has encoded is read
// in one pass where it is laid out as this version writes it, and sent on with
// the position added, not encoded once more.
func (w wire) message() (Message, error) {
	at := Position{Epoch: w.epoch, ID: w.id}
	m := Message{At: at, Prev: w.prev}
	plain := m.Envelope.scan(w.body)
	if !plain {
		m.Envelope = Envelope{}
		if err := json.Unmarshal(w.body, &m.Envelope); err != nil {
			return Message{}, fmt.Errorf("decode event %s: %w", at, err)
		}
	}
	m.Envelope.Epoch, m.Envelope.Offset = w.epoch, at.String()
	if !plain {
		var err error
		if m.Body, err = json.Marshal(m.Envelope); err != nil {
			return Message{}, fmt.Errorf("encode event %s: %w", at, err)
		}
		return m, nil
	}
	const offset, epoch, end = `,"offset":"`, `","epoch":"`, `"}`
	n := len(w.body) - 1 // without the brace
	b := make([]byte, 0, n+len(offset)+len(m.Envelope.Offset)+len(epoch)+len(w.epoch)+len(end))
	b = append(append(append(b, w.body[:n]...), offset...), m.Envelope.Offset...)
	m.Body = append(append(append(b, epoch...), w.epoch...), end...)
	return m, nil
}

// scan reads b if it is laid out to the byte as json.Marshal lays out an
// Envelope without a position, and reports whether it is. Otherwise e is left
// half read. Data is part of b.
func (e *Envelope) scan(b []byte) bool {
	// The data may hold anything; what follows it may not hold its own
	// beginning, so the last one counts.
	at := bytes.LastIndex(b, []byte(`,"timestamp":"`))
	if at < 0 {
		return false
	}
	head, tail := b[:at], b[at:]
	var stamp, class string
	ok := take(&head, `{"event":"`, &e.Event) && bytes.HasPrefix(head, []byte(`,"data":`)) &&
		take(&tail, `,"timestamp":"`, &stamp) && take(&tail, `,"id":"`, &e.ID) && take(&tail, `,"channel":"`, &e.Channel) &&
		take(&tail, `,"class":"`, &class)
	if !ok || !bytes.HasPrefix(tail, []byte(`,"v":1`)) {
		return false
	}
	tail = tail[len(`,"v":1`):]
	if len(tail) > 1 && !take(&tail, `,"trace":"`, &e.Trace) || !bytes.Equal(tail, []byte("}")) {
		return false
	}
	data := head[len(`,"data":`):]
	if bytes.IndexByte(data, '\n') >= 0 || bytes.IndexByte(data, '\r') >= 0 || !json.Valid(data) {
		return false
	}
	var err error
	if e.Timestamp, err = time.Parse(time.RFC3339Nano, stamp); err != nil {
		return false
	}
	e.Data, e.Class, e.V = data, Class(class), 1
	return true
}

// take cuts prefix and a text up to the next quote off b, unless the text
// holds what JSON would write in another way.
func take(b *[]byte, prefix string, text *string) bool {
	rest, ok := bytes.CutPrefix(*b, []byte(prefix))
	n := bytes.IndexByte(rest, '"')
	if !ok || n < 0 {
		return false
	}
	for _, c := range rest[:n] {
		if c < ' ' || c > '~' || c == '\\' {
			return false
		}
	}
	*text, *b = string(rest[:n]), rest[n+1:]
	return true
}
