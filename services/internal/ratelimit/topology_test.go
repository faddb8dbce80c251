package ratelimit_test

import (
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

func TestOnAClusterALimitIsOneAlsoWhenAMasterDies(t *testing.T) {
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
