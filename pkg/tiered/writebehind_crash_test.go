package tiered_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
	"github.com/sony/gobreaker/v2"
)

// Another process of this test binary is a consumer that dies with a batch in
// its sink; see TestMain.
const (
	childAddr   = "TIERED_TEST_REDIS"
	childPrefix = "TIERED_TEST_PREFIX"
)

// blockInSink writes and flushes, tells which items its sink got, and stays there.
func blockInSink(addr, prefix string) int {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr})
	s, err := tiered.Open(ctx, tiered.WithRedis(client), tiered.WithPrefix(prefix), tiered.WithL2Timeout(5*time.Second))
	if err != nil {
		return 1
	}
	c, err := tiered.New[string, fields](s, "w")
	if err != nil {
		return 1
	}
	w, err := tiered.NewWriteBehind(ctx, c, func(_ context.Context, items []tiered.Item[string, fields]) error {
		for _, it := range items {
			fmt.Fprintln(os.Stdout, it.Key, it.Version)
		}
		fmt.Fprintln(os.Stdout, "end")
		select {}
	}, tiered.WriteBehindOptions[fields]{Merge: overlay, Partitions: 1, Interval: time.Hour, Lease: time.Second})
	if err != nil {
		return 1
	}
	for i := range 30 {
		if err := w.Merge(ctx, "k"+strconv.Itoa(i%10), fields{strconv.Itoa(i): i}); err != nil {
			return 1
		}
	}
	_ = w.Flush(ctx)
	return 1
}

func TestKilledConsumersBatchIsTakenOverAsItWas(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childAddr+"="+shared.Addr(), childPrefix+"="+prefix(t))
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	versions := map[string]uint64{}
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "end"; {
		var key string
		var v uint64
		_, err := fmt.Sscan(lines.Text(), &key, &v)
		must(t, err)
		versions[key] = v
	}
	if len(versions) != 10 {
		t.Fatalf("the child's sink got %d items, want 10", len(versions))
	}
	must(t, cmd.Process.Kill())
	_ = cmd.Wait()

	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Partitions: 1, Lease: time.Second})
	must(t, w.Merge(t.Context(), "k0", fields{"later": 1}))
	flush(t, w)
	first := map[string]uint64{}
	for _, it := range tb.items() {
		if first[it.Key] == 0 {
			first[it.Key] = it.Version
		}
	}
	if !maps.Equal(first, versions) {
		t.Errorf("redelivered as %v, was %v: a sink could not know them", first, versions)
	}
	wantRow(t, tb, "k0", fields{"0": 0, "10": 10, "20": 20, "later": 1})
	wantRow(t, tb, "k9", fields{"9": 9, "19": 19, "29": 29})
	if st := w.Stats(); st.Redelivered != 30 {
		t.Errorf("stats %+v, want 30 redelivered", st)
	}
	groups, err := shared.Client(t).XInfoConsumers(t.Context(), prefix(t)+":wb:{w:0}:s", "flush").Result()
	if err != nil || len(groups) != 1 {
		t.Errorf("consumers %v, %v; the dead one is to be forgotten", groups, err)
	}
}

func TestALeaseInItsLastMomentIsStillAnothers(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Partitions: 1, Interval: time.Hour})
	client := shared.Client(t)
	for i := range 100 {
		must(t, w.Put(t.Context(), "k", fields{"n": i}))
		// Within two milliseconds Redis still has it, and says that it has 0 left.
		must(t, client.Set(t.Context(), prefix(t)+":wb:{w:0}:l", "another", time.Millisecond).Err())
		flush(t, w)
		wantRow(t, tb, "k", fields{"n": i})
	}
}

// A consumer that is slow, not dead, loses its lease: its sink's context ends,
// another process does its work, and what it writes late changes nothing.
func TestSlowConsumerThatLosesItsLeaseUndoesNothing(t *testing.T) {
	tb := &table{}
	o := tiered.WriteBehindOptions[fields]{Partitions: 1, Lease: 400 * time.Millisecond}
	w1, _ := behind(t, node(t, shared), tb, o)
	w2, _ := behind(t, node(t, shared), tb, o)
	entered, ended, late := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	tb.fail(func(ctx context.Context, _ []tiered.Item[string, fields]) error {
		if first.CompareAndSwap(false, true) {
			close(entered)
			<-ctx.Done()
			close(ended)
			<-late // it does not heed its context
		}
		return nil
	})
	must(t, w1.Put(t.Context(), "k", fields{"n": 0, "m": 0}))
	must(t, w1.Put(t.Context(), "k", fields{"n": 1, "m": 1}))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w1.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-entered
	// As if the process had stood still for as long as the lease.
	must(t, shared.Client(t).Del(t.Context(), prefix(t)+":wb:{w:0}:l").Err())
	must(t, w2.Merge(t.Context(), "k", fields{"n": 2}))
	flush(t, w2)
	wantRow(t, tb, "k", fields{"n": 2, "m": 1})
	<-ended
	close(late)
	wg.Wait()
	wantRow(t, tb, "k", fields{"n": 2, "m": 1})
}

// Who holds a partition's lease flushes it, and nobody else meanwhile.
func TestOneProcessAtATimeFlushesAPartition(t *testing.T) {
	tb := &table{}
	o := tiered.WriteBehindOptions[fields]{Partitions: 1, Lease: time.Minute}
	w1, _ := behind(t, node(t, shared), tb, o)
	w2, _ := behind(t, node(t, shared), tb, o)
	entered, leave := make(chan struct{}), make(chan struct{})
	var calls atomic.Int32
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error {
		if calls.Add(1) == 1 {
			close(entered)
			<-leave
		}
		return nil
	})
	must(t, w1.Put(t.Context(), "k", fields{"n": 1}))
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w1.Flush(t.Context()); err != nil {
			t.Error(err)
		}
	})
	<-entered
	must(t, w2.Put(t.Context(), "k", fields{"n": 2}))
	soon, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w2.Flush(soon); err == nil {
		t.Error("another process has flushed what the first is at")
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("the sink was called %d times", n)
	}
	close(leave)
	wg.Wait()
	flush(t, w2)
	wantRow(t, tb, "k", fields{"n": 2})
}

func TestCloseLeavesTheRestToTheNextProcess(t *testing.T) {
	tb := &table{}
	o := tiered.WriteBehindOptions[fields]{Partitions: 2, Batch: 5}
	c1 := cache[fields](t, node(t, shared), "w")
	o.Merge, o.Interval = overlay, time.Hour
	w1, err := tiered.NewWriteBehind(t.Context(), c1, tb.write, o)
	must(t, err)
	tb.fail(func(ctx context.Context, _ []tiered.Item[string, fields]) error {
		<-ctx.Done()
		return ctx.Err()
	})
	for i := range 30 {
		must(t, w1.Put(t.Context(), strconv.Itoa(i), fields{"n": i}))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := w1.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	tb.fail(nil)
	w2, _ := behind(t, node(t, shared), tb, o)
	began := time.Now()
	flush(t, w2)
	for i := range 30 {
		wantRow(t, tb, strconv.Itoa(i), fields{"n": i})
	}
	if took := time.Since(began); took > 8*time.Second { // the lease's 10 s
		t.Errorf("the next process waited %v for a lease that was to be given back", took)
	}
}

func TestCloseDrains(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{})
	for i := range 500 {
		must(t, w.Put(t.Context(), strconv.Itoa(i), fields{"n": i}))
	}
	closeBehind(t, w)
	for i := range 500 {
		wantRow(t, tb, strconv.Itoa(i), fields{"n": i})
	}
}

// outage is a node on a server of the test's own, that gives up soon.
func outage(t testing.TB, r *tieredtest.Redis, opts ...tiered.Option) *tiered.Store {
	return node(t, r, append([]tiered.Option{quick(), tiered.WithL2Timeout(500 * time.Millisecond)}, opts...)...)
}

func TestRedisAwayFromTheStartWritesThrough(t *testing.T) {
	r := tieredtest.StartRedis(t)
	r.Kill()
	tb := &table{}
	w, c := behind(t, outage(t, r), tb, tiered.WriteBehindOptions[fields]{Interval: 50 * time.Millisecond})
	must(t, w.Put(t.Context(), "k", fields{"a": 1}))
	must(t, w.Merge(t.Context(), "k", fields{"b": 2}))
	wantRow(t, tb, "k", fields{"a": 1, "b": 2})
	v, err := c.GetOrLoad(t.Context(), "k", w.Loader(tb.load))
	if err != nil || !maps.Equal(v, fields{"a": 1, "b": 2}) {
		t.Errorf("load: %v, %v", v, err)
	}
	away := errors.New("database is away")
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error { return away })
	if err := w.Put(t.Context(), "k", fields{"a": 3}); !errors.Is(err, away) {
		t.Errorf("put with neither: %v", err)
	}
	tb.fail(nil)
	r.Restart(t)
	eventually(t, "the queue is used again", func() bool {
		must(t, w.Put(t.Context(), "k", fields{"a": 4}))
		return w.Stats().Queued > 2
	})
	eventually(t, "and flushed", func() bool { return maps.Equal(tb.row("k"), fields{"a": 4}) })
}

// What is queued when Redis dies is older than what is written past it, and
// comes to the sink later.
func TestOlderQueuedWritesDoNotUndoWhatWasWrittenWhileRedisWasAway(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	tb := &table{}
	w, _ := behind(t, outage(t, r), tb, tiered.WriteBehindOptions[fields]{})
	must(t, w.Put(t.Context(), "whole", fields{"n": 1, "old": 1}))
	must(t, w.Merge(t.Context(), "part", fields{"seen": 1, "queued": 1}))
	r.Kill()
	must(t, w.Put(t.Context(), "whole", fields{"n": 2}))
	must(t, w.Merge(t.Context(), "part", fields{"seen": 2, "direct": 1}))
	must(t, w.Merge(t.Context(), "other", fields{"n": 1}))
	wantRow(t, tb, "whole", fields{"n": 2})
	wantRow(t, tb, "part", fields{"seen": 2, "direct": 1})
	if st := w.Stats(); st.Direct != 3 || st.Debts != 2 {
		t.Fatalf("stats %+v", st)
	}
	r.Restart(t)
	// The next write of the key takes its debt along; the other's is paid by the flush.
	eventually(t, "the queue is used again", func() bool {
		must(t, w.Merge(t.Context(), "part", fields{"again": 1}))
		return w.Stats().Debts == 1
	})
	flush(t, w)
	wantRow(t, tb, "whole", fields{"n": 2})
	wantRow(t, tb, "part", fields{"seen": 2, "queued": 1, "direct": 1, "again": 1})
	if st := w.Stats(); st.Debts != 0 {
		t.Errorf("stats %+v", st)
	}
}

// A server that stands still has the commands in its socket: it may queue a
// write long after its writer has given up and written past it, and newer ones.
func TestWriteThatIsQueuedAfterItsWriterGaveUpIsRefused(t *testing.T) {
	r := tieredtest.StartRedis(t)
	tb := &table{}
	// No breaker: every write reaches the socket.
	w, _ := behind(t, outage(t, r, tiered.WithL2Timeout(100*time.Millisecond), tiered.WithBreaker(gobreaker.Settings{ReadyToTrip: func(gobreaker.Counts) bool { return false }})), tb, tiered.WriteBehindOptions[fields]{Partitions: 1})
	must(t, w.Put(t.Context(), "k", fields{"n": 0}))
	flush(t, w)
	admin := r.Client(t)
	r.Stop(t)
	for n := 1; n <= 3; n++ {
		must(t, w.Put(t.Context(), "k", fields{"n": n}))
	}
	if st := w.Stats(); st.Direct != 3 {
		t.Fatalf("stats %+v", st)
	}
	r.Cont(t)
	must(t, admin.Ping(t.Context()).Err()) // after what it had received before
	if n := admin.XLen(t.Context(), prefix(t)+":wb:{w:0}:s").Val(); n > 0 {
		t.Errorf("%d writes are queued that the sink has had", n)
	}
	flush(t, w)
	wantRow(t, tb, "k", fields{"n": 3})
	must(t, w.Put(t.Context(), "k", fields{"n": 4}))
	flush(t, w)
	wantRow(t, tb, "k", fields{"n": 4})
}

func TestFullRedisWritesThroughAndIsStillDrained(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory-policy", "noeviction"))
	tb := &table{}
	w, _ := behind(t, outage(t, r), tb, tiered.WriteBehindOptions[fields]{Partitions: 1})
	must(t, w.Put(t.Context(), "queued", fields{"n": 1}))
	must(t, w.Put(t.Context(), "k", fields{"n": 1}))
	// Full by a good measure: whatever is freed does not make room.
	must(t, r.Client(t).ConfigSet(t.Context(), "maxmemory", "100kb").Err())
	must(t, w.Put(t.Context(), "k", fields{"n": 2}))
	if st := w.Stats(); st.Direct != 1 {
		t.Fatalf("stats %+v, want one write past the full Redis", st)
	}
	wantRow(t, tb, "k", fields{"n": 2})
	flush(t, w)
	wantRow(t, tb, "queued", fields{"n": 1})
	wantRow(t, tb, "k", fields{"n": 2})
}

func TestRedisThatEvictsTheQueueIsRefused(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithArgs("--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru"))
	c := cache[fields](t, node(t, r), "w")
	_, err := tiered.NewWriteBehind(t.Context(), c, (&table{}).write, tiered.WriteBehindOptions[fields]{})
	if err == nil || !strings.Contains(err.Error(), "allkeys-lru") || !strings.Contains(err.Error(), "noeviction") {
		t.Errorf("allkeys-lru: %v", err)
	}
}

func TestQueueDoesNotGrowBeyondItsBound(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared), tb, tiered.WriteBehindOptions[fields]{Partitions: 1, MaxQueued: 20, Batch: 10, Attempts: 2})
	longest := 0
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error {
		n, err := shared.Client(t).XLen(context.WithoutCancel(t.Context()), prefix(t)+":wb:{w:0}:s").Result()
		longest = max(longest, int(n))
		return err
	})
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				if err := w.Put(t.Context(), fmt.Sprint(g, "-", i), fields{"n": i}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	flush(t, w)
	for g := range 4 {
		for i := range 50 {
			wantRow(t, tb, fmt.Sprint(g, "-", i), fields{"n": i})
		}
	}
	if longest > 20 || w.Stats().Full == 0 {
		t.Errorf("the stream had %d entries, want at most 20; stats %+v", longest, w.Stats())
	}
	away := errors.New("database is away")
	tb.fail(func(context.Context, []tiered.Item[string, fields]) error { return away })
	var err error
	accepted := 0
	for i := 0; err == nil && i < 100; i++ {
		if err = w.Put(t.Context(), strconv.Itoa(i), fields{"last": i}); err == nil {
			accepted++
		}
	}
	if accepted != 20 || !errors.Is(err, tiered.ErrQueueFull) || !errors.Is(err, away) {
		t.Errorf("%d accepted, then %v; want 20, and both causes", accepted, err)
	}
	tb.fail(nil)
	flush(t, w)
	for i := range accepted {
		wantRow(t, tb, strconv.Itoa(i), fields{"last": i})
	}
}

func TestQueueGoesOnAfterFlushAllAndScriptFlush(t *testing.T) {
	r := tieredtest.StartRedis(t)
	tb := &table{}
	w, _ := behind(t, node(t, r), tb, tiered.WriteBehindOptions[fields]{Partitions: 1})
	client := r.Client(t)
	must(t, w.Put(t.Context(), "a", fields{"n": 1}))
	flush(t, w)
	must(t, w.Put(t.Context(), "lost", fields{"n": 1}))
	must(t, client.FlushAll(t.Context()).Err()) // the stream, its group and its last id
	must(t, w.Put(t.Context(), "a", fields{"n": 2}))
	must(t, client.ScriptFlush(t.Context()).Err())
	flush(t, w)
	wantRow(t, tb, "a", fields{"n": 2}) // newer than what the sink had
	wantRow(t, tb, "lost", nil)

	stream := prefix(t) + ":wb:{w:0}:s"
	must(t, w.Put(t.Context(), "b", fields{"n": 1}))
	must(t, client.XGroupDestroy(t.Context(), stream, "flush").Err())
	flush(t, w)
	wantRow(t, tb, "b", fields{"n": 1})
	must(t, w.Put(t.Context(), "c", fields{"n": 1}))
	must(t, client.XGroupSetID(t.Context(), stream, "flush", "$").Err()) // skipped by hand
	flush(t, w)
	wantRow(t, tb, "c", fields{"n": 1})
}

func TestWriteThatTooFewReplicasHaveIsGivenToTheSink(t *testing.T) {
	tb := &table{}
	w, _ := behind(t, node(t, shared, tiered.WithL2Timeout(time.Second)), tb, tiered.WriteBehindOptions[fields]{Replicas: 1})
	must(t, w.Put(t.Context(), "k", fields{"n": 1}))
	wantRow(t, tb, "k", fields{"n": 1})
	if st := w.Stats(); st.Direct != 1 || st.Queued != 0 {
		t.Errorf("stats %+v", st)
	}
	must(t, w.Put(t.Context(), "k", fields{"n": 2}))
	flush(t, w) // what is in the queue all the same
	wantRow(t, tb, "k", fields{"n": 2})
}
