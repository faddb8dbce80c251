package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// everyone is the channel that the fan-out goes through.
const everyone = "team:all:activity"

// fan is a server with its crowd.
type fan struct {
	name   string
	server *child
	crowd  *crowd
	sent   int64
	single []float64 // µs a delivery, one message at a time
	burst  []float64 // the same, in bursts of 32
}

const burst = 32

// fanout measures the processor time of a delivery.
func fanout(ctx context.Context, r *run) error {
	desk := storeFlags{database: r.database()}
	var fans []*fan
	defer func() {
		for _, f := range fans {
			f.crowd.leave()
			f.server.stop()
		}
	}()
	for _, role := range []string{"crewbeat", "crewbeat sse", "raw", "gorilla", "coder", "gws"} {
		f, err := r.openFan(ctx, role, desk)
		if err != nil {
			return fmt.Errorf("%s: %w", role, err)
		}
		fans = append(fans, f)
	}
	for i := range r.Rounds + 1 {
		for _, f := range fans {
			single, err := f.turn(ctx, r.Bursts*4, 1)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if i == 1 && r.Profile != "" {
				if _, err := f.server.ask("profile", filepath.Join(r.Profile, "burst-"+strings.ReplaceAll(f.name, " ", "-")+".pb"), 1); err != nil {
					return err
				}
			}
			many, err := f.turn(ctx, r.Bursts, burst)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			if i > 0 { // the first round warms up
				f.single, f.burst = append(f.single, single), append(f.burst, many)
			}
		}
	}
	r.table(fmt.Sprintf("Processor time of the server for one delivery, to %d connections, µs", r.Fan), "", "one message at a time", "× raw, same round", "in bursts of 32", "gorilla one at a time ÷ this")
	raw, gorilla := fans[2], fans[3]
	for _, f := range fans {
		r.row(f.name, spread("%.2f", f.single), spread("%.2f", ratios(f.single, raw.single)), spread("%.2f", f.burst), spread("%.1f", ratios(gorilla.single, f.burst)))
	}
	return nil
}

func ratios(a, b []float64) []float64 {
	var v []float64
	for i := range a {
		v = append(v, a[i]/b[i])
	}
	return v
}

func (r *run) openFan(ctx context.Context, role string, desk storeFlags) (*fan, error) {
	name := role
	role, sse := strings.CutSuffix(role, " sse")
	var args, tokens []string
	if role == "crewbeat" {
		desk.database = r.database()
		args = desk.args()
	}
	server, err := start(role, args...)
	if err != nil {
		return nil, err
	}
	if role == "crewbeat" {
		answer, err := server.ask("people", r.Fan)
		if err != nil {
			return nil, err
		}
		tokens = strings.Fields(answer)
		if _, err := server.ask("everybody", r.Fan); err != nil {
			return nil, err
		}
	}
	c, err := gather(ctx, r.Fan, func(i int) wish {
		w := wish{addr: server.addr, sse: sse}
		if tokens != nil {
			w.token, w.channels = tokens[i], []string{everyone}
		}
		return w
	})
	if err != nil {
		server.stop()
		return nil, err
	}
	return &fan{name: name, server: server, crowd: c}, settle(ctx, server, r.Fan)
}

// turn sends messages, n at a time, and returns the processor time of a
// delivery in µs.
func (f *fan) turn(ctx context.Context, times, n int) (float64, error) {
	before, err := cpu(f.server.pid())
	if err != nil {
		return 0, err
	}
	for range times {
		if f.crowd.clients[0].want == 0 && f.name[0] == 'c' && f.name != "coder" {
			_, err = f.server.ask("burst", everyone, n)
		} else {
			_, err = f.server.ask("send", n)
		}
		if err != nil {
			return 0, err
		}
		f.sent += int64(n) * int64(len(f.crowd.clients))
		if err := f.crowd.await(ctx, f.sent); err != nil {
			return 0, err
		}
	}
	// What is left of the work, such as a collection of garbage, is counted too.
	if err := pause(ctx, 20*time.Millisecond); err != nil {
		return 0, err
	}
	after, err := cpu(f.server.pid())
	return float64((after - before).Nanoseconds()) / 1e3 / float64(times*n*len(f.crowd.clients)), err
}
