package diagnose

import (
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
)

// Judge is what is found of a node that was looked at, but for its large keys.
func Judge(n monitor.Node, now time.Time) (found []Finding) {
	add := func(area Area, severity Severity, id, seen string, causes, next []string) {
		found = append(found, Finding{ID: id, Area: area, Severity: severity, Seen: seen, Causes: causes, Next: next})
	}
	clients(n, add)
	memory(n, add)
	eternal(n, add)
	slow(n, add, now)
	persistence(n, add)
	replication(n, add)
	return found
}
