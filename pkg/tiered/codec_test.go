package tiered_test

import (
	"strings"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

func TestTheRawCodecIsForBytesAndTextsAlone(t *testing.T) {
	s := open(t)
	raw := tiered.WithCodec(tiered.Raw, 0)
	if _, err := tiered.New[string, int](s, "n", raw); err == nil || !strings.Contains(err.Error(), "int") {
		t.Errorf("a cache of int: %v, want an error that says so", err)
	}
	for _, v := range []any{1, nil, []int{1}} {
		if b, err := tiered.Raw.Marshal(v); err == nil {
			t.Errorf("marshal %v: %q, want an error", v, b)
		}
	}
	var n int
	for _, to := range []any{&n, nil, "text", (*struct{})(nil)} {
		if err := tiered.Raw.Unmarshal([]byte("1"), to); err == nil {
			t.Errorf("unmarshal to %T: no error", to)
		}
	}
}

// What Redis has of a text is the text.
func TestTheRawCodecWritesValuesAsTheyAre(t *testing.T) {
	const value = "\"a\" <\x00\xff>"
	c := cache[string](t, node(t, shared), "n", tiered.WithCodec(tiered.Raw, 0))
	must(t, c.Set(t.Context(), "k", value))
	b, err := shared.Client(t).Get(t.Context(), prefix(t)+":{n:k}").Result()
	must(t, err)
	if !strings.HasSuffix(b, value) {
		t.Errorf("redis has %q, want %q at its end", b, value)
	}
	want(t, c, "k", value, tiered.SkipL1())
}
