package tiered_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// cell is one case of the fence's table: a key and a tag that no other has, on
// a node that loads and another.
type cell struct {
	*testing.T
	nodes    []*tieredtest.Node
	caches   []*tiered.Cache[string, string]
	key, tag string
}

func (c *cell) prefix() string             { return c.key + "/" }
func (c *cell) tagged() tiered.EntryOption { return tiered.Tags(c.tag) }
func (c *cell) k() string                  { return c.prefix() + "k" }
func (c *cell) heard(before uint64, n int) {
	c.await("messages", func() bool { return c.nodes[0].Stats().Messages >= before+uint64(n) })
}
func (c *cell) await(w string, f func() bool) { c.Helper(); eventually(c, w, f) }

// fenced are the ways to write. Each says what is found afterwards; "" is
// nothing, and "prior" what was there before.
var fenced = []struct {
	name, leaves string
	write        func(ctx context.Context, c *cell, node int) error
}{
	{"Set", "new", func(ctx context.Context, c *cell, n int) error { return c.caches[n].Set(ctx, c.k(), "new", c.tagged()) }},
	{"SetMany", "new", func(ctx context.Context, c *cell, n int) error {
		return c.caches[n].SetMany(ctx, map[string]string{c.k(): "new"}, c.tagged())
	}},
	{"Update", "new", func(ctx context.Context, c *cell, n int) error {
		_, err := c.caches[n].Update(ctx, c.k(), func(context.Context, string, bool) (string, error) { return "new", nil })
		return err
	}},
	{"Write", "new", func(ctx context.Context, c *cell, n int) error {
		_, err := c.caches[n].Write(ctx, c.k(), func(context.Context) (string, error) { return "new", nil })
		return err
	}},
	{"Refresh", "new", func(ctx context.Context, c *cell, n int) error {
		_, err := c.caches[n].Refresh(ctx, c.k(), value("new"))
		return err
	}},
	{"Delete", "", func(ctx context.Context, c *cell, n int) error { return c.caches[n].Delete(ctx, c.k()) }},
	{"DeleteMany", "", func(ctx context.Context, c *cell, n int) error { return c.caches[n].DeleteMany(ctx, []string{c.k()}) }},
	{"InvalidatePrefix", "", func(ctx context.Context, c *cell, n int) error {
		_, err := c.caches[n].InvalidatePrefix(ctx, c.prefix())
		return err
	}},
	{"InvalidateTags", "", func(ctx context.Context, c *cell, n int) error { return c.nodes[n].InvalidateTags(ctx, c.tag) }},
	{"Clear", "", func(ctx context.Context, c *cell, n int) error { return c.caches[n].Clear(ctx) }},
	{"Expire", "prior", func(ctx context.Context, c *cell, n int) error {
		if existed, err := c.caches[n].Expire(ctx, c.k(), 2*time.Hour); err != nil || !existed {
			return errors.Join(err, errors.New("expire: there was nothing"))
		}
		return nil
	}},
}

// inFlight are the ways in which what was read before a write may come after
// it, on the first node. begin returns when it has been read, and end lets it
// come and awaits that.
var inFlight = []struct {
	name  string
	cold  bool // nothing is there while it is in flight: nothing to expire, nor to serve
	clock bool
	begin func(c *cell) (end func())
}{
	{"GetOrLoad", true, false, func(c *cell) func() {
		b, done := block[string](), make(chan struct{})
		go func() {
			defer close(done)
			if v, err := c.caches[0].GetOrLoad(c.Context(), c.k(), b.load, c.tagged()); v != "old" || err != nil {
				c.Errorf("who asked before the write got %q, %v", v, err)
			}
		}()
		<-b.started
		return func() { b.result <- "old"; <-done }
	}},
	{"a load left behind", true, false, func(c *cell) func() {
		aged(c.T, c.caches[0], c.k(), "stale", c.tagged())
		b := block[string]()
		v, err := c.caches[0].GetOrLoad(c.Context(), c.k(), b.load, c.tagged(), tiered.Timeouts(time.Millisecond, time.Minute))
		if v != "stale" || err != nil {
			c.Fatalf("by the soft time-out: %q, %v", v, err)
		}
		<-b.started
		return func() { b.result <- "old" }
	}},
	{"an eager refresh", false, true, func(c *cell) func() {
		loaded := func(want string, load tiered.Loader[string, string]) {
			v, err := c.caches[0].GetOrLoad(c.Context(), c.k(), load, c.tagged(), atThreshold)
			if v != want || err != nil {
				c.Fatalf("load: %q, %v; want %q", v, err, want)
			}
		}
		must(c, c.caches[0].Delete(c.Context(), c.k()))
		loaded("prior", slow(c.nodes[0].Clock, "prior"))
		c.nodes[0].Clock.Advance(40 * time.Minute)
		b := block[string]()
		loaded("prior", b.load)
		<-b.started
		return func() { b.result <- "old" }
	}},
	{"GetOrLoadMany", true, false, func(c *cell) func() {
		b, done := newBulkBlock(c.T), make(chan struct{})
		go func() {
			defer close(done)
			got, err := c.caches[0].GetOrLoadMany(c.Context(), []string{c.k(), "other"}, b.load, c.tagged())
			if got[c.k()] != "old" || err != nil {
				c.Errorf("who asked before the write got %v, %v", got, err)
			}
		}()
		<-b.started
		return func() { b.result <- map[string]string{c.k(): "old", "other": "v"}; <-done }
	}},
	{"GetMany", false, false, func(c *cell) func() {
		before := c.nodes[0].Stats().Messages
		must(c, c.caches[1].Set(c.Context(), c.k(), "prior", c.tagged()))
		c.heard(before, 1)
		h, done := c.nodes[0].Net.HoldReply(tieredtest.Command("mget")), make(chan struct{})
		go func() {
			defer close(done)
			got, err := c.caches[0].GetMany(c.Context(), []string{c.k(), "absent"})
			if v, ok := got[c.k()]; ok && v != "prior" || err != nil { // none if its tag is known to be another
				c.Errorf("who asked before the write got %v, %v", got, err)
			}
		}()
		h.Await(c)
		return func() { h.Release(); <-done }
	}},
}

// The heart of the package as a table: whatever is read from the source or from
// Redis before a write, by whichever call, is not found after it, whichever
// call wrote, on either node, in either tier. Where nobody tells the loading
// node of a write, because its messages are late, the refusal of Redis alone
// must keep the old value out of its memory.
func TestALoadInFlightNeverOverwritesAWrite(t *testing.T) {
	for _, flight := range inFlight {
		t.Run(flight.name, func(t *testing.T) {
			t.Parallel()
			nodes, caches := fenceNodes(t, flight.clock)
			for i, w := range fenced {
				if w.leaves == "prior" && flight.cold {
					continue // nothing to expire: TestExpireReportsWhatIsNoMore
				}
				for _, where := range []string{"here", "on another node", "on another node, unheard"} {
					byMessage := w.name == "InvalidateTags" || w.name == "Clear"
					if where == "on another node, unheard" && (byMessage || !flight.cold) {
						continue // what memory has rightly stays for a message's time
					}
					t.Run(w.name+"/"+where, func(t *testing.T) {
						if flight.clock { // it has moved too far from Redis's
							nodes, caches = fenceNodes(t, true)
						}
						name := strconv.Itoa(i) + where
						c := &cell{t, nodes, caches, "k" + name, "t" + name}
						end := flight.begin(c)
						heal := func() {}
						switch where {
						case "here":
							must(t, w.write(t.Context(), c, 0))
						case "on another node":
							before := nodes[0].Stats().Messages
							must(t, w.write(t.Context(), c, 1))
							c.heard(before, 1)
						default:
							heal = nodes[0].Net.Inject(tieredtest.Down, tieredtest.Fault{Freeze: true, Only: tieredtest.Subscribers})
							must(t, w.write(t.Context(), c, 1))
						}
						end()
						c.await("the flight has ended", func() bool { return nodes[0].Flights() == 0 })
						c.finds(w.leaves, where == "here")
						heal()
						c.finds(w.leaves, false)
					})
				}
			}
		})
	}
}

func fenceNodes(t *testing.T, clocks bool) ([]*tieredtest.Node, []*tiered.Cache[string, string]) {
	t.Helper()
	var opts []tieredtest.NodeOption
	if clocks {
		opts = append(opts, tieredtest.WithClocks())
	}
	nodes := tieredtest.Nodes(t, 2, shared, opts...)
	for _, n := range nodes {
		healthy(t, n.Store)
	}
	return nodes, tieredtest.Caches[string, string](t, nodes, "n",
		tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(0), tiered.FailSafe(time.Hour, 0)))
}

// finds checks both tiers of both nodes. If the first node wrote, the other
// hears of it in a while.
func (c *cell) finds(want string, otherHears bool) {
	c.Helper()
	for n, cache := range c.caches {
		for _, opts := range [][]tiered.EntryOption{nil, {tiered.SkipL1()}} {
			got := func() (string, error) {
				v, err := cache.Get(c.Context(), c.k(), opts...)
				if errors.Is(err, tiered.ErrMiss) {
					err = nil
				}
				return v, err
			}
			if n == 1 && otherHears {
				c.await("the other node hears of it", func() bool { v, _ := got(); return v == want })
			}
			if v, err := got(); v != want || err != nil {
				c.Errorf("node %d, memory %v: %q, %v; want %q", n, opts == nil, v, err, want)
			}
		}
		in, err := cache.Inspect(c.Context(), c.k())
		if err != nil || in.L1.Servable && !in.L1.Suspect && in.L1.Version != in.L2.Version {
			c.Errorf("node %d: memory has version %d, Redis %d, %v", n, in.L1.Version, in.L2.Version, err)
		}
	}
}
