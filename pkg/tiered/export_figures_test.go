package tiered

import (
	"fmt"
	"time"
)

// Figures are the figures of the documentation as the code has them, by file.
func Figures() map[string][]string {
	behind := WriteBehindOptions[int]{}.withDefaults()
	return map[string][]string{
		"doc.go": {
			"at most " + seconds(canaryWindow) + ", the canary's window",
			f("Of %d keys, a read costs one round trip, a load three", bulkSize),
			"its Sets, Deletes, InvalidateTags and Clears of the last " + seconds(ackWindow),
			"It finds the new master with its next beat, a second at most",
			f("repeats %d keys in each %d to %d ms, so %s in", replayBatch, replayPause.Milliseconds(), 2*replayPause.Milliseconds(), thousands(maxLost)),
			"All is repeated once more after " + seconds(failoverSettles),
			f("at most %d loaders run at once", DefaultOutageLoads),
			"took longer than the lease (" + seconds(DefaultLease),
			"More than " + seconds(ackWindow) + " of writes that Redis acknowledged",
			f("or more than %s of a process", thousands(maxAcks)),
			f("More than %s lost writes", thousands(maxLost)),
			f("a batch of %d, or what is %s old", behind.Batch, seconds(behind.Interval)),
			f("the same right after an own write L1TTL %d ms", 2*checkDelay.Milliseconds()),
			"the connection is silently dead " + seconds(canaryWindow) + " " + seconds(canaryWindow) + " L1TTL",
		},
		"options.go": {
			f("up to %s writes or %d MiB that wait", thousands(maxPosted), maxPostedBytes>>20),
			f("up to %d tags of 1 to %d bytes", maxTags, maxTagLen),
			"which is " + seconds(DefaultLease) + " after its start",
			f("The default is %d in a store with Redis", DefaultOutageLoads),
			f("The default is %d MiB", DefaultL1Bytes>>20),
			f("round trip to Redis. The default is %d ms", DefaultL2Timeout.Milliseconds()),
			f("a mistake. The default is %d minutes", int(DefaultTTL.Minutes())),
			"away. The default is " + seconds(DefaultL1TTL),
			"not at all. The default is " + seconds(DefaultNegativeTTL),
			"A failed refresh is tried again after a second",
		},
		"track.go":  {f("100 to %d ms later and up to %d in one round trip", 2*checkDelay.Milliseconds(), checkBatch)},
		"bulk.go":   {f("asking Redis for up to %d in one round trip", bulkSize)},
		"hooks.go":  {f("At most %s events wait", thousands(hookQueue))},
		"update.go": {f("after %d calls in vain", updateTries)},
		"prefix.go": {f("by SCAN of %d and deletes in batches of %d", scanCount, prefixBatch), "for two minutes"},
		"errors.go": {f("more than %d MiB encoded", maxRaw>>20)},
		"etag.go":   {f("One of more than %s bytes is not stored", thousands(maxETag))},
		"README.md": {
			f("`TTL` (%d min)", int(DefaultTTL.Minutes())), "`L1TTL` (" + seconds(DefaultL1TTL) + ")",
			"`NegativeTTL` (" + seconds(DefaultNegativeTTL) + ")", f("`WithOutageLoads(%d)`", DefaultOutageLoads),
			f("in few round trips (%d each)", bulkSize),
		},
	}
}

func f(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func seconds(d time.Duration) string { return fmt.Sprintf("%g s", d.Seconds()) }

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
