// Command table prints the tables of pkg/tiered/README.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"runtime/pprof"
	"strings"

	"github.com/crewbeat/crewbeat/pkg/tiered/bench"
)

func main() {
	smoke := flag.Bool("smoke", false, "only show that everything runs")
	rounds := flag.Int("rounds", 0, "how often each peer has its turn (default 15)")
	turn := flag.Duration("turn", 0, "how long a turn is (default 25ms)")
	keys := flag.Int("keys", 0, "keys of the hit tables (default 16384, then 1048576)")
	only := flag.String("only", "", "some of "+strings.Join(bench.Parts, ",")+" (default all)")
	rows := flag.String("rows", "", "only rows that match this expression, and what they are compared to")
	profile := flag.String("cpuprofile", "", "write a profile of the processor time to this file")
	readme := flag.String("readme", "", "put the tables of the parts that are measured into this README")
	flag.Parse()
	size := bench.Full()
	if *smoke {
		size = bench.Smoke()
	}
	if *rounds > 0 {
		size.Rounds = *rounds
	}
	if *turn > 0 {
		size.Turn = *turn
	}
	if *keys > 0 {
		size.Keys = []int{*keys}
	}
	if *only != "" {
		size.Only = strings.Split(*only, ",")
	}
	if err := run(size, *rows, *profile, *readme); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(size bench.Size, rows, profile, readme string) error {
	if rows != "" {
		var err error
		if size.Rows, err = regexp.Compile(rows); err != nil {
			return fmt.Errorf("-rows: %w", err)
		}
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return fmt.Errorf("-cpuprofile: %w", err)
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return fmt.Errorf("-cpuprofile: %w", err)
		}
		defer func() {
			pprof.StopCPUProfile()
			_ = f.Close() // what it says then is not worth the tables
		}()
	}
	figures, err := bench.Write(os.Stdout, size)
	if err != nil || readme == "" {
		return err
	}
	text, err := os.ReadFile(readme)
	if err != nil {
		return fmt.Errorf("-readme: %w", err)
	}
	after, err := figures.Readme(string(text))
	if err != nil {
		return err
	}
	if err := os.WriteFile(readme, []byte(after), 0o644); err != nil { // it is for all to read
		return fmt.Errorf("-readme: %w", err)
	}
	return nil
}
