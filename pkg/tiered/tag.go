package tiered

import (
	"runtime"
	"sync"
	"sync/atomic"
	"weak"
)

// tagCell is what this process knows of a tag: its version, which changes when
// the tag is invalidated. Entries in memory point to the cells of their tags,
// so that checking one costs an atomic load, and an invalidation reaches all of
// them with one store. The reserved tag of a namespace is a cell too.
type tagCell struct {
	key     string // in Redis
	version atomic.Uint64
	// known is the newest version that came from Redis or was made by an
	// invalidation here. Redis must not answer with less: if it does, it has
	// lost an invalidation (evicted, or a failover), and the tag is invalidated
	// again. A version above known is a guess made while Redis was away.
	known atomic.Uint64
	epoch atomic.Uint64 // of the store when version was last read from Redis
	owner *counters     // of the namespace whose reserved tag it is, or nil
}

// tagRef is a tag as it was when an entry's load began.
type tagRef struct {
	cell    *tagCell
	version uint64
}

func (r tagRef) valid() bool { return r.cell.version.Load() == r.version }

func allValid(refs []tagRef) bool {
	for _, r := range refs {
		if !r.valid() {
			return false
		}
	}
	return true
}

func (c *tagCell) ref() tagRef { return tagRef{cell: c, version: c.version.Load()} }

// isCurrent reports whether the version was read in the store's epoch, 0 if it
// hears nothing.
func (c *tagCell) isCurrent(epoch uint64) bool { return epoch != 0 && c.epoch.Load() == epoch }

// raise moves the version up to v, which is real.
func (c *tagCell) raise(v uint64) {
	atomicMax(&c.known, v)
	atomicMax(&c.version, v)
}

// learn takes over what Redis answered to a read that began when the version
// was before. A guess gives way; an invalidation that came in between does not.
func (c *tagCell) learn(before, v, epoch uint64) {
	if c.known.Load() > v {
		return // heard of a newer one while the answer was on its way
	}
	atomicMax(&c.known, v)
	if !c.version.CompareAndSwap(before, v) {
		atomicMax(&c.version, v)
	}
	c.epoch.Store(epoch)
}

func atomicMax(a *atomic.Uint64, v uint64) {
	for {
		old := a.Load()
		if old >= v || a.CompareAndSwap(old, v) {
			return
		}
	}
}

// tagCells finds the cells that are in use. It does not keep them: a cell
// lives as long as an entry, a load or a pending invalidation points to it,
// and a tag that nobody points to is read from Redis again.
type tagCells struct {
	mu sync.Mutex
	m  map[string]weak.Pointer[tagCell]
}

// get returns the cell of a Redis key, with version guess if it is new.
func (t *tagCells) get(key string, guess func() uint64) *tagCell {
	t.mu.Lock()
	defer t.mu.Unlock()
	if c := t.m[key].Value(); c != nil {
		return c
	}
	c := &tagCell{key: key}
	c.version.Store(guess())
	if t.m == nil {
		t.m = make(map[string]weak.Pointer[tagCell])
	}
	wp := weak.Make(c)
	t.m[key] = wp
	runtime.AddCleanup(c, func(key string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.m[key] == wp {
			delete(t.m, key)
		}
	}, key)
	return c
}

// find returns the cell of a Redis key, or nil if nobody uses it.
func (t *tagCells) find(key string) *tagCell {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.m[key].Value()
}
