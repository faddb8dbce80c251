package tiered_test

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// long is a life in memory that no test waits for: what is noticed within it
// was noticed by messages, or by the lack of them.
var long = tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour))

// duo is two nodes that both have k = 0 in memory.
func duo(t *testing.T, server tieredtest.Server, opts ...tiered.Option) ([]*tieredtest.Node, []*tiered.Cache[string, int]) {
	t.Helper()
	nodes := tieredtest.Nodes(t, 2, server, tieredtest.WithStore(append([]tiered.Option{tiered.WithPrefix(prefix(t)), quick()}, opts...)...))
	c := tieredtest.Caches[string, int](t, nodes, "n", long)
	for _, n := range nodes {
		healthy(t, n.Store)
	}
	must(t, c[0].Set(t.Context(), "k", 0))
	want(t, c[1], "k", 0)
	return nodes, c
}

// sees waits until a node serves v, and returns how long that took. All that
// it serves before must be older: from 0 on, and ever newer.
func sees(t *testing.T, c *tiered.Cache[string, int], v int) time.Duration {
	t.Helper()
	began, last := time.Now(), 0
	eventually(t, fmt.Sprintf("%d is seen", v), func() bool {
		got, err := c.Get(t.Context(), "k")
		if err != nil || got < last {
			t.Fatalf("got %d, %v after %d", got, err, last)
		}
		last = got
		return got == v
	})
	return time.Since(began)
}

// Commands work, but the connection that messages come by is dead, and nobody
// is told: a half-open connection, a firewall that has forgotten it, a route
// that holds packets back.
func TestASubscriptionThatIsDeadInSilenceIsNoticed(t *testing.T) {
	r := tieredtest.StartRedis(t)
	for name, fault := range map[string]struct {
		dir tieredtest.Direction
		tieredtest.Fault
	}{
		"messages vanish":     {tieredtest.Down, tieredtest.Fault{Swallow: true}},
		"all vanishes":        {tieredtest.Both, tieredtest.Fault{Swallow: true}},
		"messages are late":   {tieredtest.Down, tieredtest.Fault{Freeze: true}},
		"all is held back":    {tieredtest.Both, tieredtest.Fault{Freeze: true}},
		"a byte each second":  {tieredtest.Down, tieredtest.Fault{Bandwidth: 1}},
		"commands are frozen": {tieredtest.Up, tieredtest.Fault{Swallow: true}}, // harmless: none follow
	} {
		t.Run(name, func(t *testing.T) {
			nodes, c := duo(t, r)
			fault.Only = tieredtest.Subscribers
			heal := nodes[1].Net.Inject(fault.dir, fault.Fault)
			must(t, c[0].Set(t.Context(), "k", 1))
			took := sees(t, c[1], 1)
			t.Logf("an hour's entry was stale for %v", took)
			if took > 10*time.Second { // 2.5 s, and a busy machine
				t.Errorf("it was stale for %v", took)
			}
			heal()
			for _, n := range nodes {
				healthy(t, n.Store)
			}
			must(t, c[0].Set(t.Context(), "k", 2))
			sees(t, c[1], 2)
		})
	}
}

// Redis ends a subscription whose reader is too slow, with all that it had not
// read yet.
func TestASubscriberThatRedisCutsOffMissesNothing(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithArgs("--client-output-buffer-limit", "pubsub", "64kb", "0", "0"))
	admin := r.Client(t)
	nodes, c := duo(t, r)
	heal := nodes[1].Net.Inject(tieredtest.Down, tieredtest.Fault{Only: tieredtest.Subscribers, Freeze: true})
	junk := strings.Repeat("x", 256<<10)
	eventually(t, "Redis cuts it off", func() bool {
		must(t, admin.Publish(t.Context(), prefix(t)+":inv", junk).Err())
		must(t, c[0].Set(t.Context(), "other", 1))
		n := 0
		for line := range strings.Lines(admin.ClientList(t.Context()).Val()) {
			if strings.Contains(line, " sub=2 ") {
				n++
			}
		}
		return n < 2
	})
	must(t, c[0].Set(t.Context(), "k", 1)) // of which the second is not told
	heal()
	took := sees(t, c[1], 1)
	t.Logf("stale for %v", took)
	for _, n := range nodes {
		healthy(t, n.Store)
	}
	if g := nodes[1].Stats().Gaps; g == 0 {
		t.Error("no gap was noticed")
	}
}

// Of a Cluster, each node passes messages on to each other. If one does not
// hear another, its clients' connections are as well as ever.
func TestASilentClusterBusIsNoticed(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 0, tieredtest.WithArgs("--enable-debug-command", "local"))
	nodes, c := duo(t, cl)
	// The node that the subscriptions are on, and a key that another one has.
	deaf := cl.Owner(t, cl.Slot(t, prefix(t)+":inv"))
	key := ""
	for i := 0; key == ""; i++ {
		if k := strconv.Itoa(i); cl.Owner(t, cl.Slot(t, prefix(t)+":{n:"+k+"}")) != deaf {
			key = k
		}
	}
	must(t, c[0].Set(t.Context(), key, 0))
	want(t, c[1], key, 0)
	const publish = 4 // CLUSTERMSG_TYPE_PUBLISH
	must(t, deaf.Client(t).Do(t.Context(), "DEBUG", "DROP-CLUSTER-PACKET-FILTER", publish).Err())
	must(t, c[0].Set(t.Context(), key, 1))
	began := time.Now()
	eventually(t, "the write is seen", func() bool {
		v, err := c[1].Get(t.Context(), key)
		return v == 1 && err == nil
	})
	t.Logf("stale for %v", time.Since(began))
	for i := range 20 { // nor is anything stale as long as it lasts
		must(t, c[0].Set(t.Context(), key, 10+i))
		want(t, c[1], key, 10+i)
	}
	if h := nodes[1].Health(); h.Coherent || h.Breaker != "closed" {
		t.Errorf("%+v", h)
	}
	must(t, deaf.Client(t).Do(t.Context(), "DEBUG", "DROP-CLUSTER-PACKET-FILTER", -1).Err())
	for _, n := range nodes {
		healthy(t, n.Store)
	}
}

// Messages come twice, late, and in any order: the newest value stays in
// memory, and no older one comes back.
func TestMessagesTwiceAndInAnyOrderHarmNothing(t *testing.T) {
	r := tieredtest.StartRedis(t)
	nodes, c := duo(t, r)
	admin := r.Client(t)
	sub := admin.Subscribe(t.Context(), prefix(t)+":inv")
	defer sub.Close()
	_, err := sub.Receive(t.Context())
	must(t, err)
	var messages []string
	for i := 1; i <= 20; i++ {
		must(t, c[i%2].Set(t.Context(), "k", i))
		m, err := sub.ReceiveMessage(t.Context())
		must(t, err)
		messages = append(messages, m.Payload)
	}
	for _, one := range c {
		eventually(t, "the last is seen", func() bool { v, err := one.Get(t.Context(), "k"); return v == 20 && err == nil })
	}
	slices.Reverse(messages)
	again := slices.Concat(messages, messages)
	before := nodes[0].Stats().Messages + nodes[1].Stats().Messages
	for _, m := range again {
		must(t, admin.Publish(t.Context(), prefix(t)+":inv", m).Err())
	}
	// Each node ignores its own.
	eventually(t, "all have come again", func() bool {
		return nodes[0].Stats().Messages+nodes[1].Stats().Messages >= before+uint64(len(again))
	})
	for i, one := range c {
		if one.Version("k") == 0 {
			t.Errorf("node %d has dropped the newest value", i)
		}
		want(t, one, "k", 20)
	}
}

// A process whose clock is wrong by a quarter of an hour, or is set so while it
// runs (a server's clock that is set is the same to it), overwrites nothing
// newer, serves nothing older and keeps nothing longer. A real clock that is
// set is not even noticed: see timeSource.
func TestAClockThatIsWrongByAQuarterOfAnHour(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	for _, wrong := range []time.Duration{15 * time.Minute, -15 * time.Minute} {
		for _, set := range []bool{false, true} { // while it runs
			t.Run(fmt.Sprintf("%v while it runs %v", wrong, set), func(t *testing.T) {
				clock := tieredtest.NewClock(time.Time{})
				if !set {
					clock.Advance(wrong)
				}
				of := func(opts ...tiered.Option) *tieredtest.Node {
					return tieredtest.Nodes(t, 1, r, tieredtest.WithStore(append(opts, tiered.WithPrefix(prefix(t)))...))[0]
				}
				nodes := []*tieredtest.Node{of(tiered.WithClock(clock)), of()}
				c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
				for _, n := range nodes {
					healthy(t, n.Store)
				}
				if set {
					must(t, c[0].Set(t.Context(), "k", "before"))
					want(t, c[1], "k", "before")
					clock.Advance(wrong)
				}
				for i := range 6 {
					writer, reader := c[i%2], c[(i+1)%2]
					v := strconv.Itoa(i)
					must(t, writer.Set(t.Context(), "k", v, tiered.Tags("tag")))
					want(t, writer, "k", v)
					eventually(t, "the other sees "+v, func() bool { got, err := reader.Get(t.Context(), "k"); return got == v && err == nil })
					if ttl := admin.PTTL(t.Context(), prefix(t)+":{n:k}").Val(); ttl > time.Hour || ttl < 50*time.Minute {
						t.Errorf("Redis keeps it for %v", ttl)
					}
					must(t, nodes[i%2].InvalidateTags(t.Context(), "tag"))
					wantErr(t, writer, "k", tiered.ErrMiss)
					missed := func() bool { _, err := reader.Get(t.Context(), "k"); return errors.Is(err, tiered.ErrMiss) }
					eventually(t, "the tag is invalid at the other", missed)
					during(t, reader, "k", func() { must(t, writer.Set(t.Context(), "k", v+" while it was loaded")) })
					eventually(t, "the write is seen, not the load", func() bool {
						got, err := reader.Get(t.Context(), "k")
						return got == v+" while it was loaded" && err == nil
					})
					must(t, writer.Delete(t.Context(), "k"))
					eventually(t, "it is deleted at the other", missed)
					during(t, reader, "k", func() { must(t, writer.Delete(t.Context(), "k")) })
					wantErr(t, reader, "k", tiered.ErrMiss, tiered.SkipL1())
				}
			})
		}
	}
}

// A server that becomes a master is not late before it has been one for the
// window, whatever the others do; one that is silent then is named.
func TestANewMasterHasTimeToBeHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ear := tiered.NewEar()
		ear.Expect("a", "b")
		if ear.Hear("a") {
			t.Error("one of two is enough")
		}
		if !ear.Hear("b") {
			t.Error("both are not enough")
		}
		beat := func(n int, addrs ...string) {
			for range n {
				<-time.Tick(time.Second) // the bubble's
				ear.Expect("a", "b", "c")
				for _, a := range addrs {
					ear.Hear(a)
				}
			}
		}
		beat(10, "a", "b", "c")
		ear.Expect("a", "b", "c", "d")
		ear.Hear("a")
		if left, _ := ear.Left(); left <= time.Second {
			t.Errorf("a new master has %v", left)
		}
		beat(1, "a", "b") // d is none any more, c is silent
		if left, err := ear.Left(); left <= 0 || left > 1500*time.Millisecond {
			t.Errorf("after a second there are %v left, %v", left, err)
		}
		beat(2, "a", "b")
		if left, err := ear.Left(); left > 0 || !strings.Contains(err.Error(), "master c") {
			t.Errorf("after three seconds of silence there are %v left, %v", left, err)
		}
	})
}

// The connection is there, Redis has confirmed the channels, and yet nothing
// comes by it: it is replaced, and has not counted in between.
func TestASubscriptionThatHasHeardNothingDoesNotCount(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	var text logText
	s := node(t, r, tiered.WithLogger(slog.New(slog.NewTextHandler(&text, nil))))
	healthy(t, s)
	must(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "-publish").Err())
	must(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, "it gives up the next one as well", func() bool { return strings.Contains(text.String(), "no beat came back") })
	if n := s.Stats().Gaps; n != 1 {
		t.Errorf("%d gaps: the subscription has counted", n)
	}
	must(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "+publish").Err())
	healthy(t, s)
}
