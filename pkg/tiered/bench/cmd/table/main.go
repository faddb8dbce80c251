// Command table prints the tables of pkg/tiered/README.md.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/crewbeat/crewbeat/pkg/tiered/bench"
)

func main() {
	smoke := flag.Bool("smoke", false, "only show that everything runs")
	rounds := flag.Int("rounds", 0, "how often each peer has its turn (default 15)")
	turn := flag.Duration("turn", 0, "how long a turn is (default 25ms)")
	keys := flag.Int("keys", 0, "keys of the hit tables (default 16384, then 1048576)")
	only := flag.String("only", "", "some of "+strings.Join(bench.Parts, ",")+" (default all)")
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
	if err := bench.Write(os.Stdout, size); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
