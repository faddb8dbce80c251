package tiered_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

func TestOnlyOneOfManyCallersLoads(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		b := block[int]()
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if v, err := c.GetOrLoad(t.Context(), "k", b.load); v != 7 || err != nil {
					t.Errorf("got %d, %v", v, err)
				}
			})
		}
		<-b.started
		eventually(t, "the others wait", func() bool { return s.Stats().Coalesced == 49 })
		b.result <- 7
		wg.Wait()
	})
}

func TestLoadingGoesOnWhenTheFirstCallerLeaves(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		b := block[int]()
		load := func(ctx context.Context, k string, l *tiered.Load[int]) (int, error) {
			v, err := b.load(ctx, k, l)
			return v, errors.Join(err, ctx.Err()) // as a database would
		}
		first, leave := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := c.GetOrLoad(first, "k", load)
			left <- err
		}()
		<-b.started
		stays := make(chan int, 1)
		go func() {
			v, err := c.GetOrLoad(t.Context(), "k", load)
			if err != nil {
				t.Errorf("who stays: %v", err)
			}
			stays <- v
		}()
		eventually(t, "the second waits", func() bool { return s.Stats().Coalesced == 1 })
		leave()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("who leaves: %v", err)
		}
		b.result <- 7
		if v := <-stays; v != 7 {
			t.Errorf("who stays got %d", v)
		}
		want(t, c, "k", 7)
	})
}

func TestALoadThatNobodyWaitsForIsCancelled(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		started, ended := make(chan struct{}), make(chan struct{})
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			<-started
			leave()
		}()
		_, err := c.GetOrLoad(ctx, "k", func(ctx context.Context, _ string, _ *tiered.Load[int]) (int, error) {
			close(started)
			<-ctx.Done()
			close(ended)
			return 1, nil // ignores it
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
		<-ended
		// Who comes now is not given a cancelled load.
		if v, err := c.GetOrLoad(t.Context(), "k", value(2)); v != 2 || err != nil {
			t.Fatalf("the next caller got %d, %v", v, err)
		}
		want(t, c, "k", 2)
	})
}

func TestAPanicReachesEveryWaiterAsAnError(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		boom := errors.New("boom")
		for name, loader := range map[string]tiered.Loader[string, int]{
			"panic":  func(ctx, string, *tiered.Load[int]) (int, error) { panic(boom) },
			"goexit": func(ctx, string, *tiered.Load[int]) (int, error) { runtime.Goexit(); return 0, nil },
		} {
			_, err := c.GetOrLoad(t.Context(), name, loader)
			var p *tiered.PanicError
			if !errors.Is(err, tiered.ErrPanic) || !errors.As(err, &p) {
				t.Fatalf("%s: got %v", name, err)
			}
			if name == "panic" && !errors.Is(err, boom) {
				t.Errorf("the panic's error is lost: %v", err)
			}
			if len(p.Stack) == 0 {
				t.Errorf("%s: no stack", name)
			}
			// Nothing is held: the next load goes.
			if v, err := c.GetOrLoad(t.Context(), name, value(1)); v != 1 || err != nil {
				t.Errorf("after %s: %d, %v", name, v, err)
			}
		}
	})
}

func TestALoadersErrorIsNotCached(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		boom := errors.New("boom")
		_, err := c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[int]) (int, error) { return 0, boom })
		if !errors.Is(err, boom) {
			t.Fatalf("got %v", err)
		}
		if v, err := c.GetOrLoad(t.Context(), "k", value(1)); v != 1 || err != nil {
			t.Fatalf("then %d, %v", v, err)
		}
	})
}

// during starts a load on c, runs write while the loader is at work, lets the
// loader return old, and returns when the load has ended.
func during(t *testing.T, c *tiered.Cache[string, string], key string, write func(), opts ...tiered.EntryOption) {
	t.Helper()
	b := block[string]()
	done := make(chan struct{})
	go func() {
		defer close(done)
		if v, err := c.GetOrLoad(t.Context(), key, b.load, opts...); v != "old" || err != nil {
			t.Errorf("who waited for the load got %q, %v", v, err)
		}
	}()
	<-b.started
	write()
	b.result <- "old"
	<-done
}

// The heart of it: what was read before a write is never stored after it.
func TestALoadNeverOverwritesAWriteThatItMayNotHaveSeen(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, s *tiered.Store, c *tiered.Cache[string, string]){
		"delete": func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, string]) {
			must(t, c.Delete(t.Context(), "k"))
		},
		"set": func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, string]) {
			must(t, c.Set(t.Context(), "k", "new"))
		},
		"tag": func(t *testing.T, s *tiered.Store, _ *tiered.Cache[string, string]) {
			must(t, s.InvalidateTags(t.Context(), "tag"))
		},
		"clear": func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, string]) { must(t, c.Clear(t.Context())) },
	} {
		check := func(t *testing.T, c *tiered.Cache[string, string], opts ...tiered.EntryOption) {
			t.Helper()
			if name == "set" {
				want(t, c, "k", "new", opts...)
			} else {
				wantErr(t, c, "k", tiered.ErrMiss, opts...)
			}
		}
		t.Run(name+"/here", func(t *testing.T) {
			both(t, func(t *testing.T, s *tiered.Store) {
				c := cache[string](t, s, "n")
				during(t, c, "k", func() { write(t, s, c) }, tiered.Tags("tag"))
				check(t, c)
				if s.Health().Redis {
					check(t, c, tiered.SkipL1())
				}
			})
		})
		t.Run(name+"/on another node", func(t *testing.T) {
			a, b := node(t, shared), node(t, shared)
			ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
			during(t, ca, "k", func() { write(t, b, cb) }, tiered.Tags("tag"))
			check(t, cb)
			check(t, cb, tiered.SkipL1())
			// It learns of tags and of a cleared namespace by a message.
			for _, opts := range [][]tiered.EntryOption{{tiered.SkipL1()}, nil} {
				eventually(t, "the loading node agrees", func() bool {
					v, err := ca.Get(t.Context(), "k", opts...)
					return name == "set" && v == "new" || name != "set" && errors.Is(err, tiered.ErrMiss)
				})
			}
			check(t, ca, tiered.SkipL1())
		})
		// Nobody tells the loading node: the fencing alone must hold in Redis,
		// and in memory nothing that Redis refused may be kept.
		t.Run(name+"/on another node, unheard", func(t *testing.T) {
			a, b := node(t, shared), node(t, shared)
			ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
			during(t, ca, "k", func() {
				write(t, b, cb)
			}, tiered.Tags("tag"), tiered.SkipL1())
			if name == "tag" || name == "clear" { // what it knows of these comes by messages
				eventually(t, "the loading node agrees", func() bool {
					_, err := ca.Get(t.Context(), "k", tiered.SkipL1())
					return errors.Is(err, tiered.ErrMiss)
				})
			}
			check(t, ca, tiered.SkipL1())
			check(t, cb)
		})
	}
}

func TestWhoComesAfterAWriteStartsANewLoad(t *testing.T) {
	for name, write := range map[string]func(s *tiered.Store, c *tiered.Cache[string, string]) error{
		"delete": func(_ *tiered.Store, c *tiered.Cache[string, string]) error {
			return c.Delete(context.Background(), "k")
		},
		"tag": func(s *tiered.Store, _ *tiered.Cache[string, string]) error {
			return s.InvalidateTags(context.Background(), "tag")
		},
		"set": func(_ *tiered.Store, c *tiered.Cache[string, string]) error {
			return c.Set(context.Background(), "k", "new")
		},
	} {
		opts := []tiered.EntryOption{tiered.Tags("tag")}
		if name == "set" {
			opts = append(opts, tiered.SkipL1()) // else memory has it
		}
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, s *tiered.Store) {
				c := cache[string](t, s, "n")
				during(t, c, "k", func() {
					must(t, write(s, c))
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // it must not wait for the first load
					defer cancel()
					v, err := c.GetOrLoad(ctx, "k", value("new"), opts...)
					if v != "new" || err != nil {
						t.Errorf("after the write: %q, %v", v, err)
					}
				}, tiered.Tags("tag"))
				want(t, c, "k", "new")
			})
		})
	}
}

func TestAFailedLoadGivesItsLeaseBack(t *testing.T) {
	a, b := node(t, shared), node(t, shared)
	ca, cb := cache[int](t, a, "n"), cache[int](t, b, "n")
	_, err := ca.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[int]) (int, error) { panic("boom") })
	if !errors.Is(err, tiered.ErrPanic) {
		t.Fatal(err)
	}
	key := prefix(t) + ":l:{n:k}"
	eventually(t, "the lease is gone", func() bool { return shared.Client(t).Exists(t.Context(), key).Val() == 0 })
	_, err = cb.GetOrLoad(t.Context(), "k", value(1))
	must(t, err)
	want(t, ca, "k", 1)
}

func TestCloseAwaitsLoads(t *testing.T) {
	s := open(t)
	c := cache[string](t, s, "n")
	during(t, c, "k", func() {
		expired, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Close(expired); !errors.Is(err, context.Canceled) {
			t.Errorf("close while a load runs: %v", err)
		}
	})
}
