package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel/metric"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/info"
)

const (
	commandTimeout = time.Second
	lookTimeout    = 10 * time.Second // for all nodes together
	sampleInterval = 5 * time.Minute
)

// Options are what a monitor reports to. All may be nil.
type Options struct {
	Log   *slog.Logger
	Meter metric.Meter
}

// Monitor looks at the Redis of a connection. It is safe for concurrent use.
type Monitor struct {
	conn *redisconn.Conn
	log  *slog.Logger

	unregister func() error // takes the gauges back; may be nil

	looking sync.Mutex            // one look at a time; guards the following
	client  redis.UniversalClient // nil without a Redis
	before  map[string]*memory    // by address

	mu   sync.Mutex
	last Snapshot
}

// memory is what a look leaves to the next one at the same node.
type memory struct {
	at      time.Time
	evicted int64
	cursor  uint64
	sample  Sample
}

// New returns a monitor of conn, which has to outlive it. It looks when
// [Monitor.Run] runs, or [Monitor.Look] is called. Close it in the end.
func New(conn *redisconn.Conn, opts Options) (*Monitor, error) {
	m := &Monitor{conn: conn, log: opts.Log, client: conn.Separate(commandTimeout), before: map[string]*memory{}}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	m.last = Snapshot{Mode: conn.Config().Mode, Nodes: []Node{}}
	if m.client != nil && opts.Meter != nil {
		if err := m.observe(opts.Meter); err != nil {
			return nil, errors.Join(err, m.client.Close())
		}
	}
	return m, nil
}

// Run looks at once and then every interval of the configuration, until the
// context ends. Without a Redis, or with an interval of 0, it only waits.
func (m *Monitor) Run(ctx context.Context) error {
	interval := m.conn.Config().MonitorInterval
	if m.client == nil || interval <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if m.conn.Status().Up {
			m.Look(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Snapshot returns what was seen last, with the pool as it is now. It must not
// be changed.
func (m *Monitor) Snapshot() Snapshot {
	m.mu.Lock()
	s := m.last
	m.mu.Unlock()
	s.Pool = m.conn.Metrics()
	return s
}

// Close closes the monitor's connections. It must not look any more.
func (m *Monitor) Close() error {
	var errs []error
	if m.unregister != nil {
		errs = append(errs, m.unregister())
	}
	if m.client != nil {
		errs = append(errs, m.client.Close())
	}
	return errors.Join(errs...)
}

// Look looks now and returns what it saw. It takes ten seconds at most.
func (m *Monitor) Look(ctx context.Context) Snapshot {
	if m.client == nil {
		return m.Snapshot()
	}
	m.looking.Lock()
	defer m.looking.Unlock()
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	begin := time.Now()

	s := Snapshot{At: begin.UTC(), Mode: m.conn.Config().Mode, Nodes: []Node{}}
	var mu sync.Mutex // nodes of a Cluster are looked at together
	look := func(ctx context.Context, client *redis.Client) error {
		addr := m.addr(client)
		mu.Lock()
		before := m.before[addr]
		if before == nil {
			before = &memory{}
			m.before[addr] = before
		}
		mu.Unlock()
		n := lookAt(ctx, client, addr, before)
		mu.Lock()
		defer mu.Unlock()
		s.Nodes = append(s.Nodes, n)
		return nil
	}
	switch client := m.client.(type) {
	case *redis.ClusterClient:
		if err := client.ForEachShard(ctx, look); err != nil {
			m.log.DebugContext(ctx, "redis monitor cannot tell the nodes of the cluster", "error", err)
		}
	case *redis.Client:
		_ = look(ctx, client) // it has no error
	}
	slices.SortFunc(s.Nodes, func(a, b Node) int { return cmp.Compare(a.Addr, b.Addr) })
	s.TookMs = milliseconds(time.Since(begin))

	m.mu.Lock()
	m.last = s
	m.mu.Unlock()
	s.Pool = m.conn.Metrics()
	return s
}

// addr names a node. A client that follows the master of a group does not know
// its address: the group is named instead.
func (m *Monitor) addr(client *redis.Client) string {
	if cfg := m.conn.Config(); cfg.Mode == redisconn.Sentinel {
		return cfg.MasterName
	}
	return client.Options().Addr
}

// At looks at one node, without what it was before. A client that follows a
// master does not know its address, so it is given.
func At(ctx context.Context, client *redis.Client, addr string) Node {
	return lookAt(ctx, client, addr, &memory{})
}

func lookAt(ctx context.Context, client *redis.Client, addr string, before *memory) Node {
	n := Node{Addr: addr}
	n.Keyspace.Databases, n.Replication.Replicas = []Database{}, []Replica{}
	text, err := client.Info(ctx).Result()
	if n.Part = part(err); n.State == OK {
		now := time.Now()
		read(&n, info.Parse(text))
		if since := now.Sub(before.at); !before.at.IsZero() && n.Keyspace.Evicted >= before.evicted {
			n.Keyspace.EvictedPerSecond = float64(n.Keyspace.Evicted-before.evicted) / since.Seconds()
		}
		before.at, before.evicted = now, n.Keyspace.Evicted
	}
	if n.State == Failed { // so would the others, each after its time
		n.SlowLog, n.Latency, n.Sample = SlowLog{Part: n.Part}, Latency{Part: n.Part}, before.sample
		n.Sample.Part = n.Part
		n.fill()
		return n
	}
	n.SlowLog, n.Latency = slowLog(ctx, client), spikes(ctx, client)
	// A server that had nothing has just been started: that does not stay so.
	was := &before.sample
	if n.Role != "slave" && (was.At == nil || was.State == OK && was.Keys == 0 || time.Since(*was.At) >= sampleInterval) {
		before.sample = sample(ctx, client, &before.cursor)
	}
	n.Sample = before.sample
	n.fill()
	return n
}

// fill makes lists of nothing out of nothing.
func (n *Node) fill() {
	if n.SlowLog.Entries == nil {
		n.SlowLog.Entries = []SlowCommand{}
	}
	if n.Latency.Events == nil {
		n.Latency.Events = []Spike{}
	}
	if n.Sample.ByPrefix == nil {
		n.Sample.ByPrefix = map[string]int{}
	}
	if n.Sample.State == "" {
		n.Sample.State = NotYet
	}
}

// part says what became of a question that ended with err.
func part(err error) Part {
	if err == nil {
		return Part{State: OK}
	}
	cause := redisconn.CauseOf(err)
	switch {
	case cause == redisconn.CausePermission:
		return Part{State: NotPermitted}
	case strings.Contains(err.Error(), "unknown command"), strings.Contains(err.Error(), "unknown subcommand"):
		return Part{State: Unknown}
	}
	return Part{State: Failed, Error: string(cause)}
}

func slowLog(ctx context.Context, client *redis.Client) SlowLog {
	entries, err := client.SlowLogGet(ctx, 32).Result()
	log := SlowLog{Part: part(err)}
	for _, e := range entries {
		c := SlowCommand{
			ID: e.ID, At: e.Time.UTC(), TookMs: milliseconds(e.Duration), Client: e.ClientAddr, Name: e.ClientName,
			Arguments: max(0, len(e.Args)-1),
		}
		if len(e.Args) > 0 {
			c.Command = commandName(e.Args[0])
		}
		log.Entries = append(log.Entries, c)
	}
	if err == nil {
		if n, err := client.Do(ctx, "SLOWLOG", "LEN").Int64(); err == nil {
			log.Length = n
		}
	}
	return log
}

// commandName is the name of a command; anybody may send Redis anything.
func commandName(s string) string {
	s = strings.ToUpper(s)
	if s == "" || len(s) > 32 || strings.IndexFunc(s, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' && r != '.' }) >= 0 {
		return "OTHER"
	}
	return s
}

// spikes reads LATENCY LATEST: name, time, latest and longest in milliseconds.
func spikes(ctx context.Context, client *redis.Client) Latency {
	rows, err := client.Do(ctx, "LATENCY", "LATEST").Slice()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	l := Latency{Part: part(err)}
	for _, row := range rows {
		fields, ok := row.([]any)
		if !ok || len(fields) < 4 {
			continue
		}
		at, _ := fields[1].(int64)
		latest, _ := fields[2].(int64)
		longest, _ := fields[3].(int64)
		l.Events = append(l.Events, Spike{
			Event: fmt.Sprint(fields[0]), At: time.Unix(at, 0).UTC(), LatestMs: float64(latest), MaxMs: float64(longest),
		})
	}
	return l
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
