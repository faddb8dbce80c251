package tiered_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// childLoads makes the child of TestMain one that has a lease, and dies with it.
const childLoads = "TIERED_TEST_LOADS"

const leaseOfTheDead = 3 * time.Second

// blockInLoader takes the lease of "k", tells that it loads, and stays there.
func blockInLoader(addr, prefix string) int {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: addr})
	s, err := tiered.Open(ctx, tiered.WithRedis(client), tiered.WithPrefix(prefix), tiered.WithL2Timeout(5*time.Second))
	if err != nil {
		return 1
	}
	c, err := tiered.New[string, int](s, "n")
	if err != nil {
		return 1
	}
	_, _ = c.GetOrLoad(ctx, "k", func(context.Context, string, *tiered.Load[int]) (int, error) {
		fmt.Fprintln(os.Stdout, "loading")
		select {}
	}, tiered.DistributedLease(leaseOfTheDead))
	return 1
}

// Of 50 processes that want a cold key one loads it. So it is if a process that
// had begun is killed: when its lease has run out one takes it, and the others,
// who have waited for as long, wait for that one.
func TestManyProcessesLoadAColdKeyOnce(t *testing.T) {
	const processes = 50
	for _, many := range []bool{false, true} {
		for _, killed := range []bool{false, true} {
			t.Run(fmt.Sprintf("many=%v/killed=%v", many, killed), func(t *testing.T) {
				nodes := tieredtest.Nodes(t, processes, shared, tieredtest.WithStore(tiered.WithPrefix(prefix(t)), tiered.WithL1(1<<20)))
				caches := tieredtest.Caches[string, int](t, nodes, "n", tiered.WithDefaults(tiered.DistributedLease(20*time.Second)))
				opts := []tiered.EntryOption{}
				var child *exec.Cmd
				if killed {
					opts = append(opts, tiered.DistributedLease(leaseOfTheDead))
					child = exec.CommandContext(t.Context(), os.Args[0])
					child.Env = append(os.Environ(), childAddr+"="+shared.Addr(), childPrefix+"="+prefix(t), childLoads+"=1")
					out, err := child.StdoutPipe()
					must(t, err)
					must(t, child.Start())
					if line := bufio.NewScanner(out); !line.Scan() || line.Text() != "loading" {
						t.Fatalf("the child says %q", line.Text())
					}
				}
				var loads atomic.Int32
				slow := func() { // the source takes its time
					loads.Add(1)
					pause(t.Context(), 500*time.Millisecond)
				}
				var wg sync.WaitGroup
				for _, c := range caches {
					wg.Go(func() {
						var v int
						var err error
						if many {
							var got map[string]int
							got, err = c.GetOrLoadMany(t.Context(), []string{"k"}, func(ctx, []string) (map[string]int, error) {
								slow()
								return map[string]int{"k": 7}, nil
							}, opts...)
							v = got["k"]
						} else {
							v, err = c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[int]) (int, error) {
								slow()
								return 7, nil
							}, opts...)
						}
						if v != 7 || err != nil {
							t.Errorf("got %d, %v", v, err)
						}
					})
				}
				if killed {
					must(t, child.Process.Kill())
					_ = child.Wait()
				}
				wg.Wait()
				if n := loads.Load(); n != 1 {
					t.Errorf("%d loads, want 1", n)
				}
			})
		}
	}
}
