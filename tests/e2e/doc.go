// Package e2e holds the end-to-end tests. They know Crewbeat from outside
// only: its binary, its HTTP and WebSocket interfaces, its chart and its image,
// and none of its packages.
//
//   - process runs the two services as processes beside a real PostgreSQL and
//     a real redis-server, and kills the latter. Part of `make test`.
//   - cluster makes a kind cluster, installs the chart and tells the same story
//     there. It is `make e2e`.
package e2e
