package tiered_test

import (
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

// A load that could not ask Redis may be older than a write of another node,
// and nothing will refuse to store it: without a memory tier, who joins it after
// the write gets the next load's result.
func TestALoadFromAnOutageIsNotJoinedAfterIt(t *testing.T) {
	for name, outage := range map[string]func(n *tieredtest.Node) (over func()){
		"that began before the load": func(n *tieredtest.Node) func() {
			n.Net.Refuse()
			n.Net.Reset()
			return n.Net.Heal
		},
		"that began with the fill": func(n *tieredtest.Node) func() {
			return n.Net.HoldCommand(func(c []string) bool { return len(c) == 8 && c[2] == "2" }).Drop // fill alone has three arguments
		},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := tieredtest.Nodes(t, 2, shared, tieredtest.WithStore(tiered.WithL1(0)))
			c := tieredtest.Caches[string, string](t, nodes, "n")
			over := outage(nodes[0])
			var loads atomic.Int32
			slow := block[string]()
			first := make(chan error, 1)
			go func() {
				_, err := c[0].GetOrLoad(t.Context(), "k", slow.load)
				first <- err
			}()
			<-slow.started
			must(t, c[1].Delete(t.Context(), "k"))
			const callers = 20
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					v, err := c[0].GetOrLoad(t.Context(), "k", func(ctx ctx, _ string, _ *tiered.Load[string]) (string, error) {
						loads.Add(1)
						// Until all the others wait for this one, if they do.
						for range 200 {
							if nodes[0].Stats().Coalesced >= 2*callers-1 || !pause(ctx, time.Millisecond) {
								break
							}
						}
						return "new", nil
					})
					if v != "new" || err != nil {
						t.Errorf("after the delete: %q, %v", v, err)
					}
				})
			}
			eventually(t, "all have joined", func() bool { return nodes[0].Stats().Coalesced >= callers })
			slow.result <- "old"
			if name == "that began before the load" {
				must(t, <-first)
			} else {
				eventually(t, "the fill fails", func() bool { over(); return len(first) == 1 })
			}
			wg.Wait()
			over()
			if n := loads.Load(); n > 1 && name == "that began before the load" {
				t.Errorf("%d callers began %d more loads, want that they share one", callers, n)
			}
		})
	}
}

// Who looked before a load landed, and comes for his own after it, is given what
// that one has brought, and a value that was invalidated since is loaded.
func TestALoadThatComesTooLateTakesWhatIsThere(t *testing.T) {
	for name, s := range map[string]*tiered.Store{"without redis": open(t), "with redis": node(t, shared)} {
		t.Run(name, func(t *testing.T) {
			c := cache[string](t, s, "n")
			must(t, c.Set(t.Context(), "k", "there"))
			must(t, c.Set(t.Context(), "l", "there"))
			if v, err := c.Board(t.Context(), "k", value("loaded")); v != "there" || err != nil {
				t.Errorf("one that came late got %q, %v", v, err)
			}
			bulk := func(_ ctx, keys []string) (map[string]string, error) {
				found := map[string]string{}
				for _, k := range keys {
					found[k] = "loaded"
				}
				return found, nil
			}
			many, err := c.BoardMany(t.Context(), []string{"k", "l", "m"}, bulk)
			if want := map[string]string{"k": "there", "l": "there", "m": "loaded"}; !maps.Equal(many, want) || err != nil {
				t.Errorf("many got %v, %v, want %v", many, err, want)
			}
			if n := s.Stats().L2Hits; n > 0 {
				t.Errorf("redis was read %d times for what memory has", n)
			}
			must(t, c.Delete(t.Context(), "k"))
			if v, err := c.Board(t.Context(), "k", value("loaded")); v != "loaded" || err != nil {
				t.Errorf("after the delete one got %q, %v", v, err)
			}
		})
	}
}
