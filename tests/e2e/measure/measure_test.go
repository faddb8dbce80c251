// Package measure_test measures what the README says of memory and starts:
//
//	go test -run '^$' -bench . ./tests/e2e/measure
//
// These are benchmarks and not tests: a busy machine fails nobody.
package measure_test

import (
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/tests/e2e/internal/crew"
	"github.com/crewbeat/crewbeat/tests/e2e/internal/stack"
)

// quiet is how long a program is left alone before its memory is read.
const quiet = 5 * time.Second

func BenchmarkIdleMemory(b *testing.B) {
	b.Run("program=serve", func(b *testing.B) {
		for b.Loop() {
			resident(b, stack.StartLaptop(b, b.TempDir(), "--demo=true"))
		}
	})
	pg, redis := stack.StartPostgres(b), stack.StartRedis(b)
	set := stack.Settings(pg, map[string]string{"REDIS_URL": redis.URL})
	stack.Migrate(b, set)
	if out, err := stack.Run(b, time.Minute, set, "seed"); err != nil {
		b.Fatalf("seed: %v\n%s", err, out)
	}
	for _, program := range []string{"api", "realtime"} {
		b.Run("program="+program, func(b *testing.B) {
			for b.Loop() {
				resident(b, stack.Start(b, program, set))
			}
		})
	}
}

// BenchmarkMemoryInUse reads the memory of the all-in-one after a person has
// signed in and looked around.
func BenchmarkMemoryInUse(b *testing.B) {
	for b.Loop() {
		c := stack.StartLaptop(b, b.TempDir(), "--demo=true")
		site := crew.Site{API: c.URL, Realtime: c.URL}
		mira, err := crew.SignIn(b.Context(), site, "mira@demo.crewbeat.example", "crewbeat-demo")
		if err != nil {
			b.Fatal(err)
		}
		for range 100 {
			var week map[string]any
			if err := mira.Do(b.Context(), "GET", "/api/v1/dashboard", nil, &week); err != nil {
				b.Fatal(err)
			}
		}
		resident(b, c)
	}
}

// BenchmarkSecondStart measures from the start of the process to the first
// good answer of /readyz.
func BenchmarkSecondStart(b *testing.B) {
	data := b.TempDir()
	stack.StartLaptop(b, data, "--demo=true").Stop()
	for b.Loop() {
		c := stack.StartLaptop(b, data)
		b.StopTimer()
		c.Stop()
		b.StartTimer()
	}
}

func resident(b *testing.B, c *stack.Crewbeat) {
	b.Helper()
	<-time.After(quiet)
	bytes, err := c.Resident()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(bytes)/(1<<20), "MiB")
	b.ReportMetric(0, "ns/op") // says nothing here
}
