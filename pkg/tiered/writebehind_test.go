package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// fields is a value that can be written in parts.
type fields map[string]int

func overlay(old, partial fields) fields {
	m := maps.Clone(old)
	if m == nil {
		m = fields{}
	}
	maps.Copy(m, partial)
	return m
}

// table is a sink that does what Item.Version asks for, and says what it got.
type table struct {
	mu    sync.Mutex
	rows  map[string]row
	got   []tiered.Item[string, fields]
	calls int
	// before is called for each batch; its error is the sink's.
	before func(context.Context, []tiered.Item[string, fields]) error
}

type row struct {
	version uint64
	fields  fields
}

func (tb *table) write(ctx context.Context, items []tiered.Item[string, fields]) error {
	tb.mu.Lock()
	tb.calls++
	before := tb.before
	tb.mu.Unlock()
	if before != nil {
		if err := before(ctx, items); err != nil {
			return err
		}
	}
	tb.mu.Lock()
	defer tb.mu.Unlock()
	if tb.rows == nil {
		tb.rows = map[string]row{}
	}
	for _, it := range items {
		tb.got = append(tb.got, it)
		r := tb.rows[it.Key]
		if it.Version != 0 && it.Version <= r.version {
			continue
		}
		if it.Partial {
			r.fields = overlay(r.fields, it.Value)
		} else {
			r.fields = maps.Clone(it.Value)
		}
		r.version = max(r.version, it.Version)
		tb.rows[it.Key] = r
	}
	return nil
}

func (tb *table) row(key string) fields {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return maps.Clone(tb.rows[key].fields)
}

func (tb *table) items() []tiered.Item[string, fields] {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	return append([]tiered.Item[string, fields](nil), tb.got...)
}

func (tb *table) load(_ ctx, key string, _ *tiered.Load[fields]) (fields, error) {
	if r := tb.row(key); r != nil {
		return r, nil
	}
	return nil, tiered.ErrNotFound
}

func (tb *table) fail(before func(context.Context, []tiered.Item[string, fields]) error) {
	tb.mu.Lock()
	defer tb.mu.Unlock()
	tb.before = before
}

type writeBehind = *tiered.WriteBehind[string, fields]

// behind makes a write-behind to tb that flushes only when told, unless o says
// otherwise.
func behind(t testing.TB, s *tiered.Store, tb *table, o tiered.WriteBehindOptions[fields]) (writeBehind, *tiered.Cache[string, fields]) {
	t.Helper()
	c := cache[fields](t, s, "w")
	o.Merge = overlay
	if o.Interval == 0 {
		o.Interval = time.Hour
	}
	if o.Backoff == 0 {
		o.Backoff = time.Millisecond
	}
	w, err := tiered.NewWriteBehind(t.Context(), c, tb.write, o)
	must(t, err)
	t.Cleanup(func() { closeBehind(t, w) })
	return w, c
}

func closeBehind(t testing.TB, w writeBehind) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.Close(ctx); err != nil {
		t.Errorf("close write-behind: %v", err)
	}
}

func flush(t testing.TB, w writeBehind) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	must(t, w.Flush(ctx))
}

func wantRow(t testing.TB, tb *table, key string, want fields) {
	t.Helper()
	if got := tb.row(key); !maps.Equal(got, want) {
		t.Fatalf("the sink has %v for %q, want %v", got, key, want)
	}
}

func wantFields(t testing.TB, c *tiered.Cache[string, fields], key string, want fields, opts ...tiered.EntryOption) {
	t.Helper()
	if got, err := c.Get(t.Context(), key, opts...); err != nil || !maps.Equal(got, want) {
		t.Fatalf("get %q: %v, %v; want %v", key, got, err, want)
	}
}

func TestPutIsReadAtOnceInBothTiersAndFlushedMerged(t *testing.T) {
	tb := &table{}
	w, c := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{})
	other := cache[fields](t, node(t, shared), "w")
	for i := range 10 {
		must(t, w.Put(t.Context(), "k", fields{"n": i}))
		wantFields(t, c, "k", fields{"n": i})
		wantFields(t, c, "k", fields{"n": i}, tiered.SkipL1())
	}
	wantFields(t, other, "k", fields{"n": 9})
	if n := len(tb.items()); n != 0 {
		t.Fatalf("%d items before the flush", n)
	}
	if st := w.Stats(); st.Queued != 10 || st.Backlog != 10 {
		t.Errorf("stats %+v", st)
	}
	flush(t, w)
	wantRow(t, tb, "k", fields{"n": 9})
	if st := w.Stats(); len(tb.items()) != 1 || st.Flushed != 1 || st.Merged != 9 || st.Backlog != 0 || st.Direct != 0 {
		t.Errorf("%d items, stats %+v", len(tb.items()), st)
	}
	wantFields(t, c, "k", fields{"n": 9}, tiered.SkipL1()) // the flush has not evicted it
}

func TestBatchIsFlushedWithoutWaitingAndTheRestWithinTheInterval(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Batch: 10, Partitions: 1})
	for i := range 10 {
		must(t, w.Put(t.Context(), strconv.Itoa(i), fields{"n": i}))
	}
	eventually(t, "a whole batch is flushed", func() bool { return len(tb.items()) == 10 })

	tb2 := &table{}
	s := node(t, shared, tiered.WithPrefix(prefix(t)+"2"))
	w2, _ := behind(t, s, tb2, tiered.WriteBehindOptions[fields]{Interval: 30 * time.Millisecond})
	must(t, w2.Put(t.Context(), "k", fields{"n": 1}))
	eventually(t, "a lone write is flushed", func() bool { return len(tb2.items()) == 1 })
}

func TestPartialIsNeverCachedOrWrittenAsTheWhole(t *testing.T) {
	tb := &table{rows: map[string]row{"k": {version: 1, fields: fields{"a": 1, "b": 1, "c": 1}}}}
	s := node(t, shared)
	w, c := behind(t, s, tb, tiered.WriteBehindOptions[fields]{})
	must(t, w.Merge(t.Context(), "k", fields{"a": 2}))
	wantErr(t, c, "k", tiered.ErrMiss)
	read := func(want fields) {
		t.Helper()
		v, err := c.GetOrLoad(t.Context(), "k", w.Loader(tb.load), tiered.Tags("tag"))
		if err != nil || !maps.Equal(v, want) {
			t.Fatalf("load: %v, %v; want %v", v, err, want)
		}
	}
	read(fields{"a": 2, "b": 1, "c": 1}) // the source has not got it yet
	must(t, w.Merge(t.Context(), "k", fields{"b": 3}))
	wantFields(t, c, "k", fields{"a": 2, "b": 3, "c": 1})
	wantFields(t, c, "k", fields{"a": 2, "b": 3, "c": 1}, tiered.SkipL1())
	must(t, c.Delete(t.Context(), "k"))
	read(fields{"a": 2, "b": 3, "c": 1})
	must(t, w.Merge(t.Context(), "k", fields{"c": 4}))
	must(t, s.InvalidateTags(t.Context(), "tag"))
	wantErr(t, c, "k", tiered.ErrMiss) // it has kept its tags
	flush(t, w)
	wantRow(t, tb, "k", fields{"a": 2, "b": 3, "c": 4})
	if got := tb.items(); len(got) != 1 || !got[0].Partial {
		t.Errorf("the sink got %v, want one partial item", got)
	}
}

func TestWriterThatDiesBeforeItsValueIsCachedLeavesNoStaleEntry(t *testing.T) {
	tb := &table{}
	w, c := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{})
	must(t, c.Set(t.Context(), "k", fields{"n": 1}))
	// What Put does up to the point at which its process dies.
	must(t, w.Enqueue(t.Context(), "k", fields{"n": 2}))
	wantFields(t, c, "k", fields{"n": 1})
	flush(t, w)
	wantErr(t, c, "k", tiered.ErrMiss)
	wantErr(t, c, "k", tiered.ErrMiss, tiered.SkipL1())
}

func TestLateWriterDoesNotCacheTheOlderValue(t *testing.T) {
	tb := &table{}
	w, c := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{})
	must(t, w.Put(t.Context(), "k", fields{"n": 1}))
	// Of two writers the first in the queue is the second at the cache.
	w.ShowLate(t.Context(), "k", fields{"n": 0}, 1)
	if v, err := c.Get(t.Context(), "k", tiered.SkipL1()); err != nil || v["n"] != 1 {
		t.Fatalf("the cache has %v, %v; want the newer value", v, err)
	}
}

func TestLateWriterHidesWhatLacksItsWrite(t *testing.T) {
	tb := &table{}
	w, c := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{})
	must(t, w.Put(t.Context(), "k", fields{"n": 0}))
	between := uint64(time.Now().UnixMicro()) // as versions are
	must(t, w.Merge(t.Context(), "k", fields{"m": 2}))
	if v, err := c.Get(t.Context(), "k"); err != nil || !maps.Equal(v, fields{"n": 0, "m": 2}) {
		t.Fatalf("got %v, %v", v, err)
	}
	w.ShowLate(t.Context(), "k", fields{"n": 1}, between)
	for _, o := range [][]tiered.EntryOption{nil, {tiered.SkipL1()}} {
		if v, err := c.Get(t.Context(), "k", o...); !errors.Is(err, tiered.ErrMiss) {
			t.Errorf("got %v, %v: it lacks the write in between", v, err)
		}
	}
}

func TestFailingSinkIsRetriedAndNothingIsParked(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Attempts: 3})
	fails := 20 // more than the attempts, also when split
	var mu sync.Mutex
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error {
		mu.Lock()
		defer mu.Unlock()
		if fails--; fails >= 0 {
			return errors.New("database is away")
		}
		return nil
	})
	for i := range 20 {
		must(t, w.Put(t.Context(), "k"+strconv.Itoa(i%4), fields{"n": i}))
	}
	flush(t, w)
	for i := range 4 {
		wantRow(t, tb, "k"+strconv.Itoa(i), fields{"n": 16 + i})
	}
	if st := w.Stats(); st.Parked != 0 || st.Failures != 20 {
		t.Errorf("stats %+v", st)
	}
}

func letters(t testing.TB, w writeBehind) (all []tiered.DeadLetter[string, fields]) {
	t.Helper()
	for l, err := range w.DeadLetters(t.Context()) {
		must(t, err)
		all = append(all, l)
	}
	return all
}

func TestPoisonIsFoundAndParkedAndTheRestDelivered(t *testing.T) {
	tb := &table{}
	s := node(t, shared)
	w, c := behind(t, s, tb, tiered.WriteBehindOptions[fields]{Partitions: 1, Attempts: 2})
	poison := func(_ context.Context, items []tiered.Item[string, fields]) error {
		for _, it := range items {
			if it.Value["poison"] > 0 {
				return errors.New("constraint violated")
			}
		}
		return nil
	}
	tb.fail(poison)
	for i := range 50 {
		f := fields{"n": i}
		if i == 20 || i == 37 {
			f["poison"] = 1
		}
		must(t, w.Put(t.Context(), strconv.Itoa(i), f))
	}
	must(t, w.Merge(t.Context(), "20", fields{"more": 1}))
	flush(t, w)
	for i := range 50 {
		if i != 20 && i != 37 {
			wantRow(t, tb, strconv.Itoa(i), fields{"n": i})
		}
	}
	wantErr(t, c, "20", tiered.ErrMiss) // not in the source, not in the cache
	dead := letters(t, w)
	if len(dead) != 3 {
		t.Fatalf("%d dead letters, want the poison's two writes and the other's one: %v", len(dead), dead)
	}
	for _, l := range dead {
		if l.Err != nil || l.Cause == "" || !strings.Contains(l.Cause, "constraint violated") || l.Attempts < 3 ||
			l.Version == 0 || time.Since(l.Parked).Abs() > time.Hour || l.Key != "20" && l.Key != "37" {
			t.Errorf("letter %+v", l)
		}
	}
	if err := w.Retry(t.Context(), dead[0].ID); err == nil || !strings.Contains(err.Error(), "constraint") {
		t.Errorf("retry of what is refused still: %v", err)
	}
	tb.fail(nil)
	for _, l := range dead {
		if l.Key == "20" {
			must(t, w.Retry(t.Context(), l.ID))
			if err := w.Retry(t.Context(), l.ID); !errors.Is(err, tiered.ErrNotFound) {
				t.Errorf("retry of what has gone: %v", err)
			}
			continue
		}
		if n, err := w.Discard(t.Context(), l.ID); n != 1 || err != nil {
			t.Errorf("discard: %d, %v", n, err)
		}
	}
	wantRow(t, tb, "20", fields{"n": 20, "poison": 1, "more": 1})
	if n := len(letters(t, w)); n != 0 {
		t.Errorf("%d letters left", n)
	}
	for _, id := range []string{"", "x", "0/", "9/1-1", "0/1", "-1/1-1"} {
		if err := w.Retry(t.Context(), id); !errors.Is(err, tiered.ErrNotFound) {
			t.Errorf("retry %q: %v", id, err)
		}
	}
}

func TestRetriedLetterLeavesANewerWriteAlone(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{})
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error {
		return fmt.Errorf("no such team: %w", tiered.ErrRejected)
	})
	must(t, w.Put(t.Context(), "k", fields{"n": 1}))
	flush(t, w)
	if st := w.Stats(); st.Parked != 1 || st.Failures != 1 {
		t.Fatalf("rejected by the sink, but tried again: %+v", st)
	}
	tb.fail(nil)
	must(t, w.Put(t.Context(), "k", fields{"n": 2}))
	flush(t, w)
	must(t, w.Retry(t.Context(), letters(t, w)[0].ID))
	wantRow(t, tb, "k", fields{"n": 2})
}

// A single item that fails could be the sink's fault. It is known to be its own
// as soon as the sink takes something else.
func TestLonePoisonDoesNotBlockWhatComesAfterIt(t *testing.T) {
	for _, batch := range []int{1, 100} {
		t.Run(fmt.Sprintf("batch=%d", batch), func(t *testing.T) {
			tb := &table{}
			w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Partitions: 1, Attempts: 2, Batch: batch, Interval: 20 * time.Millisecond})
			tb.fail(func(_ context.Context, items []tiered.Item[string, fields]) error {
				for _, it := range items {
					if it.Key == "bad" {
						return errors.New("no")
					}
				}
				return nil
			})
			must(t, w.Put(t.Context(), "bad", fields{"n": 1}))
			eventually(t, "the poison has failed", func() bool { return w.Stats().Failures >= 4 })
			if st := w.Stats(); st.Parked != 0 {
				t.Fatal("parked although the sink may be down")
			}
			must(t, w.Put(t.Context(), "good", fields{"n": 1}))
			eventually(t, "the next item is written and the poison parked", func() bool {
				return w.Stats().Parked == 1 && tb.row("good") != nil
			})
		})
	}
}

func TestUnreadableEntryIsParked(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Partitions: 1})
	must(t, w.Put(t.Context(), "a", fields{"n": 1}))
	r := shared.Client(t)
	stream := prefix(t) + ":wb:{w:0}:s"
	must(t, r.Do(t.Context(), "XADD", stream, "*", "k", "b", "p", "0", "v", "garbage").Err())
	must(t, r.Do(t.Context(), "XADD", stream, "*", "what", "ever").Err())
	must(t, w.Put(t.Context(), "c", fields{"n": 3}))
	flush(t, w)
	wantRow(t, tb, "a", fields{"n": 1})
	wantRow(t, tb, "c", fields{"n": 3})
	dead := letters(t, w)
	if len(dead) != 2 || dead[0].Err == nil || string(dead[0].Raw) != "garbage" {
		t.Fatalf("dead letters %+v", dead)
	}
	if err := w.Retry(t.Context(), dead[0].ID); !errors.Is(err, tiered.ErrRejected) {
		t.Errorf("retry of the unreadable: %v", err)
	}
}

func TestPanicInTheSinkIsAFailureOfTheSink(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, open(t), tb, tiered.WriteBehindOptions[fields]{})
	for _, f := range []func(){func() { panic("boom") }, func() { runtime.Goexit() }} {
		tb.fail(func(context.Context, []tiered.Item[string, fields]) error { f(); return nil })
		if err := w.Put(t.Context(), "k", fields{"n": 1}); err == nil {
			t.Error("nobody knows that the sink has failed")
		}
	}
}

func TestWithoutRedisTheSinkHasItWhenPutReturns(t *testing.T) {
	tb := &table{}
	w, c := behind(t, open(t), tb, tiered.WriteBehindOptions[fields]{})
	must(t, w.Put(t.Context(), "k", fields{"a": 1, "b": 1}))
	wantRow(t, tb, "k", fields{"a": 1, "b": 1})
	wantFields(t, c, "k", fields{"a": 1, "b": 1})
	must(t, w.Merge(t.Context(), "k", fields{"a": 2}))
	wantRow(t, tb, "k", fields{"a": 2, "b": 1})
	v, err := c.GetOrLoad(t.Context(), "k", w.Loader(tb.load))
	if err != nil || !maps.Equal(v, fields{"a": 2, "b": 1}) {
		t.Errorf("load: %v, %v", v, err)
	}
	away := errors.New("database is away")
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error { return away })
	if err := w.Put(t.Context(), "k", fields{"a": 3}); !errors.Is(err, away) {
		t.Errorf("put: %v, want the sink's error", err)
	}
	wantFields(t, c, "k", fields{"a": 2, "b": 1})
	var wg sync.WaitGroup
	tb.fail(nil)
	for i := range 200 {
		wg.Go(func() {
			if err := w.Put(t.Context(), "k", fields{"n": i}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantFields(t, c, "k", tb.row("k"))
	flush(t, w)
	if st := w.Stats(); st.Direct != 202 {
		t.Errorf("stats %+v", st)
	}
}

func TestWriteBehindRefusesWhatCannotBe(t *testing.T) {
	s := node(t, shared)
	c := cache[fields](t, s, "w")
	sink := (&table{}).write
	for _, o := range []tiered.WriteBehindOptions[fields]{
		{Batch: -1}, {Batch: 5000}, {Partitions: -1}, {MaxQueued: 3}, {Attempts: -1}, {Replicas: -1},
		{Interval: -1}, {SinkTimeout: 1}, {Lease: time.Millisecond}, {Backoff: -1}, {MaxBackoff: 1, Backoff: 2},
	} {
		if _, err := tiered.NewWriteBehind(t.Context(), c, sink, o); err == nil || !strings.Contains(err.Error(), "want") {
			t.Errorf("%+v: %v", o, err)
		}
	}
	if _, err := tiered.NewWriteBehind(t.Context(), c, nil, tiered.WriteBehindOptions[fields]{}); err == nil {
		t.Error("no sink")
	}
	w, err := tiered.NewWriteBehind(t.Context(), c, sink, tiered.WriteBehindOptions[fields]{})
	must(t, err)
	if err := w.Merge(t.Context(), "k", fields{}); err == nil || !strings.Contains(err.Error(), "Merge") {
		t.Errorf("merge without a merge function: %v", err)
	}
	if err := w.Put(t.Context(), "", fields{}); !errors.Is(err, tiered.ErrKey) {
		t.Errorf("empty key: %v", err)
	}
	closeBehind(t, w)
	closeBehind(t, w)
	for _, err := range []error{w.Put(t.Context(), "k", fields{}), w.Flush(t.Context())} {
		if !errors.Is(err, tiered.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
	if _, err := tiered.NewWriteBehind(t.Context(), c, sink, tiered.WriteBehindOptions[fields]{Partitions: 3}); err == nil ||
		!strings.Contains(err.Error(), "8") {
		t.Errorf("another number of partitions: %v", err)
	}
}

func TestWriteBehindMetrics(t *testing.T) {
	reader := metric.NewManualReader()
	s := node(t, shared, tiered.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
	w, _ := behind(t, s, &table{}, tiered.WriteBehindOptions[fields]{})
	for range 3 {
		must(t, w.Put(t.Context(), "k", fields{"n": 1}))
	}
	flush(t, w)
	var rm metricdata.ResourceMetrics
	must(t, reader.Collect(t.Context(), &rm))
	got := map[string]int64{}
	for _, m := range rm.ScopeMetrics[0].Metrics {
		if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
			for _, p := range sum.DataPoints {
				if ns, _ := p.Attributes.Value("namespace"); ns.AsString() == "w" {
					got[strings.TrimPrefix(m.Name, "tiered.writebehind.")] = p.Value
				}
			}
		}
	}
	if got["queued"] != 3 || got["flushed"] != 1 || got["merged"] != 2 {
		t.Errorf("metrics %v", got)
	}
}
