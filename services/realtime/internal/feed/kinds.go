package feed

import (
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// kindsMost is how many kinds of events are remembered: far more than there
// are, and few enough should somebody make names up.
const kindsMost = 256

// kinds are the attributes of events' measurements, made once for each kind:
// to make them anew for each event costs as much as to measure it.
type kinds struct {
	made sync.Map // kind to metric.MeasurementOption
	n    atomic.Int32
}

type kind struct {
	event string
	class event.Class
}

func (ks *kinds) of(event string, class event.Class) metric.MeasurementOption {
	k := kind{event, class}
	if o, ok := ks.made.Load(k); ok {
		return o.(metric.MeasurementOption) // nothing else is stored
	}
	o := metric.WithAttributeSet(attribute.NewSet(attribute.String("event", event), attribute.String("class", string(class))))
	if ks.n.Load() < kindsMost {
		ks.n.Add(1)
		ks.made.Store(k, o)
	}
	return o
}
