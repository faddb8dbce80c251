package event

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// Options build a broker. The zero value is usable.
type Options struct {
	// Keep is how many events of a channel can be replayed; about as many
	// are kept. Default 1024.
	Keep int
	// History is how long an idle channel is remembered. Default 24 h.
	History time.Duration
	// Once is how long the id of a published event is remembered, so that
	// publishing it again does nothing. Default 1 h.
	Once time.Duration
	// Linger is how long a channel stays subscribed after its last
	// subscriber left. Default 1 s.
	Linger time.Duration
	// Idle is how long the subscribing connection may be silent before it is
	// probed, and how long the probe may take to come back. Default 30 s.
	Idle time.Duration
	// Retry is the longest pause between attempts to reach the broker.
	// Default 2 s.
	Retry time.Duration

	Now    func() time.Time // default time.Now
	Log    *slog.Logger     // default none
	Tracer trace.TracerProvider
	Meter  metric.MeterProvider
}

func (o Options) withDefaults() Options {
	if o.Keep <= 0 {
		o.Keep = 1024
	}
	if o.History <= 0 {
		o.History = 24 * time.Hour
	}
	if o.Once <= 0 {
		o.Once = time.Hour
	}
	if o.Linger <= 0 {
		o.Linger = time.Second
	}
	if o.Idle <= 0 {
		o.Idle = 30 * time.Second
	}
	if o.Retry <= 0 {
		o.Retry = 2 * time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
