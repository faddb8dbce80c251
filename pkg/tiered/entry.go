package tiered

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"time"

	"github.com/cespare/xxhash/v2"
)

// The form of an entry in Redis, big-endian. The first 48 bytes are enough to
// tell whether a copy in memory is still the current one.
//
//	 0  magic "TC"
//	 2  format, 1
//	 3  flags: 1 compressed, 2 negative, 4 tombstone, 8 tags, 16 etag
//	 4  codec          5  compressor       6  schema u16
//	 8  version u64: a hybrid logical clock in µs, below 2^53 for Lua
//	16  soft expiry µs           24  hard expiry µs (also the key's PX)
//	32  cost of the load, µs u32 36  CRC32C of bytes 40..
//	40  xxh64 of the full key
//	48  namespace version u64
//	    uvarint tag count, then per tag: uvarint length, tag, version u64
//	    with flag 16: uvarint length, etag
//	    uvarint length of the value before compression; the value
//
// The checksum leaves out the version and expiries, which scripts write. What it does not
// cover is held by other checks: the key's own expiry, the bound that this
// process puts on its copies, and the agreement of flags with content. A
// tombstone is the header alone.
const (
	headerLen = 48
	format    = 1

	flagCompressed = 1
	flagNegative   = 2
	flagTombstone  = 4
	flagTags       = 8
	flagETag       = 16
	flagsKnown     = 31

	maxVersion = 1<<53 - 1
	maxTags    = 64
	maxTagLen  = 256
	maxETag    = 1024
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)

	// errCorrupt: the bytes are not an entry, or are damaged.
	errCorrupt = errors.New("corrupt entry")
	// errForeign: a sound entry, but of another key, codec or schema.
	errForeign = errors.New("foreign entry")
)

// wireHeader is the fixed part of an entry.
type wireHeader struct {
	flags      uint8
	codec      uint8
	compressor Compression
	schema     uint16
	version    uint64
	soft, hard int64  // µs of Redis's clock
	cost       uint32 // µs
	sum        uint32
	key        uint64
}

// wireTag is a tag with the version it had before the value was loaded.
type wireTag struct {
	name    string
	version uint64
}

// wireEntry is a whole entry, its value still encoded.
type wireEntry struct {
	wireHeader
	nsVersion uint64
	tags      []wireTag
	etag      string
	raw       []byte // the encoded value; nil if negative
}

func (h *wireHeader) negative() bool  { return h.flags&flagNegative != 0 }
func (h *wireHeader) tombstone() bool { return h.flags&flagTombstone != 0 }

// left is how many µs of its TTL an entry has. One dated in the future counts
// as just written and gets no extra life.
func (h *wireHeader) left(now int64) int64 {
	return min(h.soft-now, h.life(h.soft-now))
}

// life is the whole TTL in µs. Where left says more than the version does, as its
// TTL ends before the version even begins, a clock that is right has written over
// an entry from one that was ahead, whose version it had to exceed.
func (h *wireHeader) life(left int64) int64 {
	if life := h.soft - int64(h.version); life > 0 {
		return life
	}
	return left
}

// keyHash binds an entry to its key, so that bytes copied from another key, or
// read through a broken proxy, are recognised.
func keyHash(fullKey string) uint64 { return xxhash.Sum64String(fullKey) }

// appendEntry encodes e, packing its value with c if that helps.
func appendEntry(dst []byte, e *wireEntry, c Compression, minSize int) []byte {
	e.flags &^= flagCompressed | flagTags | flagETag
	e.compressor = NoCompression
	payload := e.raw
	if c != NoCompression && len(e.raw) >= minSize {
		if payload, e.compressor = c.compress(e.raw); e.compressor != NoCompression {
			e.flags |= flagCompressed
		}
	}
	if len(e.tags) > 0 {
		e.flags |= flagTags
	}
	if e.etag != "" {
		e.flags |= flagETag
	}
	start := len(dst)
	dst = append(dst, make([]byte, headerLen)...)
	h := dst[start:]
	h[0], h[1], h[2], h[3], h[4], h[5] = 'T', 'C', format, e.flags, e.codec, byte(e.compressor)
	binary.BigEndian.PutUint16(h[6:], e.schema)
	binary.BigEndian.PutUint64(h[8:], e.version)
	binary.BigEndian.PutUint64(h[16:], uint64(e.soft))
	binary.BigEndian.PutUint64(h[24:], uint64(e.hard))
	binary.BigEndian.PutUint32(h[32:], e.cost)
	binary.BigEndian.PutUint64(h[40:], e.key)
	if !e.tombstone() {
		dst = binary.BigEndian.AppendUint64(dst, e.nsVersion)
		dst = binary.AppendUvarint(dst, uint64(len(e.tags)))
		for _, t := range e.tags {
			dst = binary.AppendUvarint(dst, uint64(len(t.name)))
			dst = append(dst, t.name...)
			dst = binary.BigEndian.AppendUint64(dst, t.version)
		}
		if e.etag != "" {
			dst = binary.AppendUvarint(dst, uint64(len(e.etag)))
			dst = append(dst, e.etag...)
		}
		dst = binary.AppendUvarint(dst, uint64(len(e.raw)))
		dst = append(dst, payload...)
	}
	binary.BigEndian.PutUint32(dst[start+36:], crc32.Checksum(dst[start+40:], castagnoli))
	return dst
}

// parseHeader reads the first 48 bytes. It checks what can be checked without
// the rest.
func parseHeader(b []byte) (wireHeader, error) {
	if len(b) < headerLen || b[0] != 'T' || b[1] != 'C' || b[2] != format {
		return wireHeader{}, errCorrupt
	}
	h := wireHeader{
		flags:      b[3],
		codec:      b[4],
		compressor: Compression(b[5]),
		schema:     binary.BigEndian.Uint16(b[6:]),
		version:    binary.BigEndian.Uint64(b[8:]),
		soft:       int64(binary.BigEndian.Uint64(b[16:])),
		hard:       int64(binary.BigEndian.Uint64(b[24:])),
		cost:       binary.BigEndian.Uint32(b[32:]),
		sum:        binary.BigEndian.Uint32(b[36:]),
		key:        binary.BigEndian.Uint64(b[40:]),
	}
	switch {
	case h.flags&^flagsKnown != 0,
		h.version == 0, h.version > maxVersion,
		h.soft < 0, h.hard < h.soft,
		h.flags&flagCompressed != 0 != (h.compressor != NoCompression),
		!h.tombstone() && h.negative() != (h.codec == 0):
		return wireHeader{}, errCorrupt
	}
	return h, nil
}

// parseEntry decodes an entry. It never takes more memory than the entry's
// length, plus the checked length of its unpacked value, and the result does
// not share memory with b unless the value was not compressed.
func parseEntry(b []byte, key uint64) (*wireEntry, error) {
	e := &wireEntry{}
	if err := e.parse(b, key); err != nil {
		return nil, err
	}
	return e, nil
}

// parse is parseEntry into an entry that is zero. After an error it is of no use.
func (e *wireEntry) parse(b []byte, key uint64) error {
	h, err := parseHeader(b)
	if err != nil {
		return err
	}
	if crc32.Checksum(b[40:], castagnoli) != h.sum {
		return errCorrupt
	}
	if h.key != key {
		return errForeign
	}
	e.wireHeader = h
	if h.tombstone() {
		if len(b) != headerLen {
			return errCorrupt
		}
		return nil
	}
	r := reader{b: b[headerLen:]}
	e.readTags(&r)
	if (len(e.tags) > 0) != (h.flags&flagTags != 0) {
		return errCorrupt
	}
	if h.flags&flagETag != 0 {
		e.etag = string(r.bytes(r.length(maxETag)))
		if e.etag == "" {
			return errCorrupt
		}
	}
	size := r.length(maxRaw)
	if r.bad {
		return errCorrupt
	}
	switch payload := r.b; {
	case h.negative():
		if size != 0 || len(payload) != 0 {
			return errCorrupt
		}
	case h.compressor == NoCompression:
		if len(payload) != size {
			return errCorrupt
		}
		e.raw = payload
	default:
		if e.raw, err = h.compressor.decompress(payload, size); err != nil {
			return errCorrupt
		}
	}
	return nil
}

// reader takes fields off the front of b. After a field that is not there, or
// too long, bad is set and everything is zero.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) uint64() uint64 {
	if b := r.bytes(8); len(b) == 8 {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) length(limit int) int {
	n, w := binary.Uvarint(r.b)
	if r.bad || w <= 0 || n > uint64(limit) {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[w:]
	return int(n)
}

func (r *reader) bytes(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// micros rounds up, so that a positive duration is never zero.
func micros(d time.Duration) int64 { return int64((d + time.Microsecond - 1) / time.Microsecond) }

// errShort: there are fewer bytes than the tags take.
var errShort = errors.New("short entry")

// parseTags decodes what precedes the value of an entry, of which there may be
// no more. The checksum is not looked at.
func parseTags(b []byte, key uint64) (*wireEntry, error) {
	h, err := parseHeader(b)
	if err != nil {
		return nil, err
	}
	if h.key != key {
		return nil, errForeign
	}
	e := &wireEntry{wireHeader: h}
	r := reader{b: b[headerLen:]}
	e.readTags(&r)
	if r.bad {
		return nil, errShort
	}
	return e, nil
}

func (e *wireEntry) readTags(r *reader) {
	e.nsVersion = r.uint64()
	for range r.length(maxTags) {
		name := r.bytes(r.length(maxTagLen))
		e.tags = append(e.tags, wireTag{name: string(name), version: r.uint64()})
	}
}
