package guides_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// updateUserHabit is the guide's write-through; committed is called between
// the database and the cache.
func (s store) updateUserHabit(ctx context.Context, db *table, id string, updates object, committed func()) {
	updated, err := db.update(id, updates)
	if err != nil {
		return
	}
	committed()
	s.set(ctx, "habit:"+id, updated, 10*time.Minute)
	s.r.Del(ctx, "habits:mira")
}

// getOrSet is how both guides read through: what is there, or what the source
// has, if anything.
func (s store) getOrSet(ctx context.Context, key string, ttl time.Duration, fetch func() object) object {
	if v, ok := s.get(ctx, key); ok {
		return v
	}
	v := fetch()
	if v != nil {
		s.set(ctx, key, v, ttl)
	}
	return v
}

// clearPattern is the crew guide's; its errors are logged.
func clearPattern(ctx context.Context, r redis.UniversalClient, pattern string) {
	keys := r.Keys(ctx, pattern).Val()
	if len(keys) > 0 {
		r.Del(ctx, keys...)
	}
}

// cacheWithVersion is two SETs; between them others come in.
func (s store) cacheWithVersion(ctx context.Context, key string, v object, version string, between func()) {
	s.set(ctx, key+":v"+version, v, time.Hour)
	between()
	s.set(ctx, key+":version", object{"is": version}, time.Hour)
}

func (s store) getCachedWithVersion(ctx context.Context, key string) object {
	current, _ := s.get(ctx, key+":version")
	v, _ := s.get(ctx, fmt.Sprint(key, ":v", current["is"]))
	return v
}

// batchCacheOperations returns null on any error.
func batchCacheOperations(ctx context.Context, r redis.UniversalClient, keys []string) []redis.Cmder {
	results, err := r.TxPipelined(ctx, func(p redis.Pipeliner) error {
		for _, key := range keys {
			p.Get(ctx, key)
		}
		return nil
	})
	if err != nil {
		return nil
	}
	return results
}

// sanitizeForCache removes what is sensitive, of the first level.
func sanitizeForCache(data object) object {
	sanitized := data.with(nil)
	for _, field := range []string{"password", "token", "secret", "apiKey"} {
		delete(sanitized, field)
	}
	return sanitized
}

var caches = []claim{
	{"write-through: of two writers the older value stays", func(t *testing.T) string {
		s, db := guide(t), &table{rows: map[string]object{}}
		s.updateUserHabit(t.Context(), db, "through", object{"name": "older"}, func() {
			s.updateUserHabit(t.Context(), db, "through", object{"name": "newer"}, func() {})
		})
		cached, _ := s.get(t.Context(), "habit:through")
		return says(cached["name"] == "older" && db.row("through")["name"] == "newer", "the database has %v, the cache %v", db.row("through"), cached)
	}},
	{"records invalidate nothing", func(t *testing.T) string {
		s, records := guide(t), 0
		list := func() object { // getUserHabits includes the records
			return s.getOrSet(t.Context(), "habits:records", 10*time.Minute, func() object { return object{"records": records} })
		}
		list()
		records++
		publish(t.Context(), s.r, "user:records:habits", "habit_completed", object{}) // notifyHabitCompletion: all that a record causes
		return says(fmt.Sprint(list()["records"]) == "0", "after a habit was ticked, its list is as before, for ten minutes")
	}},
	{"patterns: KEYS blocks, and DEL of many keys fails on a Cluster", func(t *testing.T) string {
		cluster := tieredtest.StartCluster(t, 3, 0)
		all := cluster.Client(t)
		for i := range 60 {
			must(t, all.Set(t.Context(), fmt.Sprint("user:", i), "v", time.Hour).Err())
		}
		left := 0
		for _, node := range cluster.Nodes() {
			clearPattern(t.Context(), node.Client(t), "user:*")
			left += len(node.Client(t).Keys(t.Context(), "user:*").Val())
		}
		return says(left == 60, "after it, %d of 60 keys are there", left)
	}},
	{"versions: two SETs are not one step", func(t *testing.T) string {
		s := guide(t)
		s.cacheWithVersion(t.Context(), "v", object{"is": "older"}, "1", func() {
			s.cacheWithVersion(t.Context(), "v", object{"is": "newer"}, "2", func() {})
		})
		got := s.getCachedWithVersion(t.Context(), "v")
		return says(got["is"] == "older", "after version 2 was cached, readers get version 1 for an hour")
	}},
	{"getOrSet: everybody loads at once", func(t *testing.T) string {
		s := guide(t)
		n := together(50, "load", func(between func(string)) bool {
			loaded := false
			s.getOrSet(t.Context(), "flight", time.Minute, func() object { between("load"); loaded = true; return object{"v": 1} })
			return loaded
		})
		return says(n == 50, "50 callers asked the database %d times", n)
	}},
	{"getOrSet: what is not there is looked for each time", func(t *testing.T) string {
		s, loads := guide(t), 0
		for range 10 {
			s.getOrSet(t.Context(), "absent", time.Minute, func() object { loads++; return nil })
		}
		return says(loads == 10, "ten reads of what does not exist asked the database %d times", loads)
	}},
	{"getOrSet: what is cached together ends together", func(t *testing.T) string {
		s := guide(t)
		shortest, longest := time.Hour, time.Duration(0)
		for i := range 100 {
			key := fmt.Sprint("jitter:", i)
			s.getOrSet(t.Context(), key, 10*time.Minute, func() object { return object{"v": i} })
			left := s.r.PTTL(t.Context(), key).Val()
			shortest, longest = min(shortest, left), max(longest, left)
		}
		// A busy machine may take a while for a hundred, never a tenth of the TTL.
		return says(longest-shortest < 30*time.Second, "of 100 entries of 10 minutes all end within %v", longest-shortest)
	}},
	{"a batch returns nothing on any error", func(t *testing.T) string {
		r := client(t, shared)
		must(t, r.Set(t.Context(), "batch:1", "v", time.Hour).Err())
		must(t, r.RPush(t.Context(), "batch:2", "of another type").Err())
		must(t, r.Set(t.Context(), "batch:3", "v", time.Hour).Err())
		return says(batchCacheOperations(t.Context(), r, []string{"batch:1", "batch:2", "batch:3"}) == nil, "two of three keys could be read, and none was returned")
	}},
	{"the sanitiser is shallow, and called by nobody", func(t *testing.T) string {
		text, err := json.Marshal(sanitizeForCache(object{"id": 7, "account": object{"password": "hunter2"}, "passwordHash": "$2b$10$x"}))
		must(t, err)
		return says(strings.Contains(string(text), "hunter2") && strings.Contains(string(text), "$2b$"), "sanitised: %s", text)
	}},
	{"the whole row of a user is cached, with the hash of the password", func(t *testing.T) string {
		s := guide(t)
		s.getOrSet(t.Context(), "user:7", 5*time.Minute, func() object { // findFirst: all columns
			return object{"id": 7, "name": "Mira", "passwordHash": "$2b$10$planted"}
		})
		return says(strings.Contains(s.r.Get(t.Context(), "user:7").Val(), "$2b$10$planted"), "Redis holds the hash of the password")
	}},
}
