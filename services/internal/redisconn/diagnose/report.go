package diagnose

import (
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// Severity says how bad something is.
type Severity string

// The severities.
const (
	Critical Severity = "critical" // Crewbeat cannot use Redis, or not for long
	Warning  Severity = "warning"  // it works, but should be looked after
	Note     Severity = "note"     // worth knowing
)

// Area is what a diagnosis is about.
type Area string

// The areas.
const (
	Connection  Area = "connection"
	Memory      Area = "memory"
	Performance Area = "performance"
)

// Finding is one thing that is not as it should be.
type Finding struct {
	ID       string   `json:"id"` // stable, as "memory.no_limit"
	Area     Area     `json:"area" enum:"connection,memory,performance"`
	Severity Severity `json:"severity" enum:"critical,warning,note"`
	Node     string   `json:"node"` // address
	Seen     string   `json:"seen"`
	Causes   []string `json:"causes"` // likely ones, the likeliest first
	Next     []string `json:"next"`   // steps
}

// Report is a diagnosis. Without findings, all is well.
type Report struct {
	At       time.Time      `json:"at"`
	TookMs   float64        `json:"took_ms"`
	Addr     string         `json:"addr"`
	Mode     redisconn.Mode `json:"mode"`
	Looked   []Area         `json:"looked"` // connection alone, if there is none
	Findings []Finding      `json:"findings"`
}

// Worst is the severity of the worst finding; "" if there is none.
func (r Report) Worst() Severity {
	worst := Severity("")
	for _, f := range r.Findings {
		switch {
		case f.Severity == Critical:
			return Critical
		case f.Severity == Warning, worst == "":
			worst = f.Severity
		}
	}
	return worst
}

// Has reports whether there is a finding by that id.
func (r Report) Has(id string) bool {
	for _, f := range r.Findings {
		if f.ID == id {
			return true
		}
	}
	return false
}
