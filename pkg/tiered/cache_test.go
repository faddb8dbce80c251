package tiered_test

import (
	"context"
	"errors"
	"hash/fnv"
	"strconv"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

type ctx = context.Context

func errorIs(err, target error) bool { return errors.Is(err, target) }

// prefix is the test's own part of the shared server.
func prefix(t testing.TB) string {
	h := fnv.New64a()
	h.Write([]byte(t.Name()))
	return "t" + strconv.FormatUint(h.Sum64(), 36)
}

// both runs a test on a store without Redis and on one with it.
func both(t *testing.T, test func(t *testing.T, s *tiered.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, open(t)) })
	t.Run("redis", func(t *testing.T) { test(t, node(t, shared)) })
}

func TestSetIsSeenByTheNextGet(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "names")
		must(t, c.Set(t.Context(), "a", "one"))
		want(t, c, "a", "one")
		must(t, c.Set(t.Context(), "a", "two"))
		want(t, c, "a", "two")
		must(t, c.Delete(t.Context(), "a"))
		wantErr(t, c, "a", tiered.ErrMiss)
		v, err := c.GetOrLoad(t.Context(), "a", value("three"))
		if v != "three" || err != nil {
			t.Fatalf("load: %q, %v", v, err)
		}
		want(t, c, "a", "three")
		wantErr(t, c, "b", tiered.ErrMiss)
	})
}
