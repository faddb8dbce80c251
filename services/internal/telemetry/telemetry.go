package telemetry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

// Options say what the program is and where its telemetry goes.
type Options struct {
	Service string // "crewbeat-api"; OTEL_SERVICE_NAME overrides it
	Version string
	// Getenv reads the OTEL_* variables; nil knows none. The exporters behind it
	// read the process's environment themselves.
	Getenv    func(string) string
	Log       *slog.Logger    // nil logs nothing
	TraceView *traceview.View // nil if this process does not show traces
}

// Telemetry makes traces and metrics. Shut it down last of all.
type Telemetry struct {
	counted  *counted // histograms of others
	traces   *sdktrace.TracerProvider
	metrics  *sdkmetric.MeterProvider
	registry *prometheus.Registry
	remote   sdktrace.SpanExporter // sends spans elsewhere; nil if none does
	exports  bool
}

const scope = "github.com/crewbeat/crewbeat"

// Setup starts telemetry and makes it that of the process. A collector that
// does not answer is no error; variables that cannot be understood are.
func Setup(ctx context.Context, opts Options) (*Telemetry, error) {
	if opts.Getenv == nil {
		opts.Getenv = func(string) string { return "" }
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	res, err := describe(opts)
	if err != nil {
		return nil, err
	}
	t := &Telemetry{registry: prometheus.NewRegistry(), counted: &counted{began: time.Now()}}
	traceOptions := []sdktrace.TracerProviderOption{sdktrace.WithResource(res)}
	if opts.TraceView != nil {
		// Soon, so that a person who has just done something finds its trace.
		traceOptions = append(traceOptions, sdktrace.WithBatcher(redacted{opts.TraceView.Exporter()},
			sdktrace.WithBatchTimeout(200*time.Millisecond)))
		t.exports = true
	}
	if exportWanted(opts.Getenv) {
		exporter, err := autoexport.NewSpanExporter(ctx)
		if err != nil {
			return nil, fmt.Errorf("set up trace export from OTEL_* variables: %w", err)
		}
		if !autoexport.IsNoneSpanExporter(exporter) {
			traceOptions = append(traceOptions, sdktrace.WithBatcher(redacted{exporter}))
			t.remote = exporter
			t.exports = true
		}
	}
	if !t.exports {
		traceOptions = append(traceOptions, sdktrace.WithSampler(sdktrace.NeverSample()))
	}
	t.traces = sdktrace.NewTracerProvider(traceOptions...)

	if t.metrics, err = meters(res, t.registry, t.counted); err != nil {
		return nil, errors.Join(err, t.traces.Shutdown(ctx))
	}
	otel.SetErrorHandler(&complaints{log: opts.Log, now: time.Now})
	otel.SetTextMapPropagator(propagation.TraceContext{})
	otel.SetTracerProvider(t.traces)
	otel.SetMeterProvider(t.metrics)
	return t, nil
}

// describe says which program this is. Nothing is told of the machine and its
// user.
func describe(opts Options) (*resource.Resource, error) {
	res, err := resource.Merge(
		resource.NewSchemaless(
			attribute.String("service.name", cmp.Or(opts.Getenv("OTEL_SERVICE_NAME"), opts.Service, "crewbeat")),
			attribute.String("service.version", cmp.Or(opts.Version, "dev")),
		),
		resource.NewSchemaless(attributesFrom(opts.Getenv("OTEL_RESOURCE_ATTRIBUTES"))...),
	)
	if err != nil {
		return nil, fmt.Errorf("describe the service: %w", err)
	}
	return res, nil
}

// attributesFrom reads "key=value,key=value", where the service's own name has
// its own variable.
func attributesFrom(s string) []attribute.KeyValue {
	var attrs []attribute.KeyValue
	for pair := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(pair, "=")
		if key = strings.TrimSpace(key); ok && key != "" && key != "service.name" {
			attrs = append(attrs, attribute.String(key, strings.TrimSpace(value)))
		}
	}
	return attrs
}

// exportWanted reports whether an OTEL_* variable asks for traces to be sent. The
// default of the library would be to send to this machine.
func exportWanted(getenv func(string) string) bool {
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") {
		return false
	}
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
		if getenv(name) != "" {
			return true
		}
	}
	return false
}

// meters makes metrics for Prometheus, in registry.
func meters(res *resource.Resource, registry *prometheus.Registry, more sdkmetric.Producer) (*sdkmetric.MeterProvider, error) {
	err := errors.Join(
		registry.Register(collectors.NewGoCollector()),
		registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
	if err != nil {
		return nil, fmt.Errorf("register runtime metrics: %w", err)
	}
	exporter, err := promexporter.New(promexporter.WithRegisterer(registry), promexporter.WithoutScopeInfo(), promexporter.WithProducer(more))
	if err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	keep := attribute.NewAllowKeysFilter("http.request.method", "http.response.status_code", "http.route", "error.type")
	return sdkmetric.NewMeterProvider(
		sdkmetric.WithResource(res),
		sdkmetric.WithReader(exporter),
		// The host that a client claims to speak to is the client's to choose:
		// as a label it would let anyone make series without end.
		sdkmetric.WithView(
			sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.request.duration"}, sdkmetric.Stream{
				AttributeFilter:                   keep,
				ExemplarReservoirProviderSelector: bareExemplars,
				Aggregation: sdkmetric.AggregationExplicitBucketHistogram{
					Boundaries: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
				},
			}),
			sdkmetric.NewView(sdkmetric.Instrument{Name: "http.server.*.body.size"}, sdkmetric.Stream{Aggregation: sdkmetric.AggregationDrop{}}),
		),
	), nil
}

// Tracer makes the spans of the program.
func (t *Telemetry) Tracer() trace.Tracer { return t.traces.Tracer(scope) }

// Meter makes the metrics of the program.
func (t *Telemetry) Meter() metric.Meter { return t.metrics.Meter(scope) }

// TracerProvider is for libraries that make their own tracers.
func (t *Telemetry) TracerProvider() trace.TracerProvider { return t.traces }

// MeterProvider is for libraries that make their own meters.
func (t *Telemetry) MeterProvider() metric.MeterProvider { return t.metrics }

// MetricsHandler serves the metrics, in the OpenMetrics format to who asks for
// it.
func (t *Telemetry) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{EnableOpenMetrics: true, MaxRequestsInFlight: 4})
}

// Flush sends on what waits to be sent.
func (t *Telemetry) Flush(ctx context.Context) error {
	if err := t.traces.ForceFlush(ctx); err != nil {
		return fmt.Errorf("flush traces: %w", err)
	}
	return nil
}

// Shutdown sends on what waits to be sent and ends. It takes no longer than
// until the end of ctx.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	err := errors.Join(t.traces.Shutdown(ctx), t.metrics.Shutdown(ctx))
	if err != nil && t.remote != nil {
		// The time is over and an attempt may still be waiting for its next
		// try: that ends it. Its error only repeats the first.
		_ = t.remote.Shutdown(ctx)
	}
	if err != nil {
		return fmt.Errorf("shut down telemetry: %w", err)
	}
	return nil
}

// complaints logs what the exporters complain of, but not each time: a collector
// that is away makes one every few seconds.
type complaints struct {
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	last   time.Time
	unsaid int
}

const betweenComplaints = time.Minute

// Handle is called by the exporters.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	now := c.now()
	if !c.last.IsZero() && now.Sub(c.last) < betweenComplaints {
		c.unsaid++
		c.mu.Unlock()
		return
	}
	unsaid := c.unsaid
	c.last, c.unsaid = now, 0
	c.mu.Unlock()
	c.log.Warn("telemetry does not get through", "error", err, "same_before", unsaid)
}
