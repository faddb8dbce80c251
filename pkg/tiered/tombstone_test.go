package tiered_test

import (
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// What a delete leaves keeps its version, so that one who was cut off when it
// came cannot take an older entry for the newer one.
func TestDeleteLeavesATombstone(t *testing.T) {
	c := cache[string](t, node(t, shared), "n")
	must(t, c.Set(t.Context(), "k", "v"))
	must(t, c.Delete(t.Context(), "k"))
	key, r := prefix(t)+":{n:k}", shared.Client(t)
	if ttl := r.PTTL(t.Context(), key).Val(); ttl < tiered.DefaultLease {
		t.Errorf("it is gone in %v, want that it outlives the longest load", ttl)
	}
	wantErr(t, c, "k", tiered.ErrMiss)
	wantErr(t, c, "k", tiered.ErrMiss, tiered.SkipL1())
}
