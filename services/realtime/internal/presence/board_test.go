package presence_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/internal/caching"
	"github.com/crewbeat/crewbeat/services/realtime/internal/presence"
)

func TestMain(m *testing.M) {
	// A dial of go-redis outlives a closed client by up to a second.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const (
	harbor = "0190a0b0-0000-7000-8000-000000000001"
	lock   = "0190a0b0-0000-7000-8000-000000000002"
)

func TestBoardsHoldLeasesUntilTheyEnd(t *testing.T) {
	t.Run("memory", func(t *testing.T) { conform(t, presence.NewMemory(nil)) })
	t.Run("redis", func(t *testing.T) {
		client := tieredtest.StartRedis(t).Client(t)
		conform(t, presence.NewRedis(client))
		known(t, client)
	})
	t.Run("cluster", func(t *testing.T) {
		conform(t, presence.NewRedis(tieredtest.StartCluster(t, 3, 0).Client(t)))
	})
}

// known checks that what was written is on the register, and expires.
func known(t *testing.T, client redis.UniversalClient) {
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("%v, %v", keys, err)
	}
	for _, key := range keys {
		ok := false
		for _, f := range caching.Families() {
			ok = ok || regexp.MustCompile("^"+f.Pattern+"$").MatchString(key)
		}
		if n := client.ZCard(t.Context(), key).Val(); n > 10_001 { // with the epoch
			t.Errorf("%s holds %d leases", key, n)
		}
		if ttl := client.PTTL(t.Context(), key).Val(); !ok || ttl <= 0 || ttl > 2*time.Minute {
			t.Errorf("%s: on the register %v, lives for %v", key, ok, ttl)
		}
	}
}

// conform is what every board does.
func conform(t *testing.T, b presence.Board) {
	ctx := t.Context()
	write := func(node string, leases ...presence.Lease) {
		t.Helper()
		if err := b.Write(ctx, node, leases); err != nil {
			t.Fatal(err)
		}
	}
	sheet := func(team string) presence.Sheet {
		t.Helper()
		s, err := b.Read(ctx, []string{lock, team})
		if err != nil || len(s) != 2 {
			t.Fatalf("%v, %v", s, err)
		}
		return s[1]
	}
	if s := sheet(harbor); s.Epoch != "" || len(s.Ends) != 0 {
		t.Errorf("a board that holds nothing says %+v", s)
	}
	write("a", presence.Lease{Team: harbor, User: "mira", For: time.Minute}, presence.Lease{Team: lock, User: "mira", For: time.Hour}, presence.Lease{Team: harbor, User: "jonas", For: time.Minute})
	write("b", presence.Lease{Team: harbor, User: "mira", For: 10 * time.Second})
	write("b", presence.Lease{Team: harbor, User: "nobody", For: 0})
	s := sheet(harbor)
	epoch := s.Epoch
	if epoch == "" || len(s.Ends) != 2 {
		t.Errorf("%+v, want an epoch, and mira and jonas", s)
	}
	if left := s.Ends["mira"]; left > time.Minute || left < 30*time.Second {
		t.Errorf("mira's last lease ends in %v, want nearly a minute", left)
	}
	// One node's end leaves the other's lease.
	write("a", presence.Lease{Team: harbor, User: "mira", For: 0}, presence.Lease{Team: harbor, User: "jonas", For: 0})
	s = sheet(harbor)
	if left := s.Ends["mira"]; left > 10*time.Second || left <= 0 {
		t.Errorf("mira's lease on the other node ends in %v, want 10 s at most", left)
	}
	// An end can be told from a loss.
	if left, ok := s.Ends["jonas"]; !ok || left > 0 {
		t.Errorf("jonas is on the sheet %v with %v, want a lease that has ended", ok, left)
	}
	if left := sheet(lock).Ends["mira"]; left < 30*time.Minute {
		t.Errorf("another team's lease ends in %v", left)
	}
	// More than a script takes at once.
	var crew []presence.Lease
	for i := range 1200 {
		crew = append(crew, presence.Lease{Team: harbor, User: fmt.Sprint("u", i), For: time.Minute})
	}
	write("c", crew...)
	if s := sheet(harbor); len(s.Ends) != 1202 || s.Epoch != epoch {
		t.Errorf("%d people in epoch %q, want 1202 in %q", len(s.Ends), s.Epoch, epoch)
	}
	var teams []string
	var leases []presence.Lease
	for i := range 150 { // more than a round trip takes at once
		teams = append(teams, fmt.Sprintf("0190a0b0-0000-7000-8000-%012d", 100+i))
		leases = append(leases, presence.Lease{Team: teams[i], User: fmt.Sprint("u", i), For: time.Minute})
	}
	write("a", leases...)
	sheets, err := b.Read(ctx, teams)
	if err != nil || len(sheets) != len(teams) {
		t.Fatalf("%d sheets, %v", len(sheets), err)
	}
	for i, s := range sheets {
		if s.Ends[fmt.Sprint("u", i)] <= 0 || len(s.Ends) != 1 {
			t.Fatalf("sheet %d is %+v", i, s)
		}
	}
	// There is an end to what a board holds.
	crew = crew[:0]
	for i := range 10_100 {
		crew = append(crew, presence.Lease{Team: lock, User: fmt.Sprint("u", i), For: time.Minute})
	}
	write("a", crew...)
	if s := sheet(lock); len(s.Ends) != 10_000 || s.Epoch == "" {
		t.Errorf("%d people, want 10,000, in an epoch %q", len(s.Ends), s.Epoch)
	}
}

func TestALossInRedisBeginsAnotherEpoch(t *testing.T) {
	client := tieredtest.StartRedis(t).Client(t)
	epoch := func(b presence.Board) string {
		if err := b.Write(t.Context(), "a", []presence.Lease{{Team: harbor, User: "mira", For: time.Minute}}); err != nil {
			t.Fatal(err)
		}
		s, err := b.Read(t.Context(), []string{harbor})
		if err != nil {
			t.Fatal(err)
		}
		return s[0].Epoch
	}
	one, two := presence.NewRedis(client), presence.NewRedis(client)
	before := epoch(one)
	if again := epoch(two); again != before {
		t.Errorf("another node begins epoch %q in %q", again, before)
	}
	if err := client.FlushAll(context.WithoutCancel(t.Context())).Err(); err != nil {
		t.Fatal(err)
	}
	if after := epoch(two); after == before || after == "" {
		t.Errorf("after a loss it is epoch %q, before %q", after, before)
	}
}
