package tiered

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// DeadLetter is a write that the sink has refused while it took others, or that
// cannot be read.
type DeadLetter[K Key, V any] struct {
	ID       string // for Retry and Discard
	Key      K
	Value    V
	Partial  bool
	Version  uint64
	Cause    string // the sink's last error
	Attempts int    // calls of the sink and, before them, deliveries
	Parked   time.Time
	Err      error  // not nil if Key or Value cannot be read: Raw has the bytes
	Raw      []byte // in the form of a cache entry
}

// DeadLetters returns what was parked, by partition and oldest first, with an
// error at its end if they cannot be read to the last one. They stay until they
// are retried or discarded.
func (w *WriteBehind[K, V]) DeadLetters(ctx context.Context) iter.Seq2[DeadLetter[K, V], error] {
	return func(yield func(DeadLetter[K, V], error) bool) {
		if w.q == nil {
			return
		}
		for p := range w.parts {
			start := "-"
			for {
				page, err := w.letters(ctx, p, start, 100)
				if err != nil {
					yield(DeadLetter[K, V]{}, fmt.Errorf("read dead letters %s: %w", w.c.name, err))
					return
				}
				for i := range page {
					if !yield(page[i], nil) {
						return
					}
				}
				if len(page) < 100 {
					break
				}
				_, last, _ := strings.Cut(page[len(page)-1].ID, "/")
				start = "(" + last
			}
		}
	}
}

func (w *WriteBehind[K, V]) letters(ctx context.Context, p int, start string, n int64) ([]DeadLetter[K, V], error) {
	var page []redis.XMessage
	err := w.q.r.do(ctx, "wb.dead", func(ctx context.Context) (err error) {
		page, err = w.q.r.c.XRangeN(ctx, w.q.key(p, "d"), start, "+", n).Result()
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]DeadLetter[K, V], len(page))
	for i, m := range page {
		out[i] = w.letter(p, m)
	}
	return out, nil
}

func (w *WriteBehind[K, V]) letter(p int, m redis.XMessage) DeadLetter[K, V] {
	field := func(name string) string {
		s, _ := m.Values[name].(string)
		return s
	}
	e := queued{id: field("id"), key: field("k"), partial: field("p") == "1", payload: []byte(field("v"))}
	l := DeadLetter[K, V]{ID: strconv.Itoa(p) + "/" + m.ID, Partial: e.partial, Version: e.version(), Cause: field("cause"), Raw: e.payload}
	l.Attempts, _ = strconv.Atoi(field("attempts"))
	ms, _, _ := strings.Cut(m.ID, "-")
	at, _ := strconv.ParseInt(ms, 10, 64)
	l.Parked = time.UnixMilli(at)
	l.Value, l.Err = w.decode(&e)
	key, ok := parseKey[K](e.key)
	if l.Key = key; !ok {
		l.Err = errors.Join(l.Err, fmt.Errorf("key %.40q is not one of this cache", e.key))
	}
	return l
}

// Retry gives a dead letter to the sink, now, and removes it if the sink takes
// it. A whole value has the version of its write, so that the sink leaves alone
// what is newer. A partial has none, see [Item]: its fields are written over
// what newer writes have brought since. It returns [ErrNotFound] if there is no
// such letter.
func (w *WriteBehind[K, V]) Retry(ctx context.Context, id string) error {
	if err := w.retry(ctx, id); err != nil {
		return fmt.Errorf("retry dead letter %s: %w", id, err)
	}
	return nil
}

func (w *WriteBehind[K, V]) retry(ctx context.Context, id string) error {
	if !w.begin() {
		return ErrClosed
	}
	defer w.calls.Done()
	p, sid, err := w.parseLetterID(id)
	if err != nil {
		return err
	}
	page, err := w.letters(ctx, p, sid, 1)
	if err != nil {
		return err
	}
	if len(page) == 0 || page[0].ID != id {
		return ErrNotFound
	}
	l := page[0]
	if l.Err != nil {
		return l.Err
	}
	unlock, err := w.lock(ctx, w.c.hash(l.Key))
	if err != nil {
		return err
	}
	defer unlock()
	it := Item[K, V]{Key: l.Key, Value: l.Value, Partial: l.Partial, Version: l.Version}
	if it.Partial {
		it.Version = 0
	}
	if err := w.call(ctx, []Item[K, V]{it}); err != nil {
		return err
	}
	w.hide(ctx, w.c.hash(l.Key), l.Key, keyString(l.Key), l.Version)
	_, err = w.Discard(ctx, id)
	return err
}

// Discard removes dead letters for good. It returns how many there were.
func (w *WriteBehind[K, V]) Discard(ctx context.Context, ids ...string) (n int, err error) {
	for _, id := range ids {
		p, sid, err := w.parseLetterID(id)
		if err == nil {
			err = w.q.r.do(ctx, "wb.discard", func(ctx context.Context) error {
				deleted, err := w.q.r.c.XDel(ctx, w.q.key(p, "d"), sid).Result()
				n += int(deleted)
				return err
			})
		}
		if err != nil {
			return n, fmt.Errorf("discard dead letter %s: %w", id, err)
		}
	}
	return n, nil
}

func (w *WriteBehind[K, V]) parseLetterID(id string) (p int, sid string, err error) {
	num, sid, ok := strings.Cut(id, "/")
	p, err = strconv.Atoi(num)
	if !ok || err != nil || p < 0 || p >= len(w.parts) {
		return 0, "", ErrNotFound
	}
	ms, seq, ok := strings.Cut(sid, "-")
	_, err1 := strconv.ParseUint(ms, 10, 64)
	_, err2 := strconv.ParseUint(seq, 10, 64)
	if !ok || err1 != nil || err2 != nil {
		return 0, "", ErrNotFound
	}
	return p, sid, nil
}
