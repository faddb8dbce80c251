package tiered_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/sony/gobreaker/v2"
)

var histories = flag.Int("histories", 10, "histories that each linearizability test tries")

// trial runs histories on nodes and has them judged.
type trial struct {
	nodes []subject
	began time.Time
	value atomic.Int64 // the last one used: each is used once
	round atomic.Int64
	ops   int           // of each worker in a round
	keys  int           // of a round, each with a history
	rest  time.Duration // between two of them, at most
	flaky bool          // one load in eight fails
	async bool          // half of the sets and deletes are
	mute  bool          // an illegal history is not explained, which takes long
}

const workersPerNode = 2

// truth is a key's source and its history.
type truth struct {
	key string
	history
	source struct {
		sync.Mutex
		v int
	}
}

func (tr *trial) now() int64 { return int64(time.Since(tr.began)) }
func (tr *trial) fresh() int { return int(tr.value.Add(1)) }

func (tr *trial) write(k *truth, node int) {
	v := tr.fresh()
	call := tr.now()
	k.source.Lock()
	k.source.v = v
	k.source.Unlock()
	k.add(step{deed: sourceGets, node: node, v: v}, call, tr.now())
}

// play makes one history for each of a few new keys.
func (tr *trial) play(ctx context.Context) []*truth {
	round := tr.round.Add(1)
	keys := make([]*truth, tr.keys)
	for i := range keys {
		keys[i] = &truth{key: fmt.Sprintf("%d-%d", round, i)}
		tr.write(keys[i], 0)
	}
	var wg sync.WaitGroup
	for n := range tr.nodes {
		for range workersPerNode {
			wg.Go(func() {
				for range tr.ops {
					if !pause(ctx, rand.N(tr.rest)) {
						return
					}
					tr.act(ctx, n, keys)
				}
			})
		}
	}
	wg.Wait()
	return keys
}

// act makes one call and notes what came of it.
func (tr *trial) act(ctx context.Context, node int, keys []*truth) {
	n, k := tr.nodes[node], keys[rand.N(len(keys))]
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if rand.N(20) == 0 { // this one has no patience
		ctx, cancel = context.WithTimeout(ctx, rand.N(2*time.Millisecond))
		defer cancel()
	}
	// write notes a write of all the keys; one that failed may yet happen.
	async := false
	write := func(d deed, v int, keys []*truth, f func() error) {
		call := tr.now()
		err := f()
		ret := tr.now()
		if errors.Is(err, errNoSuchCall) {
			return
		}
		if err != nil {
			ret = forever
		}
		for _, k := range keys {
			k.add(step{deed: d, node: node, v: v, async: async && err == nil}, call, ret)
		}
	}
	one := keys[:0:0]
	one = append(one, k)
	forget := func() error {
		async = tr.async && rand.N(2) == 0
		return n.Delete(ctx, k.key, async)
	}
	switch p := rand.N(100); {
	case p < 4:
		// It says nothing of the value. What it makes too old to be fresh is
		// there still for fail-safe.
		ttl := time.Minute
		if p < 2 {
			ttl = time.Millisecond + rand.N(4*tr.rest)
		}
		_ = n.Expire(ctx, k.key, ttl)
	case p < 42:
		call := tr.now()
		v, err := n.GetOrLoad(ctx, k.key, func(ctx context.Context) (int, error) {
			if tr.flaky && rand.N(8) == 0 {
				pause(ctx, rand.N(2*tr.rest))
				return 0, errFlaky
			}
			began := tr.now()
			k.source.Lock()
			v := k.source.v
			k.source.Unlock()
			k.add(step{deed: sourceRead, node: node, v: v}, began, tr.now())
			if !pause(ctx, rand.N(2*tr.rest)) {
				return 0, ctx.Err()
			}
			return v, nil
		})
		if err == nil {
			k.add(step{deed: found, node: node, v: v}, call, tr.now())
		}
	case p < 61:
		call := tr.now()
		if v, err := n.Get(ctx, k.key); err == nil {
			k.add(step{deed: found, node: node, v: v}, call, tr.now())
		}
	case p < 76:
		tr.write(k, node)
		write(cacheLoses, 0, one, forget)
	case p < 83:
		tr.write(k, node)
		v := tr.fresh()
		write(cacheGets, v, one, func() error {
			async = tr.async && rand.N(2) == 0
			return n.Set(ctx, k.key, v, async)
		})
	case p < 86:
		write(cacheLoses, 0, one, forget)
	case p < 92:
		tr.write(k, node)
		write(cacheLoses, 0, keys, func() error { return n.InvalidateAll(ctx) })
	case p < 95:
		tr.write(k, node)
		write(cacheLoses, 0, keys, func() error { return n.Clear(ctx) })
	default:
		v := tr.fresh()
		call := tr.now()
		old, err := n.Update(ctx, k.key, v)
		switch {
		case errors.Is(err, errNoSuchCall):
		case err != nil:
			k.add(step{deed: cacheGets, node: node, v: v}, call, forever)
		default:
			k.add(step{deed: updated, node: node, old: old, v: v}, call, tr.now())
		}
	}
}

// pause waits and reports whether ctx is still good.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// nemesis does harm until its context ends, and leaves everything healed.
type nemesis func(ctx context.Context)

// harms plays one after the other at random, with some peace in between.
func harms(peace time.Duration, some ...func(context.Context)) nemesis {
	return func(ctx context.Context) {
		for pause(ctx, rand.N(peace)) {
			some[rand.N(len(some))](ctx)
		}
	}
}

// breakNets harms the network of one node at a time.
func breakNets(nodes []*tieredtest.Node) []func(context.Context) {
	net := func() *tieredtest.Proxy { return nodes[rand.N(len(nodes))].Net }
	scripts := tieredtest.AnyOf(tieredtest.Command("EVALSHA"), tieredtest.Command("EVAL"))
	return []func(context.Context){
		func(context.Context) { net().Reset() },
		func(context.Context) { net().Reset(tieredtest.Subscribers) },
		func(ctx context.Context) { // it has been done, and nobody knows
			h := net().HoldReply(scripts)
			pause(ctx, rand.N(20*time.Millisecond))
			h.Drop()
		},
		func(ctx context.Context) { // it arrives late
			h := net().HoldCommand(scripts)
			pause(ctx, rand.N(20*time.Millisecond))
			h.Release()
		},
		func(ctx context.Context) {
			heal := net().Blackhole([]tieredtest.Direction{tieredtest.Up, tieredtest.Down, tieredtest.Both}[rand.N(3)])
			pause(ctx, rand.N(200*time.Millisecond))
			heal()
		},
		func(ctx context.Context) {
			heal := net().Slow(5*time.Millisecond, 5*time.Millisecond)
			pause(ctx, rand.N(100*time.Millisecond))
			heal()
		},
	}
}

// breakRedis freezes or kills the server.
func breakRedis(t *testing.T, r *tieredtest.Redis) []func(context.Context) {
	return []func(context.Context){
		func(ctx context.Context) {
			r.Stop(t)
			pause(ctx, rand.N(300*time.Millisecond))
			r.Cont(t)
		},
		func(ctx context.Context) {
			r.Kill()
			pause(ctx, rand.N(100*time.Millisecond))
			r.Restart(t)
		},
	}
}

// hasty are the options of stores in a test of outages: Redis is required, so
// that a write that is not known to have happened is an error, and whatever
// fails is tried again soon.
func hasty(l1 int64) []tiered.Option {
	return []tiered.Option{tiered.WithRedisRequired(true), tiered.WithL1(l1), tiered.WithL2Timeout(150 * time.Millisecond),
		tiered.WithBreaker(gobreaker.Settings{Timeout: 30 * time.Millisecond})}
}

// stubborn entries are served past their TTL if they cannot be loaded.
var stubborn = tiered.FailSafe(time.Minute, 2*time.Millisecond)

func ifIllegal(ops []porcupine.Operation) []porcupine.Operation {
	if legal(ops) {
		return nil
	}
	return ops
}

// run plays rounds while the nemesis is at work, and returns how many of the
// histories are not legal as judge sees them, with an example.
func (tr *trial) run(t *testing.T, n nemesis, want int, judge func(*history) []porcupine.Operation) (tried, illegal int, example string) {
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { n(ctx) })
	ops := 0
	for tried < want {
		for _, k := range tr.play(ctx) {
			tried++
			ops += len(k.ops)
			if bad := judge(&k.history); bad != nil {
				if illegal++; example == "" && !tr.mute {
					example = fmt.Sprintf("key %q, whose first illegal operation is\n%sof\n%s", k.key,
						list([]porcupine.Operation{firstIllegal(bad)}), list(bad))
				}
			}
		}
	}
	stop()
	wg.Wait()
	t.Logf("%d histories of %d operations, %d not legal", tried, ops/tried, illegal)
	return tried, illegal, example
}

// arena is what a trial plays in.
type arena struct {
	nodes []*tieredtest.Node
	harm  nemesis
}

// arenas are the ways in which things break.
var arenas = map[string]func(t *testing.T, opts []tiered.Option) arena{
	"all is well": func(t *testing.T, opts []tiered.Option) arena {
		nodes := tieredtest.Nodes(t, 3, tieredtest.StartRedis(t), tieredtest.WithStore(opts...))
		return arena{nodes, func(ctx context.Context) { <-ctx.Done() }}
	},
	"networks break": func(t *testing.T, opts []tiered.Option) arena {
		nodes := tieredtest.Nodes(t, 3, tieredtest.StartRedis(t), tieredtest.WithStore(opts...))
		return arena{nodes, harms(50*time.Millisecond, breakNets(nodes)...)}
	},
	"networks break, and writes wait to go together": func(t *testing.T, opts []tiered.Option) arena {
		nodes := tieredtest.Nodes(t, 3, tieredtest.StartRedis(t), tieredtest.WithStore(append(opts, tiered.Together())...))
		return arena{nodes, harms(50*time.Millisecond, breakNets(nodes)...)}
	},
	"redis is frozen and killed": func(t *testing.T, opts []tiered.Option) arena {
		r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
		nodes := tieredtest.Nodes(t, 3, r, tieredtest.WithStore(opts...))
		return arena{nodes, harms(200*time.Millisecond, breakRedis(t, r)...)}
	},
	"redis comes back empty": func(t *testing.T, opts []tiered.Option) arena {
		r := tieredtest.StartRedis(t)
		nodes := tieredtest.Nodes(t, 3, r, tieredtest.WithStore(opts...))
		return arena{nodes, harms(300*time.Millisecond, breakRedis(t, r)...)}
	},
	"a replica takes over": func(t *testing.T, opts []tiered.Option) arena {
		p := startPair(t, false)
		nodes := tieredtest.Nodes(t, 3, p, tieredtest.WithStore(opts...))
		return arena{nodes, harms(500*time.Millisecond, p.failover)}
	},
}

func (a arena) healed() []*tieredtest.Node {
	for _, n := range a.nodes {
		n.Net.Heal()
	}
	return a.nodes
}

// With memory off, nobody on any node is served what was overwritten, deleted
// or invalidated before he asked, whatever breaks.
func TestWithoutMemoryTheCacheIsLinearizable(t *testing.T) {
	strict := func(h *history) []porcupine.Operation { return ifIllegal(h.strict()) }
	for name, enter := range arenas {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := enter(t, hasty(0))
			tr := &trial{nodes: tieredNodes(t, a.nodes, stubborn), flaky: true, began: time.Now(), ops: 20, keys: 2, rest: 2 * time.Millisecond}
			if _, illegal, example := tr.run(t, a.harm, *histories, strict); illegal > 0 {
				t.Errorf("%d histories are not linearizable, such as that of %s", illegal, example)
			}
			naive := &trial{nodes: naiveNodes(a.healed(), false), began: time.Now(), ops: 20, keys: 2, rest: 2 * time.Millisecond}
			if _, illegal, _ := naive.run(t, a.harm, *histories, strict); illegal == 0 {
				t.Error("the histories of a naive cache-aside are legal: the test has lost its ground")
			}
		})
	}
}

// With memory on, a node sees its own writes at once, and those of others at
// most the bound after they ended: a message's time while the subscription is
// up or is known to be down; the canary's window, and the entries' L1TTL while
// Redis is away, when nothing tells. The bounds here have a second for a busy
// machine.
func TestWithMemoryNothingIsOlderThanTheBound(t *testing.T) {
	const slack = time.Second
	for name, tt := range map[string]struct {
		bound time.Duration
		away  bool // Redis is: then fail-safe takes what memory has as it is, for as long as its own bound
		enter func(t *testing.T, opts []tiered.Option) arena
	}{
		"all is well":                {slack, false, arenas["all is well"]},
		"redis is frozen and killed": {slack + time.Second, true, arenas["redis is frozen and killed"]}, // L1TTL
		"subscriptions break": {slack, false, func(t *testing.T, opts []tiered.Option) arena {
			nodes := tieredtest.Nodes(t, 3, tieredtest.StartRedis(t), tieredtest.WithStore(opts...))
			return arena{nodes, harms(50*time.Millisecond, func(context.Context) {
				nodes[rand.N(len(nodes))].Net.Reset(tieredtest.Subscribers)
			})}
		}},
		"subscriptions are silently dead": {slack + 2500*time.Millisecond, false, func(t *testing.T, opts []tiered.Option) arena {
			nodes := tieredtest.Nodes(t, 3, tieredtest.StartRedis(t), tieredtest.WithStore(opts...))
			return arena{nodes, harms(500*time.Millisecond, func(ctx context.Context) {
				heal := nodes[rand.N(len(nodes))].Net.Blackhole(tieredtest.Down, tieredtest.Subscribers)
				pause(ctx, 4*time.Second)
				heal()
			})}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			judge := func(h *history) []porcupine.Operation {
				for n := range 3 {
					if bad := ifIllegal(h.seenBy(n, tt.bound, tt.away)); bad != nil {
						return bad
					}
				}
				return nil
			}
			a := tt.enter(t, hasty(1<<20))
			// Long histories, for what is not longer than the bound tells nothing.
			wide := func(nodes []subject) *trial {
				return &trial{nodes: nodes, began: time.Now(), ops: 80, keys: 10, rest: time.Duration(tt.bound) / 30}
			}
			tr := wide(tieredNodes(t, a.nodes, tiered.L1TTL(time.Second), stubborn))
			tr.flaky, tr.async = !tt.away, true
			naive := wide(naiveNodes(a.nodes, true))
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, illegal, _ := naive.run(t, func(context.Context) {}, naive.keys, judge); illegal == 0 {
					t.Error("the histories of a naive two-tier cache are within the bound: the test has lost its ground")
				}
			})
			if _, illegal, example := tr.run(t, a.harm, max(*histories/3, tr.keys), judge); illegal > 0 {
				t.Errorf("%d histories have what is older than %v, such as that of %s", illegal, tt.bound, example)
			}
			wg.Wait()
		})
	}
}
