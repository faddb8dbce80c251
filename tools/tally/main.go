// Command tally counts test results of several kinds and sums them up.
//
//	tally -to FILE -plan NAME,NAME,…   note what is going to run
//	go test -json … | tally -to FILE -name NAME go
//	tally -to FILE -name NAME -seconds N vitest REPORT.json
//	tally -to FILE -name NAME run COMMAND ARG…   one result: it passed or failed
//	tally -to FILE -name NAME cut REASON         it does not run, and why
//	tally -to FILE sum                           the table, and "N passed, N failed"
//
// FILE gathers the counts. Results of go test are shown as they come, a line a
// package, and in full where they fail. It exits with 1 if anything failed, and
// sum also if anything that was planned did not run.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

func main() {
	code, err := run(os.Args[1:], os.Stdin, os.Stdout)
	if err != nil {
		fmt.Fprintf(os.Stderr, "tally: %v\n", err)
		code = 2
	}
	os.Exit(code)
}

// run returns the exit code.
func run(args []string, stdin io.Reader, stdout io.Writer) (int, error) {
	flags := flag.NewFlagSet("tally", flag.ContinueOnError)
	to := flags.String("to", "", "the `FILE` that gathers the counts")
	name := flags.String("name", "", "the `NAME` of this step")
	seconds := flags.Float64("seconds", 0, "how long the step took, where tally itself cannot know")
	plan := flags.String("plan", "", "`NAMES` of steps, separated by commas, that are going to run")
	if err := flags.Parse(args); err != nil {
		return 2, err
	}
	if *to == "" {
		return 2, fmt.Errorf("-to FILE is missing")
	}
	book := ledger(*to)
	if *plan != "" {
		var entries []entry
		for n := range strings.SplitSeq(*plan, ",") {
			entries = append(entries, entry{Name: n, Kind: planned})
		}
		return 0, book.add(entries...)
	}
	if flags.Arg(0) == "sum" {
		return book.sum(stdout)
	}
	if *name == "" {
		return 2, fmt.Errorf("-name NAME is missing")
	}
	began := time.Now()
	e := entry{Name: *name, Kind: done}
	switch kind, rest := flags.Arg(0), flags.Args()[min(1, flags.NArg()):]; kind {
	case "go":
		c, err := countGo(stdin, stdout)
		if err != nil {
			return 2, err
		}
		e.counts = c
	case "vitest":
		if len(rest) != 1 {
			return 2, fmt.Errorf("vitest wants the path of one report")
		}
		c, err := countVitest(rest[0], stdout)
		if err != nil {
			fmt.Fprintf(stdout, "FAIL %s: %v\n", *name, err)
			c = counts{Failed: 1}
		}
		e.counts = c
	case "run":
		if len(rest) == 0 {
			return 2, fmt.Errorf("run wants a command")
		}
		cmd := exec.Command(rest[0], rest[1:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
		if err := cmd.Run(); err != nil {
			fmt.Fprintf(stdout, "FAIL %s: %s: %v\n", *name, strings.Join(rest, " "), err)
			e.Failed = 1
		} else {
			e.Passed = 1
		}
	case "cut":
		e.Kind, e.Reason = cut, strings.Join(rest, " ")
		fmt.Fprintf(stdout, "CUT  %s: %s\n", *name, e.Reason)
	default:
		return 2, fmt.Errorf("there is no command %q", kind)
	}
	if e.Seconds = *seconds; e.Seconds == 0 {
		e.Seconds = time.Since(began).Seconds()
	}
	if err := book.add(e); err != nil {
		return 2, err
	}
	if e.Failed > 0 {
		return 1, nil
	}
	return 0, nil
}
