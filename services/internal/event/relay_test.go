package event_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// outbox is an Outbox in memory, with the lease of the real one.
type outbox struct {
	mu      sync.Mutex
	pending []event.Event
	holder  string
	until   time.Time
	wake    chan struct{}
	forget  int // how many calls of Published are lost
	asked   int
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

func (o *outbox) add(events ...event.Event) {
	o.mu.Lock()
	o.pending = append(o.pending, events...)
	o.mu.Unlock()
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) left() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.pending)
}

func (o *outbox) Lease(_ context.Context, holder string, ttl time.Duration) (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	if o.holder != holder && now.Before(o.until) {
		return false, nil
	}
	o.holder, o.until = holder, now.Add(ttl)
	return true, nil
}

func (o *outbox) Pending(_ context.Context, limit int) ([]event.Event, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked++
	return slices.Clone(o.pending[:min(limit, len(o.pending))]), nil
}

func (o *outbox) Published(_ context.Context, ids []string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.forget > 0 {
		o.forget--
		return errors.New("the database is away")
	}
	o.pending = slices.DeleteFunc(o.pending, func(e event.Event) bool { return slices.Contains(ids, e.ID) })
	return nil
}

func (o *outbox) Wake() <-chan struct{} { return o.wake }

// flaky is a broker that is away while down is set.
type flaky struct {
	event.Broker
	mu    sync.Mutex
	down  bool
	tries int
	eats  string // an event that it acknowledges and loses
}

func (f *flaky) set(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

func (f *flaky) Publish(ctx context.Context, e event.Event) (event.Position, error) {
	f.mu.Lock()
	f.tries++
	down, eaten := f.down, f.eats == e.ID
	if eaten {
		f.eats, f.down = "", true // and dies of it
	}
	f.mu.Unlock()
	if down {
		return event.Position{}, errors.New("the broker is away")
	}
	if eaten {
		return f.Position(ctx, e.Channel)
	}
	return f.Broker.Publish(ctx, e)
}

// PublishAll is dead to everything behind what it was away for.
func (f *flaky) PublishAll(ctx context.Context, events []event.Event) []event.Outcome {
	outs := make([]event.Outcome, len(events))
	for i, e := range events {
		if i > 0 && outs[i-1].Err != nil && !errors.Is(outs[i-1].Err, event.ErrInvalid) {
			outs[i].Err = outs[i-1].Err
			continue
		}
		outs[i].At, outs[i].Err = f.Publish(ctx, e)
	}
	return outs
}

func memory(t testing.TB) *event.Memory {
	t.Helper()
	b, err := event.NewMemory(event.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func relay(t testing.TB, o event.RelayOptions) (stop func()) {
	t.Helper()
	r, err := event.NewRelay(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := r.Run(ctx); err != nil {
			t.Errorf("relay: %v", err)
		}
	}()
	var once sync.Once
	stop = func() { once.Do(func() { cancel(); <-done }) }
	t.Cleanup(stop)
	return stop
}

func TestTheRelayPublishesInOrderAndOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, b := newOutbox(), memory(t)
		box.forget = 2 // published, but not marked: it will be published again
		w, _, _ := subscribe(t, b, feed)
		stop := relay(t, event.RelayOptions{Outbox: box, Broker: b, Batch: 7})
		for n := range 30 {
			box.add(numbered(feed, n))
		}
		pass(3 * time.Second)
		synctest.Wait()
		if got := w.ids(); fmt.Sprint(got) != fmt.Sprint(names(0, 29)) || box.left() != 0 {
			t.Fatalf("delivered %v, %d left", got, box.left())
		}
		stop()
	})
}

func TestACommitWakesTheRelayAndAPollFindsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, b := newOutbox(), memory(t)
		w, _, _ := subscribe(t, b, feed)
		stop := relay(t, event.RelayOptions{Outbox: box, Broker: b})
		synctest.Wait()
		box.add(numbered(feed, 1))
		synctest.Wait()
		if got := w.ids(); len(got) != 1 {
			t.Fatalf("delivered %v at once, want e1", got)
		}
		box.mu.Lock()
		box.pending = append(box.pending, numbered(feed, 2)) // by another process
		box.mu.Unlock()
		pass(250 * time.Millisecond)
		synctest.Wait()
		if got := w.ids(); len(got) != 2 {
			t.Fatalf("delivered %v after a poll, want e1 and e2", got)
		}
		stop()
	})
}

func TestTheRelayWaitsForTheBrokerWithoutHammering(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, b := newOutbox(), &flaky{Broker: memory(t)}
		b.set(true)
		w, _, _ := subscribe(t, b, feed)
		stop := relay(t, event.RelayOptions{Outbox: box, Broker: b})
		for n := range 100 {
			box.add(numbered(feed, n), numbered("user:"+fmt.Sprint(n)+":habits", n+1000))
		}
		pass(time.Minute)
		synctest.Wait()
		if b.tries > 1000 || b.tries < 20 {
			t.Errorf("%d attempts in a minute", b.tries)
		}
		b.set(false)
		pass(3 * time.Second)
		synctest.Wait()
		if got := w.ids(); fmt.Sprint(got) != fmt.Sprint(names(0, 99)) || box.left() != 0 {
			t.Fatalf("delivered %v, %d left", got, box.left())
		}
		stop()
	})
}

func TestWhatADyingBrokerTookIsPublishedAgainInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, b := newOutbox(), &flaky{Broker: memory(t), eats: "e4"}
		w, _, _ := subscribe(t, b, feed)
		stop := relay(t, event.RelayOptions{Outbox: box, Broker: b})
		for n := range 10 {
			box.add(numbered(feed, n))
		}
		pass(5 * time.Second)
		if got := w.ids(); fmt.Sprint(got) != fmt.Sprint(names(0, 3)) || box.left() != 5 {
			t.Errorf("delivered %v, %d left; want e0 to e3, and five waiting", got, box.left())
		}
		b.set(false)
		pass(5 * time.Second)
		synctest.Wait()
		if got := w.ids(); fmt.Sprint(got) != fmt.Sprint(names(0, 9)) {
			t.Errorf("delivered %v, want each once and in order", got)
		}
		stop()
	})
}

func TestOneRelayWorksAndAnotherTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, b := newOutbox(), memory(t)
		w, _, _ := subscribe(t, b, feed)
		stopOne := relay(t, event.RelayOptions{Outbox: box, Broker: b})
		synctest.Wait()
		stopTwo := relay(t, event.RelayOptions{Outbox: box, Broker: b})
		box.mu.Lock()
		first := box.holder
		box.mu.Unlock()
		pass(time.Minute)
		box.mu.Lock()
		if box.holder != first {
			t.Errorf("the lease went from %s to %s", first, box.holder)
		}
		box.mu.Unlock()
		stopOne() // and gives the lease back
		box.add(numbered(feed, 1))
		pass(250 * time.Millisecond)
		synctest.Wait()
		if len(w.ids()) != 1 {
			t.Errorf("nobody took over")
		}
		stopTwo()
	})
}

func TestAnEventThatCannotBePublishedDoesNotHoldUpTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		box, b := newOutbox(), memory(t)
		var log strings.Builder
		w, _, _ := subscribe(t, b, feed)
		bad := numbered(feed, 1)
		bad.Data = []byte("{")
		box.add(bad, numbered(feed, 2))
		stop := relay(t, event.RelayOptions{Outbox: box, Broker: b, Log: logTo(&log)})
		pass(time.Second)
		synctest.Wait()
		stop()
		if got := w.ids(); len(got) != 1 || got[0] != "e2" || box.left() != 0 {
			t.Errorf("delivered %v, %d left", got, box.left())
		}
		if !strings.Contains(log.String(), "event given up") {
			t.Errorf("the log does not say so: %s", log.String())
		}
	})
}

// TestRedisKilledUnderLoadDeliversEverythingOnce is the promise as a whole:
// events committed while Redis is away arrive when it is back.
func TestRedisKilledUnderLoadDeliversEverythingOnce(t *testing.T) {
	for _, tt := range []struct {
		name   string
		resets bool
		opts   []tieredtest.RedisOption
	}{
		{"ItKeptItsData", false, []tieredtest.RedisOption{tieredtest.WithPersistence()}},
		{"ItCameBackEmpty", true, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server := tieredtest.StartRedis(t, tt.opts...)
			box := newOutbox()
			publisher, node := newRedis(t, server, quick), newRedis(t, server, quick)
			w, _, _ := subscribe(t, node, feed)
			relay(t, event.RelayOptions{Outbox: box, Broker: publisher, Poll: 5 * time.Millisecond, Retry: 50 * time.Millisecond})
			const total = 600
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for n := range total {
				switch n {
				case 150, 350:
					w.await(t, "some events", func(w *watch) bool { return len(w.got) > n/2 })
					server.Kill()
				case 250, 450:
					server.Restart(t)
				}
				<-tick.C
				box.add(numbered(feed, n))
			}
			until(t, "the outbox is empty", func() bool { return box.left() == 0 })
			w.awaitIDs(t, names(0, total-1)...)
			if got := len(w.reasons()) > 0; got != tt.resets {
				t.Errorf("resets %v", w.reasons())
			}
		})
	}
}
