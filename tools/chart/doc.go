// Package chart tests charts/crewbeat without a cluster: what it renders for
// every file in its ci folder, what its schema refuses, and what every pod of
// it must hold to. Run with -update to record the renders anew.
package chart
