// Package metricstest holds package tiered to its list of metrics, as a
// Prometheus sees them. It is a module of its own, so that who imports tiered
// does not get the exporter's dependencies.
package metricstest
