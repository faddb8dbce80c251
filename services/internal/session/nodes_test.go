package session_test

import (
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/pgtest"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// cluster is two nodes with one database and one Redis. The clock is that of
// the second node's cache and of both nodes' sessions.
func cluster(t *testing.T, url string) (here, there *session.Sessions, redis *tieredtest.Redis, clock *tieredtest.Clock) {
	t.Helper()
	redis = tieredtest.StartRedis(t)
	f := &fixture{clock: tieredtest.NewClock(time.Now()), db: migrated(t, url)}
	f.config = session.Config{DB: f.db, Secrets: []string{secret}, Now: f.clock.Now}
	f.config.Cache = cache(t, tiered.WithRedis(redis.Client(t)))
	here = f.node(t, f.config)
	f.config.Cache = cache(t, tiered.WithRedis(redis.Client(t)), tiered.WithClock(f.clock))
	return here, f.node(t, f.config), redis, f.clock
}

func onBothWithRedis(t *testing.T, test func(t *testing.T, url string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db")) })
	t.Run("postgres", func(t *testing.T) { test(t, pgtest.Database(t)) })
}

func TestARevokedSessionIsDeadOnTheOtherNodeWithinASecond(t *testing.T) {
	onBothWithRedis(t, func(t *testing.T, url string) {
		here, there, _, _ := cluster(t, url)
		token, row, err := here.Create(t.Context(), "mira", "", "")
		if err != nil {
			t.Fatal(err)
		}
		wantAlive(t, here, token, "here")
		wantAlive(t, there, token, "there")
		if err := here.Revoke(t.Context(), "mira", row.ID); err != nil {
			t.Fatal(err)
		}
		revoked := time.Now()
		wantNone(t, here, token, "here at once")
		// The other node's clock stands still: only Redis can tell it.
		again := time.NewTicker(5 * time.Millisecond)
		defer again.Stop()
		for {
			if _, err := there.Lookup(t.Context(), token); err != nil {
				break
			}
			if time.Since(revoked) > time.Second {
				t.Fatal("alive on the other node after a second")
			}
			<-again.C
		}
		wantNone(t, there, token, "there")
	})
}

func TestWithRedisKilledNobodyIsSignedOutAndRevokingStillWorks(t *testing.T) {
	onBothWithRedis(t, func(t *testing.T, url string) {
		here, there, redis, clock := cluster(t, url)
		token, row, err := here.Create(t.Context(), "mira", "", "")
		if err != nil {
			t.Fatal(err)
		}
		other, _, err := here.Create(t.Context(), "jonas", "", "")
		if err != nil {
			t.Fatal(err)
		}
		for _, node := range []*session.Sessions{here, there} {
			wantAlive(t, node, token, "before")
		}
		redis.Kill()
		for range 3 {
			clock.Advance(time.Second)
			for _, node := range []*session.Sessions{here, there} {
				wantAlive(t, node, token, "without Redis")
				wantAlive(t, node, other, "without Redis and not cached")
			}
		}
		if err := here.Revoke(t.Context(), "mira", row.ID); err != nil {
			t.Fatal(err)
		}
		wantNone(t, here, token, "here at once")
		clock.Advance(time.Second)
		wantNone(t, there, token, "there after a second")
		wantAlive(t, there, other, "somebody else")

		redis.Restart(t)
		for _, node := range []*session.Sessions{here, there} {
			wantNone(t, node, token, "after Redis is back")
			wantAlive(t, node, other, "after Redis is back")
		}
	})
}

// TestARevocationNeedsNoRedisToBeHeard: a second later the session is dead on
// the other node, whatever has become of Redis. Both read one clock, which the
// test moves, so that a slow machine changes nothing.
func TestARevocationNeedsNoRedisToBeHeard(t *testing.T) {
	for _, tt := range []struct {
		name string
		lose func(t *testing.T, server *tieredtest.Redis, line *tieredtest.Proxy)
	}{
		{"Redis is there", func(*testing.T, *tieredtest.Redis, *tieredtest.Proxy) {}},
		{"Redis is killed", func(_ *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) { server.Kill() }},
		{"Redis hangs", func(t *testing.T, server *tieredtest.Redis, _ *tieredtest.Proxy) { server.Stop(t) }},
		{"only the node that revokes is cut off", func(_ *testing.T, _ *tieredtest.Redis, line *tieredtest.Proxy) {
			line.Refuse()
			line.Cut()
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			onBothWithRedis(t, func(t *testing.T, url string) {
				server := tieredtest.StartRedis(t)
				line := tieredtest.StartProxy(t, server.Addr())
				here, there, clock := apart(t, url, server, line)
				token, row, err := here.Create(t.Context(), "mira", "", "")
				if err != nil {
					t.Fatal(err)
				}
				rotated, second, err := here.Create(t.Context(), "mira", "", "")
				if err != nil {
					t.Fatal(err)
				}
				for range 2 {
					for _, token := range []string{token, rotated} {
						wantAlive(t, here, token, "here")
						wantAlive(t, there, token, "there")
					}
				}
				tt.lose(t, server, line)
				if err := here.Revoke(t.Context(), "mira", row.ID); err != nil {
					t.Fatal(err)
				}
				fresh, _, err := here.Rotate(t.Context(), second)
				if err != nil {
					t.Fatal(err)
				}
				wantNone(t, here, token, "here at once")
				wantReplaced(t, here, rotated, "here at once")
				clock.Advance(time.Second)
				wantNone(t, there, token, "there after a second")
				wantReplaced(t, there, rotated, "there after a second")
				wantAlive(t, there, fresh, "what it was rotated to")
			})
		})
	}
}

// apart is two nodes, of which the first reaches Redis over a line, and the
// clock of all.
func apart(t *testing.T, url string, server *tieredtest.Redis, line *tieredtest.Proxy) (here, there *session.Sessions, clock *tieredtest.Clock) {
	t.Helper()
	f := &fixture{clock: tieredtest.NewClock(time.Now()), db: migrated(t, url)}
	f.config = session.Config{DB: f.db, Secrets: []string{secret}, Now: f.clock.Now}
	o := server.Options()
	o.Addr = line.Addr()
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	f.config.Cache = cache(t, tiered.WithRedis(client), tiered.WithClock(f.clock))
	here = f.node(t, f.config)
	f.config.Cache = cache(t, tiered.WithRedis(server.Client(t)), tiered.WithClock(f.clock))
	return here, f.node(t, f.config), f.clock
}

func TestWatchersHearOfEveryEndOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		c := f.config
		c.Now = nil // a watcher needs time to pass
		here, there := f.other(t, c), f.other(t, c)
		heard := make(chan session.Ended, 100)
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan struct{}, 2)
		var awake [2]atomic.Bool
		var tries sync.Map // sessions that ended before both watched
		for i, s := range []*session.Sessions{here, there} {
			go func() {
				s.Watch(ctx, func(e session.Ended) {
					awake[i].Store(true)
					if _, try := tries.Load(e.SessionID); !try {
						heard <- e
					}
				})
				stopped <- struct{}{}
			}()
		}
		// They hear of what ends from when they have begun.
		var last time.Time
		tieredtest.Eventually(t, "both watch", func() bool {
			if time.Since(last) < 200*time.Millisecond {
				return awake[0].Load() && awake[1].Load()
			}
			last = time.Now()
			_, row, err := here.Create(t.Context(), "mira", "", "")
			if err == nil {
				tries.Store(row.ID, true)
				err = here.Revoke(t.Context(), "mira", row.ID)
			}
			if err != nil {
				t.Fatal(err)
			}
			return false
		})
		want := map[string]int{}
		for _, user := range []string{"mira", "jonas", "jonas"} {
			_, row, err := here.Create(t.Context(), user, "", "")
			if err != nil {
				t.Fatal(err)
			}
			if user == "jonas" {
				want["jonas true "+row.ID] = 2
				if _, row, err = here.Rotate(t.Context(), row); err != nil {
					t.Fatal(err)
				}
			}
			want[user+" false "+row.ID] = 2
			if err := here.Revoke(t.Context(), user, row.ID); err != nil {
				t.Fatal(err)
			}
		}
		got := map[string]int{}
		deadline := time.After(30 * time.Second)
		for range 10 {
			select {
			case e := <-heard:
				got[strings.Join([]string{e.UserID, map[bool]string{false: "false", true: "true"}[e.Replaced], e.SessionID}, " ")]++
			case <-deadline:
				t.Fatalf("heard %v, want %v", got, want)
			}
		}
		for what, n := range want {
			if got[what] != n {
				t.Errorf("%s was heard %d times, want once on each node", what, got[what])
			}
		}
		cancel()
		<-stopped
		<-stopped
	})
}

// The price of it is one read in half a second, however many look up.
func TestLookingUpManyReadsWhatEndedTwiceASecond(t *testing.T) {
	onBoth(t, func(t *testing.T, f *fixture) {
		token, _ := f.signIn(t, "mira")
		wantAlive(t, f.Sessions, token, "cached")
		if _, err := f.db.ExecContext(t.Context(), "UPDATE sessions SET revoked_at = $1", f.clock.Now().UnixMilli()); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			wantAlive(t, f.Sessions, token, "within half a second nobody asks")
		}
		f.clock.Advance(500 * time.Millisecond)
		wantNone(t, f.Sessions, token, "half a second later")
	})
}

// While the slots of two sessions move from one master of a Cluster to another,
// people work on: nobody is signed out, no look-up fails, and who is signed out
// meanwhile is out on both nodes.
func TestAMovedSlotSignsNobodyOut(t *testing.T) {
	c := tieredtest.StartCluster(t, 3, 0)
	f := &fixture{clock: tieredtest.NewClock(time.Now()), db: migrated(t, "sqlite:"+filepath.Join(t.TempDir(), "c.db"))}
	f.config = session.Config{DB: f.db, Secrets: []string{secret}, Now: f.clock.Now}
	var nodes []*session.Sessions
	for range 2 {
		f.config.Cache = cache(t, tiered.WithRedis(c.Client(t)), tiered.WithClock(f.clock))
		nodes = append(nodes, f.node(t, f.config))
	}
	keys := func() map[string]bool { // of sessions, on all masters
		all := map[string]bool{}
		for _, node := range c.Nodes() {
			for _, key := range node.Client(t).Keys(t.Context(), "*{session:*").Val() {
				all[key] = true
			}
		}
		return all
	}
	type signedIn struct {
		token, key string
		row        session.Session
	}
	var people []signedIn
	for _, user := range []string{"mira", "jonas"} {
		before := keys()
		token, row, err := nodes[0].Create(t.Context(), user, "", "")
		if err != nil {
			t.Fatal(err)
		}
		wantAlive(t, nodes[0], token, "before")
		wantAlive(t, nodes[1], token, "before")
		for key := range keys() {
			if !before[key] {
				people = append(people, signedIn{token, key, row})
			}
		}
	}
	if len(people) != 2 {
		t.Fatalf("the sessions are cached by %v", keys())
	}
	mira, jonas := people[0], people[1]

	var looks atomic.Int64
	var traffic sync.WaitGroup
	stop := make(chan struct{})
	for _, node := range nodes {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				f.clock.Advance(100 * time.Millisecond) // memory does not answer for Redis for long
				wantAlive(t, node, mira.token, "while slots move")
				looks.Add(1)
			}
		})
	}
	more := func() {
		for n := looks.Load(); looks.Load() < n+40; {
			runtime.Gosched()
		}
	}
	for _, one := range people {
		slot := c.Slot(t, one.key)
		to := c.Nodes()[0]
		if to == c.Owner(t, slot) {
			to = c.Nodes()[1]
		}
		c.MoveSlot(t, slot, to, func() {
			more()
			if one == jonas {
				wantAlive(t, nodes[1], jonas.token, "while his slot moves")
				if err := nodes[0].Revoke(t.Context(), "jonas", jonas.row.ID); err != nil {
					t.Error(err)
				}
				wantNone(t, nodes[0], jonas.token, "here at once")
				f.clock.Advance(time.Second)
				wantNone(t, nodes[1], jonas.token, "there after a second")
			}
			more()
		})
		more()
	}
	close(stop)
	traffic.Wait()
	for _, node := range nodes {
		wantNone(t, node, jonas.token, "after the move")
	}
}
