package tiered_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

var update = flag.Bool("update", false, "rewrite golden files")

const entryKey = 0x1234567890abcdef

// Other processes, of this release and the next, read these bytes.
func TestEntryFormatIsWhatOthersRead(t *testing.T) {
	got := hex.Dump(tiered.AppendEntry(tiered.NewEntry(entryKey, `"value"`), tiered.S2, 1<<10))
	const file = "testdata/entry.golden"
	if *update {
		must(t, os.WriteFile(file, []byte(got), 0o644))
	}
	want, err := os.ReadFile(file)
	must(t, err)
	if got != string(want) {
		t.Errorf("the format has changed:\n%s\nwant:\n%s", got, want)
	}
}

// Every bit but those of the version and the times, which scripts and other
// bounds hold, is checked: no flip makes another value.
func TestAFlippedBitIsNoOtherValue(t *testing.T) {
	raw := `{"text":"` + strings.Repeat("abc", 100) + `"}`
	for _, c := range []tiered.Compression{tiered.NoCompression, tiered.S2, tiered.Zstd} {
		sound := tiered.AppendEntry(tiered.NewEntry(entryKey, raw), c, 1)
		for bit := range len(sound) * 8 {
			b := bytes.Clone(sound)
			b[bit/8] ^= 1 << (bit % 8)
			e, err := tiered.ParseEntry(b, entryKey)
			if err == nil && e.Raw() != raw && len(e.Raw()) > 0 {
				t.Fatalf("compression %d, bit %d: another value, %q", c, bit, e.Raw())
			}
			if at := bit / 8; err == nil && (at < 4 || at >= 36) {
				t.Errorf("compression %d, bit %d: not noticed", c, bit)
			}
		}
		for n := range sound {
			if _, err := tiered.ParseEntry(sound[:n], entryKey); err == nil {
				t.Fatalf("cut after %d bytes: not noticed", n)
			}
		}
		if _, err := tiered.ParseEntry(sound, entryKey+1); !errors.Is(err, tiered.ErrForeign) {
			t.Errorf("under another key: %v", err)
		}
	}
}

func TestACompressedBombIsNotUnpacked(t *testing.T) {
	bomb := tiered.AppendEntry(tiered.NewEntry(entryKey, strings.Repeat("\x00", 65<<20)), tiered.S2, 1)
	if _, err := tiered.ParseEntry(bomb, entryKey); !errors.Is(err, tiered.ErrCorrupt) {
		t.Errorf("%d bytes unpack to more than the bound: %v", len(bomb), err)
	}
}

func TestDamageInRedisIsAMiss(t *testing.T) {
	r := shared.Client(t)
	s := node(t, shared, tiered.WithL1(0))
	c := cache[string](t, s, "n")
	key := prefix(t) + ":{n:k}"
	must(t, c.Set(t.Context(), "k", "value"))
	must(t, c.Set(t.Context(), "other", "theirs"))
	sound, err := r.Get(t.Context(), key).Bytes()
	must(t, err)
	other, err := r.Get(t.Context(), prefix(t)+":{n:other}").Bytes()
	must(t, err)
	flipped := bytes.Clone(sound)
	flipped[len(flipped)-2] ^= 1

	for name, write := range map[string]func() error{
		"flipped bit":      func() error { return r.Set(t.Context(), key, flipped, 0).Err() },
		"another's bytes":  func() error { return r.Set(t.Context(), key, other, 0).Err() },
		"a foreign value":  func() error { return r.Set(t.Context(), key, "hello", 0).Err() },
		"an empty value":   func() error { return r.Set(t.Context(), key, "", 0).Err() },
		"the header alone": func() error { return r.Set(t.Context(), key, sound[:48], 0).Err() },
		"a hash": func() error {
			return errors.Join(r.Del(t.Context(), key).Err(), r.HSet(t.Context(), key, "a", "b").Err())
		},
		"a version far off": func() error {
			return r.Set(t.Context(), key, append([]byte("TC\x01\x00\x01\x00\x00\x00\x00\x1f\xff\xff"), sound[12:]...), 0).Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			must(t, write())
			wantErr(t, c, "k", tiered.ErrMiss)
			v, err := c.GetOrLoad(t.Context(), "k", value("loaded"))
			if v != "loaded" || err != nil {
				t.Fatalf("load over it: %q, %v", v, err)
			}
			want(t, c, "k", "loaded")
			must(t, write())
			must(t, c.Set(t.Context(), "k", "set"))
			want(t, c, "k", "set")
			must(t, write())
			must(t, c.Delete(t.Context(), "k"))
			wantErr(t, c, "k", tiered.ErrMiss)
		})
	}
	if h := s.Health(); h.Breaker != "closed" {
		t.Errorf("damage opened the breaker: %+v", h)
	}
}

func TestScriptsSurviveScriptFlush(t *testing.T) {
	r := shared.Client(t)
	s := node(t, shared, tiered.WithL1(0))
	c := cache[string](t, s, "n")
	for _, step := range []func() error{
		func() error { return c.Set(t.Context(), "k", "v", tiered.Tags("a", "b")) },
		func() error { return s.InvalidateTags(t.Context(), "a", "b") },
		func() error { _, err := c.GetOrLoad(t.Context(), "k", value("w")); return err },
		func() error { return c.Delete(t.Context(), "k") },
		func() error { _, err := c.GetOrLoad(t.Context(), "l", value("w"), tiered.Tags("c")); return err },
	} {
		must(t, r.ScriptFlush(t.Context()).Err())
		must(t, step())
	}
	want(t, c, "l", "w")
	if st := s.Stats(); st.Fenced > 0 {
		t.Errorf("%d loads were not stored", st.Fenced)
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte{})
	for _, c := range []tiered.Compression{tiered.NoCompression, tiered.S2, tiered.Zstd} {
		f.Add(tiered.AppendEntry(tiered.NewEntry(entryKey, strings.Repeat("value", 20)), c, 1))
	}
	f.Add([]byte("TC\x01\x04" + strings.Repeat("\x00", 44)))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = tiered.ParseEntry(b, entryKey)
		// Whoever can write to Redis can also compute a checksum.
		e, err := tiered.ParseEntry(tiered.Seal(b, entryKey), entryKey)
		if err != nil {
			return
		}
		// What is accepted has one meaning: it survives being written again.
		again, err := tiered.ParseEntry(tiered.AppendEntry(e, tiered.NoCompression, 0), entryKey)
		if err != nil || again.Raw() != e.Raw() {
			t.Fatalf("written again: %v", err)
		}
	})
}
