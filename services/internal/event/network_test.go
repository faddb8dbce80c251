package event_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// behind returns a broker that reaches server through a network of its own.
func behind(t testing.TB, server *tieredtest.Redis, o event.Options) (*event.Redis, *tieredtest.Proxy) {
	t.Helper()
	p := tieredtest.StartProxy(t, server.Addr())
	return newBroker(t, server, func(c *redis.Options) { c.Addr = p.Addr() }, o), p
}

// TestAHalfOpenSubscribingConnectionIsReplaced: commands still work, only what
// is published does not arrive.
func TestAHalfOpenSubscribingConnectionIsReplaced(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, network := behind(t, server, quick)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 1)
	w.awaitIDs(t, "e1")
	id := pubsubClient(t, server.Client(t))
	heal := network.Blackhole(tieredtest.Down, tieredtest.Subscribers)
	publish(t, b, feed, 2, 3)
	var down atomic.Bool
	stop := b.Watch(func(up bool) {
		if !up {
			down.Store(true)
		}
	})
	defer stop()
	until(t, "the silence is noticed", down.Load)
	heal()
	w.awaitIDs(t, names(1, 3)...)
	if again := pubsubClient(t, server.Client(t)); again == id {
		t.Errorf("connection %s is still the one", id)
	}
}

// TestASubscriberOfAnOldMasterMovesToTheNewOne: the old one lives on and takes
// subscriptions; only nobody publishes there any more.
func TestASubscriberOfAnOldMasterMovesToTheNewOne(t *testing.T) {
	old, master := tieredtest.StartRedis(t), tieredtest.StartRedis(t)
	var to atomic.Pointer[tieredtest.Redis]
	to.Store(old)
	b := newBroker(t, old, func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, to.Load().Addr())
		}
	}, quick)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 3)
	w.awaitIDs(t, names(1, 3)...)
	host, port, err := net.SplitHostPort(old.Addr())
	if err != nil {
		t.Fatal(err)
	}
	replica := master.Client(t)
	if err := replica.ReplicaOf(t.Context(), host, port).Err(); err != nil {
		t.Fatal(err)
	}
	untilLong(t, "the replica has the data", func() bool { return info(t, replica, "replication")["master_link_status"] == "up" })
	if err := replica.ReplicaOf(t.Context(), "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	to.Store(master)
	old.Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "normal") // not the subscriber
	persist(t, b, feed, 4, 6)
	w.awaitIDs(t, names(1, 6)...)
	if r := w.reasons(); len(r) > 0 {
		t.Errorf("resets %v", r)
	}
	until(t, "nobody listens to the old master", func() bool { return pubsubClient(t, old.Client(t)) == "" })
}

// stuck keeps a write that names a channel until it may go on.
type stuck struct {
	net.Conn
	name          string
	caught, going chan struct{}
	once          *sync.Once
}

func (s stuck) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(s.name)) {
		s.once.Do(func() { close(s.caught); <-s.going })
	}
	return s.Conn.Write(b)
}

// TestAChannelLeftAndWantedAgainIsConfirmedAgain holds the one that subscribes
// and unsubscribes, so that both happen before it can do anything about them.
func TestAChannelLeftAndWantedAgainIsConfirmedAgain(t *testing.T) {
	server := tieredtest.StartRedis(t)
	gate := stuck{name: event.PubsubName("team:1:activity"), caught: make(chan struct{}), going: make(chan struct{}), once: new(sync.Once)}
	patient := quick
	patient.Idle = 20 * time.Second
	b := newBroker(t, server, func(o *redis.Options) {
		o.WriteTimeout = 20 * time.Second
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			held := gate
			held.Conn = conn
			return held, err
		}
	}, patient)
	_, _, stop := subscribe(t, b, feed)
	go subscribeUntilEnd(t, b, "team:1:activity")
	<-gate.caught
	stop()
	until(t, "the channel is left", func() bool { return len(b.Followed()) == 1 })
	joined := make(chan *watch, 1)
	go func() {
		w := newWatch()
		_, stop, err := b.Subscribe(t.Context(), feed, w)
		if err != nil {
			t.Errorf("subscribe again: %v", err)
			return
		}
		defer stop()
		joined <- w
		<-t.Context().Done()
	}()
	until(t, "the channel is wanted again", func() bool { return len(b.Followed()) == 2 })
	close(gate.going)
	var w *watch
	select {
	case w = <-joined:
	case <-time.After(10 * time.Second):
		t.Fatal("the channel that is wanted again is never confirmed")
	}
	publish(t, b, feed, 1, 2)
	w.awaitIDs(t, "e1", "e2")
}

func subscribeUntilEnd(t *testing.T, b event.Broker, channel string) {
	if _, stop, err := b.Subscribe(t.Context(), channel, newWatch()); err == nil {
		defer stop()
		<-t.Context().Done()
	}
}

// TestEventsThatComeWhileTheChannelIsJoinedAreNotMissed holds the answer to
// "where does it stand" while more is published: those come early, some of
// them covered by the answer.
func TestEventsThatComeWhileTheChannelIsJoinedAreNotMissed(t *testing.T) {
	server := tieredtest.StartRedis(t)
	publisher := newRedis(t, server, quick)
	publish(t, publisher, feed, 1, 2)
	slow := quick
	slow.Idle = 20 * time.Second
	p := tieredtest.StartProxy(t, server.Addr())
	b := newBroker(t, server, func(c *redis.Options) { c.Addr, c.ReadTimeout = p.Addr(), 20*time.Second }, slow)
	held := p.HoldReply(tieredtest.Command("HMGET", event.MetaKey(feed)))
	type result struct {
		w  *watch
		at event.Position
	}
	joined := make(chan result, 1)
	go func() {
		w, at, _ := subscribe(t, b, feed)
		joined <- result{w, at}
	}()
	held.Await(t)
	last, err := publisher.Position(t.Context(), feed)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, publisher, feed, 3, 9)
	held.Release()
	r := <-joined
	publish(t, publisher, feed, 10, 10)
	r.w.await(t, "the last event", func(w *watch) bool { return len(w.got) > 0 && w.got[len(w.got)-1].Envelope.ID == "e10" })
	prev := r.at.ID
	for _, m := range r.w.got {
		if m.Prev != prev {
			t.Fatalf("%s follows %s, not %s", m.At, m.Prev, prev)
		}
		prev = m.At.ID
	}
	if r.at.ID.Before(last.ID) {
		t.Errorf("joined at %s, before %s", r.at, last)
	}
}

// TestTenThousandSubscribesAmidPublishingMissNothing joins subscribers to a
// few hundred channels in all of which events are published all the while.
func TestTenThousandSubscribesAmidPublishingMissNothing(t *testing.T) {
	const channels, each = 200, 50
	server := tieredtest.StartRedis(t)
	publisher, b := newRedis(t, server, event.Options{Keep: 1 << 20}), newRedis(t, server, event.Options{})
	name := func(i int) string { return "team:" + strconv.Itoa(i) + ":activity" }
	var published, joined atomic.Int64
	enough := make(chan struct{})
	var writer, joiners sync.WaitGroup
	writer.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-enough:
				return
			default:
			}
			events := make([]event.Event, channels)
			for i := range events {
				events[i] = numbered(name(i), n)
			}
			for _, out := range publisher.PublishAll(t.Context(), events) {
				if out.Err != nil {
					continue // it is slow: the next one will do
				}
				published.Add(1)
			}
		}
	})
	links := make([]*chain, channels*each)
	for k := range 8 {
		joiners.Go(func() {
			for i := k; i < len(links); i += 8 {
				c := &chain{}
				c.mu.Lock()
				at, stop, err := b.Subscribe(t.Context(), name(i%channels), c)
				c.at = at
				c.mu.Unlock()
				if err != nil {
					t.Errorf("subscribe: %v", err)
					return
				}
				links[i] = c
				joined.Add(1)
				defer stop()
			}
			<-enough
		})
	}
	untilLong(t, "all have joined", func() bool { return joined.Load() == int64(len(links)) && published.Load() > 5*channels })
	close(enough)
	writer.Wait()
	joiners.Wait()
	for i, c := range links {
		if c == nil || c.broken != "" {
			t.Fatalf("subscriber %d: %+v", i, c)
		}
	}
}

// chain checks that each event follows the one before.
type chain struct {
	mu     sync.Mutex
	at     event.Position
	broken string
}

func (c *chain) Deliver(m event.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m.Prev != c.at.ID {
		c.broken = fmt.Sprintf("%s follows %s, but it was at %s", m.At, m.Prev, c.at)
	}
	c.at = m.At
}

func (c *chain) Reset(reason string, _ event.Position) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.broken = "reset: " + reason
}

func TestWhatTheBrokerMeasuresHoldsNoIDs(t *testing.T) {
	server := tieredtest.StartRedis(t)
	reader := sdkmetric.NewManualReader()
	o := quick
	o.Meter = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	b, c := newRedis(t, server, o), server.Client(t)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 2)
	publishUnheard(t, c, feed, 3)
	publish(t, b, feed, 4, 4)
	w.awaitIDs(t, names(1, 4)...)
	c.Publish(t.Context(), event.PubsubName(feed), "rubbish")
	c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub")
	c.Del(t.Context(), event.MetaKey(feed))
	publish(t, b, feed, 5, 5)
	w.awaitReset(t, event.ResetEpoch)
	for metric, want := range map[string]attribute.KeyValue{
		"event.published":    attribute.String("result", "ok"),
		"event.gaps":         attribute.String("cause", "missed"),
		"event.resets":       attribute.String("reason", event.ResetEpoch),
		"event.sessions":     attribute.String("cause", "lost"),
		"event.pubsub.drops": attribute.String("cause", "unreadable"),
		"event.pubsub.lag":   {},
	} {
		until(t, metric+" is measured", func() bool { return measured(t, reader, metric, want) })
	}
}

// measured reports whether a metric has a point with an attribute, or any
// point if that is empty. No point may name the channel's id.
func measured(t *testing.T, r sdkmetric.Reader, name string, want attribute.KeyValue) (found bool) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := r.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	point := func(set attribute.Set) {
		for _, kv := range set.ToSlice() {
			if v := kv.Value.AsString(); v == feed || v == "7" || v == "e1" {
				t.Errorf("%s has %s=%s", name, kv.Key, v)
			}
		}
		v, ok := set.Value(want.Key)
		found = found || !want.Valid() || ok && v == want.Value
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if m.Name != name {
				continue
			}
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					point(p.Attributes)
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					point(p.Attributes)
				}
			}
		}
	}
	return found
}
