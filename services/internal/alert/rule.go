package alert

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Severity says who has to do something, and when.
type Severity string

// The severities.
const (
	Warning  Severity = "warning"  // somebody should look at it today
	Critical Severity = "critical" // somebody should look at it now
)

// Comparison says on which side of a threshold a reading is bad.
type Comparison string

// The comparisons.
const (
	Above   Comparison = "above"
	AtLeast Comparison = "at_least"
)

// Rule says what is wrong, from when on. Several rules of one name and
// different severities are steps of one alert.
type Rule struct {
	Name       string     `json:"name"`
	Severity   Severity   `json:"severity"`
	Signal     string     `json:"signal"` // what is measured
	Threshold  float64    `json:"threshold"`
	Comparison Comparison `json:"comparison"`
	ForSeconds int        `json:"for_seconds"` // how long a node must have measured it
	Summary    string     `json:"summary"`
	Unit       string     `json:"unit"` // ms, ratio or failures
	Advice     string     `json:"advice"`
	// PromQL is the signal for Prometheus, in the rule's unit. $selector stands
	// for the matchers that pick the installation.
	PromQL string `json:"promql"`
}

func (r Rule) bad(value float64) bool {
	return value > r.Threshold || r.Comparison == AtLeast && value == r.Threshold
}

func (r Rule) lasting() time.Duration { return time.Duration(r.ForSeconds) * time.Second }

// in words a value of the rule's unit.
func (r Rule) in(value float64) string {
	switch r.Unit {
	case "ratio":
		return fmt.Sprintf("%.1f %%", value*100)
	case "failures":
		return fmt.Sprintf("%.0f failures in a row", value)
	}
	return fmt.Sprintf("%.0f %s", value, r.Unit)
}

//go:embed rules.json
var rulesJSON []byte

// file is rules.json, by which Prometheus's rules go as well.
type file struct {
	Interval   int    `json:"interval_seconds"`
	KeepFiring int    `json:"keep_firing_seconds"`
	Cooldown   int    `json:"cooldown_seconds"`
	Manual     string `json:"manual"`
	Rules      []Rule `json:"rules"`
}

var constants, errConstants = read()

// Timing that all rules share.
var (
	Interval   = time.Duration(constants.Interval) * time.Second   // between readings
	KeepFiring = time.Duration(constants.KeepFiring) * time.Second // an alert outlasts its cause by this
	Cooldown   = time.Duration(constants.Cooldown) * time.Second   // between notices of one name and severity
)

func read() (file, error) {
	var f file
	d := json.NewDecoder(bytes.NewReader(rulesJSON))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return file{}, fmt.Errorf("read alert rules: %w", err)
	}
	return f, validate(f.Rules)
}

// Rules returns the rules of rules.json.
func Rules() ([]Rule, error) { return slices.Clone(constants.Rules), errConstants }

// Runbook is where the manual says what to do about an alert.
func Runbook(name string) string {
	if strings.HasPrefix(name, sinkAlert) {
		name = strings.TrimSuffix(sinkAlert, "_")
	}
	return constants.Manual + "#" + name
}

var ruleName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,63}$`)

func validate(rules []Rule) error {
	var errs []error
	seen := map[string]bool{}
	for _, r := range rules {
		id := r.Name + " " + string(r.Severity)
		switch {
		case !ruleName.MatchString(r.Name) || !ruleName.MatchString(r.Signal):
			errs = append(errs, fmt.Errorf("alert rule %q: expected a name and a signal of lower-case letters, digits and underscores", r.Name))
		case r.Severity != Warning && r.Severity != Critical:
			errs = append(errs, fmt.Errorf("alert rule %s: severity %q: expected warning or critical", r.Name, r.Severity))
		case r.Comparison != Above && r.Comparison != AtLeast:
			errs = append(errs, fmt.Errorf("alert rule %s: comparison %q: expected above or at_least", r.Name, r.Comparison))
		case r.ForSeconds < 0:
			errs = append(errs, fmt.Errorf("alert rule %s: for_seconds %d: expected 0 or more", r.Name, r.ForSeconds))
		case seen[id]:
			errs = append(errs, fmt.Errorf("alert rule %s: there are two of severity %s", r.Name, r.Severity))
		}
		seen[id] = true
	}
	return errors.Join(errs...)
}
