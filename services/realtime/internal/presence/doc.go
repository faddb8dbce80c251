// Package presence knows who of a team is connected, to any node.
//
// Each node writes down on a board, which all share, that a user is connected
// to it: a lease, which the node puts off while that is so. Somebody is here
// while any node has a lease of theirs that has not ended.
//
// # Guarantees
//
//   - Who connects is here, for all nodes, within about two seconds.
//   - Who has left every node is here for Linger longer, so that changing
//     nodes, or a reload of the page, is not noticed. That time is written on
//     the board as the end of the lease: it also holds when the node that was
//     left is gone by then.
//   - Who leaves a node that drains is here for TTL longer: the next one has
//     thousands to write down, and may be busy.
//   - Who was on a node that was killed leaves when its leases end, after TTL.
//   - Nobody leaves because the board is away, came back, or came back empty:
//     then nobody leaves before every node has had time to write again.
//   - A board that is slow is written and read all the same: each wait is for
//     a few hundred leases, however many there are.
//   - A view changes at most once per Batch.
//
// # Not guaranteed
//
// That a board which is cut off from some nodes alone tells these from killed
// ones: the others see their people leave after TTL.
package presence
