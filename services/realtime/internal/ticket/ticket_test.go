package ticket_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/crewbeat/crewbeat/services/realtime/internal/ticket"
)

// TestATicketIsGoodOnceAndNotForLong is what both kinds must do: two nodes that
// share what they share.
func TestATicketIsGoodOnceAndNotForLong(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		clock := tieredtest.NewClock(time.Now())
		tickets := ticket.New(nil, clock.Now)
		conform(t, tickets, tickets, func() { clock.Advance(ticket.Life + time.Millisecond) })
	})
	t.Run("redis", func(t *testing.T) {
		server := tieredtest.StartRedis(t)
		client := server.Client(t)
		conform(t, ticket.New(client, nil), ticket.New(server.Client(t), nil), func() {
			for _, key := range keys(t, client) {
				if left := client.PTTL(t.Context(), key).Val(); left <= 0 || left > ticket.Life {
					t.Errorf("a ticket lives for %s", left)
				}
				client.PExpire(t.Context(), key, 0)
			}
		})
	})
}

func keys(t *testing.T, client redis.UniversalClient) []string {
	t.Helper()
	all, err := client.Keys(t.Context(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func conform(t *testing.T, here, there *ticket.Tickets, expire func()) {
	issue := func() string {
		s, err := here.Issue(t.Context(), "a session")
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := issue()
	if got, err := there.Redeem(t.Context(), first); err != nil || got != "a session" {
		t.Fatalf("got %q, %v", got, err)
	}
	var good atomic.Int32
	var wg sync.WaitGroup
	raced := issue()
	for i := range 20 {
		wg.Go(func() {
			if _, err := []*ticket.Tickets{here, there}[i%2].Redeem(t.Context(), raced); err == nil {
				good.Add(1)
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 {
		t.Errorf("good %d times", good.Load())
	}
	late := issue()
	expire()
	for name, bad := range map[string]string{
		"used": first, "expired": late, "made up": strings.Repeat("a", 43), "empty": "", "long": strings.Repeat("a", 4300), "cut": late[:42],
	} {
		for _, node := range []*ticket.Tickets{here, there} {
			if _, err := node.Redeem(t.Context(), bad); !errors.Is(err, ticket.ErrUnknown) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestRedisHoldsNothingThatLetsAnybodyIn(t *testing.T) {
	server := tieredtest.StartRedis(t)
	client := server.Client(t)
	tk, err := ticket.New(client, nil).Issue(t.Context(), "the token of a session")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(t, client) {
		held := key + client.Get(t.Context(), key).Val()
		if strings.Contains(held, "token") || strings.Contains(held, tk) || strings.Contains(held, tk[:20]) {
			t.Errorf("redis holds %q", held)
		}
	}
}

func TestWithRedisAwayNobodyGetsIn(t *testing.T) {
	server := tieredtest.StartRedis(t)
	tickets := ticket.New(server.Client(t), nil)
	tk, err := tickets.Issue(t.Context(), "a session")
	if err != nil {
		t.Fatal(err)
	}
	server.Kill()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := tickets.Redeem(ctx, tk); !errors.Is(err, ticket.ErrUnavailable) {
		t.Errorf("redeem: %v", err)
	}
	if _, err := tickets.Issue(ctx, "a session"); !errors.Is(err, ticket.ErrUnavailable) {
		t.Errorf("issue: %v", err)
	}
}

// FuzzTicket shows anything as a ticket: only the one that was issued is good,
// and that once.
func FuzzTicket(f *testing.F) {
	for _, seed := range []string{"", "a", strings.Repeat("a", 43), strings.Repeat("a", 44), strings.Repeat("é", 21) + "a", "rt:t:{x}", strings.Repeat("\x00", 43), strings.Repeat("_", 43)} {
		f.Add(seed, byte(0), byte(1))
	}
	tickets := ticket.New(nil, nil)
	f.Fuzz(func(t *testing.T, made string, at, change byte) {
		if got, err := tickets.Redeem(t.Context(), made); !errors.Is(err, ticket.ErrUnknown) {
			t.Fatalf("%q is good for %q: %v", made, got, err)
		}
		good, err := tickets.Issue(t.Context(), "a session")
		if err != nil {
			t.Fatal(err)
		}
		if change != 0 {
			near := []byte(good)
			near[int(at)%len(near)] ^= change
			if got, err := tickets.Redeem(t.Context(), string(near)); !errors.Is(err, ticket.ErrUnknown) {
				t.Fatalf("%q is as good as %q, for %q: %v", near, good, got, err)
			}
		}
		for i, want := range []error{nil, ticket.ErrUnknown} {
			if got, err := tickets.Redeem(t.Context(), good); !errors.Is(err, want) || err == nil && got != "a session" {
				t.Fatalf("the %d. use of %q: %q, %v", i+1, good, got, err)
			}
		}
	})
}
