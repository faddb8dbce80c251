package admin_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/diagnose"
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

// diagnosing is a panel of a healthy Redis whose diagnoses may take limit.
func diagnosing(t *testing.T, limit time.Duration) (*admin.Panel, *log) {
	t.Helper()
	server := tieredtest.StartRedis(t)
	conn, err := redisconn.Open(t.Context(), redisconn.Config{
		Mode: redisconn.Single, Addrs: []string{server.Addr()}, ConnectTimeout: 2 * time.Second, CommandTimeout: 2 * time.Second,
		MaxConnections: 4, HealthInterval: time.Minute,
	}, redisconn.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	store, err := tiered.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close(context.WithoutCancel(t.Context())) })
	noted := &log{}
	p, err := admin.New(admin.Config{Cache: store, Audit: noted, Redis: conn, Node: "n", DiagnosisLimit: limit})
	if err != nil {
		t.Fatal(err)
	}
	return p, noted
}

func TestADiagnosisIsBoundedInTime(t *testing.T) {
	p, _ := diagnosing(t, time.Nanosecond)
	d, err := p.Diagnose(t.Context(), admin.Actor{UserID: "u"}, diagnose.Memory)
	if err != nil || d.Worst != "critical" || len(d.Looked) != 1 || d.Findings[0].ID != "connection.timeout" {
		t.Errorf("%+v, %v: want no answer within the limit", d, err)
	}
}

func TestOneDiagnosisRunsAtATime(t *testing.T) {
	p, noted := diagnosing(t, 0)
	var busy, done atomic.Int64
	var all sync.WaitGroup
	start := make(chan struct{})
	for range 8 {
		all.Go(func() {
			<-start
			switch _, err := p.Diagnose(t.Context(), admin.Actor{UserID: "u"}, diagnose.Memory); {
			case errors.Is(err, admin.ErrDiagnosing):
				busy.Add(1)
			case err != nil:
				t.Error(err)
			default:
				done.Add(1)
			}
		})
	}
	close(start)
	all.Wait()
	if busy.Load() == 0 || done.Load() == 0 {
		t.Errorf("%d ran, %d were told to wait", done.Load(), busy.Load())
	}
	if _, err := p.Diagnose(t.Context(), admin.Actor{UserID: "u"}, diagnose.Memory); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if n := int64(len(noted.entries)); n != done.Load()+1 || noted.entries[0].Action != "redis.diagnose" || noted.entries[0].Subject != "area:memory" || noted.entries[0].UserID != "u" {
		t.Errorf("%d ran, and it is noted: %+v", done.Load()+1, noted.entries)
	}
	noted.full = errors.New("the disk is full")
	if _, err := p.Diagnose(t.Context(), admin.Actor{UserID: "u"}, diagnose.Memory); !errors.Is(err, noted.full) {
		t.Errorf("without a note: %v", err)
	}
}
