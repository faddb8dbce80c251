package tiered

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// bulkSize is how many keys go into one round trip. It bounds how long Redis
	// and its other clients are kept, and what is lost with a connection.
	bulkSize = 256
	// bulkTags is the same for tags, which are short.
	bulkTags = 1024
)

// GetMany returns the values of those keys that memory or Redis has, asking
// Redis for up to 256 in one round trip, and for the versions of all their tags
// that are not known in another. Keys that neither has, or that are cached as
// [ErrNotFound], are not in the map. Each key is read as by Get: concurrent
// calls share reads key by key, and a write in between is never undone.
//
// After an error the map has the values that were found nevertheless.
func (c *Cache[K, V]) GetMany(ctx context.Context, keys []K, opts ...EntryOption) (map[K]V, error) {
	found := make(map[K]V, len(keys))
	o := c.defaults.with(opts)
	if err := c.checkMany(keys, &o); err != nil {
		return found, fmt.Errorf("get many %s: %w", c.name, err)
	}
	remote := c.s.l2 != nil && !o.skipL2
	var ask []seat[K, V]
	for _, key := range keys {
		h := c.hash(key)
		it, suspect := c.look(h, key, opts)
		switch {
		case it != nil:
			c.openInto(found, it)
		case remote:
			if ask == nil {
				ask = make([]seat[K, V], 0, len(keys))
			}
			ask = append(ask, seat[K, V]{key: key, hash: h, suspect: suspect})
		}
	}
	for batch := range slices.Chunk(ask, bulkSize) {
		if err := c.getBatch(ctx, batch, &o, found); err != nil {
			return found, fmt.Errorf("get many %s: %w", c.name, err) // it would be the same for the rest
		}
	}
	return found, nil
}

// checkMany refuses a call that cannot be served.
func (c *Cache[K, V]) checkMany(keys []K, o *entryConfig) error {
	if c.s.isClosed() {
		return ErrClosed
	}
	var zero K
	if reflect.TypeFor[K]().Kind() == reflect.String && slices.Contains(keys, zero) {
		return errEmptyKey
	}
	return o.validate()
}

// openInto gives the caller an item, unless it says that there is no value.
func (c *Cache[K, V]) openInto(found map[K]V, it *item[K, V]) {
	if v, err := c.open(it); err == nil {
		found[it.key] = v
	}
}

// seat is a call's place in the flight of one key.
type seat[K Key, V any] struct {
	key     K
	hash    uint64
	f       *flight[K, V]
	joined  bool    // another call's flight
	suspect *record // read again whole: it shares the round trip

	skey, full string // in Redis
	floor      uint64 // see asking
	bulkSeat
}

// group is the flights that one call starts: they share a goroutine, a context
// and round trips, but each is of its own key, with its own waiters and fence.
type group struct {
	left   atomic.Int64 // flights that somebody waits for, and one until all have boarded
	cancel context.CancelFunc
	tagGen uint64
	began  time.Time
	done   chan struct{} // shared by the flights that land together
}

func (g *group) leave() {
	if g.left.Add(-1) == 0 {
		g.cancel()
	}
}

// newGroup begins a group. Its context ends when nobody waits for any of its
// flights; end must be called when all have landed.
func (c *Cache[K, V]) newGroup(ctx context.Context) (g *group, gctx context.Context, end func(), err error) {
	if !c.s.begin() {
		return nil, nil, nil, ErrClosed
	}
	gctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	unhook := c.s.onEnd(cancel)
	g = &group{cancel: cancel, tagGen: c.s.tagGen.Load(), began: time.Now(), done: make(chan struct{})}
	g.left.Store(1)
	return g, gctx, func() {
		unhook()
		cancel()
		c.s.loads.Done()
	}, nil
}

// sit joins the key's flight or, in the room that has been made for it, opens
// one. It reports whether the group already has a flight of the key.
func (c *Cache[K, V]) sit(ctx context.Context, s *seat[K, V], room *flight[K, V], g *group, loads, share bool) (twice bool) {
	st := c.s.stripes.of(s.hash)
	st.mu.Lock()
	defer st.mu.Unlock()
	m := c.flights[s.hash%stripeCount].of(loads)
	if f := (*m)[s.key]; f != nil {
		if f.group == g {
			return true
		}
		if share && f.joinable(c.s) {
			f.waiters++
			f.hurry(ctx)
			c.m.coalesced.Add(1)
			s.f, s.joined = f, true
			return false
		}
		if !f.shut {
			f.spoilt = always
		}
	}
	g.left.Add(1)
	room.group, room.tagGen, room.began = g, g.tagGen, g.began
	s.f = room
	if *m == nil {
		*m = make(map[K]*flight[K, V])
	}
	(*m)[s.key] = room
	return false
}

// getBatch reads keys that memory does not have.
func (c *Cache[K, V]) getBatch(ctx context.Context, batch []seat[K, V], o *entryConfig, found map[K]V) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g, gctx, end, err := c.newGroup(ctx)
	if err != nil {
		return err
	}
	rooms := make([]flight[K, V], len(batch))
	seats := make([]*seat[K, V], 0, len(batch))
	own := make([]*seat[K, V], 0, len(batch))
	for i := range batch {
		s := &batch[i]
		rooms[i].done, rooms[i].waiters = g.done, 1
		if c.sit(ctx, s, &rooms[i], g, false, true) {
			continue
		}
		seats = append(seats, s)
		if !s.joined {
			own = append(own, s)
		}
	}
	opts := *o
	go func() {
		growStack(0)
		defer end()
		c.readBatch(gctx, g, own, &opts)
	}()
	g.leave()
	for _, s := range seats {
		if !s.f.hasLanded() {
			if _, _, werr := c.await(ctx, s.hash, s.key, s.f, o, false); werr != nil {
				err = werr // and so it is for the rest, who leave at once
				continue
			}
		}
		if s.joined && s.f.unsure { // it may be from before this call: ask alone
			v, jerr := c.join(ctx, s.hash, s.key, o, nil, nil)
			switch {
			case jerr == nil:
				found[s.key] = v
			case !errors.Is(jerr, ErrMiss) && !errors.Is(jerr, ErrNotFound):
				err = jerr
			}
			continue
		}
		switch ferr := s.f.err; {
		case ferr == nil:
			c.openInto(found, s.f.it)
		case !errors.Is(ferr, ErrMiss):
			err = ferr
		}
	}
	return err
}

// readBatch flies a group of reads, which land together.
func (c *Cache[K, V]) readBatch(ctx context.Context, g *group, own []*seat[K, V], o *entryConfig) {
	defer func() {
		p := recover()
		for _, s := range own {
			if s.f.it == nil && s.f.err == nil {
				s.f.err = &PanicError{Value: p, Stack: debug.Stack()}
				st := c.s.stripes.of(s.hash)
				st.mu.Lock()
				c.unlist(s.hash, s.key, s.f, false)
				st.mu.Unlock()
			}
		}
		close(g.done)
	}()
	epoch := c.s.coherent()
	entries, err := c.fetchEntries(ctx, own)
	var answers []answer[K, V]
	if err == nil {
		answers = c.decodeMany(ctx, own, entries, o, epoch)
	}
	for i, s := range own {
		f := s.f
		var r *record
		switch {
		case err != nil && !errors.Is(err, ErrUnavailable):
			f.err = err
		case err != nil && s.suspect != nil:
			f.it = c.itemOf(s.suspect)
		case err != nil:
			f.err = ErrMiss
		default:
			f.it, r, f.err = answers[i].it, answers[i].r, answers[i].err
			c.verdict(s, &answers[i])
			f.unsure = f.it != nil && c.s.deaf()
			if f.it == nil && f.err == nil {
				f.err = ErrMiss
			}
		}
		st := c.s.stripes.of(s.hash)
		st.mu.Lock()
		if f.err == nil && r != nil {
			c.keepLocked(s.hash, f, r, o)
		}
		c.unlist(s.hash, s.key, f, false)
		st.mu.Unlock()
	}
}

// fetchEntries reads what Redis has of the seats' keys.
func (c *Cache[K, V]) fetchEntries(ctx context.Context, seats []*seat[K, V]) ([][]byte, error) {
	if len(seats) == 0 {
		return nil, nil
	}
	full := make([]string, len(seats))
	for i, s := range seats {
		s.skey = keyString(s.key)
		full[i] = s.skey
		if err := c.sent(ctx, s.skey); err != nil {
			return nil, err
		}
		s.floor = c.s.floor(c.name, s.skey)
	}
	c.s.l2.dataKeys(c.name, full)
	for i, s := range seats {
		s.full = full[i]
	}
	return c.s.l2.getMany(ctx, full)
}

// verdict counts an answer of Redis, and drops from memory what Redis does not
// have any more.
func (c *Cache[K, V]) verdict(s *seat[K, V], a *answer[K, V]) {
	if a.it == nil {
		c.m.l2Misses.Add(1)
	} else {
		c.m.l2Hits.Add(1)
	}
	if s.suspect != nil && (a.it == nil || a.r.version != s.suspect.version) {
		c.dropSuspect(s.hash, s.suspect)
	}
}

// answer is what decode makes of an entry.
type answer[K Key, V any] struct {
	it       *item[K, V]
	r        *record
	unwanted uint64
	err      error // of the cache's own functions
}

// decodeMany is decode for a batch. The versions of all tags are read in one
// round trip, if they are to be read at all.
func (c *Cache[K, V]) decodeMany(ctx context.Context, seats []*seat[K, V], entries [][]byte, o *entryConfig, epoch uint64) []answer[K, V] {
	answers := make([]answer[K, V], len(seats))
	if len(seats) == 0 {
		return answers
	}
	at := c.s.instant()
	var cells []*tagCell
	current := c.ns.isCurrent(c.s.coherent())
	if !current {
		cells = append(cells, c.ns)
	}
	var later []*unchecked // by seat, those of which tags are to be read; mostly there are none
	var seen map[*tagCell]struct{}
	var u unchecked // of one after the other: it is large
	for i, s := range seats {
		if len(entries[i]) == 0 {
			continue
		}
		u = unchecked{at: at}
		answers[i].unwanted = c.examine(&u, s.full, s.skey, entries[i], o, asking{epoch: epoch, floor: s.floor})
		switch {
		case !u.sound:
		case current && len(u.p.tags) == 0:
			c.concludeInto(&answers[i], &u, s, o)
		default:
			if later == nil {
				later, seen = make([]*unchecked, len(seats)), make(map[*tagCell]struct{})
			}
			one := u
			later[i] = &one
			for _, t := range u.p.tags {
				if _, ok := seen[t.cell]; !ok {
					seen[t.cell] = struct{}{}
					cells = append(cells, t.cell)
				}
			}
		}
	}
	for batch := range slices.Chunk(cells, bulkTags) {
		if c.s.current(ctx, batch) != nil {
			return answers // cannot be known to be valid
		}
	}
	for i, u := range later {
		if u != nil {
			c.concludeInto(&answers[i], u, seats[i], o)
		}
	}
	return answers
}

// concludeInto contains a panic of one value's functions.
func (c *Cache[K, V]) concludeInto(a *answer[K, V], u *unchecked, s *seat[K, V], o *entryConfig) {
	defer func() {
		if p := recover(); p != nil {
			*a = answer[K, V]{err: &PanicError{Value: p, Stack: debug.Stack()}}
		}
	}()
	a.it, a.r, a.unwanted = c.conclude(u, s.skey, s.key, o, a.unwanted)
}
