package event_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

const feed = "team:7:activity"

// quick makes a broker notice and recover fast.
var quick = event.Options{Linger: 20 * time.Millisecond, Idle: 150 * time.Millisecond, Retry: 50 * time.Millisecond}

// persist publishes until the broker takes it, as the relay does.
func persist(t testing.TB, b event.Broker, channel string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		until(t, "event "+strconv.Itoa(n)+" is published", func() bool {
			_, err := b.Publish(t.Context(), numbered(channel, n))
			return err == nil
		})
	}
}

// publishUnheard appends an event whose pub/sub message gets lost.
func publishUnheard(t testing.TB, c redis.UniversalClient, channel string, n int) {
	t.Helper()
	id := "e" + strconv.Itoa(n)
	script, keys, args := event.Unheard(channel, id, []byte(`{"id":"`+id+`","data":{}}`))
	if err := script.Run(t.Context(), c, keys, args...).Err(); err != nil {
		t.Fatal(err)
	}
}

// picture keeps what a replica has of a channel; restore makes it the master.
func picture(t testing.TB, c redis.UniversalClient, channel string) (restore func()) {
	t.Helper()
	stream, err := c.Dump(t.Context(), event.StreamKey(channel)).Result()
	if err != nil {
		t.Fatal(err)
	}
	meta, err := c.Dump(t.Context(), event.MetaKey(channel)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			p.RestoreReplace(t.Context(), event.StreamKey(channel), 0, stream)
			p.RestoreReplace(t.Context(), event.MetaKey(channel), 0, meta)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestALostMessageIsFetchedBeforeTheNextOne(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 2)
	publishUnheard(t, c, feed, 3)
	publishUnheard(t, c, feed, 4)
	publish(t, b, feed, 5, 6)
	w.awaitIDs(t, names(1, 6)...)
	if r := w.reasons(); len(r) > 0 {
		t.Fatalf("resets %v", r)
	}
}

func TestPublishingSurvivesAScriptFlush(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	w, _, _ := subscribe(t, b, feed)
	for n := range 4 {
		if err := c.ScriptFlush(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		publish(t, b, feed, n, n)
	}
	w.awaitIDs(t, names(0, 3)...)
}

func TestNothingIsLostWhileTheConnectionIsKilledOverAndOver(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	w, _, _ := subscribe(t, b, feed)
	for n := range 300 {
		if n%20 == 0 {
			if err := c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err(); err != nil && !errors.Is(err, redis.Nil) {
				t.Fatal(err)
			}
		}
		publish(t, b, feed, n, n)
	}
	w.awaitIDs(t, names(0, 299)...)
	if r := w.reasons(); len(r) > 0 {
		t.Fatalf("resets %v", r)
	}
}

func TestASubscriberThatRedisCutsForItsOutputBufferMissesNothing(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithArgs("--client-output-buffer-limit", "pubsub 1kb 1kb 1"))
	b, c := newRedis(t, server, quick), server.Client(t)
	w, _, _ := subscribe(t, b, feed)
	// A burst in one go is too much for the subscriber's buffer.
	for round := range 5 {
		_, err := c.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
			for n := round * 40; n < round*40+40; n++ {
				id := "e" + strconv.Itoa(n)
				script, keys, args := event.Unheard(feed, id, []byte(`{"id":"`+id+`","data":{}}`))
				args[1] = event.PubsubName(feed)
				script.Eval(t.Context(), p, keys, args...)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	w.awaitIDs(t, names(0, 199)...)
}

func TestEventsGoOnWhereTheyWereAfterARestartWithData(t *testing.T) {
	server := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	b := newRedis(t, server, quick)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 20)
	server.Kill()
	var wg sync.WaitGroup
	wg.Go(func() { persist(t, b, feed, 21, 40) })
	server.Restart(t)
	wg.Wait()
	w.awaitIDs(t, names(1, 40)...)
	if r := w.reasons(); len(r) > 0 {
		t.Fatalf("resets %v", r)
	}
}

func TestARestartWithoutDataResetsAndLosesNothingPublishedAfter(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b := newRedis(t, server, quick)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 20)
	w.awaitIDs(t, names(1, 20)...)
	server.Restart(t)
	// The relay does not know whether 20 arrived, and publishes it again.
	persist(t, b, feed, 20, 40)
	w.awaitIDs(t, names(1, 40)...)
	w.awaitReset(t, event.ResetEpoch)
}

func TestARewoundHistoryIsNoticed(t *testing.T) {
	at := func(ms int64) event.Options {
		o := quick
		o.Now = func() time.Time { return time.UnixMilli(ms) }
		return o
	}
	t.Run("ByTheReconnect", func(t *testing.T) {
		server := tieredtest.StartRedis(t)
		b, c := newRedis(t, server, quick), server.Client(t)
		w, _, _ := subscribe(t, b, feed)
		publish(t, b, feed, 1, 2)
		restore := picture(t, c, feed)
		publish(t, b, feed, 3, 4)
		w.awaitIDs(t, names(1, 4)...)
		restore()
		c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub")
		w.awaitReset(t, event.ResetRewound)
		publish(t, b, feed, 5, 6)
		w.awaitIDs(t, "e1", "e2", "e3", "e4", "e5", "e6")
	})
	t.Run("ByAnEventWithALowerID", func(t *testing.T) {
		server := tieredtest.StartRedis(t)
		b, c := newRedis(t, server, at(9000)), server.Client(t)
		late := newRedis(t, server, at(8000)) // its clock is behind
		w, _, _ := subscribe(t, b, feed)
		publish(t, late, feed, 1, 2)
		restore := picture(t, c, feed)
		publish(t, b, feed, 3, 4)
		w.awaitIDs(t, names(1, 4)...)
		restore()
		publish(t, late, feed, 5, 5)
		w.awaitReset(t, event.ResetRewound)
		publish(t, b, feed, 6, 6)
		w.await(t, "the next event", func(w *watch) bool { return w.got[len(w.got)-1].Envelope.ID == "e6" })
	})
	t.Run("ByABranchBetween", func(t *testing.T) {
		// What contiguous offsets cannot see: the lost events' places are
		// taken by others while nobody looks.
		server := tieredtest.StartRedis(t)
		b, c := newRedis(t, server, at(9000)), server.Client(t)
		w, _, _ := subscribe(t, b, feed)
		publish(t, b, feed, 1, 2)
		restore := picture(t, c, feed)
		publish(t, b, feed, 3, 4)
		w.awaitIDs(t, names(1, 4)...)
		restore()
		publishUnheard(t, c, feed, 5) // a later id, but not on our branch
		publish(t, b, feed, 6, 6)
		// 5 and 6 both survive: they are delivered, or a reset covers them.
		w.await(t, "6 or a reset", func(w *watch) bool {
			return len(w.resets) > 0 || w.got[len(w.got)-1].Envelope.ID == "e6"
		})
		if ids := w.ids(); len(w.reasons()) == 0 && (len(ids) != 6 || ids[4] != "e5") {
			t.Fatalf("delivered %v and no reset", ids)
		}
	})
	t.Run("NotIfNothingWasMissed", func(t *testing.T) {
		server := tieredtest.StartRedis(t)
		b, c := newRedis(t, server, at(9000)), server.Client(t)
		ahead := newRedis(t, server, at(9500))
		w, _, _ := subscribe(t, b, feed)
		publish(t, b, feed, 1, 2)
		restore := picture(t, c, feed)
		publish(t, b, feed, 3, 4)
		w.awaitIDs(t, names(1, 4)...)
		restore()
		publish(t, ahead, feed, 5, 5)
		w.awaitIDs(t, names(1, 5)...)
		if r := w.reasons(); len(r) > 0 {
			t.Fatalf("resets %v", r)
		}
	})
}

func TestEveryNodeHearsOfARewind(t *testing.T) {
	server := tieredtest.StartRedis(t)
	one, two, c := newRedis(t, server, quick), newRedis(t, server, quick), server.Client(t)
	w1, _, _ := subscribe(t, one, feed)
	publish(t, one, feed, 1, 2)
	restore := picture(t, c, feed)
	publish(t, one, feed, 3, 3)
	w1.awaitIDs(t, names(1, 3)...)
	restore()
	w2, _, _ := subscribe(t, two, feed) // knows only what is left
	c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub")
	w1.awaitReset(t, event.ResetRewound)
	w2.await(t, "a reset on the other node", func(w *watch) bool { return len(w.resets) > 0 })
	publish(t, two, feed, 4, 4)
	w1.awaitIDs(t, names(1, 4)...)
	w2.awaitIDs(t, "e4")
}

func TestDeletedKeysResetReaders(t *testing.T) {
	for _, key := range []string{event.StreamKey(feed), event.MetaKey(feed)} {
		t.Run(key, func(t *testing.T) {
			server := tieredtest.StartRedis(t)
			b, c := newRedis(t, server, quick), server.Client(t)
			w, at, _ := subscribe(t, b, feed)
			publish(t, b, feed, 1, 3)
			w.awaitIDs(t, names(1, 3)...)
			if err := c.Del(t.Context(), key).Err(); err != nil {
				t.Fatal(err)
			}
			h, err := b.Since(t.Context(), feed, at, 10)
			if err != nil || h.Reset == "" {
				t.Fatalf("a reader from before: reset %q, %v", h.Reset, err)
			}
			publish(t, b, feed, 4, 5)
			w.awaitIDs(t, names(1, 5)...)
			h, err = b.Since(t.Context(), feed, w.got[3].At, 10)
			if err != nil || h.Reset != "" || len(h.Messages) != 1 {
				t.Fatalf("a reader from after: %+v, %v", h, err)
			}
		})
	}
}

func TestASilentConnectionIsReplaced(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	w, _, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 1)
	w.awaitIDs(t, "e1")
	id := pubsubClient(t, c)
	server.Stop(t) // its connections stay open
	var down atomic.Bool
	stop := b.Watch(func(up bool) {
		if !up {
			down.Store(true)
		}
	})
	defer stop()
	until(t, "the silence is noticed", down.Load)
	server.Cont(t)
	persist(t, b, feed, 2, 3)
	w.awaitIDs(t, names(1, 3)...)
	until(t, "another connection subscribes", func() bool { return pubsubClient(t, c) != id })
}

// pubsubClient returns what the server says of the subscribing connection.
func pubsubClient(t testing.TB, c redis.UniversalClient) string {
	t.Helper()
	s, err := c.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").Text()
	if err != nil {
		return ""
	}
	var id string
	_, _ = fmt.Sscanf(s, "id=%s", &id)
	return id
}

func TestAQuietConnectionThatWorksIsKept(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	subscribe(t, b, feed)
	id := pubsubClient(t, c)
	until(t, "a few probes have been sent", func() bool {
		n, err := c.Info(t.Context(), "commandstats").Result()
		var calls int
		for line := range lines(n) {
			_, _ = fmt.Sscanf(line, "cmdstat_publish:calls=%d", &calls)
		}
		return err == nil && calls >= 4
	})
	if got := pubsubClient(t, c); got != id {
		t.Fatalf("connection %s became %s", id, got)
	}
}

func TestFlappingSubscribersLeaveNothingBehind(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	const channels = 10
	name := func(i int) string { return "team:" + strconv.Itoa(i) + ":activity" }
	var wg sync.WaitGroup
	for i := range channels {
		for range 4 {
			wg.Go(func() {
				for range 15 {
					_, stop, err := b.Subscribe(t.Context(), name(i), newWatch())
					if err != nil {
						t.Errorf("subscribe: %v", err)
						return
					}
					stop()
				}
			})
		}
	}
	wg.Wait()
	subs := func(i int) int64 {
		n, err := c.PubSubNumSub(t.Context(), event.PubsubName(name(i))).Result()
		if err != nil {
			t.Fatal(err)
		}
		return n[event.PubsubName(name(i))]
	}
	until(t, "nothing is subscribed any more", func() bool {
		for i := range channels {
			if subs(i) != 0 {
				return false
			}
		}
		return len(b.Followed()) == 0
	})
	w, _, _ := subscribe(t, b, name(3))
	publish(t, b, name(3), 1, 1)
	w.awaitIDs(t, "e1")
	for i := range channels {
		want := int64(0)
		if i == 3 {
			want = 1
		}
		if subs(i) != want {
			t.Fatalf("%d subscriptions of channel %d, want %d", subs(i), i, want)
		}
	}
}

func TestSubscribingWaitsForRedisAndSaysWhenItIsUp(t *testing.T) {
	server := tieredtest.StartRedis(t)
	server.Kill()
	b := newRedis(t, server, quick)
	var mu sync.Mutex
	var seen []bool
	stop := b.Watch(func(up bool) { mu.Lock(); seen = append(seen, up); mu.Unlock() })
	defer stop()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Subscribe(ctx, feed, newWatch()); err == nil {
		t.Fatal("subscribed to nothing")
	}
	joined := make(chan *watch)
	go func() {
		w, _, _ := subscribe(t, b, feed)
		joined <- w
	}()
	server.Restart(t)
	w := <-joined
	persist(t, b, feed, 1, 1)
	w.awaitIDs(t, "e1")
	mu.Lock()
	defer mu.Unlock()
	if fmt.Sprint(seen) != "[false true]" {
		t.Fatalf("watched %v", seen)
	}
}

func TestAfterAReconnectOnlyChannelsThatAreBehindReadTheirStream(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	var watches []*watch
	for i := range 50 {
		name := "team:" + strconv.Itoa(i) + ":activity"
		w, _, _ := subscribe(t, b, name)
		publish(t, b, name, 1, 1)
		w.awaitIDs(t, "e1")
		watches = append(watches, w)
	}
	xranges := func() int {
		s, err := c.Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		var n int
		for line := range lines(s) {
			_, _ = fmt.Sscanf(line, "cmdstat_xrange:calls=%d", &n)
		}
		return n
	}
	before, old := xranges(), pubsubClient(t, c)
	publishUnheard(t, c, "team:3:activity", 2)
	c.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub")
	watches[3].awaitIDs(t, "e1", "e2")
	until(t, "it is connected again", func() bool { id := pubsubClient(t, c); return id != old && id != "" })
	for i := range 50 {
		name := "team:" + strconv.Itoa(i) + ":activity"
		publish(t, b, name, 9, 9)
		watches[i].await(t, "the last event", func(w *watch) bool { return w.got[len(w.got)-1].Envelope.ID == "e9" })
	}
	if n := xranges() - before; n > 5 {
		t.Fatalf("%d reads of streams, want one for the channel that was behind", n)
	}
}
