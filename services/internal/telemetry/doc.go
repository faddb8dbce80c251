// Package telemetry sets up traces and metrics.
//
// Traces go to where the OTEL_* variables say, and to the trace view of this
// process if there is one; with neither, spans are not even made. Metrics are
// there for Prometheus to fetch.
//
// # Guarantees
//
// A collector that is away costs neither time nor growing memory: spans wait in
// a queue of fixed length, and what does not fit is dropped. A complaint
// about it is logged at most once a minute.
//
// What [traceview.Redact] drops leaves the process on no way: no query strings,
// no addresses of clients, no credentials.
//
// Setup sets the global providers of OpenTelemetry, for libraries that
// know no others. A process calls it once.
package telemetry
