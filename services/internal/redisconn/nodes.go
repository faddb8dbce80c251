package redisconn

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// nodesInterval is at most between looks at the nodes of a group or a Cluster.
const nodesInterval = 5 * time.Second

// The roles of nodes.
const (
	roleMaster   = "master"
	roleReplica  = "replica"
	roleSentinel = "sentinel"
)

// The statuses of nodes and of Redis as a whole.
const (
	healthy   = "healthy"
	degraded  = "degraded"
	unhealthy = "unhealthy"
)

// What the other nodes say of one that answers.
const (
	causeBehind Cause = "not in step with its master"
	causeFailed Cause = "the other nodes call it failed"
)

// ReportNode is how one node of a Sentinel group or a Cluster is. A replica or
// a Sentinel that is not healthy makes Redis degraded; a master that is
// unhealthy makes Redis unhealthy, for its keys cannot be used.
type ReportNode struct {
	// Name is, in full, the id that CLUSTER NODES shows, or the run id that
	// SENTINEL MASTER and SENTINEL REPLICAS show; a Sentinel is "sentinel-1" for
	// the first in REDIS_URL. Addresses are in the log.
	Name   string   `json:"name"`
	Role   string   `json:"role"`   // master, replica or sentinel
	Status string   `json:"status"` // healthy, degraded or unhealthy
	Ping   bool     `json:"ping"`
	PingMs *float64 `json:"ping_ms,omitempty"` // absent if there was no answer
	Error  string   `json:"error,omitempty"`

	addr string
}

// nodeLook is the look-out at nodes one by one. It is used by one goroutine.
type nodeLook struct {
	c       *Conn
	cluster redis.UniversalClient    // tells the nodes of a Cluster
	clients map[string]*redis.Client // by address
	known   []ReportNode             // as they were last told, for when nobody tells
}

// lookAtNodes keeps the nodes' status true until ctx ends. It has a goroutine
// of its own: a node that hangs must not delay the look at Redis as a whole.
func (c *Conn) lookAtNodes(ctx context.Context) {
	l := &nodeLook{c: c, clients: map[string]*redis.Client{}}
	defer l.close()
	tick := time.NewTicker(max(min(nodesInterval, c.cfg.HealthInterval), backoffBase))
	defer tick.Stop()
	for {
		nodes := l.look(ctx)
		if ctx.Err() != nil {
			return
		}
		c.noteNodes(ctx, nodes)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// noteNodes keeps what was seen and logs what has changed.
func (c *Conn) noteNodes(ctx context.Context, nodes []ReportNode) {
	c.mu.Lock()
	was := c.nodes
	c.nodes = nodes
	c.mu.Unlock()
	for _, n := range nodes {
		i := slices.IndexFunc(was, func(w ReportNode) bool { return w.addr == n.addr })
		if before := i < 0 || was[i].Status == healthy; before == (n.Status == healthy) {
			continue
		}
		level := slog.LevelInfo
		if n.Status != healthy {
			level = slog.LevelWarn
		}
		c.log.LogAttrs(ctx, level, "redis node has changed", slog.String("status", n.Status), slog.String("node", n.Name), slog.String("role", n.Role),
			slog.String("addr", n.addr), slog.String("cause", n.Error))
	}
}

// look asks all nodes at once, each for no longer than a look at Redis takes.
func (l *nodeLook) look(ctx context.Context) []ReportNode {
	var sentinels []ReportNode
	switch l.c.cfg.Mode {
	case Sentinel:
		sentinels = l.lookAtSentinels(ctx)
	case Cluster:
		l.askCluster(ctx)
	case Single:
	}
	nodes := slices.Clone(l.known)
	var all sync.WaitGroup
	for i := range nodes {
		n, client := &nodes[i], l.client(nodes[i].addr)
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, l.c.patience())
			defer cancel()
			took, err := timed(func() error { return client.Ping(ctx).Err() })
			n.answered(took, err)
		})
	}
	all.Wait()
	for addr, client := range l.clients {
		// One that failed remembers that for a while; one of a node that has
		// left is of no use.
		if !slices.ContainsFunc(nodes, func(n ReportNode) bool { return n.addr == addr && n.Ping }) {
			_ = client.Close()
			delete(l.clients, addr)
		}
	}
	nodes = append(nodes, sentinels...)
	slices.SortStableFunc(nodes, func(a, b ReportNode) int {
		return cmp.Or(cmp.Compare(a.Role, b.Role), cmp.Compare(a.Name, b.Name))
	})
	return nodes
}

// patience is how long one question in the background may take.
func (c *Conn) patience() time.Duration { return c.cfg.ConnectTimeout + c.cfg.CommandTimeout }

// answered takes the result of a PING. What the others say of the node, which
// is there already, counts only if it answers.
func (n *ReportNode) answered(took time.Duration, err error) {
	switch n.Ping = err == nil; {
	case err != nil:
		n.Status, n.Error = unhealthy, string(CauseOf(err))
		return
	case n.Error == string(causeFailed):
		n.Status = unhealthy
	case n.Error != "", took > slowPing:
		n.Status = degraded
	default:
		n.Status = healthy
	}
	n.PingMs = new(milliseconds(took))
}

func (l *nodeLook) client(addr string) *redis.Client {
	client := l.clients[addr]
	if client == nil {
		o := l.c.cfg.options(l.c.name, 0, 1).Simple()
		o.Addr, o.DB, o.MaxRetries = addr, 0, -1
		client = redis.NewClient(o)
		l.clients[addr] = client
	}
	return client
}

// lookAtSentinels asks each Sentinel, and the first that knows the group for
// the servers in it.
func (l *nodeLook) lookAtSentinels(ctx context.Context) []ReportNode {
	cfg := l.c.cfg
	sentinels := make([]ReportNode, len(cfg.Addrs))
	told := make([][]ReportNode, len(cfg.Addrs))
	var all sync.WaitGroup
	for i, addr := range cfg.Addrs {
		sentinels[i] = ReportNode{Name: fmt.Sprintf("sentinel-%d", i+1), Role: roleSentinel, addr: addr}
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, l.c.patience())
			defer cancel()
			client := cfg.Sentinel(addr)
			defer func() { _ = client.Close() }()
			took, err := timed(func() error { return client.Ping(ctx).Err() })
			sentinels[i].answered(took, err)
			if err == nil {
				told[i] = group(ctx, client, cfg.MasterName)
			}
		})
	}
	all.Wait()
	for _, servers := range told {
		if servers != nil {
			l.known = servers
			break
		}
	}
	return sentinels
}

// group is what a Sentinel says of the servers of a group; nil if it does not
// know.
func group(ctx context.Context, client *redis.SentinelClient, name string) []ReportNode {
	master, err := client.Master(ctx, name).Result()
	if err != nil {
		return nil
	}
	replicas, err := client.Replicas(ctx, name).Result()
	if err != nil {
		return nil
	}
	server := func(m map[string]string, role string) ReportNode {
		addr := net.JoinHostPort(m["ip"], m["port"])
		// One that the Sentinel has never reached has no run id yet.
		return ReportNode{Name: cmp.Or(m["runid"], "unknown"), Role: role, addr: addr}
	}
	nodes := []ReportNode{server(master, roleMaster)}
	for _, m := range replicas {
		n := server(m, roleReplica)
		if m["master-link-status"] == "err" {
			n.Error = string(causeBehind)
		}
		nodes = append(nodes, n)
	}
	return nodes
}

// askCluster learns the nodes of a Cluster. While nobody tells, they are those
// of before.
func (l *nodeLook) askCluster(ctx context.Context) {
	if l.cluster == nil {
		l.cluster = l.c.cfg.Client(l.c.name, l.c.cfg.CommandTimeout)
	}
	ctx, cancel := context.WithTimeout(ctx, 2*l.c.patience())
	defer cancel()
	shards, err := l.cluster.(*redis.ClusterClient).ClusterShards(ctx).Result()
	if err != nil {
		l.c.log.DebugContext(ctx, "redis nodes cannot be told", "error", err)
		return
	}
	var nodes []ReportNode
	for _, shard := range shards {
		for _, one := range shard.Nodes {
			n := ReportNode{Name: one.ID, Role: roleReplica, addr: l.address(one)}
			if one.Role == roleMaster {
				n.Role = roleMaster
				if len(shard.Slots) == 0 {
					n.Role = roleReplica // nothing is lost without it: one that was replaced, or is new
				}
			}
			switch one.Health {
			case "fail", "failed":
				n.Error = string(causeFailed)
			case "loading":
				n.Error = string(CauseLoading)
			}
			nodes = append(nodes, n)
		}
	}
	if len(nodes) > 0 {
		l.known = nodes
	}
}

func (l *nodeLook) address(n redis.Node) string {
	port := n.Port
	if l.c.cfg.TLS != nil && n.TLSPort != 0 {
		port = n.TLSPort
	}
	host := n.Endpoint
	if host == "" || host == "?" {
		host = n.IP
	}
	return net.JoinHostPort(host, strconv.FormatInt(port, 10))
}

func (l *nodeLook) close() {
	for _, client := range l.clients {
		_ = client.Close() // nobody needs it any more
	}
	if l.cluster != nil {
		_ = l.cluster.Close()
	}
}

// worst is what the nodes make of Redis, and why.
func worst(nodes []ReportNode) (status string, cause string) {
	status = healthy
	for _, n := range nodes {
		switch {
		case n.Status == unhealthy && n.Role == roleMaster:
			return unhealthy, n.Role + " " + n.Name + ": " + n.Error
		case n.Status != healthy && status == healthy:
			status, cause = degraded, n.Role+" "+n.Name+": "+cmp.Or(n.Error, "slow")
		}
	}
	return status, cause
}
