package tiered_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func saves(v string) func(ctx) (string, error) {
	return func(ctx) (string, error) { return v, nil }
}

func TestWriteGoesToTheSourceAndThenToTheCache(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		must(t, c.Set(t.Context(), "k", "old"))
		v, err := c.Write(t.Context(), "k", func(ctx) (string, error) {
			want(t, c, "k", "old") // until it is written
			return "new", nil
		})
		if v != "new" || err != nil {
			t.Fatalf("write: %q, %v", v, err)
		}
		want(t, c, "k", "new")
		if _, err := c.Write(t.Context(), "", saves("v")); !errors.Is(err, tiered.ErrKey) {
			t.Errorf("empty key: %v", err)
		}
	})
}

// What the source has after a failure is not known: neither value stays.
func TestAFailedWriteForgets(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		must(t, c.Set(t.Context(), "k", "old"))
		if _, err := c.Write(t.Context(), "k", func(ctx) (string, error) { return "", errSource }); !errors.Is(err, errSource) {
			t.Errorf("write: %v", err)
		}
		wantErr(t, c, "k", tiered.ErrMiss)
		must(t, c.Set(t.Context(), "k", "old"))
		func() {
			defer func() { _ = recover() }()
			_, _ = c.Write(t.Context(), "k", func(ctx) (string, error) { panic("boom") })
		}()
		wantErr(t, c, "k", tiered.ErrMiss)
		must(t, c.Set(t.Context(), "k", "old"))
		caller, leave := context.WithCancel(t.Context())
		_, err := c.Write(caller, "k", func(ctx ctx) (string, error) {
			leave()
			return "", ctx.Err()
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("write: %v", err)
		}
		wantErr(t, c, "k", tiered.ErrMiss)
	})
}

// Two who write at a time may end in either order: the cache keeps neither.
func TestTwoWritersNeverLeaveTheOlderValue(t *testing.T) {
	for _, where := range []string{"memory", "one process", "two processes"} {
		for _, firstEndsFirst := range []bool{true, false} {
			t.Run(where, func(t *testing.T) {
				var c, other *tiered.Cache[string, string]
				switch where {
				case "memory":
					c = cache[string](t, open(t), "n")
					other = c
				case "one process":
					c = cache[string](t, node(t, shared), "n")
					other = c
				default:
					c, other = cache[string](t, node(t, shared), "n"), cache[string](t, node(t, shared), "n")
				}
				began, end := make(chan struct{}), make(chan struct{})
				ended := make(chan error)
				go func() {
					_, err := c.Write(t.Context(), "k", func(ctx) (string, error) {
						close(began)
						<-end
						return "first", nil
					})
					ended <- err
				}()
				<-began
				_, err := other.Write(t.Context(), "k", func(ctx) (string, error) {
					if firstEndsFirst {
						close(end)
						must(t, <-ended)
					}
					return "second", nil
				})
				must(t, err)
				if !firstEndsFirst {
					close(end)
					must(t, <-ended)
				}
				for _, c := range []*tiered.Cache[string, string]{c, other} {
					eventually(t, "neither is cached", func() bool {
						_, err := c.Get(t.Context(), "k")
						return errors.Is(err, tiered.ErrMiss)
					})
				}
				_, err = c.Write(t.Context(), "k", saves("third"))
				must(t, err)
				want(t, c, "k", "third")
			})
		}
	}
}

func TestWhateverIsWrittenDuringAWriteMakesItForget(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		for name, write := range map[string]func() error{
			"set":    func() error { return c.Set(t.Context(), "k", "set") },
			"delete": func() error { return c.Delete(t.Context(), "k") },
		} {
			_, err := c.Write(t.Context(), "k", func(ctx) (string, error) { return "v", write() })
			must(t, err)
			if v, err := c.Get(t.Context(), "k"); !errors.Is(err, tiered.ErrMiss) {
				t.Errorf("%s: %q, %v", name, v, err)
			}
		}
	})
}

func TestALoadDuringAWriteIsNotStored(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		b := block[string]()
		loaded := make(chan error)
		_, err := c.Write(t.Context(), "k", func(ctx) (string, error) {
			go func() {
				_, err := c.GetOrLoad(t.Context(), "k", b.load) // reads the source before it has changed
				loaded <- err
			}()
			<-b.started
			return "new", nil
		})
		must(t, err)
		b.result <- "old"
		must(t, <-loaded)
		want(t, c, "k", "new")
	})
}

// A process that dies while it writes leaves what was cached for the lease at most.
func TestWhatIsCachedEndsWithTheLeaseOfAWriter(t *testing.T) {
	c := cache[string](t, node(t, shared), "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.FailSafe(time.Hour, 0)))
	must(t, c.Set(t.Context(), "k", "old"))
	_, err := c.Write(t.Context(), "k", func(ctx) (string, error) {
		if ttl := shared.Client(t).PTTL(t.Context(), prefix(t)+":{n:k}").Val(); ttl <= 0 || ttl > 30*time.Second {
			t.Errorf("it lives for %v", ttl)
		}
		want(t, c, "k", "old", tiered.SkipL1())
		return "new", nil
	}, tiered.TTL(time.Hour))
	must(t, err)
	if ttl := shared.Client(t).PTTL(t.Context(), prefix(t)+":{n:k}").Val(); ttl < time.Hour {
		t.Errorf("the new one lives for %v", ttl)
	}
}

func TestWriteWhileRedisIsAway(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	s := node(t, r, quick())
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "old"))
	r.Kill()
	if v, err := c.Write(t.Context(), "k", saves("new")); v != "new" || err != nil {
		t.Fatalf("write: %q, %v", v, err)
	}
	wantErr(t, c, "k", tiered.ErrMiss)
	r.Restart(t)
	wantErr(t, c, "k", tiered.ErrMiss)
	healthy(t, s)
	wantErr(t, cache[string](t, node(t, r), "n"), "k", tiered.ErrMiss)
}
