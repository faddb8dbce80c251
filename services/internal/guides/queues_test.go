package guides_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"time"
)

// table is a database's, of habits by id.
type table struct {
	mu   sync.Mutex
	rows map[string]object
	// before is called before a row is written; an error fails that write.
	before func(id string, change object) error
}

func (d *table) update(id string, change object) (object, error) {
	if d.before != nil {
		if err := d.before(id, change); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.rows[id] = d.rows[id].with(change)
	return maps.Clone(d.rows[id]), nil
}

func (d *table) row(id string) object {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.rows[id])
}

// behind is the write-behind queue of the guide. JavaScript runs one piece at a
// time: mu is that.
type behind struct {
	store
	mu    sync.Mutex
	queue map[string]object
	db    *table
}

func queueing(t *testing.T) *behind {
	t.Helper()
	return &behind{store: guide(t), queue: map[string]object{}, db: &table{rows: map[string]object{"h": {"name": "Run", "target": 5}}}}
}

func (b *behind) queueHabitUpdate(ctx context.Context, id string, updates object) {
	b.set(ctx, "habit:"+id, updates, 10*time.Minute)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue[id] = updates
}

func (b *behind) size() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.queue)
}

func (b *behind) processBatchWrites() {
	b.mu.Lock()
	updates := b.queue
	b.queue = map[string]object{}
	b.mu.Unlock()
	for id, data := range updates {
		if _, err := b.db.update(id, data); err != nil {
			b.mu.Lock()
			maps.Copy(b.queue, updates) // Re-queue failed writes
			b.mu.Unlock()
			return
		}
	}
}

var queues = []claim{
	{"write-behind: a part is cached as the whole", func(t *testing.T) string {
		b := queueing(t)
		b.queueHabitUpdate(t.Context(), "h", object{"name": "Swim"})
		seen, _ := b.get(t.Context(), "habit:h")
		return says(seen["target"] == nil, "readers see the habit %v", seen)
	}},
	{"write-behind: a second part replaces the first", func(t *testing.T) string {
		b := queueing(t)
		b.queueHabitUpdate(t.Context(), "h", object{"name": "Swim"})
		b.queueHabitUpdate(t.Context(), "h", object{"target": 9})
		b.processBatchWrites()
		row := b.db.row("h")
		return says(row["name"] == "Run", "after two updates the row is %v", row)
	}},
	{"write-behind: the queue is cleared before the writes succeed", func(t *testing.T) string {
		b := queueing(t)
		left := -1
		b.db.before = func(string, object) error { left = b.size(); return nil }
		b.queueHabitUpdate(t.Context(), "h", object{"name": "Swim"})
		b.processBatchWrites()
		return says(left == 0, "a crash while the database writes loses what is nowhere else")
	}},
	{"write-behind: putting back overwrites what is newer", func(t *testing.T) string {
		b := queueing(t)
		b.db.before = func(string, object) error {
			b.queueHabitUpdate(t.Context(), "h", object{"name": "newer"})
			return errAway
		}
		b.queueHabitUpdate(t.Context(), "h", object{"name": "older"})
		b.processBatchWrites()
		b.db.before = nil
		b.processBatchWrites()
		row := b.db.row("h")
		return says(row["name"] == "older", "the last write was newer, and the row is %v", row)
	}},
	{"write-behind: flushes overlap", func(t *testing.T) string {
		b := queueing(t)
		writing, newer := make(chan struct{}), make(chan struct{})
		b.db.before = func(_ string, change object) error {
			if change["name"] == "older" {
				close(writing)
				<-newer // a slow write
			}
			return nil
		}
		b.queueHabitUpdate(t.Context(), "h", object{"name": "older"})
		var first sync.WaitGroup
		first.Go(b.processBatchWrites)
		<-writing
		b.queueHabitUpdate(t.Context(), "h", object{"name": "newer"})
		b.processBatchWrites() // five seconds later
		close(newer)
		first.Wait()
		row := b.db.row("h")
		return says(row["name"] == "older", "the last write was newer, and the row is %v", row)
	}},
	{"write-behind: what waits is lost on exit", func(t *testing.T) string {
		b := queueing(t)
		b.queueHabitUpdate(t.Context(), "h", object{"name": "Swim"})
		must(t, b.r.Close()) // shutdownRedis, all that SIGTERM does
		return says(b.db.row("h")["name"] == "Run" && b.size() == 1, "the process ends, and with it the only copy of the write")
	}},
}
