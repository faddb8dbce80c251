package tieredtest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"
)

// Cluster is a Redis Cluster of processes on this machine. It ends with the test.
type Cluster struct {
	nodes []*Redis
	ids   map[*Redis]string
}

const slots = 16384

// StartCluster starts a cluster of masters, at least three, which share the
// slots evenly, each with so many replicas, and waits until all say that it is
// well. The options are every node's. It fails the test if that takes more
// than a minute.
//
// A node that does not answer for 3 s is taken for dead; give
// WithArgs("--cluster-node-timeout", "…") for another time, in milliseconds.
func StartCluster(t testing.TB, masters, replicas int, opts ...RedisOption) *Cluster {
	t.Helper()
	if masters < 3 || replicas < 0 {
		t.Fatalf("start cluster: %d masters with %d replicas: want at least 3 with 0", masters, replicas)
	}
	member := func(r *Redis) {
		r.bus = true
		r.args = append([]string{
			"--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-announce-ip", "127.0.0.1",
			"--cluster-node-timeout", "3000", "--repl-diskless-sync-delay", "0",
		}, r.args...)
	}
	c := &Cluster{nodes: make([]*Redis, masters*(1+replicas)), ids: make(map[*Redis]string)}
	opts = append(slices.Clip(opts), member)
	var wg sync.WaitGroup
	errs := make([]error, len(c.nodes))
	dirs := make([]string, len(c.nodes))
	for i := range c.nodes {
		dirs[i] = t.TempDir()
	}
	for i := range c.nodes {
		wg.Go(func() { c.nodes[i], errs[i] = LaunchRedis(dirs[i], opts...) })
	}
	wg.Wait()
	t.Cleanup(func() {
		for _, r := range c.nodes {
			if r != nil {
				r.Close()
			}
		}
	})
	for _, err := range errs {
		must(t, "start cluster", err)
	}
	c.join(t, masters)
	return c
}

// join makes the nodes one cluster: the first ones masters, the others their
// replicas in turn.
func (c *Cluster) join(t testing.TB, masters int) {
	t.Helper()
	ctx := t.Context()
	for i, r := range c.nodes {
		cl := r.Client(t)
		id, err := cl.ClusterMyID(ctx).Result()
		must(t, "ask for the node's id", err)
		c.ids[r] = id
		must(t, "set epoch", cl.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err())
		if i < masters {
			must(t, "add slots", cl.ClusterAddSlotsRange(ctx, i*slots/masters, (i+1)*slots/masters-1).Err())
		}
		if i > 0 {
			must(t, "meet", cl.ClusterMeet(ctx, "127.0.0.1", strconv.Itoa(c.nodes[0].port)).Err())
		}
	}
	c.await(t, "the nodes know each other", func(ctx context.Context) bool {
		for _, r := range c.nodes {
			if nodes := r.clusterNodes(ctx); len(nodes) != len(c.nodes) || slices.ContainsFunc(nodes, func(n clusterNode) bool {
				return n.has("handshake") || n.has("noaddr")
			}) {
				return false
			}
		}
		return true
	})
	for i, r := range c.nodes[masters:] {
		must(t, "replicate", r.Client(t).ClusterReplicate(ctx, c.ids[c.nodes[i%masters]]).Err())
	}
	c.AwaitOK(t)
}

// Nodes returns the nodes, first those that were masters at the start.
func (c *Cluster) Nodes() []*Redis { return slices.Clone(c.nodes) }

// Addrs returns the addresses of the nodes.
func (c *Cluster) Addrs() []string {
	addrs := make([]string, len(c.nodes))
	for i, r := range c.nodes {
		addrs[i] = r.Addr()
	}
	return addrs
}

// Options returns client options with the short timeouts a cache wants. A call
// follows up to three redirections.
func (c *Cluster) Options() *redis.ClusterOptions { return c.options(c.nodes[0].Options()) }

// options are those of a node for all.
func (c *Cluster) options(o *redis.Options) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:                 c.Addrs(),
		MaxRedirects:          3,
		Password:              o.Password,
		TLSConfig:             o.TLSConfig,
		DialTimeout:           o.DialTimeout,
		ReadTimeout:           o.ReadTimeout,
		WriteTimeout:          o.WriteTimeout,
		MaxRetries:            o.MaxRetries,
		DialerRetries:         o.DialerRetries,
		Dialer:                o.Dialer,
		ContextTimeoutEnabled: true,
	}
}

// Client returns a client of the cluster with generous timeouts that is closed
// with the test.
func (c *Cluster) Client(t testing.TB) *redis.ClusterClient {
	return closing(t, redis.NewClusterClient(c.options(c.nodes[0].patient(nil))))
}

// Connect makes a Cluster a [Server]: nodes can share it.
func (c *Cluster) Connect(t testing.TB, dial DialFunc) redis.UniversalClient {
	return closing(t, redis.NewClusterClient(c.options(c.nodes[0].patient(dial))))
}

// Slot is the slot of a key.
func (c *Cluster) Slot(t testing.TB, key string) int {
	t.Helper()
	n, err := c.live(t).Client(t).ClusterKeySlot(t.Context(), key).Result()
	must(t, "ask for a key's slot", err)
	return int(n)
}

// Owner is the master that serves a slot.
func (c *Cluster) Owner(t testing.TB, slot int) *Redis {
	t.Helper()
	var owner *Redis
	c.await(t, fmt.Sprintf("slot %d is served", slot), func(ctx context.Context) bool {
		owner = c.owner(ctx, slot)
		return owner != nil
	})
	return owner
}

// owner asks every node that runs; an owner must know that it is.
func (c *Cluster) owner(ctx context.Context, slot int) *Redis {
	for _, r := range c.nodes {
		for _, n := range r.clusterNodes(ctx) {
			if n.has("myself") && n.has("master") && n.serves(slot) {
				return r
			}
		}
	}
	return nil
}

// Replica is a node that replicates master and runs; nil if there is none.
func (c *Cluster) Replica(t testing.TB, master *Redis) *Redis {
	t.Helper()
	for _, r := range c.nodes {
		for _, n := range r.clusterNodes(t.Context()) {
			if n.has("myself") && n.master == c.ids[master] {
				return r
			}
		}
	}
	return nil
}

// MoveSlot moves a slot with its keys to another master. While the slot is in
// motion, with its old owner migrating and its new one importing it but no key
// moved yet, it calls during, which may be nil: clients are then redirected by
// ASK for what is not there, and by MOVED when MoveSlot has returned.
func (c *Cluster) MoveSlot(t testing.TB, slot int, to *Redis, during func()) {
	t.Helper()
	ctx := t.Context()
	from := c.Owner(t, slot)
	if from == to {
		t.Fatalf("move slot %d: it is at %s already", slot, to.Addr())
	}
	src, dst := from.Client(t), to.Client(t)
	must(t, "import slot", dst.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ids[from]).Err())
	must(t, "migrate slot", src.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ids[to]).Err())
	if during != nil {
		during()
	}
	for {
		keys, err := src.ClusterGetKeysInSlot(ctx, slot, 100).Result()
		must(t, "list the slot's keys", err)
		if len(keys) == 0 {
			break
		}
		args := []any{"MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "REPLACE"}
		if to.admin != "" {
			args = append(args, "AUTH", to.admin)
		}
		args = append(args, "KEYS")
		for _, k := range keys {
			args = append(args, k)
		}
		must(t, "migrate keys", src.Do(ctx, args...).Err())
	}
	must(t, "give the slot", dst.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to]).Err())
	for _, r := range c.nodes {
		if r != to && r.role(ctx) == "master" {
			must(t, "tell of the slot", r.Client(t).Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", c.ids[to]).Err())
		}
	}
}

// Failover makes a replica of master, which is well, the master in its place,
// without losing a write, and returns it.
func (c *Cluster) Failover(t testing.TB, master *Redis) *Redis {
	t.Helper()
	r := c.Replica(t, master)
	if r == nil {
		t.Fatalf("fail %s over: it has no replica", master.Addr())
	}
	must(t, "fail over", r.Client(t).ClusterFailover(t.Context()).Err())
	c.await(t, "the replica is a master", func(ctx context.Context) bool { return r.role(ctx) == "master" })
	c.AwaitOK(t)
	return r
}

// AwaitOK waits until all nodes that run agree that every slot is served, by a
// node that runs, and that replicas follow their masters.
func (c *Cluster) AwaitOK(t testing.TB) {
	t.Helper()
	c.await(t, "the cluster is well", func(ctx context.Context) bool {
		// What each node that runs says of itself: all others must say it too.
		self := make(map[string]clusterNode)
		for _, r := range c.nodes {
			for _, n := range r.clusterNodes(ctx) {
				if n.has("myself") {
					self[n.id] = n
				}
			}
		}
		for _, r := range c.nodes {
			if r.running() && !r.well(ctx, self) {
				return false
			}
		}
		return true
	})
}

// well reports whether r agrees with what the nodes that run say of themselves,
// and has a connection to its master if it has one.
func (r *Redis) well(ctx context.Context, self map[string]clusterNode) bool {
	cl := redis.NewClient(r.Options())
	defer func() { _ = cl.Close() }()
	text, err := cl.ClusterInfo(ctx).Result()
	if err != nil || fields(text)["cluster_state"] != "ok" {
		return false
	}
	served := 0
	for _, n := range r.clusterNodes(ctx) {
		s, runs := self[n.id]
		if !runs {
			continue
		}
		if n.master != s.master || !slices.Equal(n.slots, s.slots) || n.has("fail") || n.has("fail?") {
			return false
		}
		for _, s := range n.slots {
			served += s[1] - s[0] + 1
		}
	}
	if served != slots {
		return false
	}
	role := r.replication(ctx)
	return role["role"] == "master" || role["master_link_status"] == "up"
}

func (c *Cluster) live(t testing.TB) *Redis {
	t.Helper()
	i := slices.IndexFunc(c.nodes, (*Redis).running)
	if i < 0 {
		t.Fatal("no node of the cluster runs")
	}
	return c.nodes[i]
}

func (c *Cluster) await(t testing.TB, what string, ok func(context.Context) bool) {
	t.Helper()
	await(t, what, ok, func() {
		for _, r := range c.nodes {
			t.Logf("%s:\n%s", r.Addr(), r.log.String())
		}
	})
}

func (r *Redis) role(ctx context.Context) string { return r.replication(ctx)["role"] }

// clusterNode is a line of CLUSTER NODES:
// id ip:port@bus flags master ping pong epoch link slot….
type clusterNode struct {
	id, flags, master string
	slots             [][2]int // first and last
}

func (n clusterNode) has(flag string) bool { return slices.Contains(strings.Split(n.flags, ","), flag) }

func (n clusterNode) serves(slot int) bool {
	return slices.ContainsFunc(n.slots, func(s [2]int) bool { return s[0] <= slot && slot <= s[1] })
}

// clusterNodes returns what r knows of the cluster; nothing if it does not answer.
func (r *Redis) clusterNodes(ctx context.Context) (nodes []clusterNode) {
	if !r.running() {
		return nil
	}
	cl := redis.NewClient(r.Options())
	defer func() { _ = cl.Close() }()
	text, err := cl.ClusterNodes(ctx).Result()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 8 {
			continue
		}
		n := clusterNode{id: f[0], flags: f[2], master: f[3]}
		for _, s := range f[8:] {
			first, last, isRange := strings.Cut(s, "-")
			if !isRange {
				last = first
			}
			a, errA := strconv.Atoi(first)
			b, errB := strconv.Atoi(last)
			if errA == nil && errB == nil { // not "[slot->-id]", one in motion
				n.slots = append(n.slots, [2]int{a, b})
			}
		}
		nodes = append(nodes, n)
	}
	return nodes
}
