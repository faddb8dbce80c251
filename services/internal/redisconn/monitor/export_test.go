package monitor

import "github.com/crewbeat/crewbeat/services/internal/redisconn/info"

// Read is what is read of an INFO.
func Read(text string) (n Node) {
	read(&n, info.Parse(text))
	return n
}

// CommandName is how a command of the slow log is shown.
var CommandName = commandName
