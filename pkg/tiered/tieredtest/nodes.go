package tieredtest

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/redis/go-redis/v9"
)

// Server is what nodes can share: a [Redis], a [Sentinel], a [Cluster], or
// anything else that makes clients which dial as they are told.
type Server interface {
	Connect(t testing.TB, dial DialFunc) redis.UniversalClient
}

// DialFunc opens a connection, as [net.Dialer.DialContext] does.
type DialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// Connect returns a client that is closed with the test. Its timeouts are
// generous: what bounds a call is the store's WithL2Timeout. A nil dial is the
// client's own.
func (r *Redis) Connect(t testing.TB, dial DialFunc) redis.UniversalClient {
	return closing(t, redis.NewClient(r.patient(dial)))
}

// Node is one process of several that share a Redis, as far as the cache can
// tell: a store with a client, a network and a memory of its own.
type Node struct {
	*tiered.Store
	Net    *Proxy                // between Client and the server; nil without one
	Client redis.UniversalClient // what the store uses; nil without a server
	Clock  *Clock                // nil unless WithClocks is given
}

// NodeOption configures Nodes.
type NodeOption func(*nodeConfig)

type nodeConfig struct {
	store  []tiered.Option
	clocks bool
}

// WithStore adds options of the stores. By default they have a prefix that
// no other test has, and an L2 timeout of 3 s.
func WithStore(opts ...tiered.Option) NodeOption {
	return func(o *nodeConfig) { o.store = append(o.store, opts...) }
}

// WithClocks gives each node a clock that moves by hand. All start at the
// same time.
func WithClocks() NodeOption { return func(o *nodeConfig) { o.clocks = true } }

// Nodes opens n stores that share server, each with its own way to it, so that
// the network of each can be broken by itself. A nil server makes nodes that
// have only memory and know nothing of each other. They are closed with the
// test, after their networks have been healed.
func Nodes(t testing.TB, n int, server Server, opts ...NodeOption) []*Node {
	t.Helper()
	var o nodeConfig
	for _, opt := range opts {
		opt(&o)
	}
	defaults := []tiered.Option{tiered.WithPrefix("t" + rand.Text()), tiered.WithL2Timeout(3 * time.Second)}
	start := time.Now()
	nodes := make([]*Node, n)
	for i := range nodes {
		node := &Node{}
		all := slices.Clone(defaults)
		if server != nil {
			node.Net = StartNetwork(t)
			node.Client = server.Connect(t, node.Net.DialContext)
			all = append(all, tiered.WithRedis(node.Client))
		}
		if o.clocks {
			node.Clock = NewClock(start)
			all = append(all, tiered.WithClock(node.Clock))
		}
		s, err := open(t, append(all, o.store...))
		if err != nil {
			t.Fatalf("open node %d: %v", i, err)
		}
		node.Store = s
		t.Cleanup(func() {
			if node.Net != nil {
				node.Net.Heal()
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if err := s.Close(ctx); err != nil {
				t.Errorf("close node %d: %v", i, err)
			}
		})
		nodes[i] = node
	}
	return nodes
}

// Caches makes the cache of a namespace on each node.
func Caches[K tiered.Key, V any](t testing.TB, nodes []*Node, namespace string, opts ...tiered.CacheOption) []*tiered.Cache[K, V] {
	t.Helper()
	caches := make([]*tiered.Cache[K, V], len(nodes))
	for i, n := range nodes {
		c, err := tiered.New[K, V](n.Store, namespace, opts...)
		if err != nil {
			t.Fatalf("make cache on node %d: %v", i, err)
		}
		caches[i] = c
	}
	return caches
}

// open opens a store whose server is there. One that requires it may be given
// less time than a busy machine takes to answer, so it is tried for ten seconds.
func open(t testing.TB, opts []tiered.Option) (*tiered.Store, error) {
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		s, err := tiered.Open(t.Context(), opts...)
		if err == nil || !errors.Is(err, tiered.ErrUnavailable) {
			return s, err
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return nil, err
		}
	}
}
