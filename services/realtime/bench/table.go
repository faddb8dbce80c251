package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Size is how much is measured.
type Size struct {
	Rounds int // how often each has its turn
	Idle   int // idle connections
	// IdleRounds bounds the rounds of these: they take long and vary little.
	IdleRounds int
	Fan        int           // connections of the fan-out
	Bursts     int           // of a turn
	Turn       time.Duration // of a stream of events
	Stall      time.Duration // how long the slow reader reads nothing
	Phones     int           // connections of the deploy
	Window     time.Duration // over which a node drains
	Only       []string      // of Parts; all if empty
	Alone      bool          // idle connections of Crewbeat only
	Profile    string        // a folder for profiles of Crewbeat's server
}

// Full takes about eight minutes.
func Full() Size {
	return Size{Rounds: 3, Idle: 10_000, IdleRounds: 1, Fan: 1000, Bursts: 16, Turn: 3 * time.Second, Stall: 20 * time.Second, Phones: 5000, Window: 30 * time.Second}
}

// Smoke takes seconds.
func Smoke() Size {
	return Size{Rounds: 1, Idle: 200, IdleRounds: 1, Fan: 50, Bursts: 2, Turn: 200 * time.Millisecond, Stall: 4 * time.Second, Phones: 300, Window: 2 * time.Second}
}

type part struct {
	name string
	run  func(ctx context.Context, p *run) error
}

var parts = []part{{"idle", idle}, {"fanout", fanout}, {"path", path}, {"latency", latency}, {"growth", growth}, {"slow", slow}, {"deploy", deploy}}

// Parts can be measured one by one.
func Parts() (names []string) {
	for _, p := range parts {
		names = append(names, p.name)
	}
	return names
}

// run is one run of the command.
type run struct {
	Size
	w   io.Writer
	dir string
	n   int
}

// Write measures, and writes each table as Markdown when it is finished.
func Write(ctx context.Context, w io.Writer, s Size) error {
	for _, name := range s.Only {
		if !slices.Contains(Parts(), name) {
			return fmt.Errorf("unknown part %q: want some of %s", name, strings.Join(Parts(), ", "))
		}
	}
	dir, err := os.MkdirTemp("", "realtime-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	r := &run{Size: s, w: w, dir: dir}
	r.f("<!-- cd services/realtime/bench && GOWORK=off go run ./cmd/table > ../../../docs/realtime-bench.md -->\n\n# Realtime, measured\n\n"+
		"`GOWORK=off go run ./cmd/table` in `services/realtime/bench`; its [notes](../services/realtime/bench/NOTES.md) say what was tried, and which bars are missed. "+
		"%s on %s/%s, %d × %s, Linux %s. %d rounds in which all take turns (idle connections: one); figures are medians, with the least and the most in brackets. "+
		"The servers are processes of their own, the clients are in another; processor time (user and system) and RSS are those of /proc.\n",
		runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), processor(), kernel(), s.Rounds)
	for _, p := range parts {
		if len(s.Only) > 0 && !slices.Contains(s.Only, p.name) {
			continue
		}
		if err := p.run(ctx, r); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

func (r *run) f(format string, args ...any) { _, _ = fmt.Fprintf(r.w, format, args...) }

// table begins a table.
func (r *run) table(title string, heads ...string) {
	r.f("\n**%s**\n\n| %s |\n|---|%s\n", title, strings.Join(heads, " | "), strings.Repeat("--:|", len(heads)-1))
}

func (r *run) row(cells ...string) { r.f("| %s |\n", strings.Join(cells, " | ")) }

// database returns the path of a new one.
func (r *run) database() string {
	r.n++
	return fmt.Sprintf("%s/%d.db", r.dir, r.n)
}

// spread writes the median of v, and its extremes.
func spread(format string, v []float64) string {
	if len(v) == 0 {
		return ""
	}
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprintf(format+" ("+format+" – "+format+")", median(v), v[0], v[len(v)-1])
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func processor() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(v, "\t :"))
		}
	}
	return "unknown processor"
}

func kernel() string {
	b, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	v, _, _ := strings.Cut(strings.TrimSpace(string(b)), "-")
	return v
}
