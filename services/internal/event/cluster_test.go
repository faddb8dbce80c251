package event_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

func TestSentinelConforms(t *testing.T) {
	s := tieredtest.StartSentinel(t, 1)
	conform(t, func(t *testing.T, o event.Options) event.Broker { return brokerOn(t, s.Client(t), o) })
}

// TestOnACluster shares one, for it takes a while to start.
func TestOnACluster(t *testing.T) {
	c := tieredtest.StartCluster(t, 3, 3)
	t.Run("ItConforms", func(t *testing.T) {
		conform(t, func(t *testing.T, o event.Options) event.Broker { return brokerOn(t, c.Client(t), o) })
	})
	t.Run("ANodeHearsOnlyOfTheChannelsItServes", func(t *testing.T) { hearsOnlyItsOwn(t, c) })
	t.Run("AMovedSlotLosesNothing", func(t *testing.T) { movedSlot(t, c) })
	t.Run("APlannedFailoverLosesNothing", func(t *testing.T) {
		lastsThrough(t, c, "planned", func(master *tieredtest.Redis) { c.Failover(t, master) }, 0)
	})
	t.Run("ADeadMasterLosesNothingSilently", func(t *testing.T) {
		lastsThrough(t, c, "dead", func(master *tieredtest.Redis) {
			master.Kill()
			c.AwaitOK(t)
		}, -1)
	})
}

// ear counts the messages that a client's connections bring.
type ear struct {
	net.Conn
	messages *atomic.Int64
}

func (e ear) Read(b []byte) (int, error) {
	n, err := e.Conn.Read(b)
	e.messages.Add(int64(bytes.Count(b[:n], []byte("smessage\r\n"))))
	return n, err
}

func hearsOnlyItsOwn(t *testing.T, c *tieredtest.Cluster) {
	const nodes, channels, events = 4, 12, 20
	name := func(i int) string { return "team:own" + strconv.Itoa(i) + ":activity" }
	var heard [nodes]atomic.Int64
	var watches [channels]*watch
	var brokers [nodes]*event.Redis
	quiet := event.Options{Idle: time.Hour} // no probes: they are messages too
	for n := range nodes {
		o := c.Options()
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return ear{conn, &heard[n]}, err
		}
		client := redis.NewClusterClient(o)
		t.Cleanup(func() { _ = client.Close() })
		brokers[n] = brokerOn(t, client, quiet)
		for i := n; i < channels/2; i += nodes { // nobody follows the other half
			watches[i], _, _ = subscribe(t, brokers[n], name(i))
		}
	}
	buses := func() (sent int) { // messages that masters handed each other
		for _, node := range c.Nodes() {
			text, err := node.Client(t).ClusterInfo(t.Context()).Result()
			if err != nil {
				t.Fatal(err)
			}
			for line := range lines(text) {
				if k, v, _ := strings.Cut(line, ":"); k == "cluster_stats_messages_publish_sent" {
					one, _ := strconv.Atoi(v)
					sent += one
				}
			}
		}
		return sent
	}
	before := buses()
	for i := range channels {
		publish(t, brokers[0], name(i), 1, events)
	}
	for i, w := range watches {
		if w != nil {
			w.awaitIDs(t, names(1, events)...)
			for n := range nodes {
				sub := 0
				for _, f := range brokers[n].Followed() {
					if f == name(i) {
						sub++
					}
				}
				if want := n == i%nodes; (sub == 1) != want {
					t.Errorf("node %d follows %s: %t, want %t", n, name(i), sub == 1, want)
				}
			}
		}
	}
	for n := range nodes {
		want := int64(0)
		for i := n; i < channels/2; i += nodes {
			want += events
		}
		if got := heard[n].Load(); got != want {
			t.Errorf("node %d received %d messages; of its own channels there were %d", n, got, want)
		}
	}
	if after := buses(); after != before {
		t.Errorf("masters handed each other %d messages", after-before)
	}
}

// stream publishes in a channel until it is stopped, and says how many there
// were.
func stream(t *testing.T, b event.Broker, channel string, n *atomic.Int64) (stop func()) {
	t.Helper()
	var wg sync.WaitGroup
	enough := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-enough:
				return
			case <-tick.C:
			}
			if _, err := b.Publish(t.Context(), numbered(channel, int(n.Load()))); err == nil {
				n.Add(1)
			}
		}
	})
	return sync.OnceFunc(func() { close(enough); wg.Wait() })
}

func movedSlot(t *testing.T, c *tieredtest.Cluster) {
	b, publisher := brokerOn(t, c.Client(t), quick), brokerOn(t, c.Client(t), quick)
	const channel = "team:moved:activity"
	slot := c.Slot(t, event.StreamKey(channel))
	w, _, _ := subscribe(t, b, channel)
	var n atomic.Int64
	stop := stream(t, publisher, channel, &n)
	defer stop()
	for range 3 {
		from := c.Owner(t, slot)
		var to *tieredtest.Redis
		for _, r := range c.Nodes() {
			if r != from && info(t, r.Client(t), "replication")["role"] == "master" {
				to = r
			}
		}
		moved := n.Load()
		untilLong(t, "events flow", func() bool { return n.Load() > moved+20 })
		c.MoveSlot(t, slot, to, nil)
		moved = n.Load()
		untilLong(t, "events flow after the move", func() bool { return n.Load() > moved+20 })
	}
	stop()
	w.awaitIDs(t, names(0, int(n.Load())-1)...)
	if r := w.reasons(); len(r) > 0 {
		t.Errorf("resets %v", r)
	}
}

// lastsThrough follows one channel of each master while a master is replaced.
// At most resets of them are allowed; -1 means any, and lost events with them.
func lastsThrough(t *testing.T, c *tieredtest.Cluster, tag string, replace func(*tieredtest.Redis), resets int) {
	all := quick
	all.Keep = 1 << 20 // so that what is gone is lost
	b, publisher := brokerOn(t, c.Client(t), quick), brokerOn(t, c.Client(t), all)
	channels := map[*tieredtest.Redis]string{}
	for n := 0; len(channels) < 3; n++ {
		name := fmt.Sprintf("team:%s%d:activity", tag, n)
		owner := c.Owner(t, c.Slot(t, event.StreamKey(name)))
		if channels[owner] == "" {
			channels[owner] = name
		}
	}
	trails := map[string]*trail{}
	counts := map[string]*atomic.Int64{}
	var stops []func()
	var victim *tieredtest.Redis
	for owner, name := range channels {
		trails[name], counts[name] = follow(t, b, name), new(atomic.Int64)
		stop := stream(t, publisher, name, counts[name])
		defer stop()
		stops, victim = append(stops, stop), owner
	}
	more := func(n int64) {
		for name, count := range counts {
			from := count.Load()
			untilLong(t, "events flow in "+name, func() bool { return count.Load() >= from+n })
		}
	}
	more(20)
	replace(victim)
	more(20)
	for _, stop := range stops {
		stop()
	}
	client := c.Client(t)
	for owner, name := range channels {
		n := int(counts[name].Load())
		persist(t, publisher, name, n, n)
		head, err := publisher.Position(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		w := trails[name]
		untilLong(t, "the subscriber is where the channel is", func() bool { return w.position() == head })
		list := survivors(t, client, name)
		if w.wrong != "" {
			t.Errorf("%s: %s", name, w.wrong)
		}
		if id := w.misses(list); id != "" {
			t.Errorf("%s: silently missed %s", name, id)
		}
		if resets >= 0 && (len(w.resets) > resets || len(list) != n+1) {
			t.Errorf("%s: %d resets, %d of %d events left", name, len(w.resets), len(list), n+1)
		}
		if owner != victim && len(w.resets) > 0 {
			t.Errorf("%s, of another master, was reset", name)
		}
	}
}
