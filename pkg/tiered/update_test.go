package tiered_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

func plusOne(_ ctx, n int, _ bool) (int, error) { return n + 1, nil }

// counted updates a key to what is there plus one.
func counted(t *testing.T, c *tiered.Cache[string, int], key string, want int, opts ...tiered.EntryOption) {
	t.Helper()
	if n, err := c.Update(t.Context(), key, plusOne, opts...); n != want || err != nil {
		t.Fatalf("update: %d, %v; want %d", n, err, want)
	}
}

func TestUpdateChangesWhatIsThere(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		existed := func(want bool) func(ctx, int, bool) (int, error) {
			return func(_ ctx, n int, exists bool) (int, error) {
				if exists != want || !exists && n != 0 {
					t.Errorf("exists %v with %d, want %v", exists, n, want)
				}
				return n + 1, nil
			}
		}
		for i, want := range []bool{false, true} {
			if n, err := c.Update(t.Context(), "k", existed(want)); n != i+1 || err != nil {
				t.Fatalf("update: %d, %v", n, err)
			}
		}
		want(t, c, "k", 2)
		must(t, c.Set(t.Context(), "k", 10))
		counted(t, c, "k", 11)
		for name, end := range map[string]func() error{
			"deleted":     func() error { return c.Delete(t.Context(), "k") },
			"cleared":     func() error { return c.Clear(t.Context()) },
			"invalidated": func() error { return s.InvalidateTags(t.Context(), "tag") },
			"not found": func() error {
				must(t, c.Delete(t.Context(), "k"))
				_, err := c.GetOrLoad(t.Context(), "k", func(ctx, string, *tiered.Load[int]) (int, error) { return 0, tiered.ErrNotFound })
				if errors.Is(err, tiered.ErrNotFound) {
					return nil
				}
				return err
			},
		} {
			must(t, c.Set(t.Context(), "k", 10, tiered.Tags("tag")))
			must(t, end())
			if n, err := c.Update(t.Context(), "k", existed(false)); n != 1 || err != nil {
				t.Fatalf("%s: %d, %v", name, n, err)
			}
			want(t, c, "k", 1)
		}
		boom := errors.New("boom")
		if _, err := c.Update(t.Context(), "k", func(ctx, int, bool) (int, error) { return 5, boom }); !errors.Is(err, boom) {
			t.Errorf("its error is lost: %v", err)
		}
		want(t, c, "k", 1)
	})
}

// Tags that the old entry had stay: what is made of a value is no more valid
// than the value.
func TestAnUpdatedEntryKeepsItsTags(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		for _, tag := range []string{"old", "new"} {
			must(t, c.Set(t.Context(), "k", 1, tiered.Tags("old")))
			counted(t, c, "k", 2, tiered.Tags("new"))
			want(t, c, "k", 2)
			must(t, s.InvalidateTags(t.Context(), tag))
			wantErr(t, c, "k", tiered.ErrMiss)
			wantErr(t, c, "k", tiered.ErrMiss, tiered.SkipL1())
		}
	})
}

// Whatever is written between Update's read and its write makes it begin again.
func TestUpdateNeverOverwritesWhatItHasNotSeen(t *testing.T) {
	for name, write := range map[string]struct {
		do   func(t *testing.T, s *tiered.Store, c *tiered.Cache[string, int]) error
		want int
	}{
		"set": {func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, int]) error {
			return c.Set(t.Context(), "k", 20)
		}, 21},
		"delete": {func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, int]) error {
			return c.Delete(t.Context(), "k")
		}, 1},
		"update": {func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, int]) error {
			_, err := c.Update(t.Context(), "k", plusOne)
			return err
		}, 12},
		"expire": {func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, int]) error {
			_, err := c.Expire(t.Context(), "k", time.Hour)
			return err
		}, 11},
		"tag": {func(t *testing.T, s *tiered.Store, _ *tiered.Cache[string, int]) error {
			return s.InvalidateTags(t.Context(), "tag")
		}, 1},
		"clear": {func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, int]) error { return c.Clear(t.Context()) }, 1},
		"load": {func(t *testing.T, _ *tiered.Store, c *tiered.Cache[string, int]) error {
			must(t, c.Delete(t.Context(), "k"))
			_, err := c.GetOrLoad(t.Context(), "k", value(30))
			return err
		}, 31},
	} {
		check := func(t *testing.T, s *tiered.Store, c *tiered.Cache[string, int], ws *tiered.Store, wc *tiered.Cache[string, int]) {
			must(t, c.Set(t.Context(), "k", 10, tiered.Tags("tag")))
			calls := 0
			n, err := c.Update(t.Context(), "k", func(_ ctx, n int, _ bool) (int, error) {
				if calls++; calls == 1 {
					must(t, write.do(t, ws, wc))
					if name == "tag" || name == "clear" {
						eventually(t, "the message arrives", func() bool {
							_, err := c.Get(t.Context(), "k")
							return errors.Is(err, tiered.ErrMiss)
						})
					}
				}
				return n + 1, nil
			})
			if n != write.want || err != nil || calls != 2 {
				t.Errorf("got %d, %v after %d calls; want %d after 2", n, err, calls, write.want)
			}
			want(t, c, "k", write.want)
			want(t, wc, "k", write.want, tiered.SkipL1())
		}
		t.Run(name, func(t *testing.T) {
			t.Run("here", func(t *testing.T) {
				s := node(t, shared)
				c := cache[int](t, s, "n")
				check(t, s, c, s, c)
			})
			t.Run("elsewhere", func(t *testing.T) {
				s, other := node(t, shared), node(t, shared)
				check(t, s, cache[int](t, s, "n"), other, cache[int](t, other, "n"))
			})
		})
		if name == "expire" {
			continue // in memory it is
		}
		t.Run(name+"/memory only", func(t *testing.T) {
			s := open(t)
			c := cache[int](t, s, "n")
			must(t, c.Set(t.Context(), "k", 10, tiered.Tags("tag")))
			calls := 0
			n, err := c.Update(t.Context(), "k", func(_ ctx, n int, _ bool) (int, error) {
				if calls++; calls == 1 {
					must(t, write.do(t, s, c))
				}
				return n + 1, nil
			})
			if n != write.want || err != nil || calls != 2 {
				t.Errorf("got %d, %v after %d calls; want %d after 2", n, err, calls, write.want)
			}
			want(t, c, "k", write.want)
		})
	}
}

// An invalidation elsewhere of which no message has come is seen by asking.
func TestUpdateAsksRedisForTags(t *testing.T) {
	s := node(t, shared)
	c := cache[int](t, s, "n")
	must(t, c.Set(t.Context(), "k", 10, tiered.Tags("tag")))
	// As if another process had done it and its message were on the way.
	must(t, shared.Client(t).Set(t.Context(), prefix(t)+":t:tag", time.Now().UnixMicro()+1e6, 0).Err())
	counted(t, c, "k", 1)
	want(t, c, "k", 1)
}

func TestAfterTooManyConflictsUpdateSaysSo(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		must(t, c.Set(t.Context(), "k", 0))
		calls := 0
		_, err := c.Update(t.Context(), "k", func(_ ctx, n int, _ bool) (int, error) {
			calls++
			return -1, c.Set(t.Context(), "k", calls)
		})
		if !errors.Is(err, tiered.ErrConflict) || calls != 32 {
			t.Errorf("%v after %d calls", err, calls)
		}
		want(t, c, "k", calls)
	})
}

func TestALoadDuringAnUpdateDoesNotUndoIt(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[int](t, s, "n")
		b := block[int]()
		loaded := make(chan int)
		go func() {
			v, err := c.GetOrLoad(t.Context(), "k", b.load)
			if err != nil {
				t.Errorf("load: %v", err)
			}
			loaded <- v
		}()
		<-b.started
		counted(t, c, "k", 1)
		b.result <- 7
		if v := <-loaded; v != 7 {
			t.Errorf("who asked before got %d", v)
		}
		want(t, c, "k", 1)
	})
}

// No update is lost, whichever process makes it and whatever happens to
// connections: also not doubled when only the answer to one is lost.
func TestNoUpdateIsLost(t *testing.T) {
	for _, tt := range []struct {
		name string
		l1   int64
		cut  bool
	}{{name: "memory off"}, {name: "memory on", l1: 1 << 20}, {name: "answers lost", l1: 1 << 20, cut: true}} {
		t.Run(tt.name, func(t *testing.T) {
			const nodes, callers, times = 3, 3, 40
			r := tieredtest.StartRedis(t)
			var lost atomic.Int64
			var wg sync.WaitGroup
			for range nodes {
				o := r.Options()
				o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 5*time.Second, 5*time.Second, 5*time.Second
				o.MaxRetries = 1 // the client's own repetition must do no harm either
				if tt.cut {
					o.Dialer = deaf(&lost)
				}
				client := redis.NewClient(o)
				t.Cleanup(func() { _ = client.Close() })
				c := cache[int](t, open(t, tiered.WithRedis(client), tiered.WithPrefix(prefix(t)), tiered.WithL1(tt.l1),
					tiered.WithL2Timeout(3*time.Second), steady()), "n")
				for range callers {
					wg.Go(func() {
						for n := 0; n < times; {
							switch _, err := c.Update(t.Context(), "k", plusOne); {
							case err == nil:
								n++
							case errors.Is(err, tiered.ErrUncertain), !errors.Is(err, tiered.ErrConflict) && !errors.Is(err, tiered.ErrUnavailable):
								t.Errorf("update: %v", err)
								return
							}
						}
					})
				}
			}
			wg.Wait()
			c := cache[int](t, node(t, r, tiered.WithPrefix(prefix(t))), "n")
			want(t, c, "k", nodes*callers*times)
			if tt.cut && lost.Load() == 0 {
				t.Error("no answer was lost: the test has lost its ground")
			}
			t.Logf("%d answers were lost", lost.Load())
			n, err := r.Client(t).HLen(t.Context(), prefix(t)+":u:{n:k}").Result()
			if err != nil || n > nodes*callers {
				t.Errorf("redis remembers %d operations, %v", n, err)
			}
		})
	}
}

// deaf makes connections that break when about every thirtieth answer of a
// script comes: the server has done what it was asked to.
func deaf(lost *atomic.Int64) func(context.Context, string, string) (net.Conn, error) {
	var answers atomic.Int64
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &deafConn{Conn: conn, answers: &answers, lost: lost}, nil
	}
}

type deafConn struct {
	net.Conn
	answers, lost *atomic.Int64
	scripts       int // sent; one goroutine at a time has the connection
}

func (c *deafConn) Write(b []byte) (int, error) {
	c.scripts++
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 && b[0] == ':' && c.scripts > 3 && c.answers.Add(1)%30 == 0 {
		c.lost.Add(1)
		_ = c.Conn.Close()
		return 0, net.ErrClosed
	}
	return n, err
}

func TestUpdateNeedsRedisWhereThereIsOne(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	s := node(t, r, quick())
	c := cache[int](t, s, "n")
	counted(t, c, "k", 1)
	r.Kill()
	if _, err := c.Update(t.Context(), "k", plusOne); !errors.Is(err, tiered.ErrUnavailable) || errors.Is(err, tiered.ErrUncertain) {
		t.Fatalf("update: %v", err)
	}
	want(t, c, "k", 1)
	counted(t, c, "k", 2, tiered.SkipL2())
	if n := s.Health().Recovery; n != 0 {
		t.Errorf("%d writes to be replayed, which would undo others'", n)
	}
	r.Restart(t)
	healthy(t, s)
	eventually(t, "it works again", func() bool {
		n, err := c.Update(t.Context(), "k", plusOne)
		return err == nil && n == 2
	})
}

// A delete that Redis was not told of is replayed as one of what was there
// then, not of what was made since.
func TestTheReplayOfALostWriteSparesALaterUpdate(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	s := node(t, r, tiered.WithL2Timeout(200*time.Millisecond), steady())
	c := cache[int](t, s, "n")
	must(t, c.Set(t.Context(), "k", 10))
	must(t, admin.Do(t.Context(), "CLIENT", "PAUSE", "600000", "WRITE").Err())
	must(t, c.Delete(t.Context(), "k"))
	floor := s.Lost("n", "k")
	must(t, admin.Do(t.Context(), "CLIENT", "UNPAUSE").Err())
	eventually(t, "an update is made", func() bool {
		_, err := c.Update(t.Context(), "k", plusOne)
		return err == nil
	})
	want(t, c, "k", 1)
	if floor != 0 { // else the replay was faster
		s.ReplayLate("n", "k", floor)
	}
	want(t, cache[int](t, node(t, r), "n"), "k", 1)
}

func TestAnUpdateWhoseOutcomeIsUnknownSaysSo(t *testing.T) {
	r := tieredtest.StartRedis(t)
	nodes := tieredtest.Nodes(t, 1, r, tieredtest.WithStore(tiered.WithPrefix(prefix(t)), tiered.WithL2Timeout(10*time.Second)))
	c := tieredtest.Caches[string, int](t, nodes, "n")[0]
	counted(t, c, "k", 1)
	caller, cancel := context.WithCancel(t.Context())
	defer cancel()
	read, write, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		_, err := c.Update(caller, "k", func(_ ctx, n int, _ bool) (int, error) {
			close(read)
			<-write
			return n + 1, nil
		})
		ended <- err
	}()
	<-read
	r.Stop(t) // what is sent now is executed later
	sent := nodes[0].Net.HoldReply(scriptOn("k"))
	close(write)
	sent.Await(t)
	cancel()
	err := <-ended
	if !errors.Is(err, tiered.ErrUncertain) || !errors.Is(err, context.Canceled) {
		t.Fatalf("update: %v", err)
	}
	r.Cont(t)
	sent.Release()
	eventually(t, "it was made, and seen here", func() bool {
		n, err := c.Get(t.Context(), "k")
		return n == 2 && err == nil
	})
	counted(t, c, "k", 3)
}

func TestUpdateHandsOutCopiesWithCloner(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[[]int](t, s, "n", tiered.WithCloner(func(v []int) []int { return append([]int(nil), v...) }))
		must(t, c.Set(t.Context(), "k", []int{1}))
		var kept []int
		got, err := c.Update(t.Context(), "k", func(_ ctx, old []int, _ bool) ([]int, error) {
			old[0] = 2
			kept = old
			return old, nil
		})
		must(t, err)
		got[0], kept[0] = 3, 4
		v, err := c.Get(t.Context(), "k")
		if err != nil || v[0] != 2 {
			t.Errorf("got %v, %v", v, err)
		}
	})
}

func TestUpdateNamesMistakes(t *testing.T) {
	c := cache[any](t, node(t, shared), "n")
	change := func(v any) func(ctx, any, bool) (any, error) {
		return func(ctx, any, bool) (any, error) { return v, nil }
	}
	if _, err := c.Update(t.Context(), "", change(1)); !errors.Is(err, tiered.ErrKey) {
		t.Errorf("empty key: %v", err)
	}
	if _, err := c.Update(t.Context(), "k", change(make(chan int))); !errors.Is(err, tiered.ErrEncode) {
		t.Errorf("channel: %v", err)
	}
	tags := make([]string, 64)
	for i := range tags {
		tags[i] = strconv.Itoa(i)
	}
	must(t, c.Set(t.Context(), "k", 1, tiered.Tags(tags...)))
	if _, err := c.Update(t.Context(), "k", change(1), tiered.Tags("one more")); err == nil {
		t.Error("65 tags are taken")
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Update(canceled, "k", change(1)); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

// Whatever is in Redis under the key, Update replaces it.
func TestUpdateReplacesForeignData(t *testing.T) {
	admin := shared.Client(t)
	c := cache[int](t, node(t, shared), "n")
	for i, put := range []func(key string) error{
		func(k string) error { return admin.Set(t.Context(), k, "x", 0).Err() },
		func(k string) error { return admin.RPush(t.Context(), k, "x").Err() },
		func(k string) error { return admin.Set(t.Context(), k, fmt.Sprintf("TC\x01%061d", 0), 0).Err() },
	} {
		k := strconv.Itoa(i)
		must(t, put(prefix(t)+":{n:"+k+"}"))
		must(t, admin.Set(t.Context(), prefix(t)+":u:{n:"+k+"}", "not a hash", 0).Err())
		counted(t, c, k, 1)
		counted(t, c, k, 2)
		want(t, c, k, 2, tiered.SkipL1())
	}
}
