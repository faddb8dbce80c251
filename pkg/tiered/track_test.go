package tiered_test

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// tracking opens a store and a cache whose memory is believed for an hour, so
// that only reports can end that.
func tracking(t *testing.T, r *tieredtest.Redis) (*tiered.Store, *tiered.Cache[string, string]) {
	t.Helper()
	s := node(t, r, tiered.WithBackplane(tiered.Tracking))
	return s, cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
}

// gone waits until a Get finds nothing.
func gone(t *testing.T, what string, c *tiered.Cache[string, string], key string) {
	t.Helper()
	eventually(t, what, func() bool {
		_, err := c.Get(t.Context(), key)
		return errorIs(err, tiered.ErrMiss)
	})
}

// What other programs do to Redis reaches memory, also right after an own write,
// whose report it cannot be told from, and for keys with odd characters.
func TestTrackingSeesWhatOtherProgramsDo(t *testing.T) {
	r := tieredtest.StartRedis(t)
	foreign := r.Client(t)
	data := func(key string) string { return prefix(t) + ":{n:" + key + "}" }
	for name, change := range map[string]func(key string) error{
		"DEL":     func(key string) error { return foreign.Del(t.Context(), data(key)).Err() },
		"SET":     func(key string) error { return foreign.Set(t.Context(), data(key), "garbage", 0).Err() },
		"PEXPIRE": func(key string) error { return foreign.PExpire(t.Context(), data(key), 20*time.Millisecond).Err() },
		"RENAME":  func(key string) error { return foreign.Rename(t.Context(), data(key), "elsewhere").Err() },
	} {
		t.Run(name, func(t *testing.T) {
			_, own := tracking(t, r)
			_, other := tracking(t, r)
			data = func(key string) string { return prefix(t) + ":{n:" + key + "}" }
			for i, c := range []*tiered.Cache[string, string]{own, other} {
				key := fmt.Sprint("k", i)
				must(t, own.Set(t.Context(), key, "v"))
				want(t, c, key, "v")
				want(t, c, key, "v")
				must(t, change(key))
				gone(t, "memory has heard of it", c, key)
			}
		})
	}
	t.Run("odd keys", func(t *testing.T) {
		_, c := tracking(t, r)
		must(t, c.Set(t.Context(), "{a:b}%7B", "v"))
		must(t, foreign.Del(t.Context(), prefix(t)+":{n:%7Ba:b%7D%257B}").Err())
		gone(t, "memory has heard of it", c, "{a:b}%7B")
	})
	t.Run("tags", func(t *testing.T) {
		_, c := tracking(t, r)
		must(t, c.Set(t.Context(), "k", "v", tiered.Tags("tag")))
		must(t, c.Set(t.Context(), "l", "v"))
		must(t, foreign.Del(t.Context(), prefix(t)+":t:tag").Err())
		gone(t, "the tag invalidates", c, "k")
		want(t, c, "l", "v")
		must(t, foreign.Del(t.Context(), prefix(t)+":n:n").Err())
		gone(t, "the namespace is cleared", c, "l")
	})
	t.Run("FLUSHALL", func(t *testing.T) {
		w, writer := tracking(t, r)
		must(t, writer.Set(t.Context(), "k", "v"))
		eventually(t, "the key and the namespace are checked", func() bool { return w.Stats().Checks >= 2 })
		s, c := tracking(t, r) // which has nothing to check
		want(t, c, "k", "v")
		want(t, c, "k", "v")
		must(t, foreign.FlushAll(t.Context()).Err())
		gone(t, "memory has heard of it", c, "k")
		if st := s.Stats(); st.Gaps != 0 || !s.Health().Coherent {
			t.Errorf("it took a new connection: %d gaps", st.Gaps)
		}
	})
}

func TestTrackingSeesEvictions(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	_, c := tracking(t, r)
	const keys = 50
	for i := range keys {
		must(t, c.Set(t.Context(), strconv.Itoa(i), "v"))
	}
	must(t, admin.ConfigSet(t.Context(), "maxmemory-policy", "allkeys-random").Err())
	must(t, admin.ConfigSet(t.Context(), "maxmemory", "1mb").Err()) // less than an empty server takes
	_ = admin.Set(t.Context(), "more", "v", 0).Err()                // evicts; refused when nothing is left
	n, err := admin.DBSize(t.Context()).Result()
	must(t, err)
	if n > keys/2 {
		t.Fatalf("%d keys are left: nothing was evicted", n)
	}
	must(t, admin.ConfigSet(t.Context(), "maxmemory", "0").Err())
	eventually(t, "what was evicted is not in memory either", func() bool {
		for i := range keys {
			if _, err := c.Get(t.Context(), strconv.Itoa(i)); err == nil && admin.Exists(t.Context(), prefix(t)+":{n:"+strconv.Itoa(i)+"}").Val() == 0 {
				return false
			}
		}
		return true
	})
}

// Own writes are reported as others' are. They must not make every hit ask.
func TestTrackingOwnWritesCostNoHitAQuestion(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	s, c := tracking(t, r)
	reads := func() int {
		info, err := admin.Info(t.Context(), "commandstats").Result()
		must(t, err)
		m := regexp.MustCompile(`cmdstat_getrange:calls=(\d+)`).FindStringSubmatch(info)
		if m == nil {
			return 0
		}
		n, err := strconv.Atoi(m[1])
		must(t, err)
		return n
	}
	eventually(t, "what is reported at once is told apart", func() bool {
		must(t, c.Set(t.Context(), "own", "v"))
		s.Report(prefix(t) + ":{n:own}") // within what an own write waits for it, unless the machine is busy
		return !inspect(t, c, "own").L1.Suspect
	})
	before := s.Stats()
	must(t, admin.ConfigResetStat(t.Context()).Err())
	const keys = 600
	for i := range keys {
		key := strconv.Itoa(i)
		if _, err := c.GetOrLoad(t.Context(), key, value("v")); err != nil {
			t.Fatal(err)
		}
		want(t, c, key, "v")
	}
	eventually(t, "all reports have come and all own writes are checked", func() bool {
		st := s.Stats()
		for i := range keys {
			want(t, c, strconv.Itoa(i), "v")
		}
		return st.Tracked >= before.Tracked+keys && st.Checks >= before.Checks+keys
	})
	for i := range keys {
		want(t, c, strconv.Itoa(i), "v")
	}
	st := s.Stats()
	// A report that comes later than the check makes one hit ask: on a busy
	// machine some do. If the own ones were not told apart, all would.
	if st.Revalidated-before.Revalidated > keys/2 || st.L2Hits > 0 || st.Loads != keys {
		t.Errorf("%d hits asked, %d read again, %d loads of %d keys", st.Revalidated-before.Revalidated, st.L2Hits, st.Loads, keys)
	}
	// Each script reads a header, too: getlease none, fill none.
	if n := reads(); n > keys+keys/2+1 {
		t.Errorf("%d headers were read for %d writes", n, keys)
	}
}

// A foreign write that comes with the own one in the same report is noticed.
func TestTrackingTellsAForeignWriteFromTheOwnOneBeforeIt(t *testing.T) {
	r := tieredtest.StartRedis(t)
	foreign := r.Client(t)
	_, c := tracking(t, r)
	for i := range 20 {
		key := strconv.Itoa(i)
		// The foreign DEL is there before the write returns: in one round of the
		// server's loop with it, if it can be.
		_, err := c.GetOrLoad(t.Context(), key, func(ctx, string, *tiered.Load[string]) (string, error) {
			go func() {
				for foreign.Del(t.Context(), prefix(t)+":{n:"+key+"}").Val() == 0 && t.Context().Err() == nil {
				}
			}()
			return "v", nil
		})
		must(t, err)
		gone(t, "it is noticed", c, key)
	}
}

// Reports that were sent while the connection was down are lost. What memory
// has is asked about, and not flushed.
func TestTrackingGapsAreRepaired(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	s, c := tracking(t, r)
	for _, key := range []string{"deleted", "quiet"} {
		must(t, c.Set(t.Context(), key, "v"))
	}
	eventually(t, "own writes are checked", func() bool { return s.Stats().Checks >= 2 })
	for range 5 {
		must(t, c.Set(t.Context(), "deleted", "v"))
		must(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
		must(t, admin.Del(t.Context(), prefix(t)+":{n:deleted}").Err())
		gone(t, "the gap is repaired", c, "deleted")
		healthy(t, s)
	}
	before := s.Stats()
	want(t, c, "quiet", "v")
	after := s.Stats()
	if before.Gaps == 0 || after.L2Hits != before.L2Hits {
		t.Errorf("%d gaps, %d read again", before.Gaps, after.L2Hits-before.L2Hits)
	}
	must(t, admin.Del(t.Context(), prefix(t)+":{n:quiet}").Err())
	gone(t, "the new connection tracks", c, "quiet")
}

// A program that deletes the lease with the data fences loads under way, though
// it knows nothing of versions: nothing of the load is stored anywhere.
func TestAForeignProgramFencesALoadByDeletingItsLease(t *testing.T) {
	r := tieredtest.StartRedis(t)
	foreign := r.Client(t)
	_, c := tracking(t, r)
	_, other := tracking(t, r)
	during(t, c, "k", func() {
		must(t, foreign.Del(t.Context(), prefix(t)+":{n:k}", prefix(t)+":l:{n:k}").Err())
	})
	wantErr(t, c, "k", tiered.ErrMiss)
	wantErr(t, other, "k", tiered.ErrMiss)
}

// What a read brings that was under way when the key changed is not kept.
func TestTrackingAReportDuringALoadHasItAskedAbout(t *testing.T) {
	r := tieredtest.StartRedis(t)
	foreign := r.Client(t)
	s, c := tracking(t, r)
	during(t, c, "k", func() {
		// Another load has the lease: this one stores nothing in Redis.
		must(t, foreign.Set(t.Context(), prefix(t)+":l:{n:k}", "1", time.Minute).Err())
		before := s.Stats().Tracked
		must(t, foreign.Set(t.Context(), prefix(t)+":{n:k}", "garbage", 0).Err())
		eventually(t, "it is reported", func() bool { return s.Stats().Tracked > before })
	})
	gone(t, "the load is not served", c, "k")
}

func TestTrackingIsRefusedWhereItCannotWork(t *testing.T) {
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{shared.Addr()}})
	t.Cleanup(func() { _ = cluster.Close() })
	_, err := tiered.Open(t.Context(), tiered.WithRedis(cluster), tiered.WithBackplane(tiered.Tracking))
	if err == nil || !strings.Contains(err.Error(), "use WithBackplane(PubSub)") {
		t.Errorf("a cluster: %v", err)
	}
	r := tieredtest.StartRedis(t)
	must(t, r.Client(t).Do(t.Context(), "ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-client|tracking").Err())
	o := r.Options()
	o.Username, o.Password = "app", "secret"
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	_, err = tiered.Open(t.Context(), tiered.WithRedis(client), tiered.WithBackplane(tiered.Tracking))
	if err == nil || !strings.Contains(err.Error(), "+client|tracking") || strings.Contains(err.Error(), "secret") {
		t.Errorf("a user who may not: %v", err)
	}
	// A Redis that is away is no refusal.
	r.Kill()
	s := node(t, r, tiered.WithBackplane(tiered.Tracking))
	r.Restart(t)
	healthy(t, s)
}

// The client that tracks is like the user's: it finds a Sentinel's master, and
// finds the next one.
func TestTrackingFollowsASentinelsMaster(t *testing.T) {
	sentinel := tieredtest.StartSentinel(t, 1)
	s := open(t, tiered.WithRedis(sentinel.Client(t)), tiered.WithPrefix(prefix(t)), tiered.WithBackplane(tiered.Tracking), tiered.WithL2Timeout(3*time.Second))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
	seen := func(master *tieredtest.Redis) {
		t.Helper()
		healthy(t, s)
		eventually(t, "it is set", func() bool {
			return c.Set(t.Context(), "k", "v") == nil && master.Client(t).Exists(t.Context(), prefix(t)+":{n:k}").Val() == 1
		})
		want(t, c, "k", "v")
		must(t, master.Client(t).Del(t.Context(), prefix(t)+":{n:k}").Err())
		gone(t, "it is noticed", c, "k")
	}
	seen(sentinel.Master(t))
	seen(sentinel.Failover(t))
}
