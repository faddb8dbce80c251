package tiered

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
	"unsafe"
)

// placement is where, for how long and under which tag versions a value goes.
type placement struct {
	ttl     time.Duration // until the soft expiry
	grace   time.Duration // from there to the hard one
	local   int64         // nanos until which memory serves it
	soft    int64         // nanos
	hard    int64         // nanos
	cost    time.Duration // of the load; 0 if unknown
	refresh int64         // nanos
	epoch   uint64
	ns      tagRef
	tags    []tagRef
	etag    string
	known   bool // the tag versions are Redis's, so that others will believe them
	skipL1  bool
	began   int64 // nanos at which its life begins
	started int64 // µs of Redis's clock, the same
}

// place takes the snapshot of tag versions, which must happen before the value
// is read from its source.
func (c *Cache[K, V]) place(ctx context.Context, o *entryConfig, ttl time.Duration) placement {
	p := placement{epoch: c.s.coherent(), skipL1: o.skipL1}
	if len(o.tags) == 0 && c.s.l2 == nil { // spares the slice
		p.known, p.ns = !o.skipL2, c.ns.ref()
		p.expire(c.s, o, ttl, o.failSafe)
		return p
	}
	cells := c.cells(o)
	if !o.skipL2 {
		p.known = c.s.current(ctx, cells) == nil
	}
	p.under(cells)
	p.expire(c.s, o, ttl, o.failSafe)
	return p
}

// cells are those of the namespace and, after it, of the options' tags.
func (c *Cache[K, V]) cells(o *entryConfig) []*tagCell {
	cells := make([]*tagCell, 0, 1+len(o.tags))
	cells = append(cells, c.ns)
	for _, t := range o.tags {
		cells = append(cells, c.s.tags.get(tagKey(c.s.prefix, t), c.s.tick))
	}
	return cells
}

// under takes the versions that the cells have now.
func (p *placement) under(cells []*tagCell) {
	p.ns = cells[0].ref()
	for _, cell := range cells[1:] {
		p.tags = append(p.tags, cell.ref())
	}
}

// valid reports whether no tag was invalidated since the snapshot, as far as
// this process has heard.
func (p *placement) valid() bool { return p.ns.valid() && allValid(p.tags) }

// expire starts the entry's life now.
func (p *placement) expire(s *Store, o *entryConfig, ttl, grace time.Duration) {
	now := s.time.nanos()
	p.ttl, p.grace, p.began = ttl, grace, now
	p.local, p.soft, p.hard = now+int64(o.local(ttl)), now+int64(ttl), now+int64(ttl+grace)
	if s.plane == Off {
		p.local -= int64(p.cost) // from when it was read from its source: no message tells of a later write
	}
	p.refresh = o.refreshAt(p.soft, ttl, p.cost)
	if s.l2 != nil {
		p.started = s.time.microsAt(now) + s.l2.offset.Load()
	}
}

// effectiveTTL is the TTL less jitter.
func (o *entryConfig) effectiveTTL(missing bool) time.Duration {
	ttl := o.ttl
	if missing {
		ttl = min(ttl, o.negative)
	}
	if o.jitter > 0 {
		ttl -= time.Duration(rand.Float64() * o.jitter * float64(ttl))
	}
	return max(ttl, time.Millisecond)
}

// local is how long memory may keep what Redis keeps for ttl.
func (o *entryConfig) local(ttl time.Duration) time.Duration {
	if o.l1ttl == 0 {
		return ttl
	}
	return min(ttl, o.l1ttl)
}

// encode returns the value's bytes, nil for a missing one.
func (c *Cache[K, V]) encode(it *item[K, V]) ([]byte, error) {
	if it.missing() {
		return nil, nil
	}
	raw, err := marshal(c.codec, it.value)
	if err != nil {
		return nil, err
	}
	if len(raw) > maxRaw {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrEncode, len(raw), maxRaw)
	}
	return raw, nil
}

// entry builds the bytes for Redis.
func (c *Cache[K, V]) entry(skey string, raw []byte, missing bool, p *placement, version uint64) []byte {
	soft := p.started + micros(p.ttl)
	e := wireEntry{
		wireHeader: wireHeader{
			codec: c.codec.ID(), schema: c.schema, version: version,
			soft: soft, hard: soft + micros(p.grace), cost: uint32(min(micros(p.cost), math.MaxUint32)), key: keyHash(c.s.l2.dataKey(c.name, skey)),
		},
		nsVersion: p.ns.version,
		etag:      p.etag,
		raw:       raw,
	}
	if missing {
		e.flags, e.codec = flagNegative, 0
	}
	prefix := len(tagKey(c.s.prefix, ""))
	for _, t := range p.tags {
		e.tags = append(e.tags, wireTag{name: t.cell.key[prefix:], version: t.version})
	}
	return appendEntry(make([]byte, 0, headerLen+len(raw)+64), &e, c.compress, c.minSize)
}

// holding is what memory keeps: a record and its item in one allocation, for a
// hit reads both. The record comes first, so that its address is the holding's.
type holding[K Key, V any] struct {
	record
	item item[K, V]
}

// itemOf is a record's item, nil if the record is another cache's or nil. The
// namespace's cell says whose it is, and so what it is a part of: records are
// made by hold alone.
func (c *Cache[K, V]) itemOf(r *record) *item[K, V] {
	if r == nil || r.ns.cell != c.ns {
		return nil
	}
	return &(*holding[K, V])(unsafe.Pointer(r)).item //nolint:gosec // see above
}

// record builds a holding of a copy of the item.
func (c *Cache[K, V]) record(it *item[K, V], p *placement, version uint64, inL2 bool) *record {
	return c.hold(&holding[K, V]{item: *it}, p, version, inL2)
}

// hold makes the record of a new holding, which has its item.
func (c *Cache[K, V]) hold(kept *holding[K, V], p *placement, version uint64, inL2 bool) *record {
	it, r := &kept.item, &kept.record
	r.version, r.ns = version, p.ns
	r.expires, r.soft = p.local, p.soft
	if len(p.tags) > 0 || p.hard > p.soft {
		r.extras.Store(&extras{tags: p.tags, hard: max(p.hard, p.soft)})
	}
	r.epoch.Store(p.epoch)
	r.refresh.Store(min(p.refresh, p.local))
	cost := int64(0)
	switch {
	case it.missing():
	case c.cost != nil:
		cost = c.cost(it.value)
	case c.flat >= 0:
		cost = c.flat
	default:
		cost = estimateAt(&it.value)
	}
	r.pack(cost+recordCost, inL2)
	return r
}
