package admin_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// log keeps entries in memory, until it is full.
type log struct {
	entries []admin.Entry
	full    error
}

func (l *log) Append(_ context.Context, e admin.Entry) error {
	if l.full != nil {
		return l.full
	}
	e.Seq = int64(len(l.entries) + 1)
	l.entries = append(l.entries, e)
	return nil
}

func (l *log) Entries(context.Context, int64, int) ([]admin.Entry, error) { return l.entries, nil }

type fixture struct {
	*admin.Panel
	log   *log
	cache *tiered.Cache[string, string]
	now   atomic.Int64
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	store, err := tiered.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	f := &fixture{log: &log{}}
	if f.cache, err = tiered.New[string, string](store, "user"); err != nil {
		t.Fatal(err)
	}
	f.Panel, err = admin.New(admin.Config{
		Cache: store, Audit: f.log, Node: "n", Now: func() time.Time { return time.Unix(f.now.Load(), 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestNothingIsDoneThatCannotBeNoted(t *testing.T) {
	f := newFixture(t)
	if err := f.cache.Set(t.Context(), "mira", "x"); err != nil {
		t.Fatal(err)
	}
	f.log.full = errors.New("the disk is full")
	_, err := f.Invalidate(t.Context(), admin.Actor{UserID: "u"}, admin.Invalidation{Namespace: "user", Key: "mira"})
	if !errors.Is(err, f.log.full) {
		t.Errorf("%v, want %v", err, f.log.full)
	}
	if _, err := f.cache.Get(t.Context(), "mira"); err != nil {
		t.Errorf("dropped without a note: %v", err)
	}
	f.log.full = nil
	if _, err := f.Invalidate(t.Context(), admin.Actor{UserID: "u", IP: "i"}, admin.Invalidation{Namespace: "user", Key: "mira"}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.cache.Get(t.Context(), "mira"); !errors.Is(err, tiered.ErrMiss) || len(f.log.entries) != 1 || f.log.entries[0].IP != "i" {
		t.Errorf("%v, %+v", err, f.log.entries)
	}
}

func TestASampleIsWhatHappenedSinceTheOneBefore(t *testing.T) {
	f := newFixture(t)
	read := func(n int, key string) {
		for range n {
			_, _ = f.cache.GetOrLoad(t.Context(), key, func(context.Context, string, *tiered.Load[string]) (string, error) { return "v", nil })
		}
	}
	read(3, "a") // a load and two hits
	f.Sample()
	read(5, "a")
	read(1, "b")
	f.Sample()
	f.Sample()
	s := f.Cache().Samples
	if len(s) != 3 {
		t.Fatalf("%d samples", len(s))
	}
	for i, want := range [][3]uint64{{3, 2, 1}, {6, 5, 1}, {0, 0, 0}} {
		if got := [3]uint64{s[i].Reads, s[i].L1Hits, s[i].Loads}; got != want {
			t.Errorf("sample %d: reads, hits, loads = %v, want %v", i, got, want)
		}
	}
}

func TestAnHourOfSamplesIsKept(t *testing.T) {
	f := newFixture(t)
	for range 1000 {
		f.now.Add(10)
		f.Sample()
	}
	s := f.Cache().Samples
	if len(s) != 360 || s[359].At.Unix() != 10000 || s[0].At.Unix() != 10000-3590 {
		t.Errorf("%d samples from %v to %v", len(s), s[0].At.Unix(), s[len(s)-1].At.Unix())
	}
}
