package bench_test

import (
	"io"
	"os"
	"testing"

	"github.com/crewbeat/crewbeat/pkg/tiered/bench"
)

// Everything that is compared runs. How fast is for cmd/table to say, on a
// machine that does nothing else.
func BenchmarkTable(b *testing.B) {
	for b.Loop() {
		figures, err := bench.Write(io.Discard, bench.Smoke())
		if err != nil {
			b.Fatal(err)
		}
		readme, err := os.ReadFile("../README.md")
		if err != nil {
			b.Fatal(err)
		}
		if _, err := figures.Readme(string(readme)); err != nil {
			b.Fatal(err)
		}
	}
}
