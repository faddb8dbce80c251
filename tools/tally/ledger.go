package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
)

// ledger is the file that gathers counts: one entry a line.
type ledger string

type entry struct {
	Name    string  `json:"name"`
	Kind    string  `json:"kind"`
	Reason  string  `json:"reason,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	counts
}

// Kinds of entries.
const (
	planned = "planned"
	done    = "done"
	cut     = "cut"
)

func (l ledger) add(entries ...entry) error {
	f, err := os.OpenFile(string(l), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the counts: %w", err)
	}
	for _, e := range entries {
		if err = json.NewEncoder(f).Encode(e); err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write the counts: %w", err)
	}
	return nil
}

func (l ledger) entries() ([]entry, error) {
	raw, err := os.ReadFile(string(l))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the counts: %w", err)
	}
	var all []entry
	for line := range bytes.Lines(raw) {
		var e entry
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("decode the counts: %w", err)
		}
		all = append(all, e)
	}
	return all, nil
}

// sum writes the table and the last line, and returns the exit code.
func (l ledger) sum(w io.Writer) (int, error) {
	all, err := l.entries()
	if err != nil {
		return 2, err
	}
	last := map[string]entry{}
	var order []string
	for _, e := range all {
		if _, ok := last[e.Name]; !ok {
			order = append(order, e.Name)
		}
		last[e.Name] = e
	}
	var total counts
	missing := 0
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "step\tseconds\tpassed\tfailed\tskipped\t")
	for _, name := range order {
		e := last[name]
		switch e.Kind {
		case done:
			fmt.Fprintf(table, "%s\t%.0f\t%d\t%d\t%d\t\n", name, e.Seconds, e.Passed, e.Failed, e.Skipped)
		case cut:
			missing++
			fmt.Fprintf(table, "%s\tcut\t-\t-\t-\t\n", name)
		default:
			missing++
			fmt.Fprintf(table, "%s\tdid not run\t-\t-\t-\t\n", name)
		}
		total.Passed, total.Failed, total.Skipped = total.Passed+e.Passed, total.Failed+e.Failed, total.Skipped+e.Skipped
	}
	if err := table.Flush(); err != nil {
		return 2, fmt.Errorf("write the table: %w", err)
	}
	for _, name := range order {
		if e := last[name]; e.Kind == cut {
			fmt.Fprintf(w, "%s was cut: %s\n", name, e.Reason)
		}
	}
	if missing > 0 {
		fmt.Fprintf(w, "%d steps did not run\n", missing)
	}
	fmt.Fprintf(w, "%d passed, %d failed\n", total.Passed, total.Failed)
	if total.Failed > 0 || missing > 0 || total.Passed == 0 {
		return 1, nil
	}
	return 0, nil
}
