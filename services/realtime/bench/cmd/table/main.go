// Command table prints the tables of docs/realtime-bench.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/crewbeat/crewbeat/services/realtime/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == bench.ServeArg {
		return bench.Serve(ctx, args[1:], os.Stdin, os.Stdout)
	}
	flags := flag.NewFlagSet("table", flag.ContinueOnError)
	smoke := flags.Bool("smoke", false, "only show that everything runs")
	rounds := flags.Int("rounds", 0, "how often each has its turn")
	conns := flags.Int("conns", 0, "idle connections")
	only := flags.String("only", "", "some of "+strings.Join(bench.Parts(), ",")+" (default all)")
	alone := flags.Bool("alone", false, "idle connections of Crewbeat's server only")
	profile := flags.String("profile", "", "write profiles of Crewbeat's server to this folder")
	if err := flags.Parse(args); err != nil {
		return err
	}
	size := bench.Full()
	if *smoke {
		size = bench.Smoke()
	}
	if *rounds > 0 {
		size.Rounds = *rounds
	}
	if *conns > 0 {
		size.Idle = *conns
	}
	if *only != "" {
		size.Only = strings.Split(*only, ",")
	}
	size.Profile, size.Alone = *profile, *alone
	return bench.Write(ctx, os.Stdout, size)
}
