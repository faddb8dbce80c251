package tiered

import (
	"context"
	"math"
	"slices"
)

// isThere reports whether Redis has what a loader has just said is not
// modified, with the same validator and under the tags as they are now, so that
// it needs no more than another version and another end.
func (c *Cache[K, V]) isThere(f *flight[K, V], l *Load[V], p *placement) bool {
	r := f.prior
	return l.kept && r != nil && r.inL2() && !r.alone() && l.etag == c.itemOf(r).etag() &&
		r.ns == p.ns && slices.Equal(r.tags(), p.tags)
}

// extend gives the entry that was stored under the version before the life of p.
// If others are told, its version is a new one, as of a write, else the token.
// The version is 0 if something was written since the token was given. Lost is
// whether Redis has the entry no more: then nothing was done.
func (r *remote) extend(ctx context.Context, ns, key string, token, before uint64, p *placement, tell bool) (version uint64, lost bool, err error) {
	args := []any{text(token), text(before), float64(micros(p.ttl)) / 1000, float64(micros(p.grace)) / 1000,
		min(micros(p.cost), math.MaxUint32)}
	if tell {
		head, tail := r.message('k', ns+" "+key)
		args = append(args, r.channel, head, tail)
	}
	err = r.do(ctx, "extend", func(ctx context.Context) error {
		v, err := scriptExtend.Run(ctx, r.c, []string{r.dataKey(ns, key), r.leaseKey(ns, key)}, args...).Int64()
		version, lost = uint64(max(v, 0)), v < 0
		return err
	})
	return version, lost, err
}
