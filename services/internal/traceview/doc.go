// Package traceview keeps the newest traces in memory and shows them.
//
// A [View] takes spans from this process, as a span exporter, and from
// browsers and other processes, over OTLP/HTTP. It serves a page that draws
// each trace as a waterfall, and the JSON that the page is made of:
//
//	POST /v1/traces              OTLP, protobuf or JSON, gzip or plain
//	GET  /traces                 the page; /traces/{id} opens at one trace
//	GET  /traces/api/traces      the newest traces; q, service, min_ms, errors, all, limit
//	GET  /traces/api/traces/{id} one trace with the traces linked to it
//
// An event that is handled later begins a trace of its own, which is linked to
// the trace that caused it. The two are shown as one: the later one is drawn
// beneath its cause and does not stand in the list by itself.
//
// # Guarantees
//
// Memory is bounded, in traces and in bytes: the trace that was longest without
// news is forgotten first. So are requests, spans of a trace, and what a span
// may carry. Addresses of clients, query strings and the like are dropped on
// arrival; see [Redact].
//
// A browser may send spans from pages of the same origin only.
//
// # Not guaranteed
//
// Nothing is stored: a restart forgets every trace.
package traceview
