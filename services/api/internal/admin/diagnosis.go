package admin

import (
	"context"
	"fmt"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn/diagnose"
)

// DiagnosisLimit is the most time that a diagnosis takes. What has not answered by then is found not to answer.
const DiagnosisLimit = 15 * time.Second

// Diagnosis is what is wrong with Redis, why that may be, and what to do next.
type Diagnosis struct {
	Node     string             `json:"node" doc:"The process that looked."`
	At       time.Time          `json:"at"`
	TookMs   float64            `json:"took_ms"`
	Address  string             `json:"address" doc:"Host and port, without credentials; empty without Redis."`
	Worst    string             `json:"worst" enum:"critical,warning,note," doc:"Of the findings; empty if there is none."`
	Looked   []diagnose.Area    `json:"looked" doc:"connection alone, if there is none; empty without Redis."`
	Findings []diagnose.Finding `json:"findings" doc:"The worst first. None: all is well."`
}

// Diagnose looks at an area of Redis, through a connection of its own. It
// changes nothing but keys of its own, which it deletes, and is noted, since it
// writes them. While another one runs in this process it is [ErrDiagnosing].
func (p *Panel) Diagnose(ctx context.Context, by Actor, area diagnose.Area) (Diagnosis, error) {
	d := Diagnosis{Node: p.c.Node, At: p.c.Now().UTC(), Looked: []diagnose.Area{}, Findings: []diagnose.Finding{}}
	if p.c.Redis == nil || p.c.Redis.Client() == nil {
		return d, nil
	}
	limited, cancel := context.WithTimeout(ctx, p.c.DiagnosisLimit)
	defer cancel()
	select {
	case p.diagnosis <- struct{}{}:
		defer func() { <-p.diagnosis }()
	default:
		return Diagnosis{}, fmt.Errorf("diagnose %s: %w", area, ErrDiagnosing)
	}
	if err := p.note(ctx, by, "redis.diagnose", "area:"+string(area), map[string]string{"node": p.c.Node}); err != nil {
		return Diagnosis{}, err
	}
	r := diagnose.Diagnose(limited, p.c.Redis.Config(), diagnose.Options{Areas: []diagnose.Area{area}})
	if err := ctx.Err(); err != nil { // who asked has left
		return Diagnosis{}, fmt.Errorf("diagnose %s: %w", area, err)
	}
	d.At, d.TookMs, d.Address, d.Looked = r.At, r.TookMs, r.Addr, r.Looked
	d.Worst, d.Findings = string(r.Worst()), r.Findings
	return d, nil
}
