package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
)

// account says where the memory of a process is, in bytes. All but the last
// are of the Go runtime, which knows no other: what is left of the RSS are
// pages of SQLite, which allocates by itself, and of files.
type account struct {
	objects  int64 // alive, or not collected yet
	unused   int64 // between objects, in the spans that hold them
	kept     int64 // free, and not given back to the kernel
	stacks   int64 // of goroutines and threads
	runtime  int64 // its own: descriptors of goroutines, spans, the collector, pollers
	resident int64
}

// ledgers are the metrics of package runtime/metrics that make an account.
var ledgers = []string{
	"/memory/classes/heap/objects:bytes", "/memory/classes/heap/unused:bytes", "/memory/classes/heap/free:bytes",
	"/memory/classes/heap/stacks:bytes", "/memory/classes/os-stacks:bytes",
	"/memory/classes/metadata/mcache/inuse:bytes", "/memory/classes/metadata/mspan/inuse:bytes", "/memory/classes/metadata/other:bytes", "/memory/classes/other:bytes", "/memory/classes/profiling/buckets:bytes",
	"/memory/classes/metadata/mspan/free:bytes", "/memory/classes/metadata/mcache/free:bytes",
}

// tellMemory is the answer of the command account.
func tellMemory(context.Context, []string) (string, error) {
	samples := make([]metrics.Sample, len(ledgers))
	for i, name := range ledgers {
		samples[i].Name = name
	}
	metrics.Read(samples)
	var sum [5]uint64
	for i, s := range samples {
		n := s.Value.Uint64()
		switch {
		case i < 3:
			sum[i] = n
		case i < 5:
			sum[3] += n
		default:
			sum[4] += n
		}
	}
	return strings.Trim(fmt.Sprint(sum, runtime.NumGoroutine()), "[]"), nil
}

// memory asks a child for its account.
func (c *child) memory() (a account, goroutines int, err error) {
	v, err := c.ask("account")
	if err != nil {
		return a, 0, err
	}
	f := strings.Fields(strings.ReplaceAll(v, "]", ""))
	for i, to := range []*int64{&a.objects, &a.unused, &a.kept, &a.stacks, &a.runtime} {
		if *to, err = strconv.ParseInt(f[i], 10, 64); err != nil {
			return a, 0, fmt.Errorf("read account: %w", err)
		}
	}
	if goroutines, err = strconv.Atoi(f[5]); err != nil {
		return a, 0, fmt.Errorf("read account: %w", err)
	}
	a.resident, err = resident(c.pid())
	return a, goroutines, err
}

// cells are what each of n connections has of the difference between a and
// before, in KiB.
func (a account) cells(before account, n int) []string {
	var v []string
	rest := a.resident - before.resident
	for _, d := range []int64{a.objects - before.objects, a.unused - before.unused, a.kept - before.kept, a.stacks - before.stacks, a.runtime - before.runtime} {
		rest -= d
		v = append(v, fmt.Sprintf("%.2f", float64(d)/float64(n)/1024))
	}
	return append(v, fmt.Sprintf("%.2f", float64(rest)/float64(n)/1024))
}
