package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// scripts is how often the server was told to run one.
func scripts(t *testing.T, c *redis.Client) (n int) {
	t.Helper()
	text, err := c.Info(t.Context(), "commandstats").Result()
	must(t, err)
	for _, m := range regexp.MustCompile(`(?m)^cmdstat_(?:evalsha|eval):calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		calls, err := strconv.Atoi(m[1])
		must(t, err)
		n += calls
	}
	return n
}

// setHeld starts n Sets, of each key two, which all wait for the same moment.
func setHeld(t *testing.T, s *tiered.Store, c func(i int) *tiered.Cache[string, int], n int) (release func() []error) {
	t.Helper()
	must(t, c(0).Set(t.Context(), "first", 0)) // reads the tag and loads the script
	let := s.HoldSets()
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = c(i).Set(t.Context(), fmt.Sprint("k", i%(n/2)), i) })
	}
	eventually(t, "all wait", func() bool { return s.HeldSets() == n })
	return func() []error {
		let()
		wg.Wait()
		return errs
	}
}

// Sets of concurrent callers go in one script, and what is in Redis and in
// memory afterwards is what one by one would have left there.
func TestSetsThatGoTogetherHaveTheirOwnVersions(t *testing.T) {
	const n = 100 // more than fit into one script
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	s, other := node(t, r), node(t, r)
	c, theirs := cache[int](t, s, "n"), cache[int](t, other, "n")
	for i := range n / 2 {
		must(t, theirs.Set(t.Context(), fmt.Sprint("k", i), -1))
	}
	release := setHeld(t, s, func(int) *tiered.Cache[string, int] { return c }, n)
	before := scripts(t, admin)
	for i, err := range release() {
		if err != nil {
			t.Errorf("set %d: %v", i, err)
		}
	}
	if ran := scripts(t, admin) - before; ran > n/10 {
		t.Errorf("%d scripts ran for %d sets", ran, n)
	}
	for i := range n / 2 {
		key := fmt.Sprint("k", i)
		v, err := c.Get(t.Context(), key)
		if err != nil || v != i && v != i+n/2 {
			t.Errorf("%s is %d, %v; want %d or %d", key, v, err, i, i+n/2)
		}
		in, err := c.Inspect(t.Context(), key)
		must(t, err)
		if here := c.Version(key); here == 0 || here != in.L2.Version {
			t.Errorf("%s has version %d here and %d in redis", key, here, in.L2.Version)
		}
		want(t, c, key, v, tiered.SkipL1()) // of two in one script the same has won in both
		eventually(t, "the other node is told", func() bool {
			told, err := theirs.Get(t.Context(), key)
			return err == nil && told == v
		})
	}
}

// What its caller gave up is told to the others once, by the recovery, which
// cannot know what has become of it.
func TestASetGivenUpInTheQueueIsNotSent(t *testing.T) {
	s := node(t, shared)
	channel := prefix(t) + ":inv"
	spy := shared.Client(t).Subscribe(t.Context(), channel)
	defer func() { _ = spy.Close() }()
	_, err := spy.Receive(t.Context())
	must(t, err)
	c := cache[int](t, s, "n")
	release := setHeld(t, s, func(int) *tiered.Cache[string, int] { return c }, 4)
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- c.Set(ctx, "given up", 1) }()
	eventually(t, "it waits", func() bool { return s.HeldSets() == 5 })
	cancel()
	if err := <-given; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	must(t, errors.Join(release()...))
	eventually(t, "what was lost has been said", func() bool { return s.Health().Recovery == 0 })
	must(t, shared.Client(t).Publish(t.Context(), channel, "the end").Err())
	told := 0
	for m := range spy.Channel() {
		if m.Payload == "the end" {
			break
		}
		if strings.HasSuffix(m.Payload, " n given up") {
			told++
		}
	}
	if told > 1 {
		t.Errorf("the others were told %d times of what was given up, want 1", told)
	}
}

// A user may not write to one namespace: that is no matter of the other's.
func TestASetThatIsRefusedDoesNotFailItsCompany(t *testing.T) {
	r := tieredtest.StartRedis(t)
	must(t, r.Client(t).Do(t.Context(), "ACL", "SETUSER", "default", "on", "nopass", "resetkeys", "+@all", "&*",
		"~tc:{a:*", "~tc:l:{a:*", "~tc:n:*").Err())
	s := open(t, tiered.WithRedis(r.Client(t)))
	caches := []*tiered.Cache[string, int]{cache[int](t, s, "a"), cache[int](t, s, "b")}
	errs := setHeld(t, s, func(i int) *tiered.Cache[string, int] { return caches[i%2] }, 6)()
	for i, err := range errs {
		if refused := err != nil && strings.Contains(err.Error(), "NOPERM"); refused != (i%2 == 1) {
			t.Errorf("set %d of %s: %v", i, []string{"a", "b"}[i%2], err)
		}
	}
	want(t, caches[0], "k1", 4, tiered.SkipL1())
}

func TestSetsThatFailTogetherSayWhy(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	s := node(t, r)
	c := cache[int](t, s, "n")
	release := setHeld(t, s, func(int) *tiered.Cache[string, int] { return c }, 6)
	must(t, admin.ConfigSet(t.Context(), "maxmemory", "1").Err())
	for i, err := range release() {
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("set %d of a full redis: %v, want OOM", i, err)
		}
	}
	must(t, admin.ConfigSet(t.Context(), "maxmemory", "0").Err())
}

// Close waits for what is queued, which is then in Redis.
func TestCloseAwaitsTheSetsThatGoTogether(t *testing.T) {
	s, err := tiered.Open(t.Context(), tiered.WithRedis(shared.Client(t)), tiered.WithPrefix(prefix(t)))
	must(t, err)
	c := cache[int](t, s, "n")
	release := setHeld(t, s, func(int) *tiered.Cache[string, int] { return c }, 4)
	closed := make(chan error, 1)
	go func() { closed <- s.Close(context.WithoutCancel(t.Context())) }()
	eventually(t, "it is closing", func() bool {
		_, err := c.Get(t.Context(), "late")
		return errors.Is(err, tiered.ErrClosed)
	})
	select {
	case <-closed:
		t.Error("closed while sets wait")
	default:
	}
	must(t, errors.Join(release()...))
	must(t, <-closed)
	theirs := cache[int](t, node(t, shared), "n")
	for _, key := range []string{"k0", "k1"} {
		if _, err := theirs.Get(t.Context(), key); err != nil {
			t.Errorf("get %s: %v", key, err)
		}
	}
}
