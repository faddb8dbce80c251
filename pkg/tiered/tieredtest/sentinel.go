package tieredtest

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Sentinel is a master with replicas and three Sentinels that watch it, each a
// process of its own on a loopback port of its own. They end with the test.
type Sentinel struct {
	data      []*Redis
	sentinels []*Redis
}

// The Sentinels call a master down after a second without an answer.
const (
	masterName = "tieredtest"
	downAfter  = time.Second
	sentinels  = 3
	quorum     = 2
)

// StartSentinel starts a master, replicas that have synchronised with it, and
// three Sentinels that know all of them and each other. The options are those
// of the master and the replicas; TLS is also the Sentinels'. It fails the test
// if that takes more than a minute.
func StartSentinel(t testing.TB, replicas int, opts ...RedisOption) *Sentinel {
	t.Helper()
	if replicas < 1 {
		t.Fatalf("start sentinel: %d replicas: want at least 1, or nobody can take over", replicas)
	}
	s := &Sentinel{}
	master := StartRedis(t, opts...)
	s.data = append(s.data, master)
	for range replicas {
		// Soon, for a test: a replica else waits 5 s for others to share a transfer.
		follow := WithArgs("--replicaof", "127.0.0.1", fmt.Sprint(master.port), "--repl-timeout", "5")
		s.data = append(s.data, StartRedis(t, append(slices.Clip(opts), follow)...))
	}
	for _, r := range s.data {
		must(t, "set repl-diskless-sync-delay", r.Client(t).ConfigSet(t.Context(), "repl-diskless-sync-delay", "0").Err())
	}
	for range sentinels {
		s.sentinels = append(s.sentinels, StartRedis(t, func(r *Redis) {
			r.program, r.tls = master.program, master.tls
			r.conf = s.conf(master)
			r.args = append(r.args, "--sentinel")
		}))
	}
	s.await(t, "all know each other", func(ctx context.Context) bool { return s.complete(ctx, replicas) })
	return s
}

func (s *Sentinel) conf(master *Redis) string {
	var b strings.Builder
	fmt.Fprintf(&b, "sentinel monitor %s 127.0.0.1 %d %d\n", masterName, master.port, quorum)
	fmt.Fprintf(&b, "sentinel down-after-milliseconds %s %d\n", masterName, downAfter.Milliseconds())
	fmt.Fprintf(&b, "sentinel failover-timeout %s 5000\n", masterName)
	if master.admin != "" {
		fmt.Fprintf(&b, "sentinel auth-pass %s %s\n", masterName, master.admin)
	}
	return b.String()
}

// complete reports whether every Sentinel knows the others and the replicas,
// and the replicas have the master's data.
func (s *Sentinel) complete(ctx context.Context, replicas int) bool {
	for _, one := range s.sentinels {
		c := redis.NewSentinelClient(one.Options())
		m, err := c.Master(ctx, masterName).Result()
		_ = c.Close()
		if err != nil || m["flags"] != "master" || m["num-slaves"] != fmt.Sprint(replicas) || m["num-other-sentinels"] != fmt.Sprint(sentinels-1) {
			return false
		}
	}
	master := s.elected(ctx, sentinels)
	for _, r := range s.data {
		role := r.replication(ctx)
		if r == master && role["role"] != "master" || r != master && role["master_link_status"] != "up" {
			return false
		}
	}
	return master != nil
}

// MasterName is what the Sentinels call the master.
func (s *Sentinel) MasterName() string { return masterName }

// Addrs returns the addresses of the Sentinels.
func (s *Sentinel) Addrs() []string {
	addrs := make([]string, len(s.sentinels))
	for i, r := range s.sentinels {
		addrs[i] = r.Addr()
	}
	return addrs
}

// Sentinels returns the Sentinel processes.
func (s *Sentinel) Sentinels() []*Redis { return append([]*Redis(nil), s.sentinels...) }

// Servers returns the master and the replicas, in the order they were started.
func (s *Sentinel) Servers() []*Redis { return append([]*Redis(nil), s.data...) }

// Options returns client options with the short timeouts a cache wants.
func (s *Sentinel) Options() *redis.FailoverOptions { return s.options(s.data[0].Options()) }

// options are those of a server for whichever is the master.
func (s *Sentinel) options(o *redis.Options) *redis.FailoverOptions {
	return &redis.FailoverOptions{
		MasterName:            masterName,
		SentinelAddrs:         s.Addrs(),
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

// Client returns a client that follows the master, with generous timeouts, and
// is closed with the test.
func (s *Sentinel) Client(t testing.TB) *redis.Client {
	return closing(t, redis.NewFailoverClient(s.options(s.data[0].patient(nil))))
}

// Connect makes a Sentinel a [Server]: nodes can share its master.
func (s *Sentinel) Connect(t testing.TB, dial DialFunc) redis.UniversalClient {
	return closing(t, redis.NewFailoverClient(s.options(s.data[0].patient(dial))))
}

// Master returns the server that most Sentinels call the master.
func (s *Sentinel) Master(t testing.TB) *Redis {
	t.Helper()
	var r *Redis
	s.await(t, "the sentinels agree on a master", func(ctx context.Context) bool {
		r = s.elected(ctx, quorum)
		return r != nil
	})
	return r
}

// elected returns the server that at least votes of the Sentinels call master.
func (s *Sentinel) elected(ctx context.Context, votes int) *Redis {
	count := make(map[string]int)
	for _, one := range s.sentinels {
		c := redis.NewSentinelClient(one.Options())
		a, err := c.GetMasterAddrByName(ctx, masterName).Result()
		_ = c.Close()
		if err == nil && len(a) == 2 {
			count[a[1]]++
		}
	}
	for _, r := range s.data {
		if count[fmt.Sprint(r.port)] >= votes {
			return r
		}
	}
	return nil
}

// AwaitMaster waits until all Sentinels call another server than old the
// master and that one says so too, and returns it. Nobody but the caller makes
// the old one fail: see Redis.Kill and Redis.Stop.
func (s *Sentinel) AwaitMaster(t testing.TB, old *Redis) *Redis {
	t.Helper()
	var r *Redis
	s.await(t, "a replica is promoted", func(ctx context.Context) bool {
		r = s.elected(ctx, sentinels)
		return r != nil && r != old && r.role(ctx) == "master"
	})
	return r
}

// Failover has the Sentinels promote a replica although the master is well,
// and returns the new master once the others replicate it, the old one too.
func (s *Sentinel) Failover(t testing.TB) *Redis {
	t.Helper()
	old := s.Master(t)
	first := redis.NewSentinelClient(s.sentinels[0].Options())
	defer func() { _ = first.Close() }()
	var r *Redis
	s.await(t, "a replica is promoted", func(ctx context.Context) bool {
		if r = s.elected(ctx, sentinels); r != nil && r != old {
			return s.complete(ctx, len(s.data)-1)
		}
		// Refused while one is under way or no replica is ready, and given up
		// if the one chosen turns out not to be.
		if a, err := first.GetMasterAddrByName(ctx, masterName).Result(); err == nil && net.JoinHostPort(a[0], a[1]) == old.Addr() {
			_ = first.Failover(ctx, masterName).Err()
		}
		return false
	})
	return r
}

// CutReplication ends the replication and keeps it from beginning again: what
// the master acknowledges from now on is lost when a replica is promoted. The
// Sentinels promote no replica that was cut off for more than ten seconds
// before the master went down.
func (s *Sentinel) CutReplication(t testing.TB) {
	t.Helper()
	master := s.Master(t)
	for _, r := range s.data {
		if r != master {
			r.replicateAs(t, "nobody", "wrong")
		}
	}
	must(t, "end replication", master.Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	for _, r := range s.data {
		if r != master {
			s.await(t, "the replica is cut off", func(ctx context.Context) bool {
				return r.replication(ctx)["master_link_status"] == "down"
			})
		}
	}
}

// AllowReplication undoes CutReplication on the servers that run.
func (s *Sentinel) AllowReplication(t testing.TB) {
	t.Helper()
	for _, r := range s.data {
		if r.running() {
			r.replicateAs(t, "", r.admin)
		}
	}
}

// replicateAs sets with which name and password r asks its master for data.
func (r *Redis) replicateAs(t testing.TB, name, password string) {
	t.Helper()
	c := r.Client(t)
	must(t, "set masteruser", c.ConfigSet(t.Context(), "masteruser", name).Err())
	must(t, "set masterauth", c.ConfigSet(t.Context(), "masterauth", password).Err())
}

func (s *Sentinel) await(t testing.TB, what string, ok func(context.Context) bool) {
	t.Helper()
	await(t, what, ok, func() {
		for _, r := range append(s.Servers(), s.sentinels...) {
			t.Logf("%s:\n%s", r.Addr(), r.log.String())
		}
	})
}

// replication returns the fields of INFO replication; none if r does not answer.
func (r *Redis) replication(ctx context.Context) map[string]string { return r.info(ctx, "replication") }

func (r *Redis) info(ctx context.Context, section string) map[string]string {
	if !r.running() {
		return nil
	}
	c := redis.NewClient(r.Options())
	defer func() { _ = c.Close() }()
	text, err := c.Info(ctx, section).Result()
	if err != nil {
		return nil
	}
	return fields(text)
}

// fields parses lines of "name:value".
func fields(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// await polls until ok, and fails the test after a minute.
func await(t testing.TB, what string, ok func(context.Context) bool, explain func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			explain()
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

func must(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}
