// Package tiered is a read-through cache in two tiers: this process's memory,
// and a Redis that every replica shares. What makes it worth having is what it
// never does: it never lets a slow load overwrite a newer write, on any node
// and in either tier; it never fails for lack of Redis unless told to; and it
// never serves a value beyond a bound that is written down here.
//
// A [Store] is opened once per process. Each kind of value gets a [Cache], a
// typed namespace of the store:
//
//	store, err := tiered.Open(ctx, tiered.WithRedis(client))
//	users, err := tiered.New[int64, User](store, "users",
//		tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Minute)))
//	u, err := users.GetOrLoad(ctx, id, loadUser, tiered.Tags("team:7"))
//
// # Guarantees
//
//   - Read your writes. After Set, Delete, InvalidateTags or Clear returns,
//     this process serves nothing older, whoever asks.
//   - Fencing. A load that began before a write of its key, or before one of
//     its tags was invalidated, is given to those who already waited for it
//     and is not stored: not in Redis, whichever process wrote, and not in
//     memory for longer than the write's message is on its way. Those who ask
//     after the write start a new load.
//   - Staleness of other processes. With the backplane up: one message
//     latency. With a subscription that broke: none beyond the time it takes
//     to notice, because every read of memory then asks Redis by one header
//     read. With one that is silently dead, or a Cluster's bus that is: at most
//     2.5 s, the canary's window. With Redis away: the L1TTL. See Backplanes
//     below for the others.
//   - Expiry. Nothing is served past its TTL, nor from memory past its L1TTL,
//     nor from memory longer than Redis would have kept it; but with [FailSafe]
//     GetOrLoad may serve what is up to its max past the TTL, when the loader
//     fails or is late.
//   - Fail-safe serves nothing that was written over. Before a stale value is
//     served it is confirmed: by memory while the backplane is up, else by a
//     header read. Only while Redis is away as well is it taken as it is.
//   - A load that its callers have left behind by [Timeouts], or that nobody
//     waits for because it renews a value early ([EagerRefresh]), is fenced by
//     the version of its start, like any other, and cancelled when its lease ends.
//   - One load. Of concurrent calls for a key in one process, one loads. Each
//     waits only as long as its own context allows, and the load goes on while
//     anybody waits. A panic or a runtime.Goexit in a loader reaches those who
//     wait as a [*PanicError] and nobody else.
//   - No update is lost. Update stores only in place of exactly what it read
//     from Redis, under a number by which Redis knows it if it is repeated
//     because its answer was lost. N updates that succeed, in any processes,
//     have been made N times.
//   - Write never leaves the cache with an older value than the source: what two
//     wrote at a time, or what failed, is deleted rather than guessed.
//   - Many keys. GetMany, GetOrLoadMany, SetMany and DeleteMany do for each key
//     what their siblings for one do: each has its own version, fence, flight and
//     message, a write of one spoils the load of that one alone, and concurrent
//     calls for one and for many share reads and loads key by key. Of 256 keys,
//     a read costs one round trip, a load three (read, leases, store), and one
//     more if the versions of tags must be read. The loader is called once, and
//     again only for keys that another process held a lease for and did not
//     bring. What was found comes back also with an error. None is a transaction.
//   - Many callers. While two Sets of a process are on their way to Redis, or two
//     Deletes, others wait up to a millisecond and go together: one script sets
//     64 keys of one server. Each has its own version, fence, message and error,
//     and who leaves before it is sent has not written.
//   - A damaged, foreign or differently typed entry in Redis is a miss and a
//     count, never an error and never another value. Entries are bound to
//     their keys and carry a checksum.
//   - Without Redis (WithRedisRequired(false), the default) no call fails, but
//     for Update, which says ErrUnavailable and has changed nothing. A call costs at most the L2 timeout for each of its round trips until the
//     breaker opens, and nothing after that. Deletes, sets and invalidations
//     made meanwhile are not undone when Redis returns: nothing older is read
//     from it until it has been told.
//   - Failover. A promoted replica lacks what the master acknowledged last.
//     Each store repeats its Sets, Deletes, InvalidateTags and Clears of the
//     last 30 s there, as invalidations and only where something older is
//     stored. It finds the new master with its next beat, a second at most after
//     it can be reached, and repeats 256 keys in each 20 to 40 ms, so 10,000 in
//     about 1.5 s; from then on no store serves what had been overwritten, from
//     either tier. Measured: 2,000 lost writes were made good 0.5 s after the new
//     master was reached. The store that wrote serves nothing older from the moment it
//     has noticed. All is repeated once more after 15 s, for what an old master
//     went on acknowledging until it was demoted. See [Health].Failovers.
//   - While Redis is away, at most 64 loaders run at once in a process
//     ([WithOutageLoads]); the others take turns, and those that [FailSafe] has a
//     value for serve it and do not wait.
//   - A hit in memory allocates nothing, and neither logs, traces nor locks
//     anything of this package.
//
// # Not guaranteed
//
//   - That a value stays. Memory evicts by use and size, Redis by its own
//     policy; both are caches.
//   - That a load is stored. One that took longer than the lease (30 s, or
//     [DistributedLease]) is not.
//   - Mutual exclusion. [DistributedLease] saves work; a process that waits
//     too long loads for itself.
//   - Writes of a process that dies while Redis is away. What it had not yet
//     told Redis is lost with it, and other processes learn of it by the TTL.
//   - More than 30 s of writes that Redis acknowledged and then lost in a
//     failover, or more than 32,768 of a process, or those of a process that
//     died with the master: they come back until the entries' TTL.
//   - An Update of which it is not known whether it was made, because Redis did
//     not answer any more: it returns [ErrUncertain]. Nor that what was updated
//     stays: it may be evicted, and a Redis that loses acknowledged writes in a
//     failover loses updates too.
//   - Messages that a Cluster's bus loses while it reconnects two nodes within a
//     second, so that no beat is missed: they are made up for by the L1TTL.
//   - Transactions between keys, or with the source. If a process dies in
//     Write, what was cached before may be served until the lease and the
//     L1TTL end.
//   - What [Async] has queued, if the process dies before Redis has it.
//   - More than 10,000 lost writes. Beyond that the namespaces concerned are
//     cleared when Redis returns: too much is forgotten, never too little.
//
// # Write-behind
//
// A [WriteBehind] takes writes that are read from the cache at once and gives
// them to a sink later, merged by key: a batch of 100, or what is 5 s old.
//
//   - Nothing accepted is lost. A write is accepted when it is in a Redis stream,
//     or when the sink has taken it; it leaves the stream in the script that
//     acknowledges it, after the sink's success. Without Redis, and while Redis is
//     away, full, or does not answer, the sink is called before Put returns.
//   - It is as durable as Redis: what a crash between two fsyncs, a failover to a
//     replica that lags, or FLUSHALL takes is gone. WriteBehindOptions.Replicas
//     waits for replicas; appendfsync always waits for the disk. A Redis that
//     evicts keys without a TTL (allkeys policies) is refused.
//   - At least once, in order. One process at a time flushes a partition, under a
//     lease; an item's Version grows with every write of its key, so that a sink
//     that writes "if newer" gets no write twice and no older one over a newer, also
//     from a process that lost its lease and goes on. After a crash the same writes
//     come again as the same item with the same Version.
//   - Fields merge by the caller's function: a partial never replaces another, and
//     is never cached or written as the whole.
//   - An item that the sink refuses while it takes others is parked with its cause
//     ([WriteBehind.DeadLetters], Retry, Discard); a sink that takes nothing is
//     tried again for as long as it takes, and nothing is parked.
//   - A full queue makes writers flush it themselves; if the sink takes nothing they
//     get [ErrQueueFull], and the write is not accepted.
//   - Close flushes until its context ends; what is left stays for the next process.
//
// Not guaranteed: the order of writes of one key by two processes within an L2
// time-out while Redis is away, for each goes by its own estimate of Redis's clock.
// A partial written while Redis is away is queued again when it is back, so that
// no older one outlives it; if its process dies before, an older queued write of
// the same field wins, and in between another process's newer one can lose. Fields
// that only one of them wrote are never lost. Loads that do not go through
// [WriteBehind.Loader] do not see what is queued once it has left the cache.
//
// # Backplanes
//
// How old what memory serves may be, counted from another's change of the key,
// by what [WithBackplane] says:
//
//	                                    PubSub     Tracking           Off
//	write of another store              a message  a message          L1TTL
//	DEL, SET, EXPIRE by other programs  L1TTL      a message          L1TTL
//	the same right after an own write   L1TTL      200 ms             L1TTL
//	eviction by Redis, FLUSHALL         L1TTL      a message          L1TTL
//	eviction or DEL of a tag            L1TTL      200 ms             L1TTL
//	the connection is silently dead     2.5 s      2.5 s              L1TTL
//	Redis is away                       L1TTL      L1TTL              L1TTL
//	cost of an own write                -          1 header read      -
//	cost of a key that anybody changes  -          1 key in a message -
//	cost of each read of Redis, load
//	and Set                             -          -                  1 round trip
//
// A message takes about a round trip; the 200 ms and the header read are in the
// background. What this process itself writes it serves at once, in each of them.
// A foreign EXPIRE counts when Redis drops the key.
//
// # Values
//
// Values are shared between all who read them and must not be changed, unless
// the cache has [WithCloner]. They are encoded with JSON unless [WithCodec]
// says otherwise, such as [Raw] for bytes and texts as they are; raise its schema number when the type changes in a way that
// old entries must not be read. A key is a string that is not empty, or an
// integer.
//
// # For operators
//
// [Cache.Inspect] tells what both tiers hold for a key and what a Get would do
// now, [Cache.Local] iterates over what is in memory, [Cache.Stats] and
// [Store.Stats] count; none of them leaves a trace. [Cache.InvalidatePrefix]
// deletes by the beginning of the key, slowly. The Store has all of it by text,
// for a page that does not know the types. [WithHooks] tells a program what
// happened; METRICS.md has the list of metrics and spans.
//
// # How it works
//
// Every entry has a version, a hybrid logical clock in microseconds that
// Redis's own clock drives. A load asks Redis for a lease, whose token is the
// version the value will have; storing the value needs the lease to be there
// still. Set and Delete take a higher version, remove the lease and publish
// the change in one script, so that there is no moment in which one has
// happened without the others. Tags are versions too: an entry holds those its
// tags had before its load began, and is valid while they are equal. That is
// also how Clear works, in constant time.
//
// Memory is ristretto behind an overlay that makes its queued writes
// immediate; see the comments in local.go, and in entry.go the form of an
// entry in Redis.
package tiered
