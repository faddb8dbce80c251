package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

// slices of a drain window in which arrivals are counted.
const arrivalSlices = 10

// phone is a client that does what docs/events.md says: it opens a new
// connection when its node drains, resumes there, and then closes the old one.
type phone struct {
	d     *deployment
	token string
	team  int

	mu      sync.Mutex
	current *client
	since   string
	seen    map[int]bool // numbers of events
	twice   int          // came again on one connection, or behind the offset it was resumed from
	both    int          // came on the old and the new one, while there were both
	resets  int
	left    int // presence said that somebody left
}

// deployment is a rolling restart, and who lives through it.
type deployment struct {
	s        *site
	balancer *child
	crowd    *crowd
	phones   []*phone
	ctx      context.Context // of the part
	wg       sync.WaitGroup

	mu       sync.Mutex
	came     []time.Time // when a phone came to connect anew
	moved    []time.Time // and when it followed its channel there
	failures []error
}

// deploy restarts three nodes one after the other under connections that get
// events all the time.
func deploy(ctx context.Context, r *run) error {
	s, err := r.openSite(ctx, 1, 3, r.Phones, func(f *storeFlags) { f.window = r.Window })
	if err != nil {
		return err
	}
	defer s.close()
	d := &deployment{s: s, ctx: ctx}
	if d.balancer, err = start("balancer"); err != nil {
		return err
	}
	defer d.balancer.stop()
	if err := d.balance(s.nodes...); err != nil {
		return err
	}
	if err := d.connect(ctx, r.Phones); err != nil {
		return err
	}
	defer d.crowd.leave()
	teams := (r.Phones + teamSize - 1) / teamSize
	if _, err := s.publisher.ask("stream", "team:t%d:activity", teams, min(teams, 8), 20); err != nil {
		return err
	}
	r.table(fmt.Sprintf("A rolling restart of three nodes under %d connections, drain window %v", r.Phones, r.Window), "",
		"connections moved", "all back after, s", "fewest that came in a tenth of the window, % of the mean", "most", "exit of the node")
	for i := range 3 {
		if err := d.replace(ctx, r, i); err != nil {
			return err
		}
	}
	return d.settle(ctx, r, teams)
}

func (d *deployment) balance(nodes ...*child) error {
	words := []any{"nodes"}
	for _, n := range nodes {
		words = append(words, n.addr)
	}
	_, err := d.balancer.ask(words...)
	return err
}

func (d *deployment) connect(ctx context.Context, n int) error {
	d.phones = make([]*phone, n)
	for i := range d.phones {
		d.phones[i] = &phone{d: d, token: d.s.tokens[i], team: i / teamSize, seen: map[int]bool{}}
	}
	var err error
	d.crowd, err = gather(ctx, n, func(i int) wish { return d.phones[i].wish("") })
	if err != nil {
		return err
	}
	for i, p := range d.phones {
		p.mu.Lock()
		p.current = d.crowd.clients[i]
		p.mu.Unlock()
	}
	return nil
}

func (p *phone) channel() string { return "team:t" + strconv.Itoa(p.team) + ":activity" }

// wish is a connection of the phone that resumes after since.
func (p *phone) wish(since string) wish {
	got := map[int]bool{} // on this connection
	return wish{addr: p.d.balancer.addr, token: p.token, channels: []string{p.channel()}, since: since, hear: func(c *client, m []byte) { p.hear(c, m, got) }}
}

func (p *phone) hear(c *client, m []byte, got map[int]bool) {
	var v struct {
		Type   string
		Offset string
		After  int64 `json:"reconnect_after_ms"`
		Left   []string
		Data   struct{ N int }
	}
	if err := json.Unmarshal(bytes.TrimSpace(m), &v); err != nil {
		p.d.fail(fmt.Errorf("read %q: %w", m, err))
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	switch v.Type {
	case "":
		if got[v.Data.N] {
			p.twice++
		}
		got[v.Data.N] = true
		if p.seen[v.Data.N] {
			p.both++ // by its id the page drops it
			return
		}
		p.seen[v.Data.N] = true
		p.since = v.Offset
	case "subscribed":
		if p.since == "" {
			p.since = v.Offset
		}
	case "presence":
		p.left += len(v.Left)
	case "reset":
		p.resets++
	case "drain":
		p.d.wg.Go(func() { p.move(c, time.Duration(v.After)*time.Millisecond) })
	}
}

// move connects anew after a while, and closes the old connection then.
func (p *phone) move(old *client, after time.Duration) {
	if err := pause(p.d.ctx, after); err != nil {
		return
	}
	p.mu.Lock()
	since := p.since
	p.mu.Unlock()
	came := time.Now()
	for try := range 5 {
		fresh, err := p.d.crowd.connect(p.d.ctx, old.id, p.wish(since))
		if err == nil {
			p.mu.Lock()
			p.current = fresh
			p.mu.Unlock()
			p.d.mu.Lock()
			p.d.came, p.d.moved = append(p.d.came, came), append(p.d.moved, time.Now())
			p.d.mu.Unlock()
			_ = old.nc.Close()
			return
		}
		if try == 4 {
			p.d.fail(fmt.Errorf("phone %d cannot connect: %w", old.id, err))
		}
		_ = pause(p.d.ctx, rand.N(500*time.Millisecond<<try))
	}
}

func (d *deployment) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures = append(d.failures, err)
}

// replace starts a node, takes an old one out of the balancer, and has that
// drain.
func (d *deployment) replace(ctx context.Context, r *run, i int) error {
	old := d.s.nodes[i]
	fresh, err := start("crewbeat", d.s.flags.args()...)
	if err != nil {
		return err
	}
	d.s.nodes[i] = fresh
	if err := d.balance(d.s.nodes...); err != nil {
		return err
	}
	had, err := old.ask("count")
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.came, d.moved = nil, nil
	d.mu.Unlock()
	began := time.Now()
	exit := "0"
	if err := old.terminate(2 * r.Window); err != nil {
		exit = err.Error()
	}
	d.wg.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := strconv.Atoi(had)
	if err == nil && (len(d.moved) != n || exit != "0") {
		err = fmt.Errorf("%d of %d phones moved, the node ended with %s", len(d.moved), n, exit)
	}
	if err != nil {
		return err
	}
	var counts [arrivalSlices]float64
	last := time.Duration(0)
	for i, t := range d.came {
		last = max(last, d.moved[i].Sub(began))
		counts[min(arrivalSlices-1, int(t.Sub(began)*arrivalSlices/r.Window))]++
	}
	mean := float64(n) / arrivalSlices
	r.row(fmt.Sprintf("node %d", i+1), had, fmt.Sprintf("%.1f", last.Seconds()),
		fmt.Sprintf("%.0f", 100*slices.Min(counts[:])/mean), fmt.Sprintf("%.0f", 100*slices.Max(counts[:])/mean), exit)
	return nil
}

// settle waits until everybody has everything, and says what was wrong.
func (d *deployment) settle(ctx context.Context, r *run, teams int) error {
	events, err := d.s.stopped()
	if err != nil {
		return err
	}
	missing := func() (n int) {
		for _, p := range d.phones {
			p.mu.Lock()
			n += (events+teams-1-p.team)/teams - len(p.seen)
			p.mu.Unlock()
		}
		return n
	}
	_ = eventually(ctx, "everybody has everything", func() bool { return missing() == 0 })
	twice, both, resets, left := 0, 0, 0, 0
	for _, p := range d.phones {
		p.mu.Lock()
		twice, both, resets, left = twice+p.twice, both+p.both, resets+p.resets, left+p.left
		p.mu.Unlock()
	}
	r.f("\n%d events were published meanwhile, each to a team of eight: %d deliveries are missing, %d came twice on one connection "+
		"(%d came on the old and the new one while a phone had both, and are dropped by id), %d resets, %d times presence said that somebody left.\n",
		events, missing(), twice, both, resets, left)
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := missing(); n+twice+resets+left+len(d.failures) > 0 {
		return fmt.Errorf("the deploy was noticed: %d deliveries missing, %d twice, %d resets, %d leaves, %v", n, twice, resets, left, d.failures)
	}
	return nil
}
