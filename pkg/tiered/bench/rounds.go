package bench

import (
	"cmp"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"
)

// subject is one of those that are compared.
type subject struct {
	name string
	run  work
}

// work does n operations. It returns how much of the time counts; 0: all.
type work func(n int) time.Duration

// all is work of which all time counts.
func all(do func(n int)) work {
	return func(n int) time.Duration {
		do(n)
		return 0
	}
}

// result is what an operation of a subject costs: medians of the rounds.
type result struct {
	name      string
	wall, cpu float64 // ns
	server    float64 // ns of a server's processor; a mean, for its clock may be coarse
	bytes     float64 // of heap that it allocates
	// ratio is of the processor time to that of the base in the same round, so
	// that what slows both cancels out. spread is half the distance of its
	// quartiles, as a share of it.
	ratio, spread float64
	// elapsed and its spread are the same of the time on the clock.
	elapsed, elapsedSpread float64
}

// rounds lets the subjects take turns, in another order each round, and
// compares them to the base. Each turn is of so many operations that it takes
// about turn. The garbage collector does not run in a turn: what it would cost
// depends on the heaps of all the others. The bytes an operation allocates are
// measured beside. The meter, if there is one, is a server's processor time.
func rounds(count int, turn time.Duration, subjects []subject, base string, meter func() time.Duration) []result {
	if meter == nil {
		meter = func() time.Duration { return 0 }
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
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
	to := max(slices.IndexFunc(subjects, func(s subject) bool { return s.name == base }), 0)
	walls, cpus, bytes := make([][]float64, len(subjects)), make([][]float64, len(subjects)), make([][]float64, len(subjects))
	served, done := make([]time.Duration, len(subjects)), make([]int, len(subjects))
	order := make([]int, len(subjects))
	for i := range order {
		order[i] = i
	}
	for r := range count {
		if r%collectEach == 0 {
			runtime.GC()
		}
		for _, i := range order {
			n := float64(ops[i])
			allocated, busy := allocatedBytes(), meter()
			before, began := processor(), time.Now()
			took := subjects[i].run(ops[i])
			walls[i] = append(walls[i], float64(cmp.Or(took, time.Since(began)))/n)
			cpus[i] = append(cpus[i], float64(processor()-before)/n)
			served[i] += meter() - busy
			done[i] += ops[i]
			bytes[i] = append(bytes[i], float64(allocatedBytes()-allocated)/n)
		}
		// Whoever came before leaves its lines in the processor's caches.
		first := order[0]
		copy(order, order[1:])
		order[len(order)-1] = first
		if r%2 == 1 {
			slices.Reverse(order)
		}
	}
	results := make([]result, len(subjects))
	for i, s := range subjects {
		r := result{name: s.name, wall: quantile(walls[i], 0.5), cpu: quantile(cpus[i], 0.5), bytes: quantile(bytes[i], 0.5),
			server: float64(served[i]) / float64(max(done[i], 1))}
		r.ratio, r.spread = compare(cpus[i], cpus[to])
		r.elapsed, r.elapsedSpread = compare(walls[i], walls[to])
		results[i] = r
	}
	return results
}

// compare is the median of the rounds' ratios, and half the distance of their
// quartiles as a share of it.
func compare(times, base []float64) (ratio, spread float64) {
	ratios := make([]float64, len(times))
	for r := range ratios {
		ratios[r] = times[r] / max(base[r], 1e-3)
	}
	mid := quantile(ratios, 0.5)
	return mid, (quantile(ratios, 0.75) - quantile(ratios, 0.25)) / 2 / cmp.Or(mid, 1)
}

// collectEach is the rounds between two collections, which take longer than a
// round where a million entries are kept by ten peers.
const collectEach = 4

func allocatedBytes() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
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
