package session_test

import (
	"path/filepath"
	"testing"
	"time"

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
