package telemetry

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// Histogram is one that somebody else has counted: where each measurement has
// to cost less than the SDK takes for it.
type Histogram struct {
	Name, Unit, Help string
	Bounds           []float64 // the upper ends of all buckets but the last
	Points           []HistogramPoint
}

// HistogramPoint is what was counted under one set of attributes, since the
// program began.
type HistogramPoint struct {
	Attributes attribute.Set
	Count      uint64
	Sum        float64
	Buckets    []uint64 // one more than Bounds
}

// counted are histograms that are asked for when metrics are read.
type counted struct {
	began time.Time

	mu  sync.Mutex
	ask []func() Histogram
}

// AddHistogram has ask asked each time that metrics are read. It must not wait
// for anything, and may be called by several goroutines at once.
func (t *Telemetry) AddHistogram(ask func() Histogram) {
	t.counted.mu.Lock()
	defer t.counted.mu.Unlock()
	t.counted.ask = append(t.counted.ask, ask)
}

// Produce implements the SDK's Producer.
func (c *counted) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	c.mu.Lock()
	ask := c.ask
	c.mu.Unlock()
	now := time.Now()
	all := metricdata.ScopeMetrics{Scope: instrumentation.Scope{Name: scope}}
	for _, one := range ask {
		h := one()
		data := metricdata.Histogram[float64]{Temporality: metricdata.CumulativeTemporality}
		for _, p := range h.Points {
			data.DataPoints = append(data.DataPoints, metricdata.HistogramDataPoint[float64]{
				Attributes: p.Attributes, StartTime: c.began, Time: now, Count: p.Count, Sum: p.Sum, Bounds: h.Bounds, BucketCounts: p.Buckets,
			})
		}
		if len(data.DataPoints) > 0 {
			all.Metrics = append(all.Metrics, metricdata.Metrics{Name: h.Name, Description: h.Help, Unit: h.Unit, Data: data})
		}
	}
	if len(all.Metrics) == 0 {
		return nil, nil
	}
	return []metricdata.ScopeMetrics{all}, nil
}
