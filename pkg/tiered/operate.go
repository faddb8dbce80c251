package tiered

import (
	"context"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Local yields the entries of this namespace that memory may serve, in no
// order. It passes over the memory of the whole store once, at some 20 ns for
// each entry in it, copies nothing and holds no lock, so that the loop may take
// its time, call the cache, and break.
//
// What is in memory all the while is yielded once; what comes, goes or changes
// meanwhile may be yielded or not, but not once it was deleted or has expired.
// Each Info is of one version. A closed store has nothing. It counts as no
// read and makes no entry more popular.
func (c *Cache[K, V]) Local() iter.Seq2[K, Info] {
	return func(yield func(K, Info) bool) {
		if c.s.l1 == nil {
			return
		}
		c.s.l1.pass(func(hash uint64, r *record) (stop bool) {
			if r.ns.cell != c.ns {
				return false
			}
			// The table may have been left for a larger one: what counts is
			// what a reader gets.
			if r = c.s.l1.get(hash); r == nil || r.ns.cell != c.ns || c.s.time.nanos() >= r.expires || !r.ns.valid() || !allValid(r.tags()) {
				return false
			}
			it := c.itemOf(r)
			return it != nil && !yield(it.key, c.info(r))
		})
	}
}

// Namespace describes a cache of a store to somebody who does not know its
// types, such as a page for operators.
type Namespace struct {
	Name   string        `json:"name"`
	Key    string        `json:"key"`   // the Go type, such as "string"
	Value  string        `json:"value"` // the Go type
	Codec  uint8         `json:"codec"`
	Schema uint16        `json:"schema"`
	TTL    time.Duration `json:"ttl_ns"`
	L1TTL  time.Duration `json:"l1_ttl_ns"` // 0: as long as the TTL
	Stats  CacheStats    `json:"stats"`
}

// Namespaces describes the store's caches, by name.
func (s *Store) Namespaces() []Namespace {
	have := s.census()
	var all []Namespace
	for _, c := range s.namespaces() {
		n := c.describe()
		n.Stats = c.counted()
		n.Stats.Entries, n.Stats.L1Bytes = have[c.reserved()].entries, have[c.reserved()].bytes
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b Namespace) int { return strings.Compare(a.Name, b.Name) })
	return all
}

func (c *Cache[K, V]) describe() Namespace {
	return Namespace{Name: c.name, Key: reflect.TypeFor[K]().String(), Value: reflect.TypeFor[V]().String(),
		Codec: c.codec.ID(), Schema: c.schema, TTL: c.defaults.ttl, L1TTL: c.defaults.l1ttl}
}

// Inspect is [Cache.Inspect] for a key's text: what an integer key prints as,
// or the string itself. It fails with [ErrNamespace] if the store has no such
// cache, and with [ErrKey] if the text is no key of it.
func (s *Store) Inspect(ctx context.Context, namespace, key string) (Inspection, error) {
	c, err := s.named(namespace)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect: %w", err)
	}
	return c.inspectText(ctx, key)
}

// InvalidateKey is [Cache.Delete] for a key's text; see [Store.Inspect].
func (s *Store) InvalidateKey(ctx context.Context, namespace, key string) error {
	c, err := s.named(namespace)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	return c.deleteText(ctx, key)
}

// Clear is [Cache.Clear] for a namespace by name; see [Store.Inspect].
func (s *Store) Clear(ctx context.Context, namespace string) error {
	c, err := s.named(namespace)
	if err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	return c.Clear(ctx)
}

// InvalidatePrefix is [Cache.InvalidatePrefix] for a namespace by name; see
// [Store.Inspect].
func (s *Store) InvalidatePrefix(ctx context.Context, namespace, prefix string) (n int, err error) {
	c, err := s.named(namespace)
	if err != nil {
		return 0, fmt.Errorf("invalidate prefix: %w", err)
	}
	return c.InvalidatePrefix(ctx, prefix)
}

func (s *Store) named(name string) (namespace, error) {
	if s.isClosed() {
		return nil, ErrClosed
	}
	if c := s.cache(name); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("%w %.80q", ErrNamespace, name)
}

func (c *Cache[K, V]) inspectText(ctx context.Context, text string) (Inspection, error) {
	key, err := c.keyOf(text)
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect %s: %w", c.name, err)
	}
	return c.Inspect(ctx, key)
}

func (c *Cache[K, V]) deleteText(ctx context.Context, text string) error {
	key, err := c.keyOf(text)
	if err != nil {
		return fmt.Errorf("delete %s: %w", c.name, err)
	}
	return c.remove(ctx, key)
}

func (c *Cache[K, V]) keyOf(text string) (K, error) {
	key, ok := parseKey[K](text)
	if !ok || text == "" {
		return key, fmt.Errorf("%w: %.80q is not a key of type %T", ErrKey, text, key)
	}
	return key, nil
}
