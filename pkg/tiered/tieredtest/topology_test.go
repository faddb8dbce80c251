package tieredtest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

func TestASentinelPromotesAReplica(t *testing.T) {
	s := tieredtest.StartSentinel(t, 1)
	c := s.Client(t)
	must(t, c.Set(t.Context(), "k", "kept", 0).Err())
	first := s.Master(t)
	old := s.Failover(t)
	if old == first {
		t.Error("a failover by order did not change the master")
	}
	tieredtest.Eventually(t, "the client follows", func() bool { return c.Set(t.Context(), "k", "kept", 0).Err() == nil })
	if got, err := c.Wait(t.Context(), 1, 5*time.Second).Result(); got != 1 || err != nil {
		t.Fatalf("%d replicas have it, %v", got, err)
	}

	s.CutReplication(t)
	must(t, c.Set(t.Context(), "k", "lost", 0).Err())
	old.Kill()
	master := s.AwaitMaster(t, old)
	s.AllowReplication(t)
	tieredtest.Eventually(t, "the client follows", func() bool { return c.Get(t.Context(), "k").Val() == "kept" })
	if s.Master(t) != master {
		t.Error("the master changed again")
	}

	old.Restart(t) // comes back as the replica of the new one
	tieredtest.Eventually(t, "the old master follows the new one", func() bool {
		r := redis.NewClient(old.Options())
		defer r.Close()
		return r.Get(context.Background(), "k").Val() == "kept"
	})
}

func TestAClusterMovesSlotsAndPromotesReplicas(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 1)
	c := cl.Client(t)
	for i := range 30 {
		must(t, c.Set(t.Context(), fmt.Sprint("k", i), i, 0).Err())
	}
	slot := cl.Slot(t, "k7")
	from := cl.Owner(t, slot)
	var to *tieredtest.Redis
	for _, r := range cl.Nodes()[:3] {
		if r != from {
			to = r
		}
	}
	cl.MoveSlot(t, slot, to, func() {
		if got := c.Get(t.Context(), "k7").Val(); got != "7" {
			t.Errorf("in motion: %q", got)
		}
		_, err := from.Client(t).Get(t.Context(), "absent{k7}").Result()
		if err == nil || !strings.HasPrefix(err.Error(), "ASK ") {
			t.Errorf("absent key of the slot in motion: %v, want ASK", err)
		}
	})
	if cl.Owner(t, slot) != to {
		t.Error("the slot has not moved")
	}
	if got := c.Get(t.Context(), "k7").Val(); got != "7" {
		t.Errorf("moved: %q", got)
	}

	promoted := cl.Failover(t, to)
	if cl.Owner(t, slot) != promoted {
		t.Error("the replica has not taken the slot over")
	}
	promoted.Kill()
	cl.AwaitOK(t)
	tieredtest.Eventually(t, "the client follows", func() bool { return c.Get(t.Context(), "k7").Val() == "7" })
}

func TestTLSNeedsTheTestsCertificates(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithTLS(t))
	must(t, r.Client(t).Ping(t.Context()).Err())
	for name, change := range map[string]func(*redis.Options){
		"plain":                    func(o *redis.Options) { o.TLSConfig = nil },
		"no certificate":           func(o *redis.Options) { o.TLSConfig.Certificates = nil },
		"does not know the issuer": func(o *redis.Options) { o.TLSConfig.RootCAs = nil },
	} {
		o := r.Options()
		change(o)
		c := redis.NewClient(o)
		if err := c.Ping(t.Context()).Err(); err == nil {
			t.Errorf("%s: served", name)
		}
		_ = c.Close()
	}
	if !strings.HasPrefix(r.URL(), "rediss://127.0.0.1:") {
		t.Error(r.URL())
	}
}

func TestTopologiesSpeakTLSWithPasswords(t *testing.T) {
	secure := []tieredtest.RedisOption{
		tieredtest.WithTLS(t),
		tieredtest.WithUsers(tieredtest.User{Name: "app", Password: "secret", Rules: []string{"~a:*", "+get"}}),
	}
	t.Run("sentinel", func(t *testing.T) {
		s := tieredtest.StartSentinel(t, 1, secure...)
		must(t, s.Client(t).Set(t.Context(), "a:k", "v", 0).Err())
		o := s.Master(t).UserOptions(t, "app")
		c := redis.NewClient(o)
		defer c.Close()
		if v, err := c.Get(t.Context(), "a:k").Result(); v != "v" || err != nil {
			t.Errorf("get as user: %q, %v", v, err)
		}
		if err := c.Get(t.Context(), "b:k").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
			t.Errorf("get of another key as user: %v", err)
		}
		old := s.Master(t)
		old.Kill()
		s.AwaitMaster(t, old)
	})
	t.Run("cluster", func(t *testing.T) {
		c := tieredtest.StartCluster(t, 3, 0, secure...)
		must(t, c.Client(t).Set(t.Context(), "a:k", "v", 0).Err())
	})
}
