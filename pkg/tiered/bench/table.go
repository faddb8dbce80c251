package bench

import (
	"fmt"
	"io"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/sony/gobreaker/v2"
)

func breakerFor(d time.Duration) gobreaker.Settings { return gobreaker.Settings{Timeout: d} }

// Size is how much is measured. The zero value is of no use; Full is what the
// README shows, Smoke only shows that everything runs.
type Size struct {
	Rounds  int
	Turn    time.Duration  // of one peer in one round
	Keys    []int          // of the hit tables
	Reads   int            // of the hit ratio traces
	Entries int            // of the memory table
	Only    []string       // of Parts; all if empty
	Rows    *regexp.Regexp // that are measured; all if nil. What others are compared to is in any case
}

// Parts can be measured one by one, so that a run that is cut is not lost.
var Parts = []string{"ratio", "memory", "hits", "miss", "set", "bulk", "near", "breaker"}

// Full takes five to ten minutes, by what else the machine does.
func Full() Size {
	return Size{Rounds: 15, Turn: 25 * time.Millisecond, Keys: []int{16 << 10, 1 << 20}, Reads: 400_000, Entries: 100_000}
}

// Smoke takes seconds.
func Smoke() Size {
	return Size{Rounds: 1, Turn: time.Millisecond, Keys: []int{1 << 10}, Reads: 4000, Entries: 2000}
}

// Write measures, and writes each table as Markdown when it is finished.
func Write(w io.Writer, s Size) (*Figures, error) {
	for _, part := range s.Only {
		if !slices.Contains(Parts, part) {
			return nil, fmt.Errorf("unknown part %q: want some of %s", part, strings.Join(Parts, ", "))
		}
	}
	p := &printer{w: w, got: Figures{wire: make(map[string][]result)}}
	p.f("%s on %s/%s, GOMAXPROCS %d; %d rounds of %v for each row. Times are medians. CPU is the processor time of all threads; "+
		"its ratio is to the row in brackets in the same round, ± half the distance of its quartiles over the rounds: the machine's noise. "+
		"B/op is what is allocated.\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), s.Rounds, s.Turn)
	for _, part := range Parts {
		if len(s.Only) > 0 && !slices.Contains(s.Only, part) {
			continue
		}
		var err error
		switch part {
		case "ratio":
			p.hitRatios(s)
		case "memory":
			p.memory(s, 128)
		case "hits":
			p.hits(s)
		case "breaker":
			err = p.breaker(s)
		default:
			err = p.wires(part, s)
		}
		if err != nil {
			return nil, err
		}
	}
	return &p.got, p.err
}

type printer struct {
	w   io.Writer
	err error
	got Figures
}

func (p *printer) f(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format, args...)
	}
}

// hitBase is whom hits are compared to.
const hitBase = "otter, TTL"

func (p *printer) hits(s Size) {
	for _, keys := range s.Keys {
		all := openHits(keys, func(name string) bool { return name == hitBase || s.wanted(name) })
		for _, reads := range []int{100, 90} {
			for _, parallel := range []bool{false, true} {
				how := "one goroutine"
				if parallel {
					how = "a goroutine for each processor"
				}
				results := rounds(s.Rounds, s.Turn, s.rows(all.subjects(reads, parallel)), hitBase, nil)
				p.got.hits = append(p.got.hits, hitFigures{keys: keys, reads: reads, parallel: parallel, results: results})
				p.costs(fmt.Sprintf("Hits: Zipf over %d keys, %d %% reads, %s", keys, reads, how), hitBase, results)
			}
		}
		all.close()
	}
}

func (p *printer) hitRatios(s Size) {
	for _, t := range []struct {
		name, short string
		trace       []int
	}{
		{"Zipf over 100,000 keys", "Zipf", zipf(2, s.Reads, 100_000, 1.05)},
		{"Zipf, and a third of the reads are of scans", "a third of the reads are of scans", polluted(3, s.Reads, 100_000, 1.05)},
		{"Zipf whose popular keys change five times", "popular keys change", shifting(4, s.Reads, 100_000, 1.05)},
	} {
		p.ratios("Hit ratio, room for 5,000: "+t.name, t.short, t.trace, s.wanted)
	}
}

func (p *printer) costs(title, base string, results []result) {
	p.f("\n**%s** [%s]\n\n| | ns | CPU ns | CPU ratio | ± | B/op |\n|---|--:|--:|--:|--:|--:|\n", title, base)
	for _, r := range results {
		p.f("| %s | %.0f | %.0f | %.2f | %.0f %% | %.0f |\n", r.name, r.wall, r.cpu, r.ratio, 100*r.spread, r.bytes)
	}
}

func (p *printer) ratios(title, short string, trace []int, wanted func(name string) bool) {
	p.f("\n**%s**\n\n| | hits |\n|---|--:|\n", title)
	names, percent := ratioTable(trace, 5000, wanted)
	p.got.ratios = append(p.got.ratios, shares{title: short, names: names, figures: percent})
	for i, n := range names {
		p.f("| %s | %.2f %% |\n", n, percent[i])
	}
}

func (p *printer) memory(s Size, payload int) {
	entries := s.Entries
	p.f("\n**Memory: heap an entry takes beyond its payload of %d bytes, %d entries with int keys**\n\n| | bytes |\n|---|--:|\n", payload, entries)
	names, over := memoryTable(entries, payload, s.wanted)
	p.got.memory = shares{title: fmt.Sprintf("Bytes beside the payload, with TTL, %d entries", entries), names: names, figures: over}
	for i, n := range names {
		p.f("| %s | %.0f |\n", n, over[i])
	}
}

// wires measures a part that needs Redis.
func (p *printer) wires(part string, s Size) error {
	w, err := openWire()
	if err != nil {
		return err
	}
	defer w.close()
	value := strings.Repeat("v", 100)
	switch part {
	case "miss":
		p.wire(w, s, missTitle, w.missSubjects(value))
	case "set":
		p.wire(w, s, setTitle, w.setSubjects(value))
		p.wire(w, s, largeTitle, w.setSubjects(strings.Repeat("v", 64<<10)))
		p.crowd(w, s, crowdTitle, w.crowdSubjects(value))
	case "bulk":
		p.wire(w, s, bulkTitle, w.bulkSubjects(value))
	case "near":
		near := s.rows(w.nearSubjects(value))
		p.costs("Hits in memory in front of Redis: Zipf over 16384 string keys, one goroutine", near[0].name,
			rounds(s.Rounds, s.Turn, near, near[0].name, nil))
	}
	return nil
}

func (p *printer) breaker(s Size) error {
	open, end, err := openSubjects()
	if err != nil {
		return err
	}
	defer end()
	p.costs("An open breaker", open[0].name, rounds(s.Rounds, s.Turn, open, open[0].name, nil))
	return nil
}

// wireShare: turns on the wire are so much shorter and more, for what other
// programs do to them is seldom less than what is measured.
const wireShare = 5

// wire also shows the processor time of the server, of all turns together.
func (p *printer) wire(w *wire, s Size, title string, subjects []subject) {
	if s.Rounds > 1 {
		s.Rounds, s.Turn = s.Rounds*wireShare, s.Turn/wireShare
	}
	p.crowd(w, s, title, subjects)
}

// crowd is wire with turns that are long enough for many callers to begin.
func (p *printer) crowd(w *wire, s Size, title string, subjects []subject) {
	subjects = s.rows(subjects)
	results := rounds(s.Rounds, s.Turn, subjects, subjects[0].name, w.serverTime)
	p.got.wire[title] = results
	p.f("\n**%s** [%s]\n\n| | µs | ratio | ± | client CPU µs | ratio | ± | server CPU µs | ratio | B/op |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n", title, subjects[0].name)
	for _, r := range results {
		p.f("| %s | %.1f | %.2f | %.0f %% | %.1f | %.2f | %.0f %% | %.1f | %.2f | %.0f |\n", r.name, r.wall/1000, r.elapsed, 100*r.elapsedSpread,
			r.cpu/1000, r.ratio, 100*r.spread, r.server/1000, r.server/results[0].server, r.bytes)
	}
}

// rows are the subjects that are asked for.
func (s *Size) rows(subjects []subject) []subject {
	if s.Rows == nil {
		return subjects
	}
	kept := subjects[:1:1]
	for _, sub := range subjects[1:] {
		if s.wanted(sub.name) {
			kept = append(kept, sub)
		}
	}
	return kept
}

func (s *Size) wanted(row string) bool { return s.Rows == nil || s.Rows.MatchString(row) }
