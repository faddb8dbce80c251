package serve

import (
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"
)

// failuresToUnready is how many checks in a row must fail before a required
// dependency makes the program unready: one lost packet is not an outage.
const failuresToUnready = 3

// Check is what is known of a dependency, from the last time it was looked at.
type Check struct {
	Up       bool
	Failures int       // failed checks in a row
	Since    time.Time // when Up last changed; zero if it never was checked
	Cause    string    // why it is not up, in a few words without addresses or secrets
}

// Probes answer the questions of an orchestrator: has the program started, is
// it alive, should it be sent requests. They never wait for a dependency: the
// functions given to Add return what is known already.
type Probes struct {
	mu       sync.Mutex
	checks   []*probed
	draining bool
	started  bool
}

type probed struct {
	name     string
	required bool
	check    func() Check
	seen     bool // has been up at least once
}

// NewProbes returns probes without dependencies: ready at once.
func NewProbes() *Probes { return &Probes{} }

// Add makes the answers depend on check, which must return at once; see
// [Watch]. A required dependency makes the program unready after three failed
// checks in a row, and ready again on the first success. One that is not
// required makes it degraded.
func (p *Probes) Add(name string, required bool, check func() Check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.checks = append(p.checks, &probed{name: name, required: required, check: check})
}

// Draining makes the program unready for good. [Run] calls it.
func (p *Probes) Draining() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.draining = true
}

// The states of the program and of its dependencies in the answers.
const (
	stateOK          = "ok"
	stateDegraded    = "degraded"
	stateUnavailable = "unavailable"
	stateDraining    = "draining"
	stateStarting    = "starting"
	stateUp          = "up"
	stateFailing     = "failing"
	stateDown        = "down"
	stateUnknown     = "unknown"
)

type report struct {
	Status string               `json:"status"`
	Checks map[string]checkJSON `json:"checks,omitempty"`
}

type checkJSON struct {
	Status   string     `json:"status"`
	Required bool       `json:"required"`
	Failures int        `json:"failures,omitempty"`
	Since    *time.Time `json:"since,omitempty"`
	Cause    string     `json:"cause,omitempty"`
}

// report asks every check, without holding the lock, and sums up.
func (p *Probes) report() (r report, draining, started bool) {
	p.mu.Lock()
	checks := slices.Clip(p.checks)
	p.mu.Unlock()

	r = report{Status: stateOK, Checks: make(map[string]checkJSON, len(checks))}
	allSeen := true
	for _, c := range checks {
		now := c.check()
		p.mu.Lock()
		c.seen = c.seen || now.Up
		seen := c.seen
		p.mu.Unlock()

		allSeen = allSeen && (seen || !c.required)
		one := checkJSON{Status: now.state(), Required: c.required, Failures: now.Failures, Cause: now.Cause}
		if !now.Since.IsZero() {
			one.Since = new(now.Since.UTC())
		}
		r.Checks[c.name] = one
		switch {
		case now.Up:
		case !c.required:
			if r.Status == stateOK {
				r.Status = stateDegraded
			}
		case !seen || now.Failures >= failuresToUnready:
			r.Status = stateUnavailable
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.started = p.started || allSeen
	return r, p.draining, p.started
}

func (c Check) state() string {
	switch {
	case c.Up:
		return stateUp
	case c.Failures == 0:
		return stateUnknown
	case c.Failures < failuresToUnready:
		return stateFailing
	}
	return stateDown
}

// Livez answers 200 for as long as the process can answer at all: restarting
// it mends no dependency.
func (p *Probes) Livez(w http.ResponseWriter, _ *http.Request) {
	writeReport(w, http.StatusOK, report{Status: stateOK})
}

// Readyz answers 200 when the program should be sent requests: with status
// "ok", or with "degraded" while something it can do without is down.
// Otherwise it answers 503 with "unavailable" or "draining".
func (p *Probes) Readyz(w http.ResponseWriter, _ *http.Request) {
	r, draining, _ := p.report()
	code := http.StatusOK
	switch {
	case draining:
		r.Status, code = stateDraining, http.StatusServiceUnavailable
	case r.Status == stateUnavailable:
		code = http.StatusServiceUnavailable
	}
	writeReport(w, code, r)
}

// Startupz answers 200 once every required dependency has been up, and from
// then on for good.
func (p *Probes) Startupz(w http.ResponseWriter, _ *http.Request) {
	r, _, started := p.report()
	if started {
		writeReport(w, http.StatusOK, report{Status: stateOK})
		return
	}
	r.Status = stateStarting
	writeReport(w, http.StatusServiceUnavailable, r)
}

// Handler serves /livez, /readyz and /startupz.
func (p *Probes) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", p.Livez)
	mux.HandleFunc("GET /readyz", p.Readyz)
	mux.HandleFunc("GET /startupz", p.Startupz)
	return mux
}

func writeReport(w http.ResponseWriter, code int, r report) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(r) // the asker has left; nobody is there to be told
}
