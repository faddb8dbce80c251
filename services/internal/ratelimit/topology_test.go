package ratelimit_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
)

// on returns a limiter of ten an hour by a client.
func on(t *testing.T, c redis.UniversalClient, a ratelimit.Algorithm) *ratelimit.Limiter {
	t.Helper()
	limits, err := ratelimit.New(ratelimit.Options{Client: c, Timeout: 2 * time.Second, Pause: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	l, err := limits.Limiter(policy(a, 10, time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func takes(t *testing.T, l *ratelimit.Limiter, n int) (admitted int) {
	t.Helper()
	for range n {
		if l.Take(t.Context(), "ann").Allowed {
			admitted++
		}
	}
	return admitted
}

// heldBy returns an asker whose key is on a master, or is not.
func heldBy(t *testing.T, c *tieredtest.Cluster, l *ratelimit.Limiter, master *tieredtest.Redis, is bool) string {
	t.Helper()
	for i := range 1000 {
		who := fmt.Sprint("asker ", i)
		if (c.Owner(t, c.Slot(t, l.Key(who))) == master) == is {
			return who
		}
	}
	t.Fatal("a thousand keys are on one master")
	return ""
}

func TestOfAClusterWhoseMasterDiesTheOthersGoOnCounting(t *testing.T) {
	cluster := tieredtest.StartCluster(t, 3, 1, tieredtest.WithArgs("--cluster-require-full-coverage", "no"))
	o := cluster.Options()
	o.ClusterStateReloadInterval = time.Second
	client := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = client.Close() })
	l := on(t, client, ratelimit.Sliding)
	dies := cluster.Owner(t, cluster.Slot(t, l.Key("ann")))
	same, other := heldBy(t, cluster, l, dies, true), heldBy(t, cluster, l, dies, false)
	awaitShared(t, l, "ann")
	admitted := 1 + takes(t, l, 5)
	// A call that only the master has heard of is lost with it.
	patient(t, dies).Wait(t.Context(), 1, time.Minute)

	dies.Kill()
	elsewhere, alone := 0, 0
	for range 30 {
		admitted += takes(t, l, 1)
		d := l.Take(t.Context(), other)
		if d.Allowed {
			elsewhere++
		}
		if !d.Shared {
			alone++
		}
	}
	if admitted != 10 || elsewhere != 10 || alone > 0 {
		t.Errorf("admitted %d of the key of the dead master, and %d of the other's, whose master was not asked %d times", admitted, elsewhere, alone)
	}
	awaitShared(t, l, same) // its replica has taken over
	if admitted += takes(t, l, 20); admitted > 14 {
		t.Errorf("admitted %d over the failover, want ten, and at most what memory had left besides", admitted)
	}
}

func TestOnAClusterALimitIsOneAlsoWhenAllMastersDie(t *testing.T) {
	cluster := tieredtest.StartCluster(t, 3, 0)
	each(t, 10, time.Hour, func(t *testing.T, p ratelimit.Policy) {
		l := on(t, cluster.Client(t), p.Algorithm)
		awaitShared(t, l, "somebody else")
		awaitShared(t, l, "ann")
		if n := takes(t, l, 6); n > 9 || n < 6 {
			t.Errorf("admitted %d of six more", n)
		}
	})
	for _, node := range cluster.Nodes() {
		node.Kill()
	}
	each(t, 10, time.Hour, func(t *testing.T, p ratelimit.Policy) {
		if n := takes(t, on(t, cluster.Client(t), p.Algorithm), 30); n != 10 {
			t.Errorf("admitted %d without the cluster, want 10", n)
		}
	})
}

func TestAFailoverBySentinelLetsNobodyIn(t *testing.T) {
	s := tieredtest.StartSentinel(t, 1)
	l := on(t, s.Client(t), ratelimit.Sliding)
	awaitShared(t, l, "somebody else")
	admitted := takes(t, l, 6)
	s.Failover(t)
	began := time.Now()
	admitted += takes(t, l, 20)
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("20 calls took %v", took)
	}
	// What memory admits while nobody is the master is not told to the new one.
	if admitted < 10 || admitted > 14 {
		t.Errorf("admitted %d over the failover, want ten, and at most what memory had left besides", admitted)
	}
	awaitShared(t, l, "yet another")
	if l.Take(t.Context(), "ann").Allowed {
		t.Error("admitted afterwards")
	}
}

// While a slot moves, its keys are counted by the old master, the new one, or
// both, by ASK and MOVED: never by this node, and never anew.
func TestAMovedSlotCountsOn(t *testing.T) {
	cluster := tieredtest.StartCluster(t, 3, 0)
	limits, err := ratelimit.New(ratelimit.Options{Client: cluster.Client(t), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	const limit = 200
	for _, tt := range []struct {
		algorithm ratelimit.Algorithm
		lease     int
		before    int // calls before the slot moves
	}{
		{ratelimit.Fixed, 0, 50}, {ratelimit.Fixed, 0, 0}, {ratelimit.Sliding, 0, 50}, {ratelimit.Sliding, 0, 0},
		{ratelimit.GCRA, 0, 50}, {ratelimit.GCRA, 0, 0}, {ratelimit.Fixed, 8, 50}, {ratelimit.GCRA, 8, 50},
	} {
		t.Run(fmt.Sprintf("%s/lease %d/%d before", tt.algorithm, tt.lease, tt.before), func(t *testing.T) {
			p := policy(tt.algorithm, limit, 300*24*time.Hour) // GCRA gives none back meanwhile
			p.Lease = tt.lease
			l, err := limits.Limiter(p)
			if err != nil {
				t.Fatal(err)
			}
			who := t.Name()
			var calls, admitted, alone atomic.Int64
			take := func() {
				d := l.Take(t.Context(), who)
				calls.Add(1)
				if d.Allowed {
					admitted.Add(1)
				}
				if !d.Shared {
					alone.Add(1)
				}
			}
			for range tt.before {
				take()
			}
			slot := cluster.Slot(t, l.Key(who))
			to := cluster.Nodes()[0]
			if to == cluster.Owner(t, slot) {
				to = cluster.Nodes()[1]
			}
			var traffic sync.WaitGroup
			begin, stop := make(chan struct{}), make(chan struct{})
			for range 4 {
				traffic.Go(func() {
					for <-begin; ; {
						select {
						case <-stop:
							return
						default:
							take()
						}
					}
				})
			}
			more := func() { // calls are made meanwhile
				for n := calls.Load(); calls.Load() < n+25; {
					runtime.Gosched()
				}
			}
			cluster.MoveSlot(t, slot, to, func() { close(begin); more() })
			more()
			close(stop)
			traffic.Wait()
			for admitted.Load() < limit && calls.Load() < 20*limit {
				take()
			}
			for range 20 {
				take()
			}
			if n := alone.Load(); n > 0 {
				t.Errorf("%d of %d calls were counted by this node alone", n, calls.Load())
			}
			if n := admitted.Load(); n != limit {
				t.Errorf("admitted %d of %d calls at a limit of %d", n, calls.Load(), limit)
			}
		})
	}
}
