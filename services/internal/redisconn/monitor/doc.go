// Package monitor looks at a Redis from time to time: pool, clients, memory,
// keyspace, slow log, latency, evictions, keys that never expire, replicas and
// persistence, of each node of a Cluster.
//
// # Guarantees
//
// [Monitor.Snapshot] answers at once from the last look. What a look costs each
// node is bounded: one INFO, 32 entries of the slow log, and every fifth minute
// a sample of 1,000 keys in steps of 200. It has a connection of its own.
//
// What the user may not ask says [NotPermitted]; the rest is there all the same.
//
// Neither a value, nor a key, nor an argument of a command is shown: the slow
// log tells the command's name, how many arguments it had, and who sent it; the
// sample tells the beginnings of keys, up to their first colon.
package monitor
