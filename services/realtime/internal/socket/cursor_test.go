package socket_test

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/socket"
)

// A cursor has one text, and what is not one of this version is none: a client
// is then reset, and never resumed somewhere else.
func TestOnlyCursorsOfThisVersionAreRead(t *testing.T) {
	c := socket.Cursor{}
	c.Put("team:harbor:activity", event.Position{Epoch: "k2x", ID: event.ID{Ms: 1_746_081_000_123, Seq: 7}})
	text := c.Text()
	if _, err := socket.ParseCursor(text); err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(raw)%3 == 0 {
		t.Fatalf("%d bytes leave no bits over", len(raw))
	}
	encode := base64.RawURLEncoding.EncodeToString
	key, of := raw[1:9], func(id []byte) string { return encode(append(append(bytes.Clone(raw[:13]), id...), 7)) }
	if of(binary.AppendUvarint(nil, 1_746_081_000_123)) != text {
		t.Fatalf("the cursor %x is laid out in another way", raw)
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	next := letters[strings.IndexByte(letters, text[len(text)-1])+1]
	for name, bad := range map[string]string{
		"another version":           encode(append([]byte{2}, raw[1:]...)),
		"no version":                encode(raw[1:]),
		"bits left over":            text[:len(text)-1] + string(next),
		"padding":                   text + "=",
		"of the other alphabet":     strings.Repeat("+", 4) + text,
		"cut":                       encode(raw[:len(raw)-1]),
		"a key that is cut":         encode(append(bytes.Clone(raw), key[:7]...)),
		"a number of 65 bits":       of([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02}),
		"a number of 11 bytes":      of([]byte{0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00}),
		"one channel over and over": encode(append([]byte{1}, bytes.Repeat(raw[1:], 100)...)),
	} {
		if c, err := socket.ParseCursor(bad); err == nil {
			t.Errorf("%s: %q was read as %v", name, bad, c)
		}
	}
}
