package bench

import (
	"fmt"
	"slices"
	"strings"
)

// Figures are what a run has measured, for the README. Parts that were not
// measured are missing.
type Figures struct {
	hits   []hitFigures
	ratios []shares // of the traces, in order
	memory shares
	wire   map[string][]result // by the table's title
}

type hitFigures struct {
	keys, reads int
	parallel    bool
	results     []result
}

// shares is a figure of each peer.
type shares struct {
	title   string
	names   []string
	figures []float64
}

func (s shares) of(name string) float64 {
	if i := slices.Index(s.names, name); i >= 0 {
		return s.figures[i]
	}
	return 0
}

// find is a row of a table, the zero result if it has not been measured.
func find(results []result, name string) result {
	if i := slices.IndexFunc(results, func(r result) bool { return r.name == name }); i >= 0 {
		return results[i]
	}
	return result{}
}

// Readme puts the tables that were measured into a text, each between its
// markers, <!-- bench hits --> and <!-- end hits --> for one. A text without the
// markers is an error.
func (f *Figures) Readme(text string) (string, error) {
	for _, part := range []struct {
		name  string
		table string
	}{{"hits", f.hitTable()}, {"memory", f.memoryTable()}, {"wire", f.wireTable()}} {
		if part.table == "" {
			continue
		}
		begin, end := "<!-- bench "+part.name+" -->\n", "<!-- end "+part.name+" -->"
		before, rest, ok := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, end)
		if !ok || !closed {
			return "", fmt.Errorf("put figures into the README: it lacks %s or %s", strings.TrimSpace(begin), end)
		}
		text = before + begin + part.table + end + after
	}
	return text, nil
}

// bold marks a goal that is missed.
func bold(missed bool, figure string) string {
	if missed {
		return "**" + figure + "**"
	}
	return figure
}

const self = "**tiered**, TTL"

func (f *Figures) hitTable() string {
	if len(f.hits) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| Zipf keys, reads, goroutines (`-only hits`) | tiered | ± | otter, coarse clock | ristretto, TTL | theine, TTL | golang-lru expirable |\n|---|--:|--:|--:|--:|--:|--:|\n")
	for _, h := range f.hits {
		keys, goroutines := fmt.Sprint(h.keys>>10, "k"), "1"
		if h.keys >= 1<<20 {
			keys = fmt.Sprint(h.keys>>20, "M")
		}
		if h.parallel {
			goroutines = "one a processor"
		}
		own := find(h.results, self)
		fmt.Fprintf(&b, "| %s, %d %%, %s | %s | %.0f %% |", strings.ReplaceAll(keys, " ", ""), h.reads, goroutines,
			bold(own.ratio > 1, fmt.Sprintf("%.2f", own.ratio)), 100*own.spread)
		for _, name := range []string{"otter, TTL, coarse clock", "ristretto, TTL", "theine, TTL", "golang-lru expirable, TTL"} {
			r := find(h.results, name)
			fmt.Fprintf(&b, " %.2f |", r.ratio)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func (f *Figures) memoryTable() string {
	if len(f.ratios) == 0 || len(f.memory.names) == 0 {
		return ""
	}
	var b strings.Builder
	b.WriteString("| `-only ratio,memory` | tiered | ristretto | otter | theine |\n|---|--:|--:|--:|--:|\n")
	for _, s := range f.ratios {
		own, model := s.of(self), s.of("ristretto")
		fmt.Fprintf(&b, "| Hit ratio, %s, %% | %s | %.1f | %.1f | %.1f |\n", s.title, bold(own < model-1, fmt.Sprintf("%.1f", own)), model, s.of("otter, TTL"), s.of("theine, TTL"))
	}
	own, model := f.memory.of(self), f.memory.of("ristretto, TTL")
	fmt.Fprintf(&b, "| %s | %s | %.0f | %.0f | %.0f |\n", f.memory.title, bold(own > model, fmt.Sprintf("%.0f", own)), model, f.memory.of("otter, TTL"), f.memory.of("theine, TTL"))
	return b.String()
}

// wireRows are what the README says of the tables on the wire.
var wireRows = []struct {
	title, row, label string
	goal              float64 // 0: none
}{
	{missTitle, "bare GET, then SET (by hand)", "GET, load and SET by hand, to a GET", 0},
	{missTitle, "two scripts of GET alone", "the floor of two scripts: each does only GET", 0},
	{missTitle, "**tiered** GetOrLoad, up to its loader: the lease", "`GetOrLoad` of an absent key until its loader begins: the lease, to a GET", 2},
	{missTitle, "**tiered** GetOrLoad: lease, load, fenced store", "`GetOrLoad` of an absent key: lease, load, fenced store, to a GET", 0},
	{missTitle, "**tiered** GetOrLoad: lease alone, load not stored", "the same, nothing stored: lease, load, release", 2},
	{missTitle, "**tiered** Get, absent", "`Get` of an absent key, to a GET", 0},
	{setTitle, "the same, with one subscriber", "the floor: SET and PUBLISH to one subscriber, to SET", 0},
	{setTitle, "a script of SET and PUBLISH, one subscriber", "the floor of a script: it does only these", 0},
	{setTitle, "**tiered** Set", "`Set`, 100 bytes, to SET", 1.5},
	{largeTitle, "**tiered** Set", "`Set`, 64 KiB, to SET", 1.5},
	{crowdTitle, "bare SET and PUBLISH, pipelined, one subscriber", "64 callers: SET and PUBLISH, to SET", 0},
	{crowdTitle, "bare SET by go-redis's AutoPipeline", "64 callers: SET, autopipelined by go-redis, to SET", 0},
	{crowdTitle, "**tiered** Set", "64 callers: `Set`, to SET", 1.5},
	{crowdTitle, "**tiered** Delete", "64 callers: `Delete`, to SET", 1.5},
	{bulkTitle, "MGET of 100, put into a map by hand", "the floor: MGET of 100, put into a map by hand, to MGET", 0},
	{bulkTitle, "**tiered** GetMany of 100 []byte, Raw, from Redis", "`GetMany` of 100 `[]byte` with the codec `Raw` from Redis, to MGET", 1.3},
	{bulkTitle, "MGET of 100, decoded into a map by hand", "the floor of JSON: MGET of 100, decoded into a map by hand, to MGET", 0},
	{bulkTitle, "**tiered** GetMany of 100, from Redis", "`GetMany` of 100 texts in JSON from Redis, to MGET", 1.3},
	{bulkTitle, "**tiered** GetOrLoadMany of 100, from Redis", "`GetOrLoadMany` of 100 from Redis, to MGET", 1.3},
	{bulkTitle, "**tiered** GetMany of 100, from memory", "`GetMany` of 100 from memory, to MGET", 0},
}

const (
	missTitle  = "Misses: round trips to a redis-server on loopback, 100 bytes"
	setTitle   = "Writes, 100 bytes: version, fence and message in one script"
	largeTitle = "Writes, 64 KiB"
	crowdTitle = "Writes of 64 callers at once, 100 bytes"
	bulkTitle  = "Bulk reads of 100 keys of 100 bytes"
)

func (f *Figures) wireTable() string {
	for _, title := range []string{missTitle, setTitle, largeTitle, crowdTitle, bulkTitle} {
		if len(f.wire[title]) == 0 {
			return ""
		}
	}
	var b strings.Builder
	b.WriteString("| Round trips (`-only miss,set,bulk`), ratios | time | ± | client's processor | server's processor | goal |\n|---|--:|--:|--:|--:|--:|\n")
	for _, row := range wireRows {
		r := find(f.wire[row.title], row.row)
		goal := ""
		if row.goal > 0 {
			goal = fmt.Sprint(row.goal)
		}
		fmt.Fprintf(&b, "| %s | %s | %.0f %% | %.1f | %.1f | %s |\n", row.label, bold(row.goal > 0 && r.elapsed > row.goal, fmt.Sprintf("%.1f", r.elapsed)),
			100*r.elapsedSpread, r.ratio, r.server/f.wire[row.title][0].server, goal)
	}
	return b.String()
}
