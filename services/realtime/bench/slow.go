package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// The load of the slow part: in 20 s it is more than the kernel and the queue
// of a connection take, and less than the history of a channel.
const (
	slowRate = 40   // events a second
	slowSize = 3000 // bytes of data
)

// slow has one reader of many stall, and compares the others with a run in
// which none does.
func slow(ctx context.Context, r *run) error {
	var p50, p50stall, p99, p99stall, ratio, grown, queued []float64
	got := 0
	for range min(r.Rounds, 2) {
		calm, err := r.slowTurn(ctx, false)
		if err != nil {
			return err
		}
		stalled, err := r.slowTurn(ctx, true)
		if err != nil {
			return err
		}
		if stalled.queue == 0 {
			return errors.New("nothing ever waited for the reader that stalls")
		}
		p50, p50stall = append(p50, calm.p50), append(p50stall, stalled.p50)
		p99, p99stall = append(p99, calm.p99), append(p99stall, stalled.p99)
		ratio = append(ratio, stalled.p99/calm.p99)
		grown, queued = append(grown, float64(stalled.grown-calm.grown)/1024), append(queued, float64(stalled.queue)/1024)
		got = stalled.events
	}
	r.table(fmt.Sprintf("One of %d readers reads nothing for %v, then everything: %d durable events, in order, none missing", r.Fan, r.Stall, got),
		"", "without a stall", "with", "ratio")
	r.row("p50 of the others, ms", spread("%.1f", p50), spread("%.1f", p50stall), "")
	r.row("p99 of the others, ms", spread("%.1f", p99), spread("%.1f", p99stall), spread("%.2f", ratio))
	r.f("\nThe server's RSS grew by %s KiB more than without the stall; at most %s KiB waited in queues (`realtime_queue_bytes`).\n", spread("%.0f", grown), spread("%.0f", queued))
	return nil
}

type slowness struct {
	p50    float64
	p99    float64
	grown  int64
	queue  int64
	events int
}

func (r *run) slowTurn(ctx context.Context, stall bool) (w slowness, err error) {
	// Left to itself, the kernel keeps all that comes in the time of the stall.
	s, err := r.openSite(ctx, 1, 1, r.Fan, func(f *storeFlags) { f.sending = 128 << 10 })
	if err != nil {
		return w, err
	}
	defer s.close()
	if _, err := s.publisher.ask("everybody", r.Fan); err != nil {
		return w, err
	}
	var d delays
	var numbers []int // that the first client got
	c, err := gather(ctx, r.Fan, func(i int) wish {
		x := wish{addr: s.nodes[0].addr, token: s.tokens[i], channels: []string{everyone}, hear: d.hear}
		if i == 0 {
			x.small = true
			x.hear = func(_ *client, m []byte) {
				if n, ok := numberOf(m); ok {
					numbers = append(numbers, n)
				} else if bytes.HasPrefix(m, []byte(`{"type":"reset"`)) {
					numbers = append(numbers, -1)
				}
			}
		}
		return x
	})
	if err != nil {
		return w, err
	}
	defer c.leave()
	before, err := resident(s.nodes[0].pid())
	if err != nil {
		return w, err
	}
	var resume chan struct{}
	if stall {
		resume = make(chan struct{})
		c.clients[0].stall.Store(&resume)
	}
	if _, err := s.publisher.ask("stream", everyone, 1, 1, slowRate, slowSize); err != nil {
		return w, err
	}
	for end := time.Now().Add(r.Stall); time.Now().Before(end); {
		if err := pause(ctx, min(r.Stall, 500*time.Millisecond)); err != nil {
			return w, err
		}
		if err := w.look(ctx, s.nodes[0], before); err != nil {
			return w, err
		}
	}
	if stall {
		close(resume)
	}
	if w.events, err = s.stopped(); err != nil {
		return w, err
	}
	if err := c.await(ctx, int64(w.events)*int64(r.Fan)); err != nil {
		return w, err
	}
	q := d.quantiles(0.5, 0.99)
	w.p50, w.p99 = q[0], q[1]
	c.leave() // so that its reader is done with numbers
	for i, n := range numbers {
		if i != n {
			return w, fmt.Errorf("the reader got event %d in the place of %d", n, i)
		}
	}
	if len(numbers) != w.events {
		return w, fmt.Errorf("the reader got %d of %d events", len(numbers), w.events)
	}
	return w, nil
}

// look notes what a node holds.
func (w *slowness) look(ctx context.Context, n *child, before int64) error {
	now, err := resident(n.pid())
	if err != nil {
		return err
	}
	w.grown = max(w.grown, now-before)
	queue, err := gauge(ctx, n.addr, "realtime_queue_bytes")
	w.queue = max(w.queue, queue)
	return err
}

// gauge reads one from a node's metrics; 0 if it is not there yet.
func gauge(ctx context.Context, addr, name string) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, name); ok {
			f := strings.Fields(v)
			n, err := strconv.ParseFloat(f[len(f)-1], 64)
			return int64(n), err
		}
	}
	return 0, nil
}

// numberOf returns the number of an event of a stream.
func numberOf(m []byte) (int, bool) {
	_, rest, ok := bytes.Cut(m, []byte(`"n":`))
	v, _, _ := bytes.Cut(rest, []byte{','})
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(string(bytes.TrimSpace(v)))
	return n, err == nil
}
