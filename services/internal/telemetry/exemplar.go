package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/exemplar"
)

// bareExemplars keeps of a measurement only the trace that it was made in. The
// labels that were filtered out of the metric would otherwise come back by
// this door, and be too long for Prometheus.
func bareExemplars(agg sdkmetric.Aggregation) exemplar.ReservoirProvider {
	provider := sdkmetric.DefaultExemplarReservoirProviderSelector(agg)
	return func(attrs attribute.Set) exemplar.Reservoir { return bare{provider(attrs)} }
}

type bare struct{ exemplar.Reservoir }

// Collect returns the exemplars without the labels that were filtered out.
func (b bare) Collect(into *[]exemplar.Exemplar) {
	b.Reservoir.Collect(into)
	for i := range *into {
		(*into)[i].FilteredAttributes = nil
	}
}
