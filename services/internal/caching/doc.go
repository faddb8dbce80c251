// Package caching is the register of what Crewbeat keeps in Redis: every
// family of keys, what it holds, for how long, and what makes it go away.
//
// # Guarantees
//
//   - A cache is opened here or not at all in the programs, so that no two can
//     have one name, and none is without an entry in [Spaces].
//   - What is cached is a type whose every field may be cached: [Open] refuses
//     types with fields whose names speak of secrets, or whose content cannot be
//     known, such as any and maps of it. A password's hash cannot reach Redis by
//     being added to a struct.
//   - Every key expires.
package caching
