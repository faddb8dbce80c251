package presence

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Redis is a [Board] in Redis: of each team one sorted set of leases by when
// they end, by the clock of Redis. Its epoch is a member of the same set, so
// that both are lost together, if at all; it begins with "!" and sorts last.
type Redis struct {
	client redis.UniversalClient
	epoch  string // for sets that this process begins
}

// NewRedis returns a board in client, which stays the caller's to close.
func NewRedis(client redis.UniversalClient) *Redis {
	return &Redis{client: client, epoch: "!" + rand.Text()}
}

const (
	batch = 64  // teams in one round trip
	chunk = 500 // leases in one script
)

// write is given how long ended leases are kept, in ms, how many leases there
// may be, an epoch, and pairs of a lease and how long it is to last, in ms.
const write = `
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
local last = redis.call('ZRANGE', KEYS[1], -1, -1)[1]
if not last or string.sub(last, 1, 1) ~= '!' then redis.call('ZADD', KEYS[1], '+inf', ARGV[3]) end
local room = ARGV[2] - redis.call('ZCARD', KEYS[1]) + 1
for i = 4, #ARGV, 2 do
  local known = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if known or (room > 0 and tonumber(ARGV[i + 1]) > 0) then
    redis.call('ZADD', KEYS[1], now + ARGV[i + 1], ARGV[i])
    if not known then room = room - 1 end
  end
end
redis.call('PEXPIRE', KEYS[1], 2 * ARGV[1])
return 0`

// read returns the time and what the set holds.
const read = `
local t = redis.call('TIME')
return {t[1] * 1000 + math.floor(t[2] / 1000), redis.call('ZREVRANGE', KEYS[1], 0, ARGV[1], 'WITHSCORES')}`

func key(team string) string { return "rt:p:{team:" + team + "}" }

// Write implements [Board].
func (r *Redis) Write(ctx context.Context, node string, leases []Lease) error {
	byTeam := map[string][]any{}
	var teams []string
	for _, l := range leases {
		if byTeam[l.Team] == nil {
			teams = append(teams, l.Team)
		}
		byTeam[l.Team] = append(byTeam[l.Team], member(l.User, node), l.For.Milliseconds())
	}
	for some := range slices.Chunk(teams, batch) {
		_, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, team := range some {
				for pairs := range slices.Chunk(byTeam[team], 2*chunk) {
					p.Eval(ctx, write, []string{key(team)}, append([]any{keep.Milliseconds(), leasesMost, r.epoch}, pairs...)...)
				}
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write leases: %w", err)
		}
	}
	return nil
}

// Read implements [Board].
func (r *Redis) Read(ctx context.Context, teams []string) ([]Sheet, error) {
	sheets := make([]Sheet, 0, len(teams))
	for some := range slices.Chunk(teams, batch) {
		answers, err := r.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, team := range some {
				p.Eval(ctx, read, []string{key(team)}, leasesMost)
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("read leases: %w", err)
		}
		for _, a := range answers {
			s, err := parseSheet(a.(*redis.Cmd).Slice())
			if err != nil {
				return nil, err
			}
			sheets = append(sheets, s)
		}
	}
	return sheets, nil
}

// parseSheet reads what the script read answers.
func parseSheet(answer []any, err error) (s Sheet, _ error) {
	if err != nil {
		return s, fmt.Errorf("read leases: %w", err)
	}
	if len(answer) != 2 {
		return s, fmt.Errorf("read leases: %d values, want 2", len(answer))
	}
	now, ok := answer[0].(int64)
	list, ok2 := answer[1].([]any)
	if !ok || !ok2 || len(list)%2 != 0 {
		return s, fmt.Errorf("read leases: got a %T and a %T", answer[0], answer[1])
	}
	for pair := range slices.Chunk(list, 2) {
		name, _ := pair[0].(string)
		score, _ := pair[1].(string)
		if strings.HasPrefix(name, "!") {
			s.Epoch = name
			continue
		}
		at, err := strconv.ParseFloat(score, 64)
		if err != nil {
			return s, fmt.Errorf("read leases: score: %w", err)
		}
		s.add(name, time.Duration(at-float64(now))*time.Millisecond)
	}
	return s, nil
}
