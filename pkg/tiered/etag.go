package tiered

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Stale returns the value that the load is to replace, if there is one: past
// its TTL and kept by [FailSafe], or, when it is renewed early or by Refresh,
// the one that is served meanwhile. It is shared, as values are.
func (l *Load[V]) Stale() (V, bool) { return l.stale, l.hasStale }

// ETag is the validator that was stored with the stale value, as the loader
// that brought it gave to SetETag; empty if there is none. A loader sends it in
// If-None-Match and returns what [Load.NotModified] returns on a 304.
func (l *Load[V]) ETag() string { return l.oldETag }

// SetETag stores a validator with the value: what the source calls this
// version of it, such as an ETag of RFC 9110, quotes included. It is given to
// the next load. One of more than 1,024 bytes is not stored, and the next load
// then has none to ask with.
func (l *Load[V]) SetETag(etag string) {
	if len(etag) > maxETag {
		etag = ""
	}
	l.etag = etag
}

// NotModified says that the stale value is the source's still. The loader
// returns what it returns: the value then gets a new TTL, and keeps its ETag
// unless SetETag gives it another. It is stored like any other that was loaded,
// so not if something was written meanwhile. If there is nothing stale the
// error is [ErrNoStale]: the loader has asked the source conditionally without
// having had a condition.
//
// Where Redis has that value under the same tags and ETag, it is told the new
// TTL alone, and the value is neither encoded nor sent.
func (l *Load[V]) NotModified() (V, error) {
	if !l.hasStale {
		var zero V
		return zero, ErrNoStale
	}
	if l.etag == "" {
		l.etag = l.oldETag
	}
	l.kept = true
	return l.stale, nil
}

// produce calls the loader and makes an item of what it returns.
func (c *Cache[K, V]) produce(ctx context.Context, f *flight[K, V], key K, o *entryConfig, p *placement, load Loader[K, V]) (*item[K, V], *Load[V], error) {
	l := &Load[V]{opts: *o}
	if f.prior == nil {
		f.prior = f.stale.Load()
	}
	prior := c.itemOf(f.prior)
	if prior != nil && !prior.missing() {
		l.stale, _ = c.open(prior)
		l.hasStale, l.oldETag = true, prior.etag()
	}
	before := c.s.time.nanos()
	value, err := c.call(ctx, key, load, l)
	p.cost = time.Duration(c.s.time.nanos() - before)
	it := &item[K, V]{key: key, value: value, note: noteOf(err != nil, l.etag)}
	if err == nil && l.kept {
		it.value = prior.value // not the copy that the loader was given
	}
	p.etag = it.etag()
	if err == nil || errors.Is(err, ErrNotFound) {
		if bad := l.invalid(); bad != nil {
			return nil, l, fmt.Errorf("load %s: by its loader's Set: %w", c.name, bad)
		}
	}
	return it, l, err
}

// ErrNoStale reports that a loader called NotModified where there was no value
// that could be so.
var ErrNoStale = errors.New("tiered: not modified, but there is no value from before")
