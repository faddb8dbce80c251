// Package tieredtest has what tests of code that uses package tiered need: a
// real redis-server that can be killed, frozen and brought back, and a clock
// that moves by hand.
package tieredtest
