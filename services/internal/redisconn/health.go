package redisconn

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/info"
)

// Above these, a Redis that works is called degraded.
const (
	slowPing       = time.Second
	slowOperation  = 500 * time.Millisecond
	fullMemoryPart = 0.90
	probeTTL       = 10 * time.Second // of the key that a check writes, should it not get to deleting it
)

var errWrongValue = errors.New("the value read is not the one written")

// health is the result of a thorough check.
type health struct {
	at                  time.Time
	ping, set, get, del time.Duration
	setOK, getOK, delOK bool
	err                 error // why an operation failed; nil if all went well

	info             bool // the server told the following
	usedMemory       int64
	maxMemory        int64 // 0 means no limit
	connectedClients int64
	version          string
}

// examine uses Redis as the program does: it writes a value under a key that
// nobody else has, reads it back, compares, and deletes it.
func (c *Conn) examine(ctx context.Context) health {
	h := health{at: time.Now()}
	key := c.name + ":health:" + rand.Text()
	value := rand.Text()

	h.ping, h.err = timed(func() error { return c.probe.Ping(ctx).Err() })
	if h.err != nil {
		return h
	}
	h.set, h.err = timed(func() error { return c.probe.Set(ctx, key, value, probeTTL).Err() })
	if h.setOK = h.err == nil; h.setOK {
		h.get, h.err = timed(func() error {
			got, err := c.probe.Get(ctx, key).Result()
			if err == nil && got != value {
				return errWrongValue
			}
			return err
		})
		h.getOK = h.err == nil
		var err error
		h.del, err = timed(func() error { return c.probe.Del(ctx, key).Err() })
		h.delOK = err == nil
		if h.err == nil {
			h.err = err
		}
	}
	c.inform(ctx, &h)
	return h
}

// inform adds what the server says of itself. A user who may not ask is no
// reason to call Redis ill.
func (c *Conn) inform(ctx context.Context, h *health) {
	text, err := c.probe.Info(ctx).Result()
	if err != nil {
		return
	}
	in := info.Parse(text)
	h.info = true
	h.usedMemory = in.Int("used_memory")
	h.maxMemory = in.Int("maxmemory")
	h.connectedClients = in.Int("connected_clients")
	h.version = in["redis_version"]
}

func timed(f func() error) (time.Duration, error) {
	begin := time.Now()
	err := f()
	return time.Since(begin), err
}

func (c *Conn) noteHealth(h health) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.status.Up {
		c.health = h
	}
}

// memoryPart is the part of its memory that Redis uses, if it has a limit.
func (h health) memoryPart() (float64, bool) {
	if h.maxMemory <= 0 {
		return 0, false
	}
	return float64(h.usedMemory) / float64(h.maxMemory), true
}

func (h health) degraded() bool {
	part, limited := h.memoryPart()
	return h.ping > slowPing || h.set > slowOperation || h.get > slowOperation || (limited && part > fullMemoryPart)
}

// Report is how Redis is, as GET /api/health/redis tells it. It names no
// address and quotes no error.
type Report struct {
	Service   string        `json:"service"`
	Status    string        `json:"status"`
	Details   ReportDetails `json:"details"`
	Metrics   ReportMetrics `json:"metrics"`
	Timestamp time.Time     `json:"timestamp"`
}

// ReportDetails are what the status follows from.
type ReportDetails struct {
	Connectivity bool              `json:"connectivity"`
	Ping         bool              `json:"ping"`
	Operations   *ReportOperations `json:"operations,omitempty"`
	Required     bool              `json:"required"`
	Since        *time.Time        `json:"since,omitempty"`
	Failures     int               `json:"failures"`
	Error        string            `json:"error,omitempty"`
	Version      string            `json:"version,omitempty"`
	Mode         Mode              `json:"mode,omitempty"`
	Event        Event             `json:"event,omitempty"` // the connection's last step
	Nodes        []ReportNode      `json:"nodes,omitempty"` // of a Sentinel group or a Cluster, by role and name
}

// ReportOperations are which operations of the check worked in time.
type ReportOperations struct {
	Set bool `json:"set"`
	Get bool `json:"get"`
	Del bool `json:"del"`
}

// ReportMetrics are how long the check's operations took, what the server said
// of itself, and the connection's own figures.
type ReportMetrics struct {
	PingMs  *float64      `json:"ping_ms,omitempty"`
	SetMs   *float64      `json:"set_ms,omitempty"`
	GetMs   *float64      `json:"get_ms,omitempty"`
	DelMs   *float64      `json:"del_ms,omitempty"`
	TotalMs *float64      `json:"total_ms,omitempty"`
	Memory  *ReportMemory `json:"memory_usage,omitempty"`
	Clients *int64        `json:"connected_clients,omitempty"`
	Metrics
}

// ReportMemory is what the server said of its memory.
type ReportMemory struct {
	UsedBytes    int64    `json:"used_bytes"`
	MaxBytes     int64    `json:"max_bytes"` // 0 means no limit
	UsagePercent *float64 `json:"usage_percent,omitempty"`
}

// Handler answers GET /api/health/redis with service, status, details, metrics
// and the time of the check. The status is "healthy" or "degraded" with 200,
// "unhealthy" with 503, or "off" with 200 when no Redis is set up. It answers
// from the last check and never waits for Redis.
func (c *Conn) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		body := c.Report()
		code := http.StatusOK
		if body.Status == unhealthy {
			code = http.StatusServiceUnavailable
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(body) // the asker has left
	})
}

// Report returns how Redis is by the last check. It asks nobody.
func (c *Conn) Report() Report {
	c.mu.Lock()
	s, h, nodes := c.status, c.health, slices.Clone(c.nodes)
	c.mu.Unlock()

	r := Report{
		Service: "redis",
		Status:  healthy,
		Details: ReportDetails{
			Connectivity: s.Up, Ping: s.Up, Required: s.Required, Failures: s.Failures, Error: string(s.Cause),
			Version: h.version, Mode: c.cfg.Mode, Event: s.Event, Nodes: nodes,
		},
		Metrics:   ReportMetrics{Metrics: c.Metrics()},
		Timestamp: s.CheckedAt.UTC(),
	}
	if !s.Enabled {
		r.Status, r.Details.Error = "off", "neither REDIS_URL nor REDIS_HOST is set"
		r.Timestamp = time.Now().UTC()
		return r
	}
	r.Details.Since = new(s.Since.UTC())
	nodesAre, cause := worst(nodes)
	switch {
	case !s.Up, h.err != nil, nodesAre == unhealthy:
		r.Status = unhealthy
	case h.degraded(), nodesAre == degraded:
		r.Status = degraded
	}
	if s.Up && r.Details.Error == "" {
		r.Details.Error = cause
	}
	if h.at.IsZero() {
		return r // up for less than a moment, or down
	}
	if h.err != nil {
		r.Details.Error = string(CauseOf(h.err))
	}
	r.Timestamp = h.at.UTC()
	r.Details.Operations = &ReportOperations{
		Set: h.setOK && h.set <= slowOperation,
		Get: h.getOK && h.get <= slowOperation,
		Del: h.delOK && h.del <= slowOperation,
	}
	r.Metrics.PingMs = new(milliseconds(h.ping))
	r.Metrics.SetMs = new(milliseconds(h.set))
	r.Metrics.GetMs = new(milliseconds(h.get))
	r.Metrics.DelMs = new(milliseconds(h.del))
	r.Metrics.TotalMs = new(milliseconds(h.ping + h.set + h.get + h.del))
	if h.info {
		r.Metrics.Clients = new(h.connectedClients)
		r.Metrics.Memory = &ReportMemory{UsedBytes: h.usedMemory, MaxBytes: h.maxMemory}
		if part, limited := h.memoryPart(); limited {
			r.Metrics.Memory.UsagePercent = new(part * 100)
		}
	}
	return r
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
