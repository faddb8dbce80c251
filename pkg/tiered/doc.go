// Package tiered is a read-through cache in two tiers: this process's memory,
// and a Redis that every replica shares.
package tiered
