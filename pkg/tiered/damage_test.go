package tiered_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/klauspost/compress/zstd"
)

// A few bytes that claim to unpack to as few, and go on for 48 MiB.
func TestMoreZstdFramesThanDeclaredAreNotUnpacked(t *testing.T) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	must(t, err)
	more := enc.EncodeAll(make([]byte, 48<<20), nil)
	sound := tiered.AppendEntry(tiered.NewEntry(entryKey, strings.Repeat("a", 1000)), tiered.Zstd, 1)
	if _, err := tiered.ParseEntry(sound, entryKey); err != nil { // also makes the decoder
		t.Fatal(err)
	}
	bomb := tiered.Seal(append(bytes.Clone(sound), more...), entryKey)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = tiered.ParseEntry(bomb, entryKey)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, tiered.ErrCorrupt) {
		t.Errorf("%d bytes unpack to more than they declare: %v", len(bomb), err)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16<<20 {
		t.Errorf("%d MiB were taken to find that out", n>>20)
	}
}

// stored is an entry of a kind with its bytes in Redis.
type stored struct {
	c     *tiered.Cache[string, string]
	full  string
	bytes []byte
	value string // "" if it says that there is none
}

// kinds stores an entry of each kind under a prefix, by the package itself.
func kinds(t testing.TB, prefix string) map[string]stored {
	t.Helper()
	long := strings.Repeat("long ", 100)
	all := make(map[string]stored)
	for name, k := range map[string]struct {
		value string
		opts  []tiered.CacheOption
		store func(c *tiered.Cache[string, string], value string) error
	}{
		"plain":   {value: "value"},
		"s2":      {value: long, opts: []tiered.CacheOption{tiered.WithCompression(tiered.S2, 1)}},
		"zstd":    {value: long, opts: []tiered.CacheOption{tiered.WithCompression(tiered.Zstd, 1)}},
		"msgpack": {value: "value", opts: []tiered.CacheOption{tiered.WithCodec(tiered.MsgPack, 3)}},
		"raw":     {value: "value", opts: []tiered.CacheOption{tiered.WithCodec(tiered.Raw, 3)}},
		"tagged":  {value: "value", opts: []tiered.CacheOption{tiered.WithDefaults(tiered.Tags("a", "bb"))}},
		"negative": {store: func(c *tiered.Cache[string, string], _ string) error {
			_, err := c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) { return "", tiered.ErrNotFound }, tiered.NegativeTTL(time.Hour))
			if errors.Is(err, tiered.ErrNotFound) {
				return nil
			}
			return err
		}},
		"etagged": {value: "value", store: func(c *tiered.Cache[string, string], value string) error {
			_, err := c.GetOrLoad(t.Context(), "k", func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				l.SetETag(`"v1"`)
				return value, nil
			})
			return err
		}},
		"tombstone": {store: func(c *tiered.Cache[string, string], _ string) error { return c.Delete(t.Context(), "k") }},
	} {
		s := node(t, shared, tiered.WithL1(0), tiered.WithPrefix(prefix))
		e := stored{c: cache[string](t, s, name, append(k.opts, tiered.WithDefaults(tiered.TTL(time.Hour)))...), value: k.value, full: prefix + ":{" + name + ":k}"}
		if k.store == nil {
			k.store = func(c *tiered.Cache[string, string], value string) error { return c.Set(t.Context(), "k", value) }
		}
		must(t, k.store(e.c, k.value))
		var err error
		e.bytes, err = shared.Client(t).Get(t.Context(), e.full).Bytes()
		must(t, err)
		all[name] = e
	}
	return all
}

// Whichever bit of an entry flips, a Get finds the value or nothing. (What is
// flipped in the version, the times and the load's cost is not covered by the
// checksum, see entry.go, and may leave the value as it is.)
func TestAFlippedBitInRedisIsNoOtherValue(t *testing.T) {
	r := shared.Client(t)
	for name, e := range kinds(t, prefix(t)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := 0
			for bit := range len(e.bytes) * 8 {
				b := bytes.Clone(e.bytes)
				b[bit/8] ^= 1 << (bit % 8)
				must(t, r.Set(t.Context(), e.full, b, time.Hour).Err())
				v, err := e.c.Get(t.Context(), "k")
				at := bit / 8
				covered := at < 8 || at >= 36
				switch {
				case errors.Is(err, tiered.ErrMiss):
				case covered || v != e.value || err != nil && (e.value != "" || !errors.Is(err, tiered.ErrNotFound)):
					t.Fatalf("bit %d of byte %d: got %q, %v", bit%8, at, v, err)
				default:
					found++
				}
			}
			if found == 0 && name != "tombstone" {
				t.Error("no entry at all was found: the test has lost its ground")
			}
		})
	}
}

// What tells a codec from another is the entry, so that a process of the next
// release, with another codec, takes nothing for its own. Compression may change
// at any time: the entry says how it is packed.
func TestAChangeOfCodecIsAMissAndOfCompressionIsNone(t *testing.T) {
	one := func(opts ...tiered.CacheOption) *tiered.Cache[string, string] {
		return cache[string](t, node(t, shared), "n", opts...)
	}
	long := strings.Repeat("v", 5000)
	must(t, one(tiered.WithCompression(tiered.S2, 1)).Set(t.Context(), "k", long))
	want(t, one(tiered.WithCompression(tiered.Zstd, 1)), "k", long)
	want(t, one(tiered.WithCompression(tiered.NoCompression, 0)), "k", long)
	other := one(tiered.WithCodec(tiered.MsgPack, 0))
	wantErr(t, other, "k", tiered.ErrMiss)
	must(t, other.Set(t.Context(), "k", "packed"))
	wantErr(t, one(), "k", tiered.ErrMiss)
	want(t, one(tiered.WithCodec(tiered.MsgPack, 0)), "k", "packed")
}

// Bits of the second argument of FuzzGet.
const (
	fuzzSeal  = 1 << iota // give the bytes the key and checksum that they should have
	fuzzFresh             // and the version and times of now
	fuzzNamed             // and the version that the namespace has
)

// Whatever bytes are in Redis, no call fails, and what is not sealed is either
// what was stored or nothing. Whoever can write to Redis can compute a checksum
// as well, and may make up values, but nothing else.
func FuzzGet(f *testing.F) {
	const prefix = "fuzz"
	r := shared.Client(f)
	sound := kinds(f, prefix)
	target := sound["plain"]
	for _, e := range sound {
		for mode := range byte(8) {
			f.Add(e.bytes, mode)
		}
		for at := 0; at < len(e.bytes); at += 7 {
			b := bytes.Clone(e.bytes)
			b[at] ^= 1 << (at % 8)
			f.Add(b, byte(at%8))
		}
	}
	f.Add([]byte{}, byte(0))
	f.Add([]byte("hello"), byte(fuzzSeal))
	f.Add([]byte("TC\x01\x04"+strings.Repeat("\x00", 44)), byte(fuzzSeal|fuzzFresh))
	f.Fuzz(func(t *testing.T, b []byte, mode byte) {
		b = bytes.Clone(b)
		if mode&fuzzFresh != 0 && len(b) >= 32 {
			now := uint64(time.Now().UnixMicro())
			for i, at := range []uint64{now, now + 3_600_000_000, now + 3_600_000_000} {
				binary.BigEndian.PutUint64(b[8+8*i:], at)
			}
		}
		if mode&fuzzNamed != 0 && len(b) >= 56 {
			version, err := r.Get(t.Context(), prefix+":n:plain").Uint64()
			must(t, err)
			binary.BigEndian.PutUint64(b[48:], version)
		}
		if mode&fuzzSeal != 0 {
			b = tiered.Seal(b, tiered.KeyHash(target.full))
		}
		put := func() { must(t, r.Set(t.Context(), target.full, b, time.Hour).Err()) }
		sealed := mode&fuzzSeal != 0
		put()
		v, err := target.c.Get(t.Context(), "k")
		switch {
		case errors.Is(err, tiered.ErrMiss), sealed && errors.Is(err, tiered.ErrNotFound):
		case err != nil || v != target.value && !sealed:
			t.Errorf("get: %q, %v", v, err)
		}
		many, err := target.c.GetMany(t.Context(), []string{"k", "absent"})
		if got, ok := many["k"]; err != nil || ok && got != target.value && !sealed {
			t.Errorf("get many: %v, %v", many, err)
		}
		v, err = target.c.GetOrLoad(t.Context(), "k", value("loaded"))
		negative := sealed && errors.Is(err, tiered.ErrNotFound)
		if err != nil && !negative || v != "loaded" && v != target.value && !sealed {
			t.Errorf("load: %q, %v", v, err)
		}
		put()
		if _, err := target.c.Expire(t.Context(), "k", time.Hour); err != nil {
			t.Errorf("expire: %v", err)
		}
		if _, err := target.c.Inspect(t.Context(), "k"); err != nil {
			t.Errorf("inspect: %v", err)
		}
		if _, err := target.c.Update(t.Context(), "k", func(ctx, string, bool) (string, error) { return "new", nil }); err != nil {
			t.Errorf("update: %v", err)
		}
		want(t, target.c, "k", "new")
		if h := r.Exists(t.Context(), target.full).Val(); h != 1 {
			t.Error("the update is not there")
		}
	})
}
