package event_test

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

var failovers = flag.Int("failovers", 2, "how often TestAFailoverThatLosesWritesLosesNoEventSilently promotes a replica")

// TestAFailoverThatLosesWritesLosesNoEventSilently has Sentinels promote a
// replica that lacks what the master has acknowledged and handed out, while
// events are published without a pause. Every second time the old master is
// not dead, but cut off, and wakes up believing to be the master still.
//
// Each subscriber of two nodes, and each reader who was away meanwhile, gets
// every event that survives exactly once, or a reset that covers it. That the
// scenario is one that matters is shown by contiguous offsets in its midst,
// whose reader misses events and has nothing to notice it by.
func TestAFailoverThatLosesWritesLosesNoEventSilently(t *testing.T) {
	total := toll{}
	for done := 0; done < *failovers && !t.Failed(); done += groupServes {
		t.Run(fmt.Sprint("from failover ", done+1), func(t *testing.T) {
			failOver(t, done, min(*failovers, done+groupServes), &total)
		})
	}
	t.Logf("%d failovers: of %d events %d survived, each subscriber got each once or a reset (%d resets); contiguous offsets lost %d silently",
		*failovers, total.published, total.survived, total.resets, total.skipped)
	if total.lost == 0 || total.resets == 0 {
		t.Errorf("the failovers lost %d events and led to %d resets: nothing was tested", total.lost, total.resets)
	}
	if total.skipped == 0 {
		t.Error("contiguous offsets lost nothing: the scenario is too kind")
	}
}

// groupServes is how many failovers one pair of servers goes through: the more
// there is to copy, the longer until the old master may be promoted again, and
// after some 150 Sentinel found nobody to promote within a minute.
const groupServes = 40

// failOver has a pair of servers of its own fail over, from the one number of
// failover to before the other.
func failOver(t *testing.T, from, to int, total *toll) {
	s := tieredtest.StartSentinel(t, 1)
	for _, sentinel := range s.Sentinels() {
		// They wait twice this long before the next failover.
		if err := sentinel.Client(t).Do(t.Context(), "SENTINEL", "SET", s.MasterName(), "failover-timeout", "2000").Err(); err != nil {
			t.Fatal(err)
		}
	}
	client := func() *redis.Client { return s.Client(t) }
	one, two, publisher := brokerOn(t, client(), quick), brokerOn(t, client(), quick), brokerOn(t, client(), quick)
	for n := from; n < to; n++ {
		f := &failover{t: t, s: s, nodes: []*event.Redis{one, two}, publisher: publisher, plain: client(), freeze: n%2 == 1}
		for k := range 3 {
			f.lanes = append(f.lanes, &lane{name: fmt.Sprintf("team:%d-%d:activity", n, k)})
		}
		f.run()
		f.judge(total)
		if t.Failed() {
			t.Fatalf("in failover %d", n+1)
		}
	}
}

func brokerOn(t testing.TB, c redis.UniversalClient, o event.Options) *event.Redis {
	t.Helper()
	b, err := event.NewRedis(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

type toll struct{ published, survived, lost, resets, skipped int }

type failover struct {
	t         *testing.T
	s         *tieredtest.Sentinel
	nodes     []*event.Redis
	publisher *event.Redis
	plain     *redis.Client
	freeze    bool
	lanes     []*lane
}

// lane is a channel, what was published in it, and who follows it.
type lane struct {
	name    string
	acked   atomic.Int64 // events published
	stage   atomic.Int64 // events acknowledged since the last change of scene
	watches []*trail
	away    []reading // of readers who left before the failover

	mu      sync.Mutex
	offsets map[int64]string // events by contiguous offset, as acknowledged
	had     map[int64]string // those of a reader who left before the failover,
	offset  int64            // at this one
}

// reading is where a reader is and what it has.
type reading struct {
	at  event.Position
	ids map[string]bool
}

func (f *failover) run() {
	t := f.t
	old := f.s.Master(t)
	var writers sync.WaitGroup
	enough := make(chan struct{})
	for _, l := range f.lanes {
		l.offsets = map[int64]string{}
		for _, b := range f.nodes {
			l.watches = append(l.watches, follow(t, b, l.name))
		}
		writers.Go(func() { f.write(l, enough) })
	}
	f.scene(15)
	f.s.CutReplication(t)
	f.scene(15) // acknowledged, handed out, and never seen again
	for _, l := range f.lanes {
		l.leave()
	}
	if f.freeze {
		old.Stop(t)
	} else {
		old.Kill()
	}
	master := f.s.AwaitMaster(t, old)
	f.scene(1)
	if f.freeze {
		old.Cont(t) // with connections of subscribers, and commands that nobody waits for
	}
	f.scene(60) // more than were lost: contiguous offsets have caught up
	close(enough)
	writers.Wait()
	f.demote(old, master)
	for _, l := range f.lanes { // whoever stands on the lost branch still, learns it now
		persist(t, f.publisher, l.name, int(l.acked.Load()), int(l.acked.Load()))
		l.acked.Add(1)
	}
}

// scene waits for n more events of each lane.
func (f *failover) scene(n int64) {
	f.t.Helper()
	for _, l := range f.lanes {
		l.stage.Store(0)
	}
	for _, l := range f.lanes {
		untilLong(f.t, fmt.Sprintf("%d more events are published in %s", n, l.name), func() bool { return l.stage.Load() >= n })
	}
}

// write publishes as the relay does: the next event when this one is taken.
func (f *failover) write(l *lane, enough <-chan struct{}) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; {
		select {
		case <-enough:
			return
		case <-tick.C:
		}
		if _, err := f.publisher.Publish(f.t.Context(), numbered(l.name, n)); err != nil {
			continue
		}
		l.contiguous(f.t.Context(), f.plain, "e"+strconv.Itoa(n))
		n++
		l.acked.Add(1)
		l.stage.Add(1)
	}
}

// appendContiguous numbers events 1, 2, 3, … as brokers commonly do.
var appendContiguous = redis.NewScript(`
local n = redis.call('INCR', KEYS[2])
redis.call('XADD', KEYS[1], '0-' .. string.format('%.0f', n), 'k', ARGV[1])
return n`)

func contiguousKeys(channel string) []string {
	return []string{"{" + channel + "}:contiguous", "{" + channel + "}:top"}
}

func (l *lane) contiguous(ctx context.Context, c *redis.Client, id string) {
	n, err := appendContiguous.Run(ctx, c, contiguousKeys(l.name), id).Int64()
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offsets[n] = id
}

// leave remembers where readers are who go away now.
func (l *lane) leave() {
	for _, w := range l.watches {
		w.mu.Lock()
		l.away = append(l.away, reading{at: w.at, ids: maps.Clone(w.seen)})
		w.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.had, l.offset = maps.Clone(l.offsets), int64(len(l.offsets))
}

// demote makes the old master follow the new one, sooner than the Sentinels
// would, and waits until it has its data.
func (f *failover) demote(old, master *tieredtest.Redis) {
	t := f.t
	if !f.freeze {
		old.Restart(t)
	}
	o := master.Options()
	host, port := "127.0.0.1", o.Addr[len("127.0.0.1:"):]
	c := old.Client(t)
	untilLong(t, "the old master follows the new one", func() bool { return c.ReplicaOf(t.Context(), host, port).Err() == nil })
	f.s.AllowReplication(t)
	untilLong(t, "the old master has the new one's data", func() bool {
		return info(t, c, "replication")["master_link_status"] == "up" && f.s.Master(t) == master
	})
}

// judge compares what readers have with what the new master has.
func (f *failover) judge(total *toll) {
	t := f.t
	for _, l := range f.lanes {
		var head event.Position
		answered(t, "where the channel is", func() (err error) {
			head, err = f.publisher.Position(t.Context(), l.name)
			return err
		})
		list := survivors(t, f.plain, l.name)
		for i, w := range l.watches {
			untilLong(t, "a subscriber is where the channel is", func() bool { return w.position() == head })
			if w.wrong != "" {
				t.Errorf("%s, node %d: %s", l.name, i+1, w.wrong)
			}
			if id := w.misses(list); id != "" {
				t.Errorf("%s, node %d: silently missed %s; it stands at %s after resets at %v", l.name, i+1, id, head, w.resets)
			}
			total.resets += len(w.resets)
		}
		for i, r := range l.away {
			if id := f.resume(l, r, list); id != "" {
				t.Errorf("%s: reader %d, who came back with %s, silently missed %s", l.name, i+1, r.at, id)
			}
		}
		total.published += int(l.acked.Load())
		total.survived += len(list)
		total.lost += int(l.acked.Load()) - len(list)
		total.skipped += f.skipped(l)
	}
}

// answered asks until there is an answer: a client may still try the old
// master, which is starting again.
func answered(t testing.TB, what string, ask func() error) {
	t.Helper()
	var err error
	defer func() {
		if t.Failed() {
			t.Log(err)
		}
	}()
	untilLong(t, "it is answered "+what, func() bool { err = ask(); return err == nil })
}

// resume reads on from r, and returns a survivor that it does not get so.
func (f *failover) resume(l *lane, r reading, list []survivor) string {
	for {
		var h event.History
		answered(f.t, "what a reader has missed", func() (err error) {
			h, err = f.publisher.Since(f.t.Context(), l.name, r.at, 50)
			return err
		})
		if h.Reset != "" {
			return ""
		}
		for _, m := range h.Messages {
			r.at, r.ids[m.Envelope.ID] = m.At, true
		}
		if !h.More() {
			break
		}
	}
	for _, s := range list {
		if !r.ids[s.event] {
			return s.event
		}
	}
	return ""
}

// skipped reads on by contiguous offset, as the reader who left would, and
// counts the events that it does not get although its offset is a good one.
func (f *failover) skipped(l *lane) (n int) {
	var entries []redis.XMessage
	answered(f.t, "what contiguous offsets there are", func() (err error) {
		entries, err = f.plain.XRange(f.t.Context(), contiguousKeys(l.name)[0], "-", "+").Result()
		return err
	})
	had := map[string]bool{}
	for _, id := range l.had {
		had[id] = true
	}
	if int64(len(entries)) < l.offset {
		return 0 // the reader would notice
	}
	for _, e := range entries[:l.offset] {
		if id, _ := e.Values["k"].(string); !had[id] {
			n++
		}
	}
	return n
}
