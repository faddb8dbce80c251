package tiered

import (
	"context"
	"errors"
	"time"
)

// read asks Redis for the key. Nil and no error is a miss, and unwanted is the
// version of what is there nevertheless. A suspect record saves reading the
// value again if Redis still has its version, and is what is served if Redis
// does not answer. What is past its TTL but may be served stale becomes the
// flight's.
func (c *Cache[K, V]) read(ctx context.Context, h uint64, f *flight[K, V], key K, o *entryConfig, suspect *record) (it *item[K, V], unwanted uint64, err error) {
	skey := keyString(key)
	if err := c.sent(ctx, skey); err != nil {
		return nil, 0, err
	}
	full := c.s.l2.dataKey(c.name, skey)
	if suspect != nil {
		current, err := c.revalidate(ctx, full, skey, suspect)
		if current || errors.Is(err, ErrUnavailable) {
			return c.itemOf(suspect), 0, nil
		}
		if err != nil {
			return nil, 0, err
		}
		c.dropSuspect(h, suspect)
	}
	q := c.asking(skey)
	b, err := c.s.l2.get(ctx, full)
	if err != nil {
		return nil, 0, err
	}
	it, r, unwanted := c.decode(ctx, full, skey, key, b, o, q)
	if it == nil {
		f.reconsider(r, unwanted, q.epoch)
		c.m.l2Misses.Add(1)
		return nil, unwanted, nil
	}
	c.m.l2Hits.Add(1)
	f.unsure = c.s.deaf()
	c.keep(h, f, r, o)
	return it, 0, nil
}

// revalidate asks Redis by a header whether a record is still current, and if
// so stamps it with the epoch from before the question, unless it was doubted
// since.
func (c *Cache[K, V]) revalidate(ctx context.Context, full, skey string, r *record) (current bool, err error) {
	q := c.asking(skey)
	question := asked | c.s.questions.Add(1)
	if q.epoch != 0 {
		r.epoch.Store(question)
	}
	b, err := c.s.l2.header(ctx, full)
	if err != nil {
		return false, err
	}
	hd, perr := parseHeader(b)
	same := perr == nil && !hd.tombstone() && hd.version == r.version && hd.key == keyHash(full) &&
		hd.version > max(q.floor, c.s.floor(c.name, skey))
	if !same {
		return false, nil
	}
	cells := []*tagCell{r.ns.cell}
	for _, t := range r.tags() {
		cells = append(cells, t.cell)
	}
	if err := c.s.current(ctx, cells); err != nil {
		return false, err
	}
	if !r.ns.valid() || !allValid(r.tags()) {
		return false, nil
	}
	if q.epoch != 0 {
		r.epoch.CompareAndSwap(question, q.epoch)
	}
	c.m.revalidated.Add(1)
	return true, nil
}

func (c *Cache[K, V]) dropSuspect(h uint64, r *record) {
	st := c.s.stripes.of(h)
	st.mu.Lock()
	defer st.mu.Unlock()
	c.s.l1.drop(h, r.version+1)
}

// asking is how things stand when Redis is asked about a key. What it answers may
// be from before a write that it was told of only then: so the floor of that
// moment counts, not just that of the answer's.
type asking struct {
	epoch uint64 // of the backplane, 0: incoherent
	floor uint64 // what an entry must exceed
}

func (c *Cache[K, V]) asking(skey string) asking {
	return asking{epoch: c.s.coherent(), floor: c.s.floor(c.name, skey)}
}

// decode makes an item and a record of an entry, or says by unwanted which
// version is of no use. Whatever is wrong with an entry, it is a miss. One that
// is past its TTL has no item, but a record if it may be served stale.
func (c *Cache[K, V]) decode(ctx context.Context, full, skey string, key K, b []byte, o *entryConfig, q asking) (it *item[K, V], r *record, unwanted uint64) {
	if len(b) == 0 {
		return nil, nil, 0
	}
	u := unchecked{at: c.s.instant()}
	if unwanted = c.examine(&u, full, skey, b, o, q); !u.sound {
		return nil, nil, unwanted
	}
	cells := make([]*tagCell, 1, 1+len(u.p.tags))
	cells[0] = c.ns
	for _, t := range u.p.tags {
		cells = append(cells, t.cell)
	}
	if c.s.current(ctx, cells) != nil {
		return nil, nil, unwanted // cannot be known to be valid
	}
	return c.conclude(&u, skey, key, o, unwanted)
}

// unchecked is an entry that is sound, and whose tags are to be checked.
type unchecked struct {
	e     wireEntry
	sound bool // if not the entry is of no use
	p     placement
	left  int64 // µs of its TTL
	at    instant
}

// examine decides what an entry alone tells.
func (c *Cache[K, V]) examine(u *unchecked, full, skey string, b []byte, o *entryConfig, q asking) (unwanted uint64) {
	if len(b) == 0 {
		return 0
	}
	unwanted = min(peekVersion(b), maxVersion)
	now, e := u.at.redis, &u.e
	if reason := c.accept(e, b, full, uint64(now+dayMicros)); reason != "" {
		c.refuse(skey, unwanted, reason)
		return unwanted
	}
	if floor := max(q.floor, c.s.floor(c.name, skey)); e.tombstone() || e.version <= floor {
		return max(unwanted, floor)
	}
	left := e.left(now)
	grace := time.Duration(e.hard-e.soft) * time.Microsecond
	keep := min(grace, o.failSafe)
	if left+int64(keep/time.Microsecond) <= 0 || left <= 0 && e.negative() {
		return unwanted
	}
	u.sound, u.left = true, left
	u.p = placement{epoch: q.epoch, ns: tagRef{cell: c.ns, version: e.nsVersion}, skipL1: o.skipL1, grace: grace}
	if len(e.tags) > 0 {
		u.p.tags = make([]tagRef, len(e.tags))
	}
	for i, t := range e.tags {
		u.p.tags[i] = tagRef{cell: c.s.tags.get(tagKey(c.s.prefix, t.name), c.s.tick), version: t.version}
	}
	return unwanted
}

// conclude decides what remains, once the tags are as current as they can be.
func (c *Cache[K, V]) conclude(u *unchecked, skey string, key K, o *entryConfig, version uint64) (it *item[K, V], r *record, unwanted uint64) {
	e, p := &u.e, &u.p
	if !c.agrees(p.ns, u.at.redis) {
		return nil, nil, version
	}
	for _, ref := range p.tags {
		if !c.agrees(ref, u.at.redis) {
			return nil, nil, version
		}
	}
	kept := &holding[K, V]{item: item[K, V]{key: key, note: noteOf(e.negative(), e.etag)}}
	it = &kept.item
	if !it.missing() {
		if err := unmarshal(c.codec, e.raw, &it.value); err != nil {
			c.refuse(skey, version, CorruptValue)
			return nil, nil, version
		}
	}
	ttl := time.Duration(u.left) * time.Microsecond
	mono := u.at.mono // its life is not longer for what has been asked since
	p.local, p.soft, p.hard = mono+int64(o.local(ttl)), mono+int64(ttl), mono+int64(ttl+p.grace)
	p.refresh = o.refreshAt(p.soft, time.Duration(e.life(u.left))*time.Microsecond, time.Duration(e.cost)*time.Microsecond)
	r = c.hold(kept, p, e.version, true)
	if u.left <= 0 {
		return nil, r, version
	}
	return it, r, 0
}

// agrees reports whether an entry's tag is as it is now. The entry may show
// that somebody has seen a newer version than this process was told of yet.
func (c *Cache[K, V]) agrees(ref tagRef, now int64) bool {
	if ref.version > ref.cell.version.Load() && ref.version < uint64(now+dayMicros) {
		ref.cell.raise(ref.version)
	}
	return ref.valid()
}

// accept parses an entry of this cache into e, or says why it is none.
func (c *Cache[K, V]) accept(e *wireEntry, b []byte, full string, future uint64) CorruptReason {
	err := e.parse(b, keyHash(full))
	switch {
	case errors.Is(err, errForeign):
		return CorruptForeign
	case err != nil:
		return CorruptDamaged
	case e.version > future:
		return CorruptFuture
	case e.tombstone():
		return ""
	case e.schema != c.schema:
		return CorruptSchema
	case e.codec != c.codec.ID() && !e.negative():
		return CorruptCodec
	}
	return ""
}

const dayMicros = int64(24 * time.Hour / time.Microsecond)
