package bench

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"time"
)

func habits(i int) string { return "user:u" + strconv.Itoa(i) + ":habits" }

// path measures how many events a second go from a publisher through Redis and
// one node to clients.
func path(ctx context.Context, r *run) error {
	const clients = 100
	s, err := r.openSite(ctx, 1, 1, clients, nil)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := gather(ctx, clients, func(i int) wish {
		return wish{addr: s.nodes[0].addr, token: s.tokens[i], channels: []string{habits(i)}}
	})
	if err != nil {
		return err
	}
	defer c.leave()
	pids := []int{s.nodes[0].pid(), s.redis.cmds[0].Process.Pid, s.publisher.pid()}
	var rate []float64
	cost := make([][]float64, len(pids))
	total := 0
	for range r.Rounds {
		before := make([]time.Duration, len(pids))
		for i, pid := range pids {
			if before[i], err = cpu(pid); err != nil {
				return err
			}
		}
		if r.Profile != "" {
			for name, p := range map[string]*child{"node": s.nodes[0], "publisher": s.publisher} {
				if _, err := p.ask("profile", filepath.Join(r.Profile, "path-"+name+".pb"), r.Turn.Seconds()); err != nil {
					return err
				}
			}
		}
		began := time.Now()
		if _, err := s.publisher.ask("stream", "user:u%d:habits", clients, 256, 0); err != nil {
			return err
		}
		if err := pause(ctx, r.Turn); err != nil {
			return err
		}
		n, err := s.stopped()
		if err != nil {
			return err
		}
		total += n
		if err := c.await(ctx, int64(total)); err != nil {
			return err
		}
		rate = append(rate, float64(n)/time.Since(began).Seconds())
		for i, pid := range pids {
			after, err := cpu(pid)
			if err != nil {
				return err
			}
			cost[i] = append(cost[i], float64((after-before[i]).Microseconds())/float64(n))
		}
	}
	r.table(fmt.Sprintf("From a publisher through Redis and one node to %d clients, each with a channel of its own", clients),
		"", "events a second, published and delivered", "node, µs a event", "redis-server", "publisher")
	r.row("durable events of "+strconv.Itoa(Payload)+" B", spread("%.0f", rate), spread("%.1f", cost[0]), spread("%.1f", cost[1]), spread("%.1f", cost[2]))
	return nil
}

// stopped ends the stream and returns how many events it had.
func (s *site) stopped() (int, error) {
	v, err := s.publisher.ask("stop")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(v)
}

// delays are how long events were on their way.
type delays struct {
	mu   sync.Mutex
	list []time.Duration
}

// hear notes an event's.
func (d *delays) hear(_ *client, m []byte) {
	now := time.Now()
	_, rest, ok := bytes.Cut(m, []byte(`"timestamp":"`))
	at, _, _ := bytes.Cut(rest, []byte{'"'})
	if !ok {
		return
	}
	t, err := time.Parse(time.RFC3339Nano, string(at))
	if err != nil {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, now.Sub(t))
}

// at returns a quantile in ms, and forgets what was heard if asked to.
func (d *delays) quantiles(q ...float64) []float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	slices.Sort(d.list)
	v := make([]float64, len(q))
	for i, q := range q {
		if n := len(d.list); n > 0 {
			v[i] = float64(d.list[min(n-1, int(q*float64(n)))].Microseconds()) / 1e3
		}
	}
	d.list = nil
	return v
}

// latency measures the time from publishing to a client.
func latency(ctx context.Context, r *run) error {
	rows := []struct {
		name    string
		clients int
		rate    int
		v       [3][]float64
	}{{name: "idle baseline: one follower", clients: 1, rate: 50}, {name: fmt.Sprintf("%d followers", r.Fan), clients: r.Fan, rate: 20}}
	for range r.Rounds {
		for i := range rows {
			row := &rows[i]
			q, err := r.latencyTurn(ctx, row.clients, row.rate)
			if err != nil {
				return err
			}
			for j := range q {
				row.v[j] = append(row.v[j], q[j])
			}
		}
	}
	r.table("From publish to a client, by Redis and one node, ms on the clock", "", "events a second", "p50", "p99", "last")
	for _, row := range rows {
		r.row(row.name, strconv.Itoa(row.rate), spread("%.2f", row.v[0]), spread("%.2f", row.v[1]), spread("%.2f", row.v[2]))
	}
	return nil
}

func (r *run) latencyTurn(ctx context.Context, clients, rate int) ([]float64, error) {
	s, err := r.openSite(ctx, 1, 1, clients, nil)
	if err != nil {
		return nil, err
	}
	defer s.close()
	if _, err := s.publisher.ask("everybody", clients); err != nil {
		return nil, err
	}
	var d delays
	c, err := gather(ctx, clients, func(i int) wish {
		return wish{addr: s.nodes[0].addr, token: s.tokens[i], channels: []string{everyone}, hear: d.hear}
	})
	if err != nil {
		return nil, err
	}
	defer c.leave()
	if _, err := s.publisher.ask("stream", everyone, 1, 1, rate); err != nil {
		return nil, err
	}
	if err := pause(ctx, r.Turn); err != nil {
		return nil, err
	}
	n, err := s.stopped()
	if err != nil {
		return nil, err
	}
	if err := c.await(ctx, int64(n)*int64(clients)); err != nil {
		return nil, err
	}
	return d.quantiles(0.5, 0.99, 1), nil
}
