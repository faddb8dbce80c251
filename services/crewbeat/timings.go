package main

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
	"github.com/crewbeat/crewbeat/services/internal/telemetry"
)

// commandTimes is the histogram of what the commands of a connection took, as
// OpenTelemetry's conventions for databases have it.
func commandTimes(conn *redisconn.Conn) func() telemetry.Histogram {
	bounds := make([]float64, len(profile.Bounds))
	for i, b := range profile.Bounds {
		bounds[i] = b.Seconds()
	}
	return func() telemetry.Histogram {
		h := telemetry.Histogram{
			Name: "db.client.operation.duration", Unit: "s", Help: "Time that database commands took, without blocking reads.", Bounds: bounds,
		}
		for _, t := range conn.Timings() {
			attrs := []attribute.KeyValue{attribute.String("db.system.name", "redis"), attribute.String("db.operation.name", t.Command)}
			if t.Failure != "" {
				attrs = append(attrs, attribute.String("error.type", t.Failure))
			}
			h.Points = append(h.Points, telemetry.HistogramPoint{
				Attributes: attribute.NewSet(attrs...), Count: t.Count, Sum: t.Sum.Seconds(), Buckets: t.Buckets[:],
			})
		}
		return h
	}
}
