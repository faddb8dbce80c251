package redisconn

import (
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
)

const (
	// signalWindow is what the signals about commands look back on.
	signalWindow = 2 * time.Minute
	// fewestCommands in the window make a ratio or a quantile: one of two that
	// failed is no alarm.
	fewestCommands = 10
)

// Signals are what alerts watch: how many checks in a row have failed, the part
// of its memory that Redis uses, and of the commands of the last two minutes
// the 95th percentile in milliseconds and the part that failed. ok is false
// while there is nothing to measure; REDIS_PERFORMANCE_MONITORING=false leaves
// nothing of the last two. They ask nobody.
func (c *Conn) Signals() map[string]func() (value float64, ok bool) {
	if c.client == nil {
		return nil
	}
	lately := func() (profile.Window, bool) {
		if c.profile == nil {
			return profile.Window{}, false
		}
		return c.profile.Window(time.Now(), signalWindow), true
	}
	return map[string]func() (float64, bool){
		"redis_consecutive_failures": func() (float64, bool) { return float64(c.Status().Failures), true },
		"redis_memory_ratio": func() (float64, bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !c.status.Up {
				return 0, false
			}
			return c.health.memoryPart()
		},
		"redis_command_p95_ms": func() (float64, bool) {
			w, ok := lately()
			return w.P95Ms, ok && w.Timed >= fewestCommands
		},
		"redis_command_error_ratio": func() (float64, bool) {
			w, ok := lately()
			return w.ErrorRatio, ok && w.Count >= fewestCommands
		},
	}
}

// Profile is what commands took and how they ended, by command. It is empty
// with REDIS_PERFORMANCE_MONITORING=false, or without a Redis.
func (c *Conn) Profile() profile.Report {
	if c.profile == nil {
		return profile.Report{Commands: []profile.CommandReport{}}
	}
	return c.profile.Report(time.Now())
}

// Timings are how long commands took, for a histogram: of each command, of
// those that went well and of each kind of failure, without blocking reads. It
// is empty with REDIS_PERFORMANCE_MONITORING=false, or without a Redis.
func (c *Conn) Timings() []profile.Timing {
	if c.profile == nil {
		return nil
	}
	return c.profile.Timings()
}

// ResetProfile makes the profile begin anew.
func (c *Conn) ResetProfile() {
	if c.profile != nil {
		c.profile.Reset(time.Now())
	}
}
