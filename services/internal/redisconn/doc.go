// Package redisconn is the program's connection to Redis: how to reach it, and
// whether it can be reached now.
//
// [FromEnv] reads the REDIS_* variables. [Open] makes one client that everyone
// shares, over one server, a Sentinel group or a Cluster, and keeps looking
// whether Redis answers.
//
// # Guarantees
//
// Open fails for a Redis that is away only if it is required, and then says
// where it looked, why it failed and what to check. Otherwise the client is
// there, its commands fail at once, and the connection comes back by itself,
// however long that takes.
//
// A loss is seen within about a second even when nobody uses Redis, a return
// likewise. [Conn.Status] and [Conn.Handler] answer from what is known and never
// wait for Redis. Of a Sentinel group and a Cluster they tell each node, which is
// looked at every five seconds at most, apart from Redis as a whole.
//
// [Conn.OnEvent] tells each step: connected, ready, lost, reconnecting. Tries are
// apart by an exponential back-off with full jitter, one second at most, and
// never end.
//
// No password, key or value is put into an error, a log line, a span or a
// metric.
//
// # Not guaranteed
//
// A status is history: a command may fail although Redis was up a moment ago.
package redisconn
