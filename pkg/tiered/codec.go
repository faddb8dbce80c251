package tiered

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/vmihailenco/msgpack/v5"
)

// Codec turns values into bytes for Redis and back. It is used concurrently.
// What Marshal returns belongs to the caller; Unmarshal must not keep data.
type Codec interface {
	// ID tells entries of one codec from those of another. 1 to 63 are this
	// package's; own codecs take 64 to 255.
	ID() uint8
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
}

// The codecs of this package. Raw writes the bytes of a []byte or string as they
// are, and is for caches of such values alone: [New] refuses others. An empty
// []byte comes back as nil.
var (
	JSON    Codec = jsonCodec{}
	MsgPack Codec = msgpackCodec{}
	Raw     Codec = rawCodec{}
)

type jsonCodec struct{}

func (jsonCodec) ID() uint8 { return 1 }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	if s, ok := v.(string); ok && isPlain(s) && !strings.ContainsAny(s, "<>&") { // which json escapes
		return append(append(append(make([]byte, 0, len(s)+2), '"'), s...), '"'), nil
	}
	return json.Marshal(v)
}

func (jsonCodec) Unmarshal(data []byte, v any) error {
	if s, ok := v.(*string); ok && len(data) >= 2 && data[0] == '"' && data[len(data)-1] == '"' {
		if text := data[1 : len(data)-1]; isPlain(text) {
			*s = string(text)
			return nil
		}
	}
	return json.Unmarshal(data, v)
}

// isPlain reports whether a text is the same in a JSON string: ASCII without
// control characters, quotes and backslashes. It looks at eight bytes at once
// (Anderson, Bit Twiddling Hacks, "Determine if a word has a byte less than n").
func isPlain[T string | []byte](text T) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		w := uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
			uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
		quote, slash := w^'"'*ones, w^'\\'*ones
		if (w|(w-' '*ones)&^w|(quote-ones)&^quote|(slash-ones)&^slash)&highs != 0 {
			return false
		}
	}
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

type msgpackCodec struct{}

func (msgpackCodec) ID() uint8                          { return 2 }
func (msgpackCodec) Marshal(v any) ([]byte, error)      { return msgpack.Marshal(v) }
func (msgpackCodec) Unmarshal(data []byte, v any) error { return msgpack.Unmarshal(data, v) }

type rawCodec struct{}

func (rawCodec) ID() uint8 { return 3 }

// holds reports whether the codec is for values of the type.
func (rawCodec) holds(t reflect.Type) bool {
	return t.Kind() == reflect.String || t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

func (c rawCodec) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return slices.Clone(v), nil
	case string:
		return []byte(v), nil
	}
	switch r := reflect.ValueOf(v); {
	case !r.IsValid() || !c.holds(r.Type()):
		return nil, fmt.Errorf("raw codec: %T is neither []byte nor string", v)
	case r.Kind() == reflect.String:
		return []byte(r.String()), nil
	default:
		return slices.Clone(r.Bytes()), nil
	}
}

func (c rawCodec) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = append([]byte(nil), data...)
		return nil
	case *string:
		*v = string(data)
		return nil
	}
	switch r := reflect.ValueOf(v); {
	case r.Kind() != reflect.Pointer || r.IsNil() || !c.holds(r.Type().Elem()):
		return fmt.Errorf("raw codec: %T is neither *[]byte nor *string", v)
	case r.Elem().Kind() == reflect.String:
		r.Elem().SetString(string(data))
	default:
		r.Elem().SetBytes(append([]byte(nil), data...))
	}
	return nil
}

// marshal contains a codec's panic: a MarshalJSON of somebody's type must not
// end the process from a background load.
func marshal(c Codec, v any) (data []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%w: panic: %v", ErrEncode, r)
		}
	}()
	if data, err = c.Marshal(v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEncode, err)
	}
	return data, nil
}

func unmarshal(c Codec, data []byte, v any) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode: panic: %v", r)
		}
	}()
	return c.Unmarshal(data, v)
}

// Compression is how large values are packed. The zero value does not.
type Compression uint8

// The compressions. S2 is fast, Zstd is small.
const (
	NoCompression Compression = iota
	S2
	Zstd
)

// maxRaw bounds what an entry may unpack to, so that a few hostile bytes in a
// shared Redis cannot fill this process's memory.
const maxRaw = 64 << 20

var errPacked = errors.New("compressed data do not match their length")

// The zstd coders are made on first use: they hold buffers that a process
// without zstd entries need not have. EncodeAll and DecodeAll are safe for
// concurrent use and start no goroutines with a concurrency of one.
var (
	zstdEncoder = sync.OnceValues(func() (*zstd.Encoder, error) {
		return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest))
	})
	zstdDecoder = sync.OnceValues(func() (*zstd.Decoder, error) {
		return zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxRaw), zstd.WithDecodeAllCapLimit(true))
	})
)

// compress returns raw unpacked, and NoCompression, where packing saves nothing.
func (c Compression) compress(raw []byte) ([]byte, Compression) {
	var packed []byte
	switch c {
	case S2:
		packed = s2.Encode(nil, raw)
	case Zstd:
		enc, err := zstdEncoder()
		if err != nil {
			return raw, NoCompression
		}
		packed = enc.EncodeAll(raw, nil)
	default:
		return raw, NoCompression
	}
	if len(packed) >= len(raw) {
		return raw, NoCompression
	}
	return packed, c
}

// decompress unpacks to exactly size bytes, or fails. The caller has bounded
// size; the packed data's own idea of it is checked before memory is taken.
func (c Compression) decompress(packed []byte, size int) ([]byte, error) {
	switch c {
	case S2:
		if n, err := s2.DecodedLen(packed); err != nil || n != size {
			return nil, errPacked
		}
		return s2.Decode(make([]byte, size), packed)
	case Zstd:
		var h zstd.Header
		if err := h.Decode(packed); err != nil || !h.HasFCS || h.FrameContentSize != uint64(size) {
			return nil, errPacked
		}
		dec, err := zstdDecoder()
		if err != nil {
			return nil, err
		}
		raw, err := dec.DecodeAll(packed, make([]byte, 0, size))
		if err != nil {
			return nil, err
		}
		if len(raw) != size {
			return nil, errPacked
		}
		return raw, nil
	default:
		return nil, fmt.Errorf("unknown compression %d", c)
	}
}
