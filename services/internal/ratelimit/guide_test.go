package ratelimit_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// The sliding window of the guide: it clears, counts and adds by commands of
// their own, by the clock of the node. Held to what the suite asks of ours, it
// admits far too many; a test that it passed would be none.
func TestTheGuidesOwnWindowAdmitsTooMany(t *testing.T) {
	const limit, calls = 10, 200
	c := patient(t, shared)
	if err := c.FlushDB(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	// Everybody counts before anybody adds: what a busy moment does by chance.
	var counted, all sync.WaitGroup
	counted.Add(calls)
	var admitted atomic.Int64
	for i := range calls {
		all.Go(func() {
			now := time.Now().UnixMilli()
			c.ZRemRangeByScore(t.Context(), "guide", "0", strconv.FormatInt(now-60_000, 10))
			n, err := c.ZCard(t.Context(), "guide").Result()
			counted.Done()
			if err != nil {
				t.Error(err)
			}
			if n >= limit {
				return
			}
			counted.Wait()
			c.ZAdd(t.Context(), "guide", redis.Z{Score: float64(now), Member: strconv.Itoa(i)})
			c.Expire(t.Context(), "guide", time.Minute)
			admitted.Add(1)
		})
	}
	all.Wait()
	if n := admitted.Load(); n <= limit {
		t.Errorf("the guide's window admitted %d at a limit of %d: this race is not one any more", n, limit)
	}
}
