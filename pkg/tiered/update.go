package tiered

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// updateTries bounds how often Update calls its function.
	updateTries = 32
	// updateWait is the longest pause after the first conflict; it doubles with
	// each, up to updateMaxWait.
	updateWait    = time.Millisecond
	updateMaxWait = 64 * time.Millisecond
	// resolveTries bounds how often a write whose answer was lost is repeated.
	resolveTries = 8
	// operationTTL is how long Redis knows that an operation was made. What has
	// taken half as long is not repeated.
	operationTTL = time.Minute
)

// Update changes the value of key by what change makes of it, and returns what
// it stored. No update of the same key is lost, in any process: change is
// called with what Redis has, never with what only memory has, and its result
// is stored only if nothing was written meanwhile, be it by Set, Delete,
// Expire, another Update, a load, or an invalidation of one of the entry's
// tags that this process has heard of. (One that it has not heard of yet
// invalidates what is stored.) Otherwise change is called again after a random
// pause of up to 1 ms, then 2, 4, … 64; after 32 calls in vain Update returns
// [ErrConflict].
//
// Exists is false, and old the zero value, if there is no entry, or one past
// its TTL, deleted, invalidated, unreadable or of [ErrNotFound]. Change must
// not alter what old points to unless the cache has [WithCloner]. If it fails,
// its error is returned and nothing is stored.
//
// The new entry has a TTL of its own, and the tags of the options beside those
// that the old one had. It is written as by Set: everybody else forgets theirs.
//
// A write whose answer was lost is repeated under the same number, by which
// Redis knows it if it was made: it is made once. If that cannot be found out,
// because the connection stays broken or ctx has ended, the error is
// [ErrUncertain]. Redis is needed in any store that has one: if it is away the
// error is [ErrUnavailable], for a change made without the others would undo
// theirs. With [SkipL2], or in a store without Redis, Update works on this
// process's memory and never fails so.
func (c *Cache[K, V]) Update(ctx context.Context, key K, change func(ctx context.Context, old V, exists bool) (V, error), opts ...EntryOption) (V, error) {
	v, err := c.update(ctx, key, change, opts)
	if err != nil {
		return v, fmt.Errorf("update %s: %w", c.name, err)
	}
	return v, nil
}

func (c *Cache[K, V]) update(ctx context.Context, key K, change func(context.Context, V, bool) (V, error), opts []EntryOption) (V, error) {
	var zero V
	o := c.defaults.with(opts)
	if err := c.check(key, &o); err != nil {
		return zero, err
	}
	if change == nil {
		return zero, errors.New("the function that changes the value is nil")
	}
	h := c.hash(key)
	try := c.updateThere
	if c.s.l2 == nil || o.skipL2 {
		try = c.updateHere
	}
	for n := range updateTries {
		if err := backOff(ctx, n); err != nil {
			return zero, err
		}
		it, err := try(ctx, h, key, &o, change)
		if err != nil {
			return zero, err
		}
		if it != nil {
			return c.open(it)
		}
	}
	return zero, ErrConflict
}

// backOff waits before the nth repetition, and tells whether to make it.
func backOff(ctx context.Context, n int) error {
	if n == 0 {
		return ctx.Err()
	}
	pause := time.NewTimer(rand.N(min(updateWait<<min(n-1, 16), updateMaxWait)))
	defer pause.Stop()
	select {
	case <-pause.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// updateThere tries an update once. Nil and no error is a conflict.
func (c *Cache[K, V]) updateThere(ctx context.Context, h uint64, key K, o *entryConfig, change func(context.Context, V, bool) (V, error)) (*item[K, V], error) {
	skey := keyString(key)
	if err := c.sent(ctx, skey); err != nil {
		return nil, err
	}
	full := c.s.l2.dataKey(c.name, skey)
	began := time.Now()
	old, p, header, err := c.readForUpdate(ctx, full, skey, key, o)
	if err != nil {
		return nil, err
	}
	it, err := c.change(ctx, key, old, change)
	if err != nil {
		return nil, err
	}
	if err := checkTags(p.tags); err != nil {
		return nil, err
	}
	raw, err := c.encode(it)
	if err != nil {
		return nil, err
	}
	if !p.valid() {
		return nil, nil
	}
	if header == "" && time.Since(began) > tombstoneTTL/2 {
		// Something may have been written and deleted meanwhile without a trace.
		return nil, ErrConflict
	}
	p.expire(c.s, o, o.effectiveTTL(false), o.failSafe)
	// What was lost here before will be replayed as a delete of what is up to
	// replaySkew newer: not of this.
	least := c.versionOf(h, skey)
	if floor := c.s.lost.floor(c.name, skey); floor > 0 {
		least = max(least, floor+replaySkew)
	}
	version, err := c.exchange(ctx, &exchange{
		ns: c.name, key: skey, entry: c.entry(skey, raw, false, &p, 1), ttl: p.ttl + p.grace, least: least, header: header,
	})
	if errors.Is(err, ErrUncertain) {
		c.forget(h, key, 0) // Redis alone knows, and tells when it is asked
	}
	if err != nil || version == 0 {
		return nil, err
	}
	atomicMax(&c.s.hlc, version)
	c.s.lost.told(c.name, skey, version)
	c.keepSet(h, it, &p, version, true)
	return it, nil
}

// readForUpdate reads an entry and its tags, all from Redis: a message may be
// on its way. p has the tags that the next entry depends on. Header is empty if
// nothing is stored at all.
func (c *Cache[K, V]) readForUpdate(ctx context.Context, full, skey string, key K, o *entryConfig) (old *item[K, V], p placement, header string, err error) {
	q := c.asking(skey)
	cells := c.cells(o)
	get := &call{script: scriptRead, keys: []string{full}}
	if err := c.s.l2.readTags(ctx, cells, q.epoch, get); err != nil {
		return nil, p, "", err
	}
	s, err := get.cmd.Text()
	if err != nil {
		return nil, p, "", err
	}
	header = s[:min(len(s), headerLen)]
	p = placement{epoch: q.epoch, skipL1: o.skipL1, known: true}
	p.under(cells)

	fresh := *o
	fresh.failSafe = 0
	was := unchecked{at: c.s.instant()}
	unwanted := c.examine(&was, full, skey, []byte(s), &fresh, q)
	if !was.sound {
		return nil, p, header, nil
	}
	var unread []*tagCell
	for _, ref := range was.p.tags {
		if !refersTo(p.tags, ref.cell) {
			unread = append(unread, ref.cell)
		}
	}
	if len(unread) > 0 {
		if err := c.s.l2.readTags(ctx, unread, q.epoch); err != nil {
			return nil, p, "", err
		}
	}
	if old, _, _ = c.conclude(&was, skey, key, &fresh, unwanted); old == nil || old.missing() {
		return nil, p, header, nil
	}
	p.inherit(was.p.ns, was.p.tags)
	return old, p, header, nil
}

// inherit makes an entry depend on what the one before depends on, in the same
// versions, so that it is not valid if that was not.
func (p *placement) inherit(ns tagRef, tags []tagRef) {
	own := p.tags
	p.ns, p.tags = ns, append([]tagRef(nil), tags...)
	for _, ref := range own {
		if !refersTo(p.tags, ref.cell) {
			p.tags = append(p.tags, ref)
		}
	}
}

func refersTo(tags []tagRef, cell *tagCell) bool {
	for _, ref := range tags {
		if ref.cell == cell {
			return true
		}
	}
	return false
}

func checkTags(tags []tagRef) error {
	if len(tags) > maxTags {
		return fmt.Errorf("tiered: %d tags with those that the entry had: want at most %d", len(tags), maxTags)
	}
	return nil
}

// change calls the caller's function.
func (c *Cache[K, V]) change(ctx context.Context, key K, old *item[K, V], change func(context.Context, V, bool) (V, error)) (*item[K, V], error) {
	var v V
	if old != nil {
		v, _ = c.open(old)
	}
	v, err := change(ctx, v, old != nil)
	if err != nil {
		return nil, err
	}
	if c.clone != nil {
		v = c.clone(v) // he may go on changing his
	}
	return &item[K, V]{key: key, value: v}, nil
}

// updateHere tries an update once, in memory only.
func (c *Cache[K, V]) updateHere(ctx context.Context, h uint64, key K, o *entryConfig, change func(context.Context, V, bool) (V, error)) (*item[K, V], error) {
	p := c.place(ctx, o, o.ttl)
	r, old := c.inMemory(h, key)
	if old != nil {
		p.inherit(r.ns, r.tags())
	}
	it, err := c.change(ctx, key, old, change)
	if err != nil {
		return nil, err
	}
	if err := checkTags(p.tags); err != nil {
		return nil, err
	}
	p.expire(c.s, o, o.effectiveTTL(false), o.failSafe)
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	if now, _ := c.inMemory(h, key); now != r || !p.valid() {
		return nil, nil
	}
	c.putSet(st, h, it, &p, c.s.tick(), false)
	return it, nil
}

// inMemory is what Get would serve from memory, nil if nothing; a miss that is
// known is a record without an item.
func (c *Cache[K, V]) inMemory(h uint64, key K) (*record, *item[K, V]) {
	if c.s.l1 == nil || c.s.isClosed() {
		return nil, nil
	}
	r := c.s.l1.get(h)
	it, _ := c.servedBy(r, key)
	if it == nil {
		return nil, nil
	}
	if it.missing() {
		it = nil
	}
	return r, it
}

// exchange is a write in place of exactly what was read.
type exchange struct {
	ns, key string
	entry   []byte
	ttl     time.Duration
	least   uint64 // the version is above it
	header  string // of what was read
	field   string // of the operation, and its number
	number  uint64
	sent    bool
}

// exchange makes the write, and repeats it until it knows whether it was made.
// Version 0 means that it was not, for something was written since.
func (c *Cache[K, V]) exchange(ctx context.Context, x *exchange) (version uint64, err error) {
	slot := c.s.ops.take()
	defer c.s.ops.give(slot)
	x.field, x.number = c.s.l2.origin+":"+strconv.Itoa(slot), c.s.ops.number()
	began := time.Now()
	for n := range resolveTries {
		if n > 0 && (time.Since(began) > operationTTL/2 || backOff(ctx, n+2) != nil) {
			break
		}
		version, err = c.s.l2.exchange(ctx, x)
		var refused redis.Error
		if err == nil || errors.As(err, &refused) || n == 0 && !x.sent {
			return version, err
		}
	}
	return 0, fmt.Errorf("%w: %w", ErrUncertain, err)
}

func (r *remote) operationsKey(ns, key string) string {
	return r.prefix + ":u:{" + ns + ":" + escape(key) + "}"
}

func (r *remote) exchange(ctx context.Context, x *exchange) (version uint64, err error) {
	head, tail := r.message('k', x.ns+" "+x.key)
	// Not as its own: if the answer is lost, this process learns of it so.
	head = "1 k " + r.origin + "/u" + head[len("1 k ")+len(r.origin):]
	err = r.do(ctx, "update", func(ctx context.Context) (err error) {
		x.sent = true
		version, err = scriptUpdate.Run(ctx, r.c,
			[]string{r.dataKey(x.ns, x.key), r.leaseKey(x.ns, x.key), r.operationsKey(x.ns, x.key)},
			x.entry, millis(x.ttl), text(x.least), r.channel, head, tail, x.header, x.field, text(x.number), operationTTL.Milliseconds()).Uint64()
		return err
	})
	return version, err
}

// operations number the updates of a store. Each has a slot while it is under
// way, and Redis remembers the last number of each slot and key. So its memory
// is bounded by how many updates a process makes at a time, not by how many in
// all, and an operation finds its own number however many others came after it.
type operations struct {
	mu   sync.Mutex
	free []int
	next int    // slot
	last uint64 // number
}

func (o *operations) take() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if n := len(o.free); n > 0 {
		slot := o.free[n-1]
		o.free = o.free[:n-1]
		return slot
	}
	o.next++
	return o.next - 1
}

func (o *operations) give(slot int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.free = append(o.free, slot)
}

func (o *operations) number() uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last++
	return o.last
}
