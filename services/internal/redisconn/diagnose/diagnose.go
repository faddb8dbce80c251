package diagnose

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

const (
	commandTimeout = time.Second
	timeLimit      = 30 * time.Second
)

// Options change a diagnosis. The zero value looks at everything.
type Options struct {
	Areas []Area           // nil means all; the connection is always looked at
	Now   func() time.Time // the clock that the server's is compared with; nil means time.Now
	// Prefixes are what the program's keys begin with: nil means Crewbeat's.
	Prefixes []string
	// Channels are what its channels begin with: nil means Crewbeat's.
	Channels []string
}

func (o Options) withDefaults() Options {
	if o.Areas == nil {
		o.Areas = []Area{Connection, Memory, Performance}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Prefixes == nil {
		o.Prefixes = []string{"cb:", "rt:", "crewbeat:"}
	}
	if o.Channels == nil {
		o.Channels = []string{"cb:", "rt:"}
	}
	return o
}

// examination is a diagnosis under way.
type examination struct {
	cfg  redisconn.Config
	opts Options

	mu     sync.Mutex // nodes are looked at together
	report Report
}

// Diagnose looks at the Redis of cfg, which must be enabled. It takes half a
// minute at most.
func Diagnose(ctx context.Context, cfg redisconn.Config, opts Options) Report {
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	begin := time.Now()
	e := &examination{cfg: cfg, opts: opts.withDefaults()}
	e.report = Report{At: begin.UTC(), Addr: cfg.Addr(), Mode: cfg.Mode, Looked: []Area{Connection}, Findings: []Finding{}}
	if client := cfg.Client("crewbeat-doctor", commandTimeout); client != nil {
		e.examine(ctx, client)
		_ = client.Close() // it has done its work
	}
	rank := map[Severity]int{Critical: 0, Warning: 1, Note: 2}
	slices.SortStableFunc(e.report.Findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(rank[a.Severity], rank[b.Severity]), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Node, b.Node))
	})
	e.report.TookMs = float64(time.Since(begin).Microseconds()) / 1000
	return e.report
}

func (e *examination) examine(ctx context.Context, client redis.UniversalClient) {
	e.sentinels(ctx)
	if err := client.Ping(ctx).Err(); err != nil {
		e.unreachable(ctx, err)
		return
	}
	e.use(ctx, client)
	for _, area := range []Area{Memory, Performance} {
		if e.wants(area) {
			e.report.Looked = append(e.report.Looked, area)
		}
	}
	look := func(ctx context.Context, node *redis.Client) error {
		addr := node.Options().Addr
		if e.cfg.Mode == redisconn.Sentinel {
			addr = e.cfg.MasterName // a client that follows a master knows no address
		}
		e.node(ctx, node, addr)
		return nil
	}
	switch client := client.(type) {
	case *redis.ClusterClient:
		_ = client.ForEachShard(ctx, look) // whoever does not answer is found out by look
	case *redis.Client:
		_ = look(ctx, client) // it has no error
	}
}

func (e *examination) wants(a Area) bool { return slices.Contains(e.opts.Areas, a) }

// found adds a finding.
func (e *examination) found(f Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.Node == "" {
		f.Node = e.cfg.Addr()
	}
	e.report.Findings = append(e.report.Findings, f)
}

// sentinels asks each Sentinel whether it is there.
func (e *examination) sentinels(ctx context.Context) {
	if e.cfg.Mode != redisconn.Sentinel {
		return
	}
	for _, addr := range e.cfg.Addrs {
		s := e.cfg.Sentinel(addr)
		err := s.Ping(ctx).Err()
		_ = s.Close() // it has done its work
		if err != nil {
			e.found(Finding{
				ID: "connection.sentinel", Area: Connection, Severity: Warning, Node: addr,
				Seen:   "The Sentinel at " + addr + " cannot be asked: " + string(redisconn.CauseOf(err)) + ".",
				Causes: []string{"It does not run, or REDIS_URL names another address.", "It asks for a password: REDIS_SENTINEL_PASSWORD."},
				Next:   []string{"Check " + redisconn.CauseOf(err).Hint() + ".", "Keep at least three Sentinels, or none can call a master dead."},
			})
		}
	}
}
