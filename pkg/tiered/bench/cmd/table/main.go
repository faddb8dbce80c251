// Command table prints the tables of pkg/tiered/README.md.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/crewbeat/crewbeat/pkg/tiered/bench"
)

func main() {
	smoke := flag.Bool("smoke", false, "only show that everything runs")
	rounds := flag.Int("rounds", 0, "how often each peer has its turn (default 9)")
	flag.Parse()
	size := bench.Full()
	if *smoke {
		size = bench.Smoke()
	}
	if *rounds > 0 {
		size.Rounds = *rounds
	}
	if err := bench.Write(os.Stdout, size); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
