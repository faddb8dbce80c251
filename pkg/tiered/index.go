package tiered

import (
	"sync"
	"sync/atomic"
)

// index finds records by the hashes of their keys. A reader takes no lock and
// writes nothing, so that hits on one key do not slow each other down: it costs
// one line of the table and the record itself.
//
// Each shard is a table with open addressing. A slot's hash does not change
// once it is set, only its record comes and goes, so a reader never takes one
// key's record for another's; what was removed leaves its slot to the same hash
// until the table is made anew.
type index struct {
	shards [shardCount]shard
}

const (
	shardBits  = 6
	shardCount = 1 << shardBits
	tableMin   = 8 // slots of a shard's first table
)

type shard struct {
	table atomic.Pointer[table]
	_     [56]byte // readers keep their line while others write

	mu       sync.Mutex // guards the rest, and writes to the table
	taken    int        // slots with a hash
	fresh    map[uint64]struct{}
	flushing map[uint64]struct{}
	earliest int64 // no record ends before, in nanos; 0 if unknown
	closed   bool  // nothing is written any more
	_        [16]byte
}

type table struct {
	mask  uint64
	slots []slot
}

type slot struct {
	hash atomic.Uint64 // 0 if it was never taken
	rec  atomic.Pointer[record]
}

func (x *index) of(hash uint64) *shard { return &x.shards[hash>>(64-shardBits)] }

// get returns the record of hash, which is not 0, or nil.
func (x *index) get(hash uint64) *record {
	t := x.of(hash).table.Load()
	if t == nil {
		return nil
	}
	if s := t.find(hash); s.hash.Load() == hash {
		return s.rec.Load()
	}
	return nil
}

// find returns the slot of hash, or the free one where it would go. There
// always is a free one.
func (t *table) find(hash uint64) *slot {
	for i := hash; ; i++ {
		s := &t.slots[i&t.mask]
		if h := s.hash.Load(); h == hash || h == 0 {
			return s
		}
	}
}

// get needs no lock.
func (s *shard) get(hash uint64) *record {
	if t := s.table.Load(); t != nil {
		if sl := t.find(hash); sl.hash.Load() == hash {
			return sl.rec.Load()
		}
	}
	return nil
}

// set needs mu.
func (s *shard) set(hash uint64, r *record) {
	t := s.table.Load()
	if t == nil || (s.taken+1)*4 > len(t.slots)*3 {
		t = s.grow(t)
	}
	sl := t.find(hash)
	sl.rec.Store(r)
	if sl.hash.Load() == 0 {
		sl.hash.Store(hash) // after the record: whoever sees the hash finds it
		s.taken++
	}
}

// remove needs mu.
func (s *shard) remove(hash uint64) {
	if t := s.table.Load(); t != nil {
		if sl := t.find(hash); sl.hash.Load() == hash {
			sl.rec.Store(nil)
		}
	}
}

// grow makes a table for what lives in t, with room for as many again. It
// needs mu. Readers of t go on with it as they found it.
func (s *shard) grow(t *table) *table {
	live := 0
	for range t.all() {
		live++
	}
	size := tableMin
	for size < 2*(live+1) {
		size *= 2
	}
	bigger := &table{mask: uint64(size - 1), slots: make([]slot, size)}
	for hash, r := range t.all() {
		sl := bigger.find(hash)
		sl.hash.Store(hash)
		sl.rec.Store(r)
	}
	s.taken = live
	s.table.Store(bigger)
	return bigger
}

// all yields what is in the table as it is come across.
func (t *table) all() func(yield func(uint64, *record) bool) {
	return func(yield func(uint64, *record) bool) {
		if t == nil {
			return
		}
		for i := range t.slots {
			if r := t.slots[i].rec.Load(); r != nil {
				if hash := t.slots[i].hash.Load(); hash != 0 && !yield(hash, r) {
					return
				}
			}
		}
	}
}

// pending reports whether ristretto may not have taken or refused the hash
// yet. It needs mu.
func (s *shard) pending(hash uint64) bool {
	if _, ok := s.fresh[hash]; ok {
		return true
	}
	_, ok := s.flushing[hash]
	return ok
}

// mark makes the hash pending, and reports whether it is the shard's first. It
// needs mu.
func (s *shard) mark(hash uint64) (first bool) {
	if s.fresh == nil {
		s.fresh = make(map[uint64]struct{})
	}
	s.fresh[hash] = struct{}{}
	return len(s.fresh) == 1
}
