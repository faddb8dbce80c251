package bench

import (
	"slices"
	"syscall"
	"time"
)

// subject is one of those that are compared: run does n operations.
type subject struct {
	name string
	run  func(n int)
}

// result is what an operation of a subject costs.
type result struct {
	name      string
	wall, cpu float64 // ns an operation, median of the rounds
	spread    float64 // of wall: half the distance of the quartiles, as a share of the median
}

// rounds lets the subjects take turns and returns the medians. Each turn is of
// so many operations that it takes about turn.
func rounds(count int, turn time.Duration, subjects []subject) []result {
	ops := make([]int, len(subjects))
	for i, s := range subjects { // also warms up
		n := 1
		for {
			began := time.Now()
			s.run(n)
			if took := time.Since(began); took >= turn/4 || n >= 1<<28 {
				ops[i] = max(int(float64(n)*float64(turn)/float64(max(took, 1))), 1)
				break
			}
			n *= 4
		}
	}
	walls, cpus := make([][]float64, len(subjects)), make([][]float64, len(subjects))
	for range count {
		for i, s := range subjects {
			before, began := processor(), time.Now()
			s.run(ops[i])
			walls[i] = append(walls[i], float64(time.Since(began))/float64(ops[i]))
			cpus[i] = append(cpus[i], float64(processor()-before)/float64(ops[i]))
		}
	}
	results := make([]result, len(subjects))
	for i, s := range subjects {
		results[i] = result{name: s.name, wall: quantile(walls[i], 0.5), cpu: quantile(cpus[i], 0.5)}
		results[i].spread = (quantile(walls[i], 0.75) - quantile(walls[i], 0.25)) / 2 / results[i].wall
	}
	return results
}

// processor is the time this process has had of all processors.
func processor() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0 // it cannot fail with these arguments
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func quantile(v []float64, q float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[min(int(q*float64(len(s))), len(s)-1)]
}
