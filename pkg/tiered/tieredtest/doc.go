// Package tieredtest has what tests of code that uses package tiered need,
// and is what tests package tiered itself:
//
//   - [StartRedis]: a real redis-server that can be killed, frozen and brought back;
//     with [WithTLS] and [WithUsers] one that trusts nobody.
//   - [StartSentinel] and [StartCluster]: real topologies that fail over, lose
//     what was not replicated, and move slots.
//   - [StartProxy]: a network that can be slow, lose bytes, go silent in one
//     direction, reset connections, and hold a command or its reply until the
//     test says so.
//   - [Nodes]: several processes in one, each with its own memory and its own
//     network to the server.
//   - [Conformance]: a suite of what the cache guarantees, for the Redis, the
//     client's settings and the options that will be used; [ConformCodec] for
//     a codec of one's own.
//   - [Clock]: time that moves by hand; [Eventually] for what has its own.
//   - [Run]: all of it where there is no test.
//
// What it starts ends with the test. It needs redis-server on PATH.
package tieredtest
