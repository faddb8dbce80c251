package tiered_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// pair is a Redis and its replica, of which clients find the master by
// themselves. What a client writes is acknowledged when both have it; or, if
// the pair loses writes, at once, and what the master acknowledged last before
// a failover is lost.
type pair struct {
	t      *testing.T
	loses  bool
	links  map[*tieredtest.Redis]*tieredtest.Proxy // by which a replica hears of this one
	mu     sync.Mutex                              // guards master
	master *tieredtest.Redis
	other  *tieredtest.Redis // nemesis only
}

func startPair(t *testing.T, loses bool) *pair {
	soon := tieredtest.WithArgs("--repl-diskless-sync-delay", "0")
	p := &pair{t: t, loses: loses, master: tieredtest.StartRedis(t, soon), other: tieredtest.StartRedis(t, soon)}
	p.links = map[*tieredtest.Redis]*tieredtest.Proxy{
		p.master: tieredtest.StartProxy(t, p.master.Addr()), p.other: tieredtest.StartProxy(t, p.other.Addr()),
	}
	p.follow(t.Context())
	return p
}

// ask is a client of the other one, whose timeouts are no cache's: on a busy
// machine a replica that is being promoted may take a second to say so.
func (p *pair) ask() *redis.Client {
	o := p.other.Options()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 10*time.Second, 10*time.Second, 10*time.Second
	return redis.NewClient(o)
}

// follow makes the other one the master's replica and waits until it is.
func (p *pair) follow(ctx context.Context) {
	host, port, err := net.SplitHostPort(p.links[p.master].Addr())
	must(p.t, err)
	c := p.ask()
	defer c.Close()
	if err := c.ReplicaOf(ctx, host, port).Err(); err != nil && ctx.Err() == nil {
		p.t.Errorf("follow: %v", err)
	}
	for pause(ctx, 5*time.Millisecond) {
		info, err := c.Info(ctx, "replication").Result()
		if err == nil && strings.Contains(info, "master_link_status:up") {
			return
		}
	}
}

// failover kills the master, which then becomes the replica of the other.
func (p *pair) failover(ctx context.Context) {
	link := p.links[p.master]
	if p.loses {
		link.Inject(tieredtest.Down, tieredtest.Fault{Freeze: true})
		pause(ctx, rand.N(200*time.Millisecond))
	}
	p.master.Kill()
	pause(ctx, rand.N(50*time.Millisecond))
	c := p.ask()
	defer c.Close()
	if err := c.ReplicaOf(context.WithoutCancel(ctx), "NO", "ONE").Err(); err != nil {
		p.t.Errorf("promote: %v", err)
	}
	link.Heal()
	p.mu.Lock()
	p.master, p.other = p.other, p.master
	p.mu.Unlock()
	p.other.Restart(p.t)
	p.follow(ctx)
}

func (p *pair) Connect(t testing.TB, dial tieredtest.DialFunc) redis.UniversalClient {
	t.Helper()
	c := p.master.Connect(t, func(ctx context.Context, network, _ string) (net.Conn, error) {
		p.mu.Lock()
		addr := p.master.Addr()
		p.mu.Unlock()
		return dial(ctx, network, addr)
	}).(*redis.Client)
	if !p.loses {
		c.AddHook(replicated{c})
	}
	return c
}

// replicated makes a script fail, as one whose outcome is not known, unless the
// replica has what it wrote.
type replicated struct{ c *redis.Client }

var errNotReplicated = errors.New("the replica does not have it")

func (replicated) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h replicated) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if name := cmd.Name(); name != "evalsha" && name != "eval" {
			return next(ctx, cmd)
		}
		p := h.c.Pipeline() // WAIT is about its own connection
		_ = p.Process(ctx, cmd)
		_, _ = p.Exec(ctx)
		return cmd.Err()
	}
}

func (replicated) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		wait := redis.NewIntCmd(ctx, "WAIT", 1, 100)
		err := next(ctx, append(slices.Clone(cmds), wait))
		if n, werr := wait.Result(); err == nil && (werr != nil || n < 1) {
			err = errNotReplicated
			for _, cmd := range cmds {
				if cmd.Err() == nil {
					cmd.SetErr(err)
				}
			}
		}
		return err
	}
}

// A failover that loses what the master acknowledged last: nobody is served what
// was overwritten for longer than it takes to notice and to repeat it, and no
// Update finds it. The bound is what was lost before the master died (200 ms
// here), until another is there (50 ms), a beat, and a second for a busy machine;
// with memory, also the L1TTL, which is what tells while there is no master. With
// memory half of the Sets and Deletes are Async, so that the master also dies
// with what is on its way to it.
func TestAFailoverThatLosesWritesIsWithinItsBound(t *testing.T) {
	const bound = 250*time.Millisecond + time.Second + time.Second
	for name, tt := range map[string]struct {
		memory int64
		bound  time.Duration
		opts   []tiered.EntryOption
		views  func(h *history, bound time.Duration) [][]porcupine.Operation // each must be legal
	}{
		"without memory": {0, bound, []tiered.EntryOption{stubborn}, func(h *history, bound time.Duration) [][]porcupine.Operation {
			return [][]porcupine.Operation{h.lossy(bound)}
		}},
		"with memory and queued writes": {1 << 20, bound + time.Second, []tiered.EntryOption{stubborn, tiered.L1TTL(time.Second)},
			func(h *history, bound time.Duration) [][]porcupine.Operation {
				return [][]porcupine.Operation{h.lossyFor(0, bound), h.lossyFor(1, bound), h.lossyFor(2, bound)}
			}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startPair(t, true)
			nodes := tieredtest.Nodes(t, 3, p, tieredtest.WithStore(hasty(tt.memory)...))
			wide := func(nodes []subject) *trial {
				return &trial{nodes: nodes, began: time.Now(), ops: 80, keys: 10, rest: tt.bound / 20}
			}
			strict := 0
			judge := func(h *history) []porcupine.Operation {
				if porcupine.CheckOperationsTimeout(cacheModel, h.strict(), 2*time.Second) == porcupine.Illegal {
					strict++ // for the log
				}
				for _, ops := range tt.views(h, tt.bound) {
					if bad := ifIllegal(ops); bad != nil {
						return bad
					}
				}
				return nil
			}
			var wg sync.WaitGroup
			defer wg.Wait()
			naive := wide(naiveNodes(nodes, true))
			wg.Go(func() {
				naive.mute = true
				late := func(h *history) []porcupine.Operation {
					for _, ops := range tt.views(h, tt.bound) {
						if porcupine.CheckOperationsTimeout(cacheModel, ops, 2*time.Second) == porcupine.Illegal {
							return ops
						}
					}
					return nil // or not known in time: it takes one that is proven
				}
				for range 12 { // about half of the runs have one
					if _, illegal, _ := naive.run(t, func(context.Context) {}, naive.keys, late); illegal > 0 {
						return
					}
				}
				t.Error("the histories of a naive two-tier cache are within the bound: the test has lost its ground")
			})
			tr := wide(tieredNodes(t, nodes, tt.opts...))
			tr.async = tt.memory > 0
			if _, illegal, example := tr.run(t, harms(500*time.Millisecond, p.failover), max(*histories/3, tr.keys), judge); illegal > 0 {
				t.Errorf("%d histories have what is older than %v, such as that of %s", illegal, tt.bound, example)
			}
			failovers, replayed := uint64(0), uint64(0)
			for _, n := range nodes {
				failovers += n.Health().Failovers
				replayed += n.Stats().Replayed
			}
			t.Logf("%d failovers were noticed by three nodes, %d writes repeated; %d histories are not legal without the bound", failovers, replayed, strict)
			if failovers == 0 || replayed == 0 {
				t.Error("nothing was lost: the test has lost its ground")
			}
		})
	}
}
