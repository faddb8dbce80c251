package ratelimit

import (
	"context"
	_ "embed"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"
)

//go:embed lua/fixed.lua
var fixedSource string

//go:embed lua/sliding.lua
var slidingSource string

//go:embed lua/gcra.lua
var gcraSource string

// scripts are sent by their hash, and whole when the server does not know
// them (any more).
var scripts = map[Algorithm]*redis.Script{
	Fixed:   redis.NewScript(fixedSource),
	Sliding: redis.NewScript(slidingSource),
	GCRA:    redis.NewScript(gcraSource),
}

var errAnswer = errors.New("unexpected answer")

// ask lets Redis decide and count. It wants so many, and may be given fewer.
func (l *Limiter) ask(ctx context.Context, key string, want int) (given int, _ Decision, _ error) {
	ctx, cancel := context.WithTimeout(ctx, l.limits.o.Timeout)
	defer cancel()
	unit := l.policy.micros()
	if l.policy.Algorithm == GCRA {
		unit = l.policy.step()
	}
	script := l.limits.scripts[l.policy.Algorithm]
	n, err := script.Run(ctx, l.limits.o.Client, []string{l.prefix + key}, l.policy.Limit, unit, want).Int64Slice()
	switch {
	case err != nil:
		return 0, Decision{}, fmt.Errorf("take from %s: %w", l.policy.Name, err)
	case len(n) != 4:
		return 0, Decision{}, fmt.Errorf("take from %s: %d numbers: %w", l.policy.Name, len(n), errAnswer)
	}
	d := refused(l.policy, n[2], n[3])
	if n[0] > 0 {
		d = admitted(l.policy, n[1], n[2], n[3])
	}
	d.Shared = true
	return int(n[0]), d, nil
}
