// Package rules has Prometheus itself read and evaluate what the chart gives
// it: the alerts of charts/crewbeat, as the chart's tests have recorded them.
// It is a module of its own, since Prometheus would choose other versions than
// helm and kind are built with.
package rules
