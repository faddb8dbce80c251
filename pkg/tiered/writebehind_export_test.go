package tiered

import "context"

// Enqueue is the part of Put that is done when its process dies before the rest.
func (w *WriteBehind[K, V]) Enqueue(ctx context.Context, key K, value V) error {
	_, _, err := w.enqueue(ctx, keyString(key), value, false)
	return err
}

// ShowLate is the other part, of a write with that version.
func (w *WriteBehind[K, V]) ShowLate(ctx context.Context, key K, value V, version uint64) {
	o := w.c.defaults
	p := w.c.place(ctx, &o, o.ttl)
	w.show(ctx, w.c.hash(key), &item[K, V]{key: key, value: value}, keyString(key), version, 0, false, &p, &o)
}
