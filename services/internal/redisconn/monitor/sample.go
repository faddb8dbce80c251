package monitor

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

const (
	sampleKeys   = 1000
	sampleStep   = 200 // keys that SCAN looks at in one go
	mostPrefixes = 20
	otherPrefix  = "other"
)

// sample looks at keys from the cursor on, and moves it.
func sample(ctx context.Context, client *redis.Client, cursor *uint64) Sample {
	s := Sample{At: new(time.Now().UTC()), ByPrefix: map[string]int{}}
	begin := *cursor
	// A keyspace of which most has just expired makes steps with few keys.
	for range 2 * sampleKeys / sampleStep {
		keys, next, err := client.Scan(ctx, *cursor, "", sampleStep).Result()
		if err == nil {
			err = s.add(ctx, client, keys)
		}
		if s.Part = part(err); err != nil {
			return s
		}
		*cursor = next
		if next == 0 || s.Keys >= sampleKeys {
			break
		}
	}
	s.WholeRound = begin == 0 && *cursor == 0
	return s
}

func (s *Sample) add(ctx context.Context, client *redis.Client, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	pipe := client.Pipeline()
	ttls := make([]*redis.DurationCmd, len(keys))
	for i, key := range keys {
		ttls[i] = pipe.PTTL(ctx, key)
	}
	_, err := pipe.Exec(ctx)
	if _, answered := errors.AsType[redis.Error](err); err != nil && !answered {
		return err
	}
	for i, ttl := range ttls {
		s.Keys++
		switch d, err := ttl.Result(); {
		case err != nil && redisconn.CauseOf(err) == redisconn.CausePermission:
			s.Forbidden++
		case err != nil:
			return err
		case d == -1: // -2: it has gone meanwhile
			s.Eternal++
			s.ByPrefix[s.prefix(keys[i])]++
		}
	}
	return nil
}

// prefix is what stands before the first colon, if that is a plain word: a key
// may also begin with whose it is.
func (s *Sample) prefix(key string) string {
	word, _, ok := strings.Cut(key, ":")
	plain := func(r rune) bool { return (r < 'a' || r > 'z') && r != '_' && r != '-' }
	if !ok || word == "" || len(word) > 24 || strings.IndexFunc(word, plain) >= 0 {
		return otherPrefix
	}
	if _, known := s.ByPrefix[word]; !known && len(s.ByPrefix) >= mostPrefixes {
		return otherPrefix
	}
	return word
}
