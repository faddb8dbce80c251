package bench

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// redises are the servers of one Redis, or of a Cluster.
type redises struct {
	cmds  []*exec.Cmd
	addrs []string
}

// startRedis starts a server; or, with masters above 1, a Cluster of so many.
func (r *run) startRedis(ctx context.Context, masters int) (*redises, error) {
	s := &redises{}
	for range masters {
		if err := s.add(ctx, r, masters > 1); err != nil {
			s.stop()
			return nil, err
		}
	}
	if masters == 1 {
		return s, nil
	}
	if err := s.join(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

func (s *redises) add(ctx context.Context, r *run, cluster bool) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	port := l.Addr().(*net.TCPAddr).Port % 50_000 // the bus of a Cluster listens 10,000 above
	_ = l.Close()
	r.n++
	dir := fmt.Sprintf("%s/redis-%d", r.dir, r.n)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	args := []string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--appendonly", "no"}
	if cluster {
		args = append(args, "--cluster-enabled", "yes")
	}
	cmd := exec.Command("redis-server", args...) // our own arguments; stop ends it
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start redis-server: %w", err)
	}
	addr := "127.0.0.1:" + strconv.Itoa(port)
	s.cmds, s.addrs = append(s.cmds, cmd), append(s.addrs, addr)
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer func() { _ = c.Close() }()
	return eventually(ctx, "redis-server answers", func() bool { return c.Ping(ctx).Err() == nil })
}

// join makes a Cluster of the servers.
func (s *redises) join(ctx context.Context) error {
	clients := make([]*redis.Client, len(s.addrs))
	for i, a := range s.addrs {
		clients[i] = redis.NewClient(&redis.Options{Addr: a})
		defer func() { _ = clients[i].Close() }()
	}
	const slots = 16384
	for i, c := range clients {
		from, to := slots*i/len(clients), slots*(i+1)/len(clients)-1
		host, port, _ := strings.Cut(s.addrs[0], ":")
		if err := c.ClusterAddSlotsRange(ctx, from, to).Err(); err != nil {
			return fmt.Errorf("give slots: %w", err)
		}
		if err := c.ClusterMeet(ctx, host, port).Err(); err != nil {
			return fmt.Errorf("join a cluster: %w", err)
		}
	}
	return eventually(ctx, "the cluster is whole", func() bool {
		for _, c := range clients {
			info, _ := c.ClusterInfo(ctx).Result()
			if !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(clients))) {
				return false
			}
		}
		return true
	})
}

func (s *redises) stop() {
	for _, cmd := range s.cmds {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}

// flags are those of a process that uses this Redis.
func (s *redises) flags(database string) storeFlags {
	return storeFlags{database: database, redis: strings.Join(s.addrs, ","), cluster: len(s.addrs) > 1}
}

func eventually(ctx context.Context, what string, ok func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for !ok() {
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("waited in vain until %s: %w", what, err)
		}
	}
	return nil
}

// site is nodes of Crewbeat on one Redis, with who publishes.
type site struct {
	redis     *redises
	flags     storeFlags
	publisher *child
	nodes     []*child
	tokens    []string
}

// openSite starts nodes, and signs people in.
func (r *run) openSite(ctx context.Context, masters, nodes, people int, change func(*storeFlags)) (s *site, err error) {
	s = &site{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.redis, err = r.startRedis(ctx, masters); err != nil {
		return nil, err
	}
	s.flags = s.redis.flags(r.database())
	if change != nil {
		change(&s.flags)
	}
	if s.publisher, err = start("publisher", s.flags.args()...); err != nil {
		return nil, err
	}
	answer, err := s.publisher.ask("people", people)
	if err != nil {
		return nil, err
	}
	s.tokens = strings.Fields(answer)
	for range nodes {
		n, err := start("crewbeat", s.flags.args()...)
		if err != nil {
			return nil, err
		}
		s.nodes = append(s.nodes, n)
	}
	return s, nil
}

func (s *site) close() {
	for _, n := range s.nodes {
		n.stop()
	}
	if s.publisher != nil {
		s.publisher.stop()
	}
	if s.redis != nil {
		s.redis.stop()
	}
}
