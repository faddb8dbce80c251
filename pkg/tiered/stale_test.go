package tiered_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

var errSource = errors.New("the source is away")

// failing is a loader whose source is away.
func failing(ctx, string, *tiered.Load[string]) (string, error) { return "", errSource }

// soon lets an entry pass its TTL at once, by the system's clock and Redis's.
var soon = tiered.TTL(time.Millisecond)

// aged sets a value and waits until it is past its TTL.
func aged(t *testing.T, c *tiered.Cache[string, string], key, value string, opts ...tiered.EntryOption) {
	t.Helper()
	must(t, c.Set(t.Context(), key, value, append([]tiered.EntryOption{soon}, opts...)...))
	eventually(t, "the TTL has passed", func() bool {
		_, err := c.Get(t.Context(), key)
		return errors.Is(err, tiered.ErrMiss)
	})
}

func loads(t *testing.T, c *tiered.Cache[string, string], load tiered.Loader[string, string], want string, wantErr error, opts ...tiered.EntryOption) {
	t.Helper()
	if v, err := c.GetOrLoad(t.Context(), "k", load, opts...); v != want || !errors.Is(err, wantErr) {
		t.Errorf("load: got %q, %v; want %q, %v", v, err, want, wantErr)
	}
}

func TestAFailedLoadServesWhatWasThereBefore(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
		loads(t, c, failing, "", errSource)
		aged(t, c, "k", "old", tiered.Tags("tag"))
		loads(t, c, failing, "old", nil)
		loads(t, c, func(ctx, string, *tiered.Load[string]) (string, error) { panic("boom") }, "old", nil)
		loads(t, c, failing, "", errSource, tiered.FailSafe(0, 0))
		wantErr(t, c, "k", tiered.ErrMiss) // Get is never stale
		if st := s.Stats(); st.Stale != 2 || st.LoadErrors != 4 {
			t.Errorf("stats %+v", st)
		}
		loads(t, c, value("new"), "new", nil, tiered.TTL(time.Hour))
		want(t, c, "k", "new")
	})
}

func TestAnotherProcessAlsoServesWhatWasThereBefore(t *testing.T) {
	o := tiered.WithDefaults(tiered.FailSafe(time.Hour, 0))
	aged(t, cache[string](t, node(t, shared), "n", o), "k", "old")
	loads(t, cache[string](t, node(t, shared), "n", o), failing, "old", nil)
	loads(t, cache[string](t, node(t, shared, tiered.WithL1(0)), "n", o), failing, "old", nil)
	if ttl := shared.Client(t).PTTL(t.Context(), prefix(t)+":{n:k}").Val(); ttl > time.Hour+time.Millisecond || ttl < 50*time.Minute {
		t.Errorf("redis keeps it for %v, want an hour", ttl)
	}
}

func TestFailSafeHasABound(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	c := cache[string](t, open(t, tiered.WithClock(clock)), "n",
		tiered.WithDefaults(tiered.TTL(time.Minute), tiered.FailSafe(time.Hour, 0)))
	must(t, c.Set(t.Context(), "k", "old"))
	clock.Advance(time.Minute - 1)
	want(t, c, "k", "old")
	clock.Advance(1)
	loads(t, c, failing, "old", nil)
	loads(t, c, failing, "old", nil, tiered.FailSafe(time.Second, 0))
	clock.Advance(time.Second)
	loads(t, c, failing, "", errSource, tiered.FailSafe(time.Second, 0)) // the call's bound
	clock.Advance(time.Hour - time.Second - 1)
	loads(t, c, failing, "old", nil, tiered.FailSafe(2*time.Hour, 0))
	clock.Advance(1)
	loads(t, c, failing, "", errSource, tiered.FailSafe(2*time.Hour, 0)) // the entry's bound
}

func TestAFailedLoadIsNotTriedAgainAtOnce(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Minute), tiered.FailSafe(time.Hour, time.Second)))
	must(t, c.Set(t.Context(), "k", "old"))
	clock.Advance(time.Minute)
	for range 10 {
		loads(t, c, failing, "old", nil)
		wantErr(t, c, "k", tiered.ErrMiss)
	}
	if n := s.Stats().Loads; n != 1 {
		t.Errorf("%d loads within the throttle, want 1", n)
	}
	clock.Advance(time.Second)
	loads(t, c, value("new"), "new", nil)
	want(t, c, "k", "new")

	// What is written meanwhile ends it.
	clock.Advance(time.Minute)
	loads(t, c, failing, "new", nil)
	must(t, c.Delete(t.Context(), "k"))
	loads(t, c, failing, "", errSource)
}

func TestWhatWasWrittenOverIsNotServedStale(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, s *tiered.Store, c *tiered.Cache[string, string]) error{
		"delete": func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, string]) error {
			return c.Delete(t.Context(), "k")
		},
		"tag": func(t *testing.T, s *tiered.Store, _ *tiered.Cache[string, string]) error {
			return s.InvalidateTags(t.Context(), "tag")
		},
		"clear": func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, string]) error {
			return c.Clear(t.Context())
		},
	} {
		defaults := tiered.WithDefaults(tiered.FailSafe(time.Hour, time.Hour), tiered.Tags("tag"))
		t.Run(name+"/here", func(t *testing.T) {
			both(t, func(t *testing.T, s *tiered.Store) {
				c := cache[string](t, s, "n", defaults)
				aged(t, c, "k", "old")
				loads(t, c, failing, "old", nil)
				must(t, write(t, s, c))
				loads(t, c, failing, "", errSource)
			})
		})
		t.Run(name+"/here, during the load", func(t *testing.T) {
			both(t, func(t *testing.T, s *tiered.Store) {
				c := cache[string](t, s, "n", defaults)
				aged(t, c, "k", "old")
				loads(t, c, func(ctx, string, *tiered.Load[string]) (string, error) {
					return "", errors.Join(errSource, write(t, s, c))
				}, "", errSource)
				loads(t, c, failing, "", errSource)
			})
		})
		// Nobody tells a store without memory: it asks.
		t.Run(name+"/on another node, during the load", func(t *testing.T) {
			a, b := node(t, shared, tiered.WithL1(0)), node(t, shared)
			ca, cb := cache[string](t, a, "n", defaults), cache[string](t, b, "n", defaults)
			aged(t, ca, "k", "old")
			loads(t, ca, func(ctx, string, *tiered.Load[string]) (string, error) {
				return "", errors.Join(errSource, write(t, b, cb))
			}, "", errSource)
			loads(t, cb, failing, "", errSource)
		})
	}
}

func TestWhatTheSourceSaysIsNoMoreIsNotServedStale(t *testing.T) {
	for name, gone := range map[string]tiered.Loader[string, string]{
		"not found, not cached": func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
			l.Set(tiered.NegativeTTL(0))
			return "", tiered.ErrNotFound
		},
		"not to be stored": func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
			l.Set(tiered.TTL(0))
			return "", nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, func(t *testing.T, s *tiered.Store) {
				c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
				aged(t, c, "k", "old")
				_, err := c.GetOrLoad(t.Context(), "k", gone)
				if err != nil && !errors.Is(err, tiered.ErrNotFound) {
					t.Fatal(err)
				}
				loads(t, c, failing, "", errSource)
				loads(t, c, failing, "", errSource, tiered.SkipL1())
			})
		})
	}
}

func TestALateLoadServesWhatWasThereBeforeAndIsStored(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0), tiered.Timeouts(time.Millisecond, time.Minute)))
		aged(t, c, "k", "old")
		b := block[string]()
		for reached := false; !reached; { // the first tries may time out before the loader is reached
			loads(t, c, b.load, "old", nil, tiered.TTL(time.Hour))
			select {
			case <-b.started:
				reached = true
			default:
			}
		}
		loads(t, c, b.load, "old", nil) // waits for the same load
		b.result <- "new"
		eventually(t, "the load is stored", func() bool {
			v, err := c.Get(t.Context(), "k")
			return v == "new" && err == nil
		})
		if s.Health().Redis {
			want(t, c, "k", "new", tiered.SkipL1())
		}
	})
}

// The version of a load is of its start, however long ago its callers left.
func TestALoadInTheBackgroundNeverOverwritesAWrite(t *testing.T) {
	for name, l1 := range map[string]int64{"memory on": 1 << 20, "memory off": 0} {
		t.Run(name, func(t *testing.T) {
			opts := tiered.WithDefaults(tiered.FailSafe(time.Hour, 0), tiered.Timeouts(time.Millisecond, time.Millisecond))
			a, b := node(t, shared, tiered.WithL1(l1)), node(t, shared)
			ca, cb := cache[string](t, a, "n", opts), cache[string](t, b, "n", opts)
			aged(t, ca, "k", "old")
			for _, here := range []bool{true, false} {
				fenced := a.Stats().Fenced
				bl := block[string]()
				started := make(chan struct{})
				go func() {
					defer close(started)
					for { // the first tries may time out before the loader is reached
						_, err := ca.GetOrLoad(t.Context(), "k", bl.load)
						if err != nil && !errors.Is(err, tiered.ErrTimeout) {
							t.Errorf("load: %v", err)
						}
						select {
						case <-bl.started:
							return
						default:
						}
					}
				}()
				<-started
				if here {
					must(t, ca.Delete(t.Context(), "k"))
				} else {
					must(t, cb.Delete(t.Context(), "k"))
				}
				bl.result <- "too late"
				eventually(t, "the load is fenced", func() bool { return a.Stats().Fenced > fenced })
				wantErr(t, ca, "k", tiered.ErrMiss)
				wantErr(t, ca, "k", tiered.ErrMiss, tiered.SkipL1())
				wantErr(t, cb, "k", tiered.ErrMiss)
			}
		})
	}
}

func TestAHardTimeoutIsAnErrorWhenThereIsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.Timeouts(time.Second, 10*time.Second)))
		b := block[string]()
		began := time.Now()
		loads(t, c, b.load, "", tiered.ErrTimeout)
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %v", took)
		}
		b.result <- "new"
		synctest.Wait()
		want(t, c, "k", "new")
		if n := s.Stats().Timeouts; n != 1 {
			t.Errorf("%d timeouts", n)
		}
		closes(t, s)
	})
}

func TestTimeoutsAreEachCallersOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
		must(t, c.Set(t.Context(), "k", "old", soon))
		<-time.After(time.Millisecond)
		b := block[string]()
		began := time.Now()
		var wg sync.WaitGroup
		for opts, tt := range map[*tiered.EntryOption]struct {
			want string
			took time.Duration
		}{
			new(tiered.Timeouts(time.Second, 0)):   {"old", time.Second},
			new(tiered.Timeouts(0, 3*time.Second)): {"old", 3 * time.Second},
			new(tiered.Timeouts(0, 0)):             {"new", 20 * time.Second},
		} {
			wg.Go(func() {
				loads(t, c, b.load, tt.want, nil, *opts, tiered.TTL(time.Hour))
				if took := time.Since(began); took != tt.took {
					t.Errorf("%s after %v, want %v", tt.want, took, tt.took)
				}
			})
		}
		<-time.After(20 * time.Second)
		b.result <- "new"
		wg.Wait()
		want(t, c, "k", "new")
		closes(t, s)
	})
}

func TestALoadInTheBackgroundEndsWithItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.Timeouts(0, time.Second)))
		began := time.Now()
		ended := make(chan time.Duration, 1)
		loads(t, c, func(ctx context.Context, _ string, _ *tiered.Load[string]) (string, error) {
			<-ctx.Done()
			ended <- time.Since(began)
			return "too late", nil
		}, "", tiered.ErrTimeout)
		if took := <-ended; took != tiered.DefaultLease {
			t.Errorf("it was cancelled after %v, want %v", took, tiered.DefaultLease)
		}
		synctest.Wait()
		wantErr(t, c, "k", tiered.ErrMiss)
		closes(t, s)
	})
}

// closes ends a store inside its bubble.
func closes(t *testing.T, s *tiered.Store) {
	t.Helper()
	must(t, s.Close(t.Context()))
}

func TestMemoryServesStaleWhenRedisIsAwayToo(t *testing.T) {
	r := tieredtest.StartRedis(t)
	s := node(t, r, quick(), tiered.WithL2Timeout(100*time.Millisecond))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
	aged(t, c, "k", "old")
	aged(t, c, "deleted", "old")
	r.Kill()
	must(t, c.Delete(t.Context(), "deleted"))
	loads(t, c, failing, "old", nil)
	if _, err := c.GetOrLoad(t.Context(), "deleted", failing); !errors.Is(err, errSource) {
		t.Errorf("deleted: %v", err)
	}
}

// Who does not get the lease need not wait while there is something to serve.
func TestALeaseHeldByAnotherServesStale(t *testing.T) {
	o := tiered.WithDefaults(tiered.FailSafe(time.Hour, 0), tiered.DistributedLease(time.Minute))
	a, b := node(t, shared), node(t, shared)
	ca, cb := cache[string](t, a, "n", o), cache[string](t, b, "n", o)
	aged(t, ca, "k", "old")
	bl := block[string]()
	var wg sync.WaitGroup
	wg.Go(func() { loads(t, ca, bl.load, "new", nil, tiered.TTL(time.Hour)) })
	<-bl.started
	loads(t, cb, failing, "old", nil)
	bl.result <- "new"
	wg.Wait()
	loads(t, cb, failing, "new", nil)
	if n := b.Stats().Loads; n != 0 {
		t.Errorf("%d loads by the one without the lease", n)
	}
}

// Who cancels his call wants nothing stored; who was late for it does.
func TestALoadInTheBackgroundOutlivesACancelledCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := open(t)
		c := cache[string](t, s, "n")
		b := block[string]()
		loads(t, c, b.load, "", tiered.ErrTimeout, tiered.Timeouts(0, time.Second))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.GetOrLoad(ctx, "k", b.load); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		b.result <- "new"
		synctest.Wait()
		want(t, c, "k", "new")
		closes(t, s)
	})
}
