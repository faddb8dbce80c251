package tiered_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// gate is a hook of a client that holds the first answer to a command back,
// when Redis has given it.
type gate struct {
	command         string
	once            sync.Once
	caught, release chan struct{}
}

func holdAnswer(t *testing.T, n *tieredtest.Node, command string) *gate {
	t.Helper()
	g := &gate{command: command, caught: make(chan struct{}), release: make(chan struct{})}
	n.Client.(*redis.Client).AddHook(g)
	return g
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if cmd.Name() == g.command {
			g.once.Do(func() {
				close(g.caught)
				<-g.release
			})
		}
		return err
	}
}

// overwrites are the ways in which what is there can become old.
var overwrites = map[string]func(n *tieredtest.Node, c *tiered.Cache[string, string]) error{
	"delete": func(_ *tieredtest.Node, c *tiered.Cache[string, string]) error {
		return c.Delete(context.Background(), "k")
	},
	"delete many": func(_ *tieredtest.Node, c *tiered.Cache[string, string]) error {
		return c.DeleteMany(context.Background(), []string{"k"})
	},
	"set": func(_ *tieredtest.Node, c *tiered.Cache[string, string]) error {
		return c.Set(context.Background(), "k", "new")
	},
	"tag": func(n *tieredtest.Node, _ *tiered.Cache[string, string]) error {
		return n.InvalidateTags(context.Background(), "tag")
	},
	"clear": func(_ *tieredtest.Node, c *tiered.Cache[string, string]) error { return c.Clear(context.Background()) },
}

// apply writes, on the first node or on the second, and returns when the first
// knows of it.
func apply(t *testing.T, name string, elsewhere bool, nodes []*tieredtest.Node, caches []*tiered.Cache[string, string]) {
	t.Helper()
	if !elsewhere {
		must(t, overwrites[name](nodes[0], caches[0]))
		return
	}
	before := nodes[0].Stats().Messages
	must(t, overwrites[name](nodes[1], caches[1]))
	eventually(t, "the other node hears of it", func() bool { return nodes[0].Stats().Messages > before })
}

// holdsNew checks both tiers of every node after a write.
func holdsNew(t *testing.T, name string, caches []*tiered.Cache[string, string]) {
	t.Helper()
	for _, c := range caches {
		for _, opts := range [][]tiered.EntryOption{nil, {tiered.SkipL1()}} {
			if name == "set" {
				want(t, c, "k", "new", opts...)
			} else {
				wantErr(t, c, "k", tiered.ErrMiss, opts...)
			}
		}
	}
}

func forEachOverwrite(t *testing.T, test func(t *testing.T, name string, elsewhere bool)) {
	for _, name := range slices.Sorted(maps.Keys(overwrites)) {
		t.Run(name+"/here", func(t *testing.T) { test(t, name, false) })
		t.Run(name+"/on another node", func(t *testing.T) { test(t, name, true) })
	}
}

// The answer to a read of many is under way when one key is written: it must
// not be kept, and the other keys' answers must.
func TestAWriteFencesAReadOfMany(t *testing.T) {
	forEachOverwrite(t, func(t *testing.T, name string, elsewhere bool) {
		nodes := tieredtest.Nodes(t, 2, shared)
		for _, n := range nodes {
			healthy(t, n.Store)
		}
		caches := tieredtest.Caches[string, string](t, nodes, "n")
		opts := []tiered.EntryOption{tiered.Tags("tag")}
		must(t, caches[1].Set(t.Context(), "k", "old", opts...))
		must(t, caches[1].Set(t.Context(), "other", "kept"))
		eventually(t, "the reader has heard of the sets", func() bool { return nodes[0].Stats().Messages >= 2 })

		g := holdAnswer(t, nodes[0], "mget")
		done := make(chan map[string]string)
		go func() {
			got, err := caches[0].GetMany(context.Background(), []string{"k", "other"})
			if err != nil {
				t.Errorf("get many: %v", err)
			}
			done <- got
		}()
		<-g.caught
		apply(t, name, elsewhere, nodes, caches)
		close(g.release)
		got := <-done
		// It asked before the write, so it may have either.
		if v, ok := got["k"]; ok && v != "old" && v != "new" || name != "clear" && got["other"] != "kept" {
			t.Errorf("got %v", got)
		}
		holdsNew(t, name, caches)
		if name != "clear" {
			before := nodes[0].Stats().L1Hits
			want(t, caches[0], "other", "kept")
			if nodes[0].Stats().L1Hits != before+1 {
				t.Error("a write of one key has spoilt another")
			}
		}
	})
}

// The same for a load of many, in both tiers.
func TestAWriteFencesALoadOfMany(t *testing.T) {
	forEachOverwrite(t, func(t *testing.T, name string, elsewhere bool) {
		nodes := tieredtest.Nodes(t, 2, shared)
		for _, n := range nodes {
			healthy(t, n.Store)
		}
		caches := tieredtest.Caches[string, string](t, nodes, "n")
		must(t, caches[0].Delete(t.Context(), "k"))
		b := newBulkBlock(t)
		done := make(chan map[string]string)
		go func() {
			got, err := caches[0].GetOrLoadMany(context.Background(), []string{"k", "other"}, b.load, tiered.Tags("tag"))
			if err != nil {
				t.Errorf("load many: %v", err)
			}
			done <- got
		}()
		<-b.started
		apply(t, name, elsewhere, nodes, caches)
		b.result <- map[string]string{"k": "old", "other": "kept"}
		if got := <-done; got["k"] != "old" || got["other"] != "kept" {
			t.Errorf("who asked before the write got %v", got)
		}
		holdsNew(t, name, caches)
		if name == "tag" || name == "clear" {
			wantErr(t, caches[0], "other", tiered.ErrMiss) // it has the tag too
			return
		}
		want(t, caches[0], "other", "kept")
		want(t, caches[1], "other", "kept")
	})
}

// What is read while a load of many runs is as new as any read.
func TestWhoComesAfterAWriteDoesNotJoinALoadOfMany(t *testing.T) {
	forEachOverwrite(t, func(t *testing.T, name string, elsewhere bool) {
		nodes := tieredtest.Nodes(t, 2, shared)
		for _, n := range nodes {
			healthy(t, n.Store)
		}
		caches := tieredtest.Caches[string, string](t, nodes, "n")
		b := newBulkBlock(t)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = caches[0].GetOrLoadMany(context.Background(), []string{"k", "other"}, b.load, tiered.Tags("tag"))
		}()
		<-b.started
		apply(t, name, elsewhere, nodes, caches)
		v, err := caches[0].GetOrLoad(t.Context(), "k", value("new"), tiered.Tags("tag"))
		if v != "new" || err != nil {
			t.Errorf("after the write: %q, %v", v, err)
		}
		got, err := caches[0].GetOrLoadMany(t.Context(), []string{"k"}, func(_ ctx, keys []string) (map[string]string, error) {
			return map[string]string{"k": "new"}, nil
		}, tiered.Tags("tag"))
		if got["k"] != "new" || err != nil {
			t.Errorf("after the write: %v, %v", got, err)
		}
		b.result <- map[string]string{"k": "old", "other": "old"}
		<-done
		want(t, caches[0], "k", "new")
		if name != "tag" && name != "clear" { // these leave the lease to the first load, so the next is this process's alone
			want(t, caches[0], "k", "new", tiered.SkipL1())
		}
	})
}

// bulkBlock is a loader of many that reports its start and returns what it is given.
type bulkBlock struct {
	started chan []string
	result  chan map[string]string
	err     error
}

func newBulkBlock(t *testing.T) *bulkBlock {
	b := &bulkBlock{started: make(chan []string, 4), result: make(chan map[string]string, 4)}
	t.Cleanup(func() { close(b.result) }) // a failed test leaves no loader behind
	return b
}

func (b *bulkBlock) load(c ctx, keys []string) (map[string]string, error) {
	b.started <- keys
	select {
	case m := <-b.result:
		return m, errors.Join(b.err, c.Err())
	case <-c.Done():
		return nil, c.Err()
	}
}
