package tiered

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// outbox holds the writes of [Async] that Redis has not been told of yet: the
// newest of each key, in the order in which the keys came. One goroutine sends
// them in batches. Who reads or writes the key in Redis by other means waits for
// it, so that nothing older is read and nothing newer is overtaken.
type outbox struct {
	mu    sync.Mutex
	keys  map[outKey]*posting // queued, or on its way
	queue []*posting          // queued
	bytes int                 // of those queued or on their way
	shut  bool
	kick  chan struct{}
	size  atomic.Int64 // of keys; read without the lock
}

type outKey struct{ ns, key string }

// posting is a write that waits to be sent. The fields are guarded by the
// outbox's lock until it is sent; then they do not change.
type posting struct {
	at      outKey
	version uint64 // refused by Redis if what it has is newer
	call    *call
	size    int
	sent    bool
	settle  func(version uint64, err error) // version 0: refused, or not sent
	done    chan struct{}                   // closed once it has been settled
}

const (
	maxPosted      = 4096
	maxPostedBytes = 16 << 20
	postBatch      = 128
	postBatchBytes = 1 << 20
)

func newOutbox() *outbox {
	return &outbox{keys: make(map[outKey]*posting), kick: make(chan struct{}, 1)}
}

// post queues a write in place of the key's that is queued. If one is on its
// way it returns that, which is to be awaited first; ok is false if there is no
// room.
func (b *outbox) post(p *posting) (ahead *posting, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have, size := b.keys[p.at], p.size
	if have != nil {
		if have.sent {
			return have, false
		}
		size -= have.size
	}
	if b.shut || have == nil && len(b.keys) >= maxPosted || b.bytes+size > maxPostedBytes {
		return nil, false
	}
	b.bytes += size
	if have != nil {
		have.version, have.call, have.size, have.settle = p.version, p.call, p.size, p.settle
		return nil, true
	}
	p.done = make(chan struct{})
	b.keys[p.at] = p
	b.size.Store(int64(len(b.keys)))
	b.queue = append(b.queue, p)
	select {
	case b.kick <- struct{}{}:
	default:
	}
	return nil, true
}

// take returns the next writes to send.
func (b *outbox) take() (batch []*posting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	size, n := 0, 0
	for n < len(b.queue) && n < postBatch && (n == 0 || size+b.queue[n].size <= postBatchBytes) {
		b.queue[n].sent = true
		size += b.queue[n].size
		n++
	}
	batch = b.queue[:n:n]
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	return batch
}

func (b *outbox) settled(p *posting) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.keys, p.at)
	b.size.Store(int64(len(b.keys)))
	b.bytes -= p.size
	close(p.done)
}

func (b *outbox) of(ns, key string) *posting {
	if b.idle() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.keys[outKey{ns, key}]
}

// floor is the version of the key's queued write, 0 if there is none.
func (b *outbox) floor(ns, key string) uint64 {
	if b.idle() {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.keys[outKey{ns, key}]; p != nil {
		return p.version
	}
	return 0
}

// await waits until the posting, which may be nil, has been settled.
func (p *posting) await(ctx context.Context) error {
	if p == nil {
		return nil
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errCaller, ctx.Err())
	}
}

// sent waits until Redis has been told what is queued of the key.
func (c *Cache[K, V]) sent(ctx context.Context, skey string) error {
	if c.s.l2 == nil {
		return nil
	}
	return c.s.outbox.of(c.name, skey).await(ctx)
}

// allSent is sent for many keys, which may be none of theirs.
func (c *Cache[K, V]) allSent(ctx context.Context, keys []K) error {
	if c.s.l2 == nil || c.s.outbox.idle() {
		return nil
	}
	for _, key := range keys {
		if err := c.sent(ctx, keyString(key)); err != nil {
			return err
		}
	}
	return nil
}

func (b *outbox) idle() bool { return b.size.Load() == 0 }

// drained waits until all that is queued now has been settled.
func (b *outbox) drained(ctx context.Context) error {
	b.mu.Lock()
	all := make([]*posting, 0, len(b.keys))
	for _, p := range b.keys {
		all = append(all, p)
	}
	b.mu.Unlock()
	for _, p := range all {
		if err := p.await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// close waits until the outbox is empty. What is left when ctx ends is lost,
// see recovery, or is on its way and may be; the error says how many those are.
func (b *outbox) close(ctx context.Context) (err error) {
	_ = b.drained(ctx) // said by what follows
	b.mu.Lock()
	b.shut = true
	if n := len(b.keys); n > 0 && ctx.Err() != nil {
		err = fmt.Errorf("close cache: redis may not have been told of %d writes of Async: %w", n, ctx.Err())
	}
	left := b.queue
	b.queue = nil
	for _, p := range left {
		p.sent = true
	}
	b.mu.Unlock()
	for _, p := range left {
		p.settle(0, ErrUnavailable)
		b.settled(p)
	}
	return err
}

// floor is what Redis's entry of a key must exceed to be believed here: it is
// not if it was written before what Redis has not been told of yet.
func (s *Store) floor(ns, key string) uint64 {
	if s.l2 == nil {
		return 0
	}
	return max(s.lost.floor(ns, key), s.outbox.floor(ns, key))
}

// deliver sends what is queued, until ctx ends.
func (s *Store) deliver(ctx context.Context) {
	for {
		select {
		case <-s.outbox.kick:
		case <-ctx.Done():
			_ = s.outbox.close(ctx) // nobody else sends it; Close has said so
			return
		}
		for batch := s.outbox.take(); len(batch) > 0; batch = s.outbox.take() {
			s.send(ctx, batch)
		}
	}
}

// send tells Redis of a batch in one round trip, each write with its own result.
func (s *Store) send(ctx context.Context, batch []*posting) {
	calls := make([]*call, 0, len(batch))
	for _, p := range batch {
		if s.lost.floor(p.at.ns, p.at.key) > p.version {
			p.call = nil // a later write of this process is lost, and will be replayed
			continue
		}
		calls = append(calls, p.call)
	}
	var err error
	if len(calls) > 0 {
		err = s.l2.do(ctx, "async", func(ctx context.Context) error { return runAll(ctx, s.l2.c, calls) })
	}
	for _, p := range batch {
		version, failed := uint64(0), error(nil)
		if p.call != nil {
			if failed = p.call.outcome(err); failed == nil {
				version, failed = p.call.cmd.Uint64()
			}
		}
		p.settle(version, failed)
		s.outbox.settled(p)
	}
}
