package main

import (
	"fmt"
	"os"

	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/serve"
)

// openAlerts watches Redis, if there is one to watch.
func (s *stack) openAlerts() error {
	if !s.Redis.Enabled() {
		return nil
	}
	sinks, err := s.Alerts.Sinks(s.log, "crewbeat@"+versionText())
	if err != nil {
		return fmt.Errorf("set up alerts: %w", err)
	}
	signals := map[string]alert.Signal{}
	for name, measure := range s.redis.Signals() {
		signals[name] = measure
	}
	s.alerts, err = alert.New(alert.Config{
		DB: s.db.SQL(), Node: s.node(), Signals: signals, Sinks: sinks,
		Site: s.PublicURL, Log: s.log, Meter: s.telemetry.MeterProvider(),
	})
	if err != nil {
		return fmt.Errorf("set up alerts: %w", err)
	}
	s.parts = append(s.parts, serve.Task("alerts", s.alerts.Run))
	return nil
}

// node names this process for people: two services of one machine each measure
// for themselves.
func (s *stack) node() string {
	host, err := os.Hostname()
	if err != nil {
		host = "this machine"
	}
	return host + "/" + s.name
}
