package bench_test

import (
	"io"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered/bench"
)

// Everything that is compared runs. How fast is for cmd/table to say, on a
// machine that does nothing else.
func BenchmarkTable(b *testing.B) {
	for b.Loop() {
		if err := bench.Write(io.Discard, bench.Smoke()); err != nil {
			b.Fatal(err)
		}
	}
}
