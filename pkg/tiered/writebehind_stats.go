package tiered

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// WriteBehindStats counts what a [WriteBehind] of this process has done.
type WriteBehindStats struct {
	Queued      uint64 // writes accepted by the queue
	Direct      uint64 // writes given to the sink at once, past the queue
	Flushed     uint64 // items that the sink has taken from the queue
	Merged      uint64 // writes that were part of another's item
	Failures    uint64 // calls of the sink that failed
	Redelivered uint64 // entries flushed again: after a failure, or another process's
	Parked      uint64 // writes moved to the dead letters
	Full        uint64 // writes that had to wait for room
	Backlog     uint64 // entries in the queue, of all processes, as last heard
	Debts       uint64 // keys whose partials wait to be queued when Redis is back
}

type writeBehindCounts struct {
	queued, direct, flushed, merged, failures, redelivered, parked, full atomic.Uint64
}

// Stats returns the counters. It asks nobody.
func (w *WriteBehind[K, V]) Stats() WriteBehindStats {
	st := WriteBehindStats{
		Queued: w.n.queued.Load(), Direct: w.n.direct.Load(), Flushed: w.n.flushed.Load(), Merged: w.n.merged.Load(),
		Failures: w.n.failures.Load(), Redelivered: w.n.redelivered.Load(), Parked: w.n.parked.Load(), Full: w.n.full.Load(),
		Debts: uint64(w.debts.n.Load()),
	}
	for p := range w.parts {
		st.Backlog += uint64(w.parts[p].length.Load())
	}
	return st
}

// register makes the instruments. They have the attribute namespace.
func (w *WriteBehind[K, V]) register(meter metric.Meter) error {
	attrs := metric.WithAttributeSet(attribute.NewSet(attribute.String("namespace", w.c.name)))
	readings := []struct {
		name, unit, help string
		read             func(*WriteBehindStats) uint64
		now              bool // a level, not a count
		i                metric.Int64Observable
	}{
		{name: "queued", unit: "{write}", help: "Writes accepted by the queue.", read: func(s *WriteBehindStats) uint64 { return s.Queued }},
		{name: "direct", unit: "{write}", help: "Writes given to the sink past the queue.", read: func(s *WriteBehindStats) uint64 { return s.Direct }},
		{name: "flushed", unit: "{item}", help: "Items that the sink has taken from the queue.", read: func(s *WriteBehindStats) uint64 { return s.Flushed }},
		{name: "merged", unit: "{write}", help: "Writes that were part of another's item.", read: func(s *WriteBehindStats) uint64 { return s.Merged }},
		{name: "failures", unit: "{call}", help: "Calls of the sink that failed.", read: func(s *WriteBehindStats) uint64 { return s.Failures }},
		{name: "redelivered", unit: "{write}", help: "Entries of the queue flushed again.", read: func(s *WriteBehindStats) uint64 { return s.Redelivered }},
		{name: "parked", unit: "{write}", help: "Writes moved to the dead letters.", read: func(s *WriteBehindStats) uint64 { return s.Parked }},
		{name: "full", unit: "{write}", help: "Writes that waited for room in the queue.", read: func(s *WriteBehindStats) uint64 { return s.Full }},
		{name: "backlog", unit: "{write}", help: "Entries in the queue as last heard.", read: func(s *WriteBehindStats) uint64 { return s.Backlog }, now: true},
		{name: "debts", unit: "{key}", help: "Keys whose partials wait to be queued.", read: func(s *WriteBehindStats) uint64 { return s.Debts }, now: true},
	}
	list := make([]metric.Observable, len(readings))
	for i := range readings {
		r := &readings[i]
		name := "tiered.writebehind." + r.name
		var err error
		if r.now {
			r.i, err = meter.Int64ObservableGauge(name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
		} else {
			r.i, err = meter.Int64ObservableCounter(name, metric.WithUnit(r.unit), metric.WithDescription(r.help))
		}
		if err != nil {
			return fmt.Errorf("make metric %s: %w", name, err)
		}
		list[i] = r.i
	}
	reg, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		st := w.Stats()
		for i := range readings {
			o.ObserveInt64(readings[i].i, int64(readings[i].read(&st)), attrs)
		}
		return nil
	}, list...)
	if err != nil {
		return fmt.Errorf("register write-behind metrics: %w", err)
	}
	w.metrics = reg
	return nil
}

// encode makes the payload of a queued write. It has the form of an entry, with
// its codec, schema, checksum and key, but no times and tags.
func (w *WriteBehind[K, V]) encode(skey string, value V) ([]byte, error) {
	raw, err := w.c.encode(&item[K, V]{value: value})
	if err != nil {
		return nil, err
	}
	e := wireEntry{wireHeader: wireHeader{codec: w.c.codec.ID(), schema: w.c.schema, version: 1, key: keyHash("wb:" + w.c.name + ":" + skey)}, raw: raw}
	return appendEntry(make([]byte, 0, headerLen+len(raw)+16), &e, w.c.compress, w.c.minSize), nil
}

func (w *WriteBehind[K, V]) decode(q *queued) (value V, err error) {
	e, err := parseEntry(q.payload, keyHash("wb:"+w.c.name+":"+q.key))
	switch {
	case err != nil:
	case e.negative() || e.tombstone() || e.codec != w.c.codec.ID() || e.schema != w.c.schema:
		err = fmt.Errorf("%w: codec %d, schema %d; this process reads codec %d, schema %d", errForeign, e.codec, e.schema, w.c.codec.ID(), w.c.schema)
	default:
		err = unmarshal(w.c.codec, e.raw, &value)
	}
	if err != nil {
		return value, fmt.Errorf("read a queued write: %w: %w", ErrRejected, err)
	}
	return value, nil
}

func randomID() string {
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
