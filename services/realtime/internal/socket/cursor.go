package socket

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// errCursor reports a text that is not a cursor of this version.
var errCursor = errors.New("not a cursor of this version")

// cursor is where a client stands in each of several channels. A stream of
// server-sent events has one id for all of them, so this is what it carries. It
// is in the order of its keys.
type cursor []place

// place is where a client stands in a channel.
type place struct {
	key channelKey
	at  event.Position
}

// find returns where in c a channel is, or would be.
func (c cursor) find(k channelKey) (i int, found bool) {
	return slices.BinarySearchFunc(c, k, func(p place, k channelKey) int { return bytes.Compare(p.key[:], k[:]) })
}

// get returns where the client stands in a channel, if it does.
func (c cursor) get(k channelKey) (at event.Position, ok bool) {
	i, ok := c.find(k)
	if !ok {
		return event.Position{}, false
	}
	return c[i].at, true
}

// set moves c to at in a channel.
func (c *cursor) set(k channelKey, at event.Position) {
	i, ok := c.find(k)
	if !ok {
		*c = slices.Insert(*c, i, place{key: k})
	}
	(*c)[i].at = at
}

// besides reports whether c stands where o does in all channels but one, which
// both are in.
func (c cursor) besides(k channelKey, o cursor) bool {
	if len(c) != len(o) {
		return false
	}
	for i := range c {
		if c[i].key != o[i].key || c[i].key != k && c[i].at != o[i].at {
			return false
		}
	}
	return true
}

// has reports whether there is an entry for a channel.
func (c cursor) has(k channelKey) bool {
	_, ok := c.find(k)
	return ok
}

// drop takes the entry of a channel out, if there is one.
func (c *cursor) drop(k channelKey) {
	if i, ok := c.find(k); ok {
		*c = slices.Delete(*c, i, i+1)
	}
}

// channelKey stands for the name of a channel: the first 8 bytes of its
// SHA-256. Should two of one client be the same, one of them is reset.
type channelKey [8]byte

func keyOf(channel string) (k channelKey) {
	sum := sha256.Sum256([]byte(channel))
	copy(k[:], sum[:])
	return k
}

const (
	cursorVersion = 1
	cursorLength  = 2048 // more than 16 channels need
)

// append appends c to b as base64url of: the version; then for each channel,
// in the order of their keys, the key, the length of the epoch, the epoch, and
// as varints the two numbers of the id. Zero positions are left out.
func (c cursor) append(b []byte) []byte {
	var room [1024]byte
	raw := append(room[:0], cursorVersion)
	for i := range c {
		at := &c[i].at
		if at.IsZero() {
			continue
		}
		raw = append(raw, c[i].key[:]...)
		raw = append(raw, byte(len(at.Epoch))) // at most 32: see event.ParsePosition
		raw = append(raw, at.Epoch...)
		raw = binary.AppendUvarint(raw, at.ID.Ms)
		raw = binary.AppendUvarint(raw, at.ID.Seq)
	}
	return base64.RawURLEncoding.AppendEncode(b, raw)
}

// parseCursor reads what append writes, of at most most channels.
func parseCursor(s string, most int) (cursor, error) {
	if len(s) > cursorLength {
		return nil, errCursor
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) == 0 || raw[0] != cursorVersion {
		return nil, errCursor
	}
	c := cursor{}
	for raw = raw[1:]; len(raw) > 0; {
		if len(raw) < 9 || len(raw) < 9+int(raw[8]) || len(c) == most {
			return nil, errCursor
		}
		k, n := channelKey(raw[:8]), int(raw[8])
		epoch := string(raw[9 : 9+n])
		raw = raw[9+n:]
		var id event.ID
		for _, v := range []*uint64{&id.Ms, &id.Seq} {
			x, used := binary.Uvarint(raw)
			if used <= 0 {
				return nil, errCursor
			}
			*v, raw = x, raw[used:]
		}
		at := event.Position{Epoch: epoch, ID: id}
		if p, err := event.ParsePosition(at.String()); err != nil || p.IsZero() {
			return nil, errCursor
		}
		c.set(k, at)
	}
	return c, nil
}
