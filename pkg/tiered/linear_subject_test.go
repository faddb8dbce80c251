package tiered_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// subject is a cache on one of several nodes.
type subject interface {
	Set(ctx context.Context, key string, v int, async bool) error
	Delete(ctx context.Context, key string, async bool) error
	Get(ctx context.Context, key string) (int, error)
	GetOrLoad(ctx context.Context, key string, load func(context.Context) (int, error)) (int, error)
	Update(ctx context.Context, key string, v int) (old int, err error)
	InvalidateAll(ctx context.Context) error // by a tag
	Clear(ctx context.Context) error
	Expire(ctx context.Context, key string, ttl time.Duration) error
}

var errNoSuchCall = errors.New("the subject has no such call")

// tieredNode is this package's cache. Every entry has the tag.
type tieredNode struct {
	s *tiered.Store
	c *tiered.Cache[string, int]
}

func queued(async bool) []tiered.EntryOption {
	if async {
		return []tiered.EntryOption{tiered.Async()}
	}
	return nil
}

func (n tieredNode) Set(ctx context.Context, key string, v int, async bool) error {
	return n.c.Set(ctx, key, v, queued(async)...)
}

func (n tieredNode) Delete(ctx context.Context, key string, async bool) error {
	return n.c.Delete(ctx, key, queued(async)...)
}

func (n tieredNode) Clear(ctx context.Context) error                  { return n.c.Clear(ctx) }
func (n tieredNode) InvalidateAll(ctx context.Context) error          { return n.s.InvalidateTags(ctx, "all") }
func (n tieredNode) Get(ctx context.Context, key string) (int, error) { return n.c.Get(ctx, key) }

func (n tieredNode) Expire(ctx context.Context, key string, ttl time.Duration) error {
	_, err := n.c.Expire(ctx, key, ttl)
	return err
}

func (n tieredNode) GetOrLoad(ctx context.Context, key string, load func(context.Context) (int, error)) (int, error) {
	return n.c.GetOrLoad(ctx, key, func(ctx context.Context, _ string, l *tiered.Load[int]) (int, error) {
		v, err := load(ctx)
		l.SetETag(strconv.Itoa(v))
		if stale, ok := l.Stale(); ok && err == nil && stale == v {
			return l.NotModified()
		}
		return v, err
	})
}

func (n tieredNode) Update(ctx context.Context, key string, v int) (old int, err error) {
	_, err = n.c.Update(ctx, key, func(_ context.Context, was int, exists bool) (int, error) {
		old = 0
		if exists {
			old = was
		}
		return v, nil
	})
	return old, err
}

// naiveNode is what most code does: cache-aside on the same Redis. It shows
// that the tests find what they look for.
type naiveNode struct {
	c      redis.UniversalClient
	memory *sync.Map // nil: Redis alone
}

func (n naiveNode) Set(ctx context.Context, key string, v int, _ bool) error {
	if n.memory != nil {
		n.memory.Store(key, v)
	}
	return n.c.Set(ctx, key, v, time.Minute).Err()
}

func (n naiveNode) Delete(ctx context.Context, key string, _ bool) error {
	if n.memory != nil {
		n.memory.Delete(key)
	}
	return n.c.Del(ctx, key).Err()
}

func (n naiveNode) Get(ctx context.Context, key string) (int, error) {
	if n.memory != nil {
		if v, ok := n.memory.Load(key); ok {
			return v.(int), nil
		}
	}
	v, err := n.c.Get(ctx, key).Int()
	if errors.Is(err, redis.Nil) {
		return 0, tiered.ErrMiss
	}
	if err == nil && n.memory != nil {
		n.memory.Store(key, v)
	}
	return v, err
}

func (n naiveNode) GetOrLoad(ctx context.Context, key string, load func(context.Context) (int, error)) (int, error) {
	if v, err := n.Get(ctx, key); err == nil {
		return v, nil
	}
	v, err := load(ctx)
	if err == nil {
		_ = n.Set(ctx, key, v, false)
	}
	return v, err
}

func (n naiveNode) Update(context.Context, string, int) (int, error) { return 0, errNoSuchCall }
func (n naiveNode) InvalidateAll(context.Context) error              { return errNoSuchCall }
func (n naiveNode) Clear(context.Context) error                      { return errNoSuchCall }

func (n naiveNode) Expire(ctx context.Context, key string, ttl time.Duration) error {
	return n.c.PExpire(ctx, key, ttl).Err()
}

func tieredNodes(t *testing.T, nodes []*tieredtest.Node, opts ...tiered.EntryOption) []subject {
	caches := tieredtest.Caches[string, int](t, nodes, "n", tiered.WithDefaults(tiered.Tags("all")), tiered.WithDefaults(opts...))
	var subjects []subject
	for i, c := range caches {
		subjects = append(subjects, tieredNode{nodes[i].Store, c})
	}
	return subjects
}

func naiveNodes(nodes []*tieredtest.Node, memory bool) []subject {
	var subjects []subject
	for _, n := range nodes {
		one := naiveNode{c: n.Client}
		if memory {
			one.memory = &sync.Map{}
		}
		subjects = append(subjects, one)
	}
	return subjects
}
