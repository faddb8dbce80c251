package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// counts are results. A test with subtests is counted by its subtests.
type counts struct {
	Passed, Failed, Skipped int
}

// event is a line of go test -json.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64
	ImportPath                    string // of build output
}

// pkg is what is known of a package that is being tested.
type pkg struct {
	results map[string]string   // by test: pass, fail or skip
	output  map[string][]string // by test; "" is the package's own
}

// countGo reads the output of go test -json and writes what people want to see.
func countGo(r io.Reader, w io.Writer) (counts, error) {
	var total counts
	var skipped []string
	packages := map[string]*pkg{}
	in := bufio.NewReader(r)
	for {
		raw, err := in.ReadString('\n')
		if raw != "" {
			var e event
			if json.Unmarshal([]byte(raw), &e) != nil {
				fmt.Fprint(w, raw) // not from a test: a message of the go command
			} else {
				e.take(packages, &total, &skipped, w)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return total, fmt.Errorf("read results: %w", err)
		}
	}
	for name := range packages { // began and never ended: the go command was cut off
		total.Failed++
		fmt.Fprintf(w, "FAIL %s: it has not ended\n", name)
	}
	for _, s := range skipped {
		fmt.Fprintf(w, "skip %s\n", s)
	}
	return total, nil
}

func (e event) take(packages map[string]*pkg, total *counts, skipped *[]string, w io.Writer) {
	if e.Package == "" { // of building
		if e.Action == "build-output" {
			fmt.Fprint(w, e.Output)
		}
		return
	}
	p := packages[e.Package]
	if p == nil {
		p = &pkg{results: map[string]string{}, output: map[string][]string{}}
		packages[e.Package] = p
	}
	switch {
	case e.Action == "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case e.Action != "pass" && e.Action != "fail" && e.Action != "skip":
	case e.Test != "":
		p.results[e.Test] = e.Action
		if e.Action == "pass" {
			delete(p.output, e.Test)
		}
	default:
		delete(packages, e.Package)
		p.close(e, total, skipped, w)
	}
}

// close counts a package that has ended.
func (p *pkg) close(e event, total *counts, skipped *[]string, w io.Writer) {
	var c counts
	for _, test := range slices.Sorted(maps.Keys(p.results)) {
		if p.hasSubtests(test) {
			continue
		}
		switch p.results[test] {
		case "pass":
			c.Passed++
		case "fail":
			c.Failed++
		case "skip":
			c.Skipped++
			*skipped = append(*skipped, e.Package+" "+test+": "+reason(p.output[test]))
		}
	}
	// A package can fail without a failed test: it does not build, panics, has
	// a data race or leaves goroutines behind.
	if e.Action == "fail" && c.Failed == 0 {
		c.Failed = 1
	}
	total.Passed, total.Failed, total.Skipped = total.Passed+c.Passed, total.Failed+c.Failed, total.Skipped+c.Skipped
	switch {
	case e.Action == "fail":
		for _, test := range slices.Sorted(maps.Keys(p.output)) {
			if test == "" || p.results[test] != "skip" {
				fmt.Fprint(w, strings.Join(p.output[test], ""))
			}
		}
		fmt.Fprintf(w, "FAIL %-70s %6.1f s  %d passed, %d failed\n", e.Package, e.Elapsed, c.Passed, c.Failed)
	case len(p.results) > 0:
		fmt.Fprintf(w, "ok   %-70s %6.1f s  %d passed\n", e.Package, e.Elapsed, c.Passed)
	}
}

func (p *pkg) hasSubtests(test string) bool {
	for other := range p.results {
		if strings.HasPrefix(other, test+"/") {
			return true
		}
	}
	return false
}

// reason is what a skipped test said.
func reason(output []string) string {
	for _, line := range output {
		if _, said, ok := strings.Cut(line, ".go:"); ok {
			if _, said, ok = strings.Cut(said, ": "); ok {
				return strings.TrimSpace(said)
			}
		}
	}
	return "it does not say why"
}

// countVitest reads a report of vitest --reporter=json.
func countVitest(file string, w io.Writer) (counts, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return counts{}, fmt.Errorf("read the report: %w", err)
	}
	var report struct {
		NumPassedTests, NumFailedTests, NumPendingTests, NumTodoTests int
		TestResults                                                   []struct {
			Name, Status, Message string
			AssertionResults      []struct{ FullName, Status string }
		}
	}
	if err := json.Unmarshal(raw, &report); err != nil {
		return counts{}, fmt.Errorf("decode the report: %w", err)
	}
	c := counts{report.NumPassedTests, report.NumFailedTests, report.NumPendingTests + report.NumTodoTests}
	for _, f := range report.TestResults {
		failed := 0
		for _, a := range f.AssertionResults {
			switch a.Status {
			case "failed":
				failed++
				fmt.Fprintf(w, "FAIL %s\n", a.FullName)
			case "pending", "skipped", "todo":
				fmt.Fprintf(w, "skip %s\n", a.FullName)
			}
		}
		if f.Status == "failed" && failed == 0 { // the file itself: it does not load
			c.Failed++
			fmt.Fprintf(w, "FAIL %s: %s\n", f.Name, f.Message)
		}
	}
	if c.Passed+c.Failed == 0 {
		return c, errors.New("the report holds no test")
	}
	return c, nil
}
