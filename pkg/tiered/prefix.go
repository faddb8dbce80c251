package tiered

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

const (
	scanCount   = 512 // keys that a SCAN looks at
	prefixBatch = 128 // keys deleted in one round trip
)

// InvalidatePrefix deletes every entry whose key's text begins with prefix, in
// both tiers and in all processes, as Delete would one by one: loads of them
// that are under way anywhere are not stored. It returns how many entries
// Redis had of them, or memory if there is no Redis. It is for operators: give
// entries that shall be invalidated together a tag, which takes one step.
//
// It is slow. It looks at all keys of all masters of Redis, twice, by SCAN of
// 512 and deletes in batches of 128, so that nobody else has to wait long:
// about a second for each million keys and pass, on a server nearby. What was
// deleted leaves a tombstone of some 100 bytes for two minutes. While a Cluster
// moves slots it may miss entries in them; repeat it then.
//
// If ctx ends or Redis fails before it is done, it returns what has been
// deleted so far, with the error, also if Redis is not required: call it again,
// or Clear. This process's memory has none of the entries in any case. An empty
// prefix, or keys that are not strings, are [ErrKey].
func (c *Cache[K, V]) InvalidatePrefix(ctx context.Context, prefix string) (n int, err error) {
	switch {
	case c.s.isClosed():
		return 0, fmt.Errorf("invalidate prefix %s: %w", c.name, ErrClosed)
	case reflect.TypeFor[K]().Kind() != reflect.String:
		return 0, fmt.Errorf("invalidate prefix %s: %w: its keys are no strings", c.name, ErrKey)
	case prefix == "":
		return 0, fmt.Errorf("invalidate prefix %s: %w: the prefix is empty (Clear drops the whole namespace)", c.name, ErrKey)
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("invalidate prefix %s: %w", c.name, err)
	}
	c.m.invalidations.Add(1)
	if c.s.l2 != nil {
		if err := c.s.outbox.drained(ctx); err != nil { // a scan does not find what is queued
			return 0, fmt.Errorf("invalidate prefix %s: %w", c.name, err)
		}
	}
	n = c.forgetPrefix(prefix)
	version := c.s.tick()
	if c.s.l2 != nil {
		n, err = c.deletePrefix(ctx, prefix)
		// Again: a read that began in between may have found the old entry.
		c.forgetPrefix(prefix)
		version = c.s.tick()
		// Others have been told of each key that Redis had. They may have more
		// in memory: told of also if not all could be deleted.
		if perr := c.s.l2.publish(context.WithoutCancel(ctx), 'p', c.name+" "+prefix, version); err == nil {
			err = perr
		}
	}
	tell(c.s.hooks, c.s.hooks.OnInvalidate, InvalidateEvent{Namespace: c.name, Prefix: prefix, Version: version})
	if err != nil {
		return n, fmt.Errorf("invalidate prefix %s: %d deleted, not all: %w", c.name, n, err)
	}
	return n, nil
}

// forgetPrefix drops the entries from memory and keeps loads under way from
// storing theirs. Those first: what they have stored already is found after.
func (c *Cache[K, V]) forgetPrefix(prefix string) (n int) {
	begins := func(key K) bool { return strings.HasPrefix(keyString(key), prefix) }
	for i := range c.flights {
		st := &c.s.stripes[i]
		st.mu.Lock()
		f := &c.flights[i]
		for _, m := range []map[K]*flight[K, V]{f.loads, f.reads} {
			for key := range m {
				if begins(key) {
					f.spoil(key, always)
				}
			}
		}
		st.mu.Unlock()
	}
	if c.s.l1 == nil {
		return 0
	}
	c.s.l1.pass(func(hash uint64, r *record) (stop bool) {
		if it := c.itemOf(r); it != nil && begins(it.key) {
			if c.s.l1.get(hash) != nil {
				n++
			}
			c.forget(hash, it.key, 0)
		}
		return false
	})
	return n
}

// deletePrefix deletes in Redis. Two passes: SCAN promises to return what is
// there all the while. A load that began before has a lease all through the
// first pass, or stores its entry in it; that is there all through the second.
func (c *Cache[K, V]) deletePrefix(ctx context.Context, prefix string) (int, error) {
	var n atomic.Int64
	for range 2 {
		err := c.s.l2.scan(ctx, c.name, prefix, func(ctx context.Context, keys []string) error {
			deleted, err := c.deleteTexts(ctx, keys)
			n.Add(int64(deleted))
			return err
		})
		if err != nil {
			return int(n.Load()), err
		}
	}
	return int(n.Load()), nil
}

// deleteTexts deletes keys in one round trip, where there is an entry or a load.
func (c *Cache[K, V]) deleteTexts(ctx context.Context, texts []string) (n int, err error) {
	calls := make([]*call, len(texts))
	for i, text := range texts {
		key, _ := parseKey[K](text) // a string, which any text is
		calls[i] = c.s.l2.prefixCall(c.name, text, c.versionOf(c.hash(key), text))
	}
	err = c.s.l2.do(ctx, "deleteprefix", func(ctx context.Context) error { return runAll(ctx, c.s.l2.c, calls) })
	for i, text := range texts {
		cmd := calls[i].cmd
		if cmd == nil || cmd.Err() != nil {
			continue
		}
		answer, aerr := cmd.Int64Slice()
		if aerr != nil || len(answer) != 2 || answer[0] <= 0 {
			continue
		}
		version := uint64(answer[0])
		n += int(answer[1])
		atomicMax(&c.s.hlc, version)
		c.s.lost.told(c.name, text, version)
		key, _ := parseKey[K](text)
		c.forget(c.hash(key), key, version)
	}
	return n, err
}

// dropPrefix applies another process's InvalidatePrefix.
func (c *Cache[K, V]) dropPrefix(prefix string, version uint64) {
	c.forgetPrefix(prefix)
	tell(c.s.hooks, c.s.hooks.OnInvalidate, InvalidateEvent{Namespace: c.name, Prefix: prefix, Version: version, Remote: true})
}

func (r *remote) prefixCall(ns, key string, min uint64) *call {
	full := r.dataKey(ns, key)
	head, tail := r.message('k', ns+" "+key)
	return &call{script: scriptPrefix, keys: []string{full, r.leaseKey(ns, key)},
		args: []any{r.tombstone(full, 1), tombstoneTTL.Milliseconds(), text(min), r.channel, head, tail}}
}

// publish tells the other stores something that no script tells them.
func (r *remote) publish(ctx context.Context, op byte, name string, version uint64) error {
	head, tail := r.message(op, name)
	return r.do(ctx, "publish", func(ctx context.Context) error {
		return r.c.Publish(ctx, r.channel, head+text(version)+tail).Err()
	})
}

// scan finds the keys of a namespace that begin with prefix and are stored or
// being loaded, on every master, and gives them to found in batches; of a
// Cluster's masters at the same time.
func (r *remote) scan(ctx context.Context, ns, prefix string, found func(context.Context, []string) error) error {
	// One pattern for both: the lease's key has "l:" more in front.
	pattern := globEscape(r.prefix) + ":*{" + globEscape(ns+":"+escape(prefix)) + "*"
	one := func(ctx context.Context, c redis.Cmdable) error {
		for cursor := uint64(0); ; {
			var page []string
			err := r.do(ctx, "scan", func(ctx context.Context) (err error) {
				page, cursor, err = c.Scan(ctx, cursor, pattern, scanCount).Result()
				return err
			})
			if err != nil {
				return err
			}
			keys := r.keysOf(ns, page)
			for len(keys) > 0 {
				batch := keys[:min(len(keys), prefixBatch)]
				keys = keys[len(batch):]
				if err := found(ctx, batch); err != nil {
					return err
				}
			}
			if cursor == 0 {
				return nil
			}
		}
	}
	switch c := r.c.(type) {
	case *redis.ClusterClient:
		return c.ForEachMaster(ctx, func(ctx context.Context, m *redis.Client) error { return one(ctx, m) })
	case *redis.Ring:
		return c.ForEachShard(ctx, func(ctx context.Context, m *redis.Client) error { return one(ctx, m) })
	}
	return one(ctx, r.c)
}

// keysOf are the texts of the keys, each once, whose data or lease is in page.
func (r *remote) keysOf(ns string, page []string) []string {
	data, lease := strings.TrimSuffix(r.dataKey(ns, ""), "}"), strings.TrimSuffix(r.leaseKey(ns, ""), "}")
	seen := make(map[string]struct{}, len(page))
	var keys []string
	for _, full := range page {
		rest, ok := strings.CutPrefix(full, data)
		if !ok {
			rest, ok = strings.CutPrefix(full, lease)
		}
		rest, closed := strings.CutSuffix(rest, "}")
		if !ok || !closed {
			continue // a tag with an odd name, or somebody else's
		}
		key := unescaper.Replace(rest)
		if _, twice := seen[key]; !twice {
			seen[key] = struct{}{}
			keys = append(keys, key)
		}
	}
	return keys
}

var unescaper = strings.NewReplacer("%7B", "{", "%7D", "}", "%25", "%")

// globEscape makes a text match itself alone in Redis's patterns.
func globEscape(s string) string { return globEscaper.Replace(s) }

var globEscaper = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `^`, `\^`)
