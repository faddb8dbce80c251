package event_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

func TestAFullRedisRefusesEventsAndKeepsWhatItHas(t *testing.T) {
	server := tieredtest.StartRedis(t)
	b, c := newRedis(t, server, quick), server.Client(t)
	w, at, _ := subscribe(t, b, feed)
	publish(t, b, feed, 1, 3)
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	events := []event.Event{numbered(feed, 4), numbered(feed, 5), numbered("user:1:habits", 1)}
	for i, out := range b.PublishAll(t.Context(), events) {
		if out.Err == nil || errors.Is(out.Err, event.ErrInvalid) {
			t.Errorf("event %d: %v, want an error that may pass", i, out.Err)
		}
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	publish(t, b, feed, 4, 5)
	w.awaitIDs(t, names(1, 5)...)
	h, err := b.Since(t.Context(), feed, at, 10)
	if err != nil || h.Reset != "" || len(h.Messages) != 5 {
		t.Fatalf("history: %d events, reset %q, %v", len(h.Messages), h.Reset, err)
	}
	if r := w.reasons(); len(r) > 0 {
		t.Fatalf("resets %v", r)
	}
}

// TestALongQueueOfAChannelStopsAtWhatFailed breaks the connection after the
// first call of the script: nothing may overtake what was not published.
func TestALongQueueOfAChannelStopsAtWhatFailed(t *testing.T) {
	server := tieredtest.StartRedis(t)
	var calls atomic.Int64
	b := newBroker(t, server, func(o *redis.Options) {
		o.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &cutting{Conn: conn, calls: &calls}, err
		}
	}, quick)
	publish(t, b, feed, 0, 0) // the script is known
	calls.Store(0)
	var events []event.Event
	for n := 1; n <= 200; n++ {
		events = append(events, numbered(feed, n))
	}
	outs := b.PublishAll(t.Context(), events)
	ok := 0
	for i, out := range outs {
		if out.Err == nil {
			if ok++; ok != i+1 {
				t.Fatalf("event %d was published behind one that was not", i)
			}
		}
	}
	if ok != 64 {
		t.Fatalf("%d events were published, want those of the first call", ok)
	}
	h, err := newRedis(t, server, quick).Position(t.Context(), feed)
	if err != nil || h != outs[63].At {
		t.Fatalf("the channel stands at %s, %v; want %s", h, err, outs[63].At)
	}
}

// cutting breaks off before the second large write.
type cutting struct {
	net.Conn
	calls *atomic.Int64
}

func (c *cutting) Write(b []byte) (int, error) {
	if len(b) > 2000 && c.calls.Add(1) > 1 {
		_ = c.Close()
		return 0, errors.New("cut")
	}
	return c.Conn.Write(b)
}

// newBroker returns a broker on a client that change has a say in.
func newBroker(t testing.TB, server *tieredtest.Redis, change func(*redis.Options), o event.Options) *event.Redis {
	t.Helper()
	options := server.Options()
	change(options)
	c := redis.NewClient(options)
	t.Cleanup(func() { _ = c.Close() })
	b, err := event.NewRedis(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// BenchmarkPublish is the way of an event from the relay into Redis. The
// figure of interest is events/s, of one process on one server.
func BenchmarkPublish(b *testing.B) {
	for _, tt := range []struct{ batch, channels, subscribers int }{
		{1, 1, 0}, {256, 1, 0}, {256, 256, 0}, {512, 64, 0}, {512, 64, 1},
	} {
		b.Run(fmt.Sprintf("batch=%d/channels=%d/subscribers=%d", tt.batch, tt.channels, tt.subscribers), func(b *testing.B) {
			server := tieredtest.StartRedis(b)
			r := newRedis(b, server, event.Options{})
			var heard atomic.Int64
			for range tt.subscribers {
				for i := range tt.channels {
					_, stop, err := r.Subscribe(b.Context(), benchChannel(i), counting{&heard})
					if err != nil {
						b.Fatal(err)
					}
					defer stop()
				}
			}
			data := []byte(`{"habit_id":"01J8ZQ4V9W3N5T7Y2K6M8P0R1S","user_id":"01J8ZQ4V9W3N5T7Y2K6M8P0R1T","name":"Drink water","streak":12,"completed":true,"at":"2026-03-01T08:15:30Z","pad":"xxxxxxxxxxxxxxxxxxx"}`)
			n := 0
			for b.Loop() {
				events := make([]event.Event, tt.batch)
				for i := range events {
					n++
					events[i] = event.Event{ID: "e" + strconv.Itoa(n), Channel: benchChannel(i % tt.channels), Name: "habit_completed", Data: data, At: time.Now()}
				}
				for _, out := range r.PublishAll(b.Context(), events) {
					if out.Err != nil {
						b.Fatal(out.Err)
					}
				}
			}
			for tt.subscribers > 0 && heard.Load() < int64(n*tt.subscribers) {
				<-time.After(time.Millisecond)
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func benchChannel(i int) string { return "team:" + strconv.Itoa(i) + ":activity" }

type counting struct{ n *atomic.Int64 }

func (c counting) Deliver(event.Message)        { c.n.Add(1) }
func (c counting) Reset(string, event.Position) {}
