// Package alert notices that something is wrong for long enough to tell
// somebody, tells them once, and tells them when it is over.
//
// Every node measures for itself and notes its readings in the database; any
// node may find that an alert begins or ends, and any node may send what is to
// be sent. The database sees to it that each happens once: an alert is open
// once by a unique index, and a notice is claimed for a minute by whoever
// sends it. So there is no leader to lose.
//
// # Guarantees
//
//   - An alert fires when a reading has been beyond its threshold for the
//     rule's time, on any node, and is resolved when no node has had such a
//     reading for KeepFiring. It never depends on an average over a lifetime.
//   - What was once to be sent is sent: it is stored before it is tried, and
//     tried again with growing pauses until it is taken or a day has passed.
//   - At most one notice that an alert fires per name and severity within
//     Cooldown. A warning never mutes a critical alert, nor one alert another.
//   - A sink that takes nothing is itself an alert, told to the other sinks.
//
// # Not guaranteed
//
// That a notice arrives only once: a node that dies after a sink has taken it
// and before that is noted leaves it to be sent again, with the same id. And
// nothing is noticed while the database is away, as there is nowhere to agree;
// /readyz and the metrics tell of that.
package alert
