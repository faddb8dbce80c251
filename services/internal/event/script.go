package event

import (
	"crypto/rand"
	_ "embed"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/publish.lua
var publishSource string

//go:embed lua/read.lua
var readSource string

//go:embed lua/rewind.lua
var rewindSource string

// A Script is sent by its hash, and whole when the server does not know it
// (any more).
var (
	publishScript = redis.NewScript(publishSource)
	readScript    = redis.NewScript(readSource)
	rewindScript  = redis.NewScript(rewindSource)
)

// The keys of a channel share a hash tag, so that they lie on one node of a
// cluster.
func streamKey(channel string) string { return "rt:{" + channel + "}:s" }
func metaKey(channel string) string   { return "rt:{" + channel + "}:m" }
func onceKey(channel, id string) string {
	return "rt:{" + channel + "}:o:" + id
}
func pubsubName(channel string) string { return "rt:{" + channel + "}:c" }

// channelOf returns the channel of a pub/sub name.
func channelOf(name string) (string, bool) {
	s, ok := strings.CutPrefix(name, "rt:{")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(s, "}:c")
}

// newEpoch returns a name that no other epoch has.
func newEpoch() string {
	const letters = "0123456789abcdefghijklmnopqrstuv"
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails
	for i, c := range b {
		b[i] = letters[c%32]
	}
	return string(b[:])
}

// random20 returns 20 random bits.
func random20() uint64 {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails
	return uint64(binary.LittleEndian.Uint32(b[:]) & (1<<20 - 1))
}

// parseSnapshot reads the answer of read.lua.
func parseSnapshot(v any) (snapshot, error) {
	f, ok := v.([]any)
	if !ok || len(f) != 4 {
		return snapshot{}, fmt.Errorf("read channel: unexpected answer %T", v)
	}
	var s snapshot
	var err error
	if s.epoch, ok = f[0].(string); !ok || !isEpoch(s.epoch) {
		return snapshot{}, fmt.Errorf("read channel: epoch %v: %w", f[0], errWire)
	}
	if s.base, err = idOf(f[1]); err != nil {
		return snapshot{}, err
	}
	if s.last, err = idOf(f[2]); err != nil {
		return snapshot{}, err
	}
	entries, ok := f[3].([]any)
	if !ok {
		return snapshot{}, fmt.Errorf("read channel: entries: %w", errWire)
	}
	s.entries = make([]wire, 0, len(entries))
	for _, e := range entries {
		w, err := parseEntry(s.epoch, e)
		if err != nil {
			return snapshot{}, err
		}
		s.entries = append(s.entries, w)
	}
	return s, nil
}

// parseEntry reads one entry of a stream: [id, [field, value, …]].
func parseEntry(epoch string, v any) (wire, error) {
	e, ok := v.([]any)
	if !ok || len(e) != 2 {
		return wire{}, fmt.Errorf("read entry: %w", errWire)
	}
	id, err := idOf(e[0])
	if err != nil {
		return wire{}, err
	}
	w := wire{kind: stored, epoch: epoch, id: id}
	fields, ok := e[1].([]any)
	if !ok || len(fields)%2 != 0 {
		return wire{}, fmt.Errorf("read entry %s: %w", id, errWire)
	}
	for i := 0; i < len(fields); i += 2 {
		name, _ := fields[i].(string)
		value, _ := fields[i+1].(string)
		switch name {
		case "p":
			if w.prev, err = ParseID(value); err != nil {
				return wire{}, err
			}
		case "k":
			w.event = value
		case "d":
			w.body = []byte(value)
		}
	}
	return w, nil
}

func idOf(v any) (ID, error) {
	s, ok := v.(string)
	if !ok {
		return ID{}, fmt.Errorf("%w: id %v", ErrPosition, v)
	}
	return ParseID(s)
}

func ms(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
