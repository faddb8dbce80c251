package admin

import (
	"context"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/profile"
)

// Redis is what is known of Redis, by the last looks at it.
type Redis struct {
	Node     string     `json:"node" doc:"The process that answers. Each has connections of its own."`
	At       time.Time  `json:"at"`
	State    string     `json:"state" enum:"up,down,off" doc:"off: this installation needs none."`
	Required bool       `json:"required"`
	Address  string     `json:"address" doc:"Host and port, without credentials."`
	TLS      bool       `json:"tls"`
	Since    *time.Time `json:"since,omitempty" doc:"When it came up or went down."`
	Checked  *time.Time `json:"checked_at,omitempty" doc:"The last look."`
	Failures int        `json:"failures" doc:"Failed looks in a row."`
	Cause    string     `json:"cause" doc:"Why it cannot be used; empty while it can."`
	Check    string     `json:"check" doc:"What to check then."`

	Health  redisconn.Report `json:"health" doc:"What GET /api/health/redis tells."`
	Pool    Pool             `json:"pool"`
	Servers Servers          `json:"servers"`
}

// Servers is what the monitor of this process saw of each server.
type Servers struct {
	At     *time.Time     `json:"at,omitempty" doc:"The last look; none before the first. While Redis is down nobody looks, and what was seen last stays."`
	TookMs float64        `json:"took_ms"`
	Mode   string         `json:"mode" enum:"single,sentinel,cluster," doc:"Empty without Redis."`
	Every  int64          `json:"every_seconds" doc:"From look to look; 0: nobody looks."`
	Nodes  []monitor.Node `json:"nodes" doc:"By address; one, if it is no Cluster. Neither keys nor arguments of commands are in it."`
}

// Pool is the connections of this process.
type Pool struct {
	Used        int64   `json:"used"`
	Idle        int64   `json:"idle"`
	Max         int     `json:"max" doc:"The most that it may open, by server."`
	Min         int     `json:"min" doc:"Kept open though unused."`
	Opened      int64   `json:"opened" doc:"Ever opened or tried."`
	Failed      int64   `json:"failed" doc:"Of those, failed."`
	Timeouts    int64   `json:"timeouts" doc:"Waits for a connection that were given up."`
	Reconnected int64   `json:"reconnected" doc:"Returns of Redis after a loss."`
	Commands    int64   `json:"commands"`
	Failures    int64   `json:"failed_commands"`
	AverageMs   float64 `json:"average_ms" doc:"Of a command."`
}

// Redis returns what is known of Redis. It asks nobody.
func (p *Panel) Redis() Redis {
	r := Redis{Node: p.c.Node, At: p.c.Now().UTC(), State: "off", Health: redisconn.Report{Service: "redis", Status: "off"}}
	r.Servers.Nodes = []monitor.Node{}
	if p.c.Redis == nil || p.c.Redis.Client() == nil {
		r.Health.Timestamp = r.At
		return r
	}
	st, c := p.c.Redis.Status(), p.c.Redis.Config()
	r.State, r.Required, r.Address, r.TLS = st.State(), st.Required, c.Addr(), c.TLS != nil
	r.Failures, r.Cause = st.Failures, string(st.Cause)
	if st.Cause != "" {
		r.Check = st.Cause.Hint()
	}
	r.Since, r.Checked = instant(st.Since), instant(st.CheckedAt)
	r.Health = p.c.Redis.Report()
	r.Servers = p.servers(c)
	m := r.Health.Metrics.Metrics
	r.Pool = Pool{
		Used: max(m.ActiveConnections-m.IdleConnections, 0), Idle: m.IdleConnections, Max: c.MaxConnections, Min: c.MinConnections,
		Opened: m.TotalConnections, Failed: m.FailedConnections, Timeouts: m.PoolTimeouts, Reconnected: m.Reconnections,
		Commands: m.Commands, Failures: m.FailedCommands, AverageMs: m.AverageMs,
	}
	return r
}

func (p *Panel) servers(c redisconn.Config) Servers {
	s := Servers{Mode: string(c.Mode), Nodes: []monitor.Node{}}
	if p.c.Monitor == nil {
		return s
	}
	last := p.c.Monitor.Snapshot()
	s.At, s.TookMs, s.Nodes = instant(last.At), last.TookMs, last.Nodes
	s.Every = int64(c.MonitorInterval / time.Second)
	return s
}

// Profile is what commands took and how they ended, by command.
type Profile = profile.Report

// Profile returns what this process's commands took. It is empty without Redis
// and with REDIS_PERFORMANCE_MONITORING=false.
func (p *Panel) Profile() Profile {
	if p.c.Redis == nil {
		return Profile{Commands: []profile.CommandReport{}}
	}
	return p.c.Redis.Profile()
}

// ResetProfile makes the profile of this process begin anew.
func (p *Panel) ResetProfile(ctx context.Context, by Actor) error {
	if err := p.note(ctx, by, "redis.profile.reset", "node:"+p.c.Node, nil); err != nil {
		return err
	}
	if p.c.Redis != nil {
		p.c.Redis.ResetProfile()
	}
	return nil
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return new(t.UTC())
}
