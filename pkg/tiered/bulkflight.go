package tiered

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
)

// bulk is the work on the flights that one call for many starts. It does for
// all of them what load does for one, in the same order.
type bulk[K Key, V any] struct {
	*group
	c     *Cache[K, V]
	o     entryConfig
	load  BulkLoader[K, V]
	end   func()
	parts sync.WaitGroup
}

// part is the flights that one goroutine works on, and lands in the end.
type part[K Key, V any] struct {
	seats []*seat[K, V]
	wait  time.Duration // before Redis is asked for the leases again
	until time.Time     // when the leases of others are not awaited any more
}

// bulkSeat is what a bulk load knows of a seat. Its part's goroutine only.
type bulkSeat struct {
	unwanted uint64 // version of what Redis has, which is of no use
	token    uint64 // version of what is about to be loaded; 0 if Redis gave none
	holder   uint64 // token of who was the first found to load it elsewhere
	away     bool   // Redis cannot be asked about it
	settled  bool   // its flight has its result
	landed   bool   // and those who wait know it
	p        *placement
}

func (c *Cache[K, V]) newBulk(ctx context.Context, load BulkLoader[K, V], o *entryConfig) (*bulk[K, V], context.Context, error) {
	g, gctx, end, err := c.newGroup(ctx)
	if err != nil {
		return nil, nil, err
	}
	return &bulk[K, V]{group: g, c: c, end: end, o: *o, load: load}, gctx, nil
}

// rooms makes the flights of as many seats, which land one by one.
func rooms[K Key, V any](n int) []flight[K, V] {
	all := make([]flight[K, V], n)
	for i := range all {
		all[i].done, all[i].waiters = make(chan struct{}), 1
	}
	return all
}

// start runs a step with the flights in a goroutine of their own, and ends the
// group when all parts of it have ended.
func (b *bulk[K, V]) start(ctx context.Context, own []*seat[K, V], step func(context.Context, *part[K, V])) {
	p := &part[K, V]{seats: own, until: time.Now().Add(b.o.lease)}
	go func() {
		growStack(0)
		defer b.end()
		defer b.parts.Wait()
		b.run(ctx, p, step)
	}()
	b.leave()
}

// run lands what the step leaves, also if it panics or ends its goroutine.
func (b *bulk[K, V]) run(ctx context.Context, p *part[K, V], step func(context.Context, *part[K, V])) {
	defer func() { b.landAll(ctx, p.seats, recover()) }()
	step(ctx, p)
}

// landAll gives back the leases that were not used, for whoever waits for one
// of these loads may begin the next as soon as it has landed, and lands what
// has not.
func (b *bulk[K, V]) landAll(ctx context.Context, seats []*seat[K, V], panicked any) {
	var unused []*call
	for _, s := range seats {
		if s.f.lease != 0 {
			unused = append(unused, b.c.s.l2.releaseCall(b.c.name, s.skey, s.f.lease))
		}
	}
	// If it fails the leases run out by themselves.
	_ = b.c.pipeline(context.WithoutCancel(ctx), "release", unused)
	for _, s := range seats {
		if s.landed {
			continue
		}
		if s.f.it == nil && s.f.err == nil {
			s.f.err = &PanicError{Value: panicked, Stack: debug.Stack()}
		}
		s.f.lease = 0
		b.land(s, s.f.it, s.f.err)
	}
}

// land ends a seat's flight with its result, unless it has a lease to be given
// back first: that is for landAll.
func (b *bulk[K, V]) land(s *seat[K, V], it *item[K, V], err error) {
	s.settled = true
	s.f.it, s.f.err = it, err
	if s.f.lease != 0 {
		return
	}
	s.landed = true
	b.c.land(s.hash, s.key, s.f, true)
	s.f.quit() // the group's context ends when the others are wanted by nobody
}

// landEach ends flights for one cause.
func (b *bulk[K, V]) landEach(seats []*seat[K, V], err error) {
	for _, s := range seats {
		b.land(s, nil, err)
	}
}

// remaining are those seats that have no result yet.
func remaining[K Key, V any](seats []*seat[K, V]) []*seat[K, V] {
	return slices.DeleteFunc(slices.Clone(seats), func(s *seat[K, V]) bool { return s.settled })
}

// pipeline runs the calls in as few round trips as may be. Each has its own
// result, if it was made at all; the error is the first round trip's that failed.
func (c *Cache[K, V]) pipeline(ctx context.Context, op string, calls []*call) error {
	for batch := range slices.Chunk(calls, bulkSize) {
		if err := c.s.l2.do(ctx, op, func(ctx context.Context) error { return runAll(ctx, c.s.l2.c, batch) }); err != nil {
			return err
		}
	}
	return nil
}

// outcome is the error of one call of a pipeline that ended with err.
func (c *call) outcome(err error) error {
	if c.cmd != nil && c.cmd.Err() == nil {
		return nil
	}
	if err == nil {
		err = ErrUnavailable
	}
	return err
}

// fly reads Redis, and obtains what Redis does not have.
func (b *bulk[K, V]) fly(ctx context.Context, p *part[K, V]) {
	c := b.c
	for _, s := range p.seats {
		if it := c.arrived(s.hash, s.key, &b.o); it != nil {
			b.land(s, it, nil)
		} else if b.o.failSafe > 0 && !b.o.skipL1 {
			s.f.stale.Store(c.remembered(s.hash, s.key, &b.o))
		}
	}
	if c.s.l2 != nil && !b.o.skipL2 {
		for batch := range slices.Chunk(remaining(p.seats), bulkSize) {
			b.read(ctx, batch)
		}
		if err := ctx.Err(); err != nil {
			b.landEach(remaining(p.seats), err)
		}
	}
	b.obtain(ctx, p)
}

// read lands those keys that Redis has.
func (b *bulk[K, V]) read(ctx context.Context, batch []*seat[K, V]) {
	c := b.c
	epoch := c.s.coherent()
	entries, err := c.fetchEntries(ctx, batch)
	switch {
	case errors.Is(err, ErrUnavailable):
		for _, s := range batch {
			s.away = true
			if s.suspect != nil {
				b.land(s, b.c.itemOf(s.suspect), nil)
			}
		}
		return
	case err != nil:
		b.landEach(batch, fmt.Errorf("load %s: %w", c.name, err))
		return
	}
	answers := c.decodeMany(ctx, batch, entries, &b.o, epoch)
	for i, s := range batch {
		c.verdict(s, &answers[i])
		b.take(s, &answers[i], epoch)
	}
}

// take lands a seat if Redis has answered with its value.
func (b *bulk[K, V]) take(s *seat[K, V], a *answer[K, V], epoch uint64) {
	switch {
	case a.err != nil:
		b.land(s, nil, a.err)
	case a.it == nil:
		s.f.reconsider(a.r, a.unwanted, epoch)
		s.unwanted = a.unwanted
	default:
		s.f.unsure = b.c.s.deaf()
		b.c.keep(s.hash, s.f, a.r, &b.o)
		b.land(s, a.it, nil)
	}
}

// obtain asks for the right to store and loads what it may. Keys that another
// process loads are waited for if the options say so: by a part of their own
// if there are others to be loaded meanwhile.
func (b *bulk[K, V]) obtain(ctx context.Context, p *part[K, V]) {
	for {
		p.seats = remaining(p.seats)
		granted, held := b.lease(ctx, p.seats, p.until)
		if len(held) > 0 && len(granted) > 0 {
			other := &part[K, V]{seats: held, wait: longer(p.wait), until: p.until}
			p.seats = granted
			b.parts.Go(func() {
				if b.pause(ctx, other) {
					b.run(ctx, other, b.obtain)
				}
			})
		}
		if len(granted) > 0 {
			b.fetch(ctx, granted)
		}
		if len(granted) > 0 || len(held) == 0 {
			return
		}
		p.wait = longer(p.wait)
		if !b.pause(ctx, p) {
			return
		}
	}
}

func longer(wait time.Duration) time.Duration {
	return min(max(wait*2, 10*time.Millisecond), 80*time.Millisecond)
}

// pause waits before the leases are asked for again. If nobody waits any more
// it lands the flights.
func (b *bulk[K, V]) pause(ctx context.Context, p *part[K, V]) bool {
	timer := time.NewTimer(p.wait/2 + rand.N(p.wait/2))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		b.landEach(remaining(p.seats), ctx.Err())
		return false
	}
}

// lease tells which keys are to be loaded now, and which of them others load:
// see the lease of one key.
func (b *bulk[K, V]) lease(ctx context.Context, seats []*seat[K, V], until time.Time) (granted, held []*seat[K, V]) {
	c := b.c
	if c.s.l2 == nil || b.o.skipL2 {
		return seats, nil
	}
	ttl := b.o.lease
	if ttl <= 0 {
		ttl = DefaultLease
	}
	for ask := seats; len(ask) > 0; {
		var calls []*call
		var asked []*seat[K, V]
		for _, s := range ask {
			if s.away {
				granted = append(granted, s)
				continue
			}
			if s.skey == "" {
				s.skey = keyString(s.key)
				s.full = c.s.l2.dataKey(c.name, s.skey)
			}
			s.floor = c.s.floor(c.name, s.skey)
			s.unwanted = max(s.unwanted, s.floor)
			calls = append(calls, c.s.l2.leaseCall(c.name, s.skey, s.unwanted, ttl))
			asked = append(asked, s)
		}
		epoch := c.s.coherent()
		err := c.pipeline(ctx, "getlease", calls)
		var filled []*seat[K, V]
		var entries [][]byte
		for i, s := range asked {
			l, lerr := lease{}, calls[i].outcome(err)
			if lerr == nil {
				l, lerr = parseLease(calls[i].cmd)
			}
			switch {
			case ctx.Err() != nil:
				b.land(s, nil, ctx.Err())
			case errors.Is(lerr, ErrUnavailable):
				s.away = true
				granted = append(granted, s)
			case lerr != nil:
				b.land(s, nil, fmt.Errorf("load %s: %w", c.name, lerr))
			case l.data != nil:
				filled, entries = append(filled, s), append(entries, l.data)
			case !l.held:
				s.f.lease, s.token = l.token, l.token
				granted = append(granted, s)
			default:
				if b.elsewhere(ctx, s, l.token, until) {
					held = append(held, s)
				} else if !s.settled {
					granted = append(granted, s)
				}
			}
		}
		ask = nil
		for i, a := range c.decodeMany(ctx, filled, entries, &b.o, epoch) {
			s, before := filled[i], filled[i].unwanted
			b.take(s, &a, epoch)
			switch {
			case s.settled:
				c.m.l2Hits.Add(1)
			case s.unwanted <= before:
				s.away = true // its tags cannot be read now
				granted = append(granted, s)
			default:
				ask = append(ask, s) // the next answer is not this entry
			}
		}
	}
	return granted, held
}

// elsewhere decides about a key that another process loads: whether it is to
// be waited for. If not, it has landed, or is to be loaded under the other's
// token for this process alone.
func (b *bulk[K, V]) elsewhere(ctx context.Context, s *seat[K, V], token uint64, until time.Time) (wait bool) {
	if s.f.early {
		s.f.unsure = true // who has joined asks again
		b.land(s, nil, errElsewhere)
		return false
	}
	if b.o.lease > 0 && s.f.stale.Load() != nil {
		if r := b.c.instead(ctx, s.hash, s.f, s.key, &b.o); r != nil {
			b.land(s, b.c.itemOf(r), nil)
			return false
		}
	}
	if s.holder == 0 {
		s.holder = token
	}
	if s.holder != token { // another has it now: see lease
		until = until.Add(b.o.lease)
	}
	if b.o.lease > 0 && time.Now().Before(until) {
		return true
	}
	s.f.unsure = true // nothing will be stored that could be refused
	s.token = token
	return false
}

// wanted lands flights that nobody waits for, and returns the others.
func (b *bulk[K, V]) wanted(seats []*seat[K, V]) []*seat[K, V] {
	var rest []*seat[K, V]
	for _, s := range seats {
		st := b.c.s.stripes.of(s.hash)
		st.mu.Lock()
		left := s.f.waiters <= 0 && !s.f.onward
		if left {
			b.c.abandon(s.hash, s.key, s.f, true)
		}
		st.mu.Unlock()
		if left {
			b.land(s, nil, context.Canceled)
		} else {
			rest = append(rest, s)
		}
	}
	return rest
}

// fetch calls the loader and stores what it returns, each key under its token.
func (b *bulk[K, V]) fetch(ctx context.Context, seats []*seat[K, V]) {
	c := b.c
	away := slices.ContainsFunc(seats, func(s *seat[K, V]) bool { return s.away })
	urged := func() <-chan struct{} { return c.urgency(seats...) }
	done, err := c.s.turn(ctx, away, func() bool {
		for _, s := range seats {
			if r := c.instead(ctx, s.hash, s.f, s.key, &b.o); r != nil {
				b.land(s, b.c.itemOf(r), nil)
			}
		}
		seats = remaining(seats)
		return len(seats) == 0
	}, urged)
	if err != nil {
		b.landEach(seats, err)
	}
	if done == nil {
		return
	}
	defer done()
	if seats = b.wanted(seats); len(seats) == 0 {
		return
	}
	p := c.place(ctx, &b.o, b.o.ttl)
	keys, places := make([]K, len(seats)), make([]placement, len(seats))
	for i, s := range seats {
		keys[i] = s.key
		places[i] = p // they end at different times
		s.p = &places[i]
		s.f.refs.Store(s.p)
	}
	before := c.s.time.nanos()
	values, err := b.call(ctx, keys)
	cost := time.Duration(c.s.time.nanos() - before)
	for batch := range slices.Chunk(seats, bulkSize) {
		b.store(ctx, batch, values, err, cost)
	}
}

// call runs the loader in a span. A panic becomes an error; a Goexit is for
// landAll to find.
func (b *bulk[K, V]) call(ctx context.Context, keys []K) (values map[K]V, err error) {
	ctx, span := b.c.s.tracer.Start(ctx, "tiered.load", trace.WithAttributes(
		attribute.String("tiered.namespace", b.c.name), attribute.Int("tiered.keys", len(keys))))
	began := time.Now()
	b.c.m.loads.Add(1)
	ended := false
	defer func() {
		if p := recover(); p != nil || !ended {
			values, err = nil, &PanicError{Value: p, Stack: debug.Stack()}
		}
		b.c.loadedMany(ctx, keys, time.Since(began), err)
		endSpan(span, err, ErrNotFound)
	}()
	values, err = b.load(context.WithValue(ctx, underLoad{}, true), slices.Clone(keys))
	ended = true
	return values, err
}

// store lands a batch of keys with what the loader has returned, after it has
// been stored in one round trip.
func (b *bulk[K, V]) store(ctx context.Context, batch []*seat[K, V], values map[K]V, cause error, cost time.Duration) {
	c := b.c
	var fills []*call
	var filled, rest []*seat[K, V]
	for _, s := range batch {
		value, ok := values[s.key]
		s.f.it = &item[K, V]{key: s.key, value: value, note: noteOf(!ok, "")}
		switch {
		case ok:
		case cause != nil && !errors.Is(cause, ErrNotFound):
			if r := c.instead(ctx, s.hash, s.f, s.key, &b.o); r != nil {
				c.throttle(s.hash, s.f, s.key, r, &b.o)
				b.land(s, b.c.itemOf(r), nil)
			} else {
				b.land(s, nil, cause)
			}
			continue
		case b.o.negative <= 0:
			// It is not to be stored, but what it replaces must not be served again.
			c.retire(ctx, s.hash, s.f, s.skey, s.token)
			b.land(s, s.f.it, ErrNotFound)
			continue
		default:
			s.f.err = ErrNotFound
		}
		grace := b.o.failSafe
		if !ok {
			grace = 0
		}
		s.p.cost = cost
		s.p.expire(c.s, &b.o, b.o.effectiveTTL(!ok), grace)
		rest = append(rest, s)
		if s.f.lease == 0 || !s.p.known {
			continue
		}
		raw, err := c.encode(s.f.it)
		if err != nil {
			c.s.log.WarnContext(ctx, "cannot store in redis", slog.String("namespace", c.name), slog.Any("error", err))
			continue
		}
		fills = append(fills, c.s.l2.fillCall(c.name, s.skey, s.token, c.entry(s.skey, raw, !ok, s.p, s.token), s.p.ttl+s.p.grace))
		filled = append(filled, s)
	}
	err := c.pipeline(ctx, "fill", fills)
	refused := make(map[*seat[K, V]]bool)
	for i, s := range filled {
		if fills[i].outcome(err) != nil {
			continue
		}
		n, ferr := fills[i].cmd.Int()
		if ferr != nil && !errors.Is(ferr, redis.Nil) {
			continue
		}
		s.f.lease = 0
		refused[s] = n != 1
		s.f.unsure, s.f.filled = n != 1 || c.s.deaf(), n == 1
	}
	for _, s := range rest {
		if refused[s] {
			c.m.fenced.Add(1)
		} else {
			inL2 := s.token != 0
			if !inL2 {
				s.token = c.s.tick()
			}
			r := c.record(s.f.it, s.p, s.token, inL2)
			r.setAlone(inL2 && !s.f.filled)
			c.keep(s.hash, s.f, r, &b.o)
		}
		b.land(s, s.f.it, s.f.err)
	}
}
