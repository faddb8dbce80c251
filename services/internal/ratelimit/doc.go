// Package ratelimit bounds how often somebody may do something.
//
// A [Policy] says how often, and by which of three ways of counting. [Limits]
// holds what all policies share, above all Redis; a [Limiter] made by it
// answers for one policy:
//
//	limits, err := ratelimit.New(ratelimit.Options{Client: client, Secret: secret})
//	logins, err := limits.Limiter(ratelimit.Policy{
//		Name: "login", Algorithm: ratelimit.Sliding, Limit: 5, Window: time.Minute,
//	})
//	if d := logins.Take(ctx, account, address); !d.Allowed {
//		// wait d.RetryAfter
//	}
//
// # Ways of counting
//
//	Fixed    a window begins with its first call. One number; up to twice
//	         the limit may pass around the end of a window.
//	Sliding  no span of the window's length ever holds more than the limit:
//	         exact, for guarding something. One entry for each call admitted,
//	         so at most Limit of them. Two weighted buckets would be smaller,
//	         but are an estimate that nearly twice the limit can slip through;
//	         and for what must be small there is GCRA.
//	GCRA     a bucket that fills steadily: Limit at once, then one every
//	         Window/Limit. One number; kind to pages that ask in bursts.
//
// # Leases
//
// A policy with a Lease spares hot keys the round trip. A node takes as many at
// once as it has lately used up within a second, at most Lease, and never more
// than a sixteenth of what is left: so it asks for one after the other where
// little is left. What it has taken it may use for a second, or a tenth of the
// window if that is shorter; then it is lost. Whoever was refused is refused by
// the node until the time that Redis has said.
//
//   - Fixed: no window admits more than the limit, as all that is admitted was
//     taken from Redis before. It may admit fewer: what nodes hold, or have
//     lost by dying or by not using it in time, at most Lease of each node at
//     a time.
//   - GCRA: the same, and since what was taken may be used later, a span holds
//     at most what one longer by that second, or tenth, may hold.
//
// # Guarantees
//
//   - Deciding and counting are one step: however many calls arrive at once,
//     on however many nodes, no more are admitted than the limit.
//   - Redis is asked once a call, or less with a Lease, by one script, on the
//     clock of Redis: nodes whose clocks differ count alike.
//   - A call that is refused counts for nothing. Whoever is refused is
//     admitted after RetryAfter, unless somebody else was quicker.
//   - What is kept has an end from the moment it is written, at most one
//     window later; even a clock that is set back bans nobody for longer than
//     two windows.
//   - Neither Redis nor memory holds who asked, but a keyed hash; memory holds
//     at most MaxKeys of them for a policy, so that many addresses of one
//     policy cannot push out what another counts.
//   - With Redis away, this process counts in memory by the same rules, and
//     starts from what it has itself admitted before. When Redis answers
//     again, it is asked again. Of a Cluster that is so for each master apart:
//     while one is away, the limits that others keep are counted there.
//
// # Not guaranteed
//
// With Redis away, each node counts for itself: n nodes together admit up to n
// times the limit. What was admitted meanwhile is not told to Redis when it
// returns. A call whose answer from Redis got lost may count twice. Of more than
// MaxKeys askers, memory forgets those who asked least recently.
package ratelimit
