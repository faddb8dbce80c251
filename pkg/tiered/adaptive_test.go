package tiered_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// What a loader says of its entry goes before what its caller says.
func TestALoaderSetsTheLifeOfItsEntry(t *testing.T) {
	const call = 20 * time.Minute // the caller's TTL
	for _, tt := range []struct {
		name    string
		set     []tiered.EntryOption
		absent  bool          // the loader says ErrNotFound
		unkept  bool          // it is not stored
		ttl     time.Duration // the longest it may be, in Redis
		least   time.Duration // the shortest, if it is not the same
		memory  time.Duration // and in memory, if it is less
		grace   time.Duration // past the TTL
		invalid string
	}{
		{name: "nothing", ttl: call},
		{name: "a longer TTL", set: []tiered.EntryOption{tiered.TTL(time.Hour)}, ttl: time.Hour},
		{name: "a shorter TTL", set: []tiered.EntryOption{tiered.TTL(2 * time.Minute)}, ttl: 2 * time.Minute},
		{name: "one after another", set: []tiered.EntryOption{tiered.TTL(0), tiered.TTL(time.Hour)}, ttl: time.Hour},
		{name: "a TTL of zero", set: []tiered.EntryOption{tiered.TTL(0)}, unkept: true},
		{name: "a TTL that has passed", set: []tiered.EntryOption{tiered.TTL(-time.Hour)}, unkept: true},
		{name: "a life in memory", set: []tiered.EntryOption{tiered.L1TTL(2 * time.Minute)}, ttl: call, memory: 2 * time.Minute},
		{name: "jitter", set: []tiered.EntryOption{tiered.Jitter(0.5)}, ttl: call, least: call / 2},
		{name: "fail-safe", set: []tiered.EntryOption{tiered.FailSafe(time.Hour, 0)}, ttl: call, grace: time.Hour},
		{name: "of what is not", absent: true, set: []tiered.EntryOption{tiered.NegativeTTL(10 * time.Minute)}, ttl: 10 * time.Minute},
		{name: "of what is not, by its TTL", absent: true, set: []tiered.EntryOption{tiered.NegativeTTL(time.Hour), tiered.TTL(10 * time.Minute)}, ttl: 10 * time.Minute},
		{name: "of what is not, which has no grace", absent: true, set: []tiered.EntryOption{tiered.NegativeTTL(10 * time.Minute), tiered.FailSafe(time.Hour, 0)}, ttl: 10 * time.Minute},
		{name: "of what is not, none", absent: true, set: []tiered.EntryOption{tiered.NegativeTTL(0)}, unkept: true},
		{name: "what has been settled before it began", set: []tiered.EntryOption{tiered.SkipL1(), tiered.SkipL2(), tiered.Tags("red")}, ttl: call},
		{name: "too much jitter", set: []tiered.EntryOption{tiered.Jitter(2)}, invalid: "jitter 2: want 0 to 1"},
		{name: "a negative grace", set: []tiered.EntryOption{tiered.FailSafe(-1, 0)}, invalid: "fail-safe"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := cache[string](t, node(t, shared), "n", tiered.WithDefaults(tiered.TTL(call), tiered.L1TTL(24*time.Hour)))
			load := func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				l.Set(tt.set...)
				if tt.absent {
					return "", tiered.ErrNotFound
				}
				return "v", nil
			}
			for way, get := range map[string]func() (string, error){
				"loaded":    func() (string, error) { return c.GetOrLoad(t.Context(), "k", load) },
				"refreshed": func() (string, error) { return c.Refresh(t.Context(), "k", load) },
			} {
				must(t, c.Delete(t.Context(), "k"))
				v, err := get()
				switch {
				case tt.invalid != "":
					if err == nil || !strings.Contains(err.Error(), tt.invalid) || !strings.Contains(err.Error(), "loader's Set") {
						t.Errorf("%s: %q, %v", way, v, err)
					}
					continue
				case tt.absent != errors.Is(err, tiered.ErrNotFound), !tt.absent && (v != "v" || err != nil):
					t.Fatalf("%s: %q, %v", way, v, err)
				}
				in := inspect(t, c, "k")
				if tt.unkept {
					if in.L1.Present || in.L2.Servable || in.Verdict != tiered.Miss {
						t.Errorf("%s: it is stored: %+v", way, in)
					}
					continue
				}
				between := func(what string, at *time.Time, from, to time.Duration) {
					t.Helper()
					if at == nil {
						t.Errorf("%s: no end %s", way, what)
					} else if left := at.Sub(in.At); left > to || left < from-time.Minute {
						t.Errorf("%s: ends %s in %v, want %v to %v", way, what, left, from, to)
					}
				}
				least, memory := tt.ttl, tt.ttl
				if tt.least != 0 {
					least = tt.least
				}
				if tt.memory != 0 {
					memory = tt.memory
				}
				between("in Redis", in.L2.Soft, least, tt.ttl)
				between("past its TTL", in.L2.Hard, least+tt.grace, tt.ttl+tt.grace)
				between("in memory", in.L1.Expires, min(least, memory), memory)
				if len(in.L2.Tags) != 1 || !in.L1.Present {
					t.Errorf("%s: it has tags, or is not in memory: %+v", way, in)
				}
			}
		})
	}
}
