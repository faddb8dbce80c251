// Package guides holds, in its tests alone, what Crewbeat replaces: the code of
// two guides to Redis, line by line as Go says it, each with the claim that it
// breaks. docs/guides.md names for each claim the tests that hold our own code
// to it.
package guides
