package bench

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
)

func breakerFor(d time.Duration) gobreaker.Settings { return gobreaker.Settings{Timeout: d} }

// Size is how much is measured. The zero value is of no use; Full is what the
// README shows, Smoke only shows that everything runs.
type Size struct {
	Rounds  int
	Turn    time.Duration // of one peer in one round
	Keys    []int         // of the hit tables
	Reads   int           // of the hit ratio traces
	Entries int           // of the memory table
}

// Full takes about eight minutes.
func Full() Size {
	return Size{Rounds: 9, Turn: 60 * time.Millisecond, Keys: []int{16 << 10, 1 << 20}, Reads: 400_000, Entries: 100_000}
}

// Smoke takes seconds.
func Smoke() Size {
	return Size{Rounds: 1, Turn: time.Millisecond, Keys: []int{1 << 10}, Reads: 4000, Entries: 2000}
}

// Write measures everything and writes it as Markdown.
func Write(w io.Writer, s Size) error {
	p := &printer{w: w}
	p.f("Measured with %s on %s/%s, GOMAXPROCS %d. Ratios are to the row in brackets. ± is half the distance of the "+
		"quartiles of %d interleaved rounds: the machine's noise.\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), s.Rounds)
	for _, keys := range s.Keys {
		for _, reads := range []int{100, 90} {
			for _, parallel := range []bool{false, true} {
				how := "one goroutine"
				if parallel {
					how = "a goroutine for each processor"
				}
				p.costs(fmt.Sprintf("Hits: Zipf over %d keys, %d %% reads, %s", keys, reads, how), "otter, TTL",
					hitTable(keys, reads, parallel, s.Rounds, s.Turn))
			}
		}
	}
	for _, t := range []struct {
		name  string
		trace []int
	}{
		{"Zipf over 100,000 keys", zipf(2, s.Reads, 100_000, 1.05)},
		{"Zipf, and a third of the reads are of scans", polluted(3, s.Reads, 100_000, 1.05)},
		{"Zipf whose popular keys change five times", shifting(4, s.Reads, 100_000, 1.05)},
	} {
		p.ratios("Hit ratio, room for 5,000: "+t.name, t.trace)
	}
	p.memory(s.Entries, 128)
	if err := p.wires(s); err != nil {
		return err
	}
	return p.err
}

type printer struct {
	w   io.Writer
	err error
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

func (p *printer) costs(title, base string, results []result) {
	var to result
	for _, r := range results {
		if r.name == base {
			to = r
		}
	}
	p.f("\n**%s** [%s]\n\n| | ns | ± | CPU ns | ratio | CPU ratio |\n|---|--:|--:|--:|--:|--:|\n", title, base)
	for _, r := range results {
		p.f("| %s | %.0f | %.0f %% | %.0f | %.2f | %.2f |\n", r.name, r.wall, 100*r.spread, r.cpu, r.wall/to.wall, r.cpu/to.cpu)
	}
}

func (p *printer) ratios(title string, trace []int) {
	p.f("\n**%s**\n\n| | hits |\n|---|--:|\n", title)
	names, percent := ratioTable(trace, 5000)
	for i, n := range names {
		p.f("| %s | %.2f %% |\n", n, percent[i])
	}
}

func (p *printer) memory(entries, payload int) {
	p.f("\n**Memory: heap an entry takes beyond its payload of %d bytes, %d entries with int keys**\n\n| | bytes |\n|---|--:|\n", payload, entries)
	names, over := memoryTable(entries, payload)
	for i, n := range names {
		p.f("| %s | %.0f |\n", n, over[i])
	}
}

func (p *printer) wires(s Size) error {
	w, err := openWire()
	if err != nil {
		return err
	}
	defer w.close()
	value := strings.Repeat("v", 100)
	p.costs("Hits in memory in front of Redis: Zipf over 16384 string keys, one goroutine", "**tiered** Get", rounds(s.Rounds, s.Turn, w.nearSubjects(value)))
	p.wire(w, s, "Misses: round trips to a redis-server on loopback, 100 bytes", w.missSubjects(value))
	p.wire(w, s, "Writes, 100 bytes: version, fence and message in one script", w.setSubjects(value))
	p.wire(w, s, "Writes, 64 KiB", w.setSubjects(strings.Repeat("v", 64<<10)))
	p.wire(w, s, "Bulk reads of 100 keys of 100 bytes", w.bulkSubjects(value))
	open, end, err := openSubjects()
	if err != nil {
		return err
	}
	defer end()
	p.costs("An open breaker", open[0].name, rounds(s.Rounds, s.Turn, open))
	return nil
}

// wire also shows the processor time of the server, from one long turn each.
func (p *printer) wire(w *wire, s Size, title string, subjects []subject) {
	results := rounds(s.Rounds, s.Turn, subjects)
	p.f("\n**%s** [%s]\n\n| | µs | ± | ratio | client CPU µs | server CPU µs | server ratio |\n|---|--:|--:|--:|--:|--:|--:|\n", title, subjects[0].name)
	var base float64
	for i, r := range results {
		n := max(int(float64(10*s.Turn)/r.wall), 1)
		before := w.serverTime()
		subjects[i].run(n)
		server := float64(w.serverTime()-before) / float64(n)
		if i == 0 {
			base = server
		}
		p.f("| %s | %.1f | %.0f %% | %.2f | %.1f | %.1f | %.2f |\n", r.name, r.wall/1000, 100*r.spread, r.wall/results[0].wall,
			r.cpu/1000, server/1000, server/base)
	}
}
