package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"
)

// growth measures what a node pays for events of channels that nobody follows
// on it, with ever more nodes.
func growth(ctx context.Context, r *run) error {
	r.table("Nodes that serve none of the channels that are published to", "", "nodes", "events", "the node that serves them, µs an event",
		"each other node, µs an event", "in an idle second, ms", "each other node, bytes from Redis for an event")
	for _, masters := range []int{1, 3} {
		for _, nodes := range []int{1, 2, 4} {
			if err := r.growthTurn(ctx, masters, nodes); err != nil {
				return fmt.Errorf("%d nodes on %d masters: %w", nodes, masters, err)
			}
		}
	}
	return nil
}

const perNode = 50 // people on each node

func (r *run) growthTurn(ctx context.Context, masters, nodes int) error {
	s, err := r.openSite(ctx, masters, nodes, perNode*nodes, nil)
	if err != nil {
		return err
	}
	defer s.close()
	c, err := gather(ctx, perNode*nodes, func(i int) wish {
		return wish{addr: s.nodes[i/perNode].addr, token: s.tokens[i], channels: []string{habits(i)}}
	})
	if err != nil {
		return err
	}
	defer c.leave()
	idle, err := s.window(ctx, r.Turn, func() error { return nil })
	if err != nil {
		return err
	}
	events := 0
	busy, err := s.window(ctx, r.Turn, func() error {
		if _, err := s.publisher.ask("stream", "user:u%d:habits", perNode, 64, 0); err != nil {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if events, err = s.stopped(); err != nil {
		return err
	}
	if err := c.await(ctx, int64(events)); err != nil {
		return err
	}
	name := "one Redis"
	if masters > 1 {
		name = fmt.Sprintf("Cluster of %d masters, sharded pub/sub", masters)
	}
	others, rest, bytes := "–", "–", "–"
	if nodes > 1 {
		var cost, quiet, got []float64
		for i := 1; i < nodes; i++ {
			extra := busy[i].cpu.Seconds()/busy[i].took.Seconds() - idle[i].cpu.Seconds()/idle[i].took.Seconds()
			cost = append(cost, max(0, extra)*busy[i].took.Seconds()*1e6/float64(events))
			quiet = append(quiet, idle[i].cpu.Seconds()/idle[i].took.Seconds()*1e3)
			more := float64(busy[i].bytes) - float64(idle[i].bytes)*busy[i].took.Seconds()/idle[i].took.Seconds()
			got = append(got, max(0, more)/float64(events))
		}
		others, rest, bytes = spread("%.2f", cost), spread("%.1f", quiet), spread("%.2f", got)
	}
	r.row(name, strconv.Itoa(nodes), strconv.Itoa(events), fmt.Sprintf("%.1f", busy[0].cpu.Seconds()*1e6/float64(events)), others, rest, bytes)
	return nil
}

// use is what a node used of a stretch of time.
type use struct {
	took  time.Duration
	cpu   time.Duration
	bytes int64 // read, from Redis and everything else
}

// window measures all nodes from when begin has returned, for a while.
func (s *site) window(ctx context.Context, d time.Duration, begin func() error) ([]use, error) {
	if err := begin(); err != nil {
		return nil, err
	}
	began := time.Now()
	before, err := s.uses()
	if err != nil {
		return nil, err
	}
	if err := pause(ctx, d); err != nil {
		return nil, err
	}
	after, err := s.uses()
	for i := range after {
		after[i] = use{took: time.Since(began), cpu: after[i].cpu - before[i].cpu, bytes: after[i].bytes - before[i].bytes}
	}
	return after, err
}

func (s *site) uses() (list []use, err error) {
	for _, n := range s.nodes {
		var u use
		if u.cpu, err = cpu(n.pid()); err != nil {
			return nil, err
		}
		if u.bytes, err = received(n.pid()); err != nil {
			return nil, err
		}
		list = append(list, u)
	}
	return list, nil
}
