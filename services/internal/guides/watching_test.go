package guides_test

import (
	"testing"
	"time"
)

// operation is one of performanceMetrics.operations.
type operation struct{ count, totalTime, errors float64 }

func (o *operation) track(ms float64, success bool) {
	o.count++
	o.totalTime += ms
	if !success {
		o.errors++
	}
}

func (o *operation) averages() (averageTime, errorRate float64) {
	return o.totalTime / o.count, o.errors / o.count * 100
}

// alertManager has one time of the last alert.
type alertManager struct{ lastAlertTime time.Time }

// checkAndAlert returns what was sent.
func (m *alertManager) checkAndAlert(now time.Time, alerts ...string) []string {
	if len(alerts) == 0 || now.Sub(m.lastAlertTime) <= 5*time.Minute {
		return nil
	}
	m.lastAlertTime = now
	return alerts
}

var watching = []claim{
	{"alerts: averages of a whole life never clear", func(*testing.T) string {
		get := &operation{}
		for range 1000 {
			get.track(2000, false) // a bad minute
		}
		for range 1000 {
			get.track(1, true) // all is well since
		}
		ms, failed := get.averages()
		return says(ms > 1000 && failed > 5, "long after it is over, the average is %.0f ms and %.0f %% fail", ms, failed)
	}},
	{"alerts: one cooldown lets a warning mute what is critical", func(*testing.T) string {
		m, now := &alertManager{}, time.Unix(1e9, 0)
		m.checkAndAlert(now, "memory warning")
		sent := m.checkAndAlert(now.Add(time.Minute), "connectivity critical")
		return says(sent == nil, "a minute after a warning, nobody is told that Redis is away")
	}},
}
