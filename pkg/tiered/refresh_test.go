package tiered_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func refreshes(t *testing.T, c *tiered.Cache[string, string], load tiered.Loader[string, string], want string, opts ...tiered.EntryOption) {
	t.Helper()
	if v, err := c.Refresh(t.Context(), "k", load, opts...); v != want || err != nil {
		t.Fatalf("refresh: %q, %v; want %q", v, err, want)
	}
}

func TestRefreshLoadsWhateverIsCached(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, time.Hour)))
		refreshes(t, c, value("first"), "first")
		refreshes(t, c, func(ctx, string, *tiered.Load[string]) (string, error) {
			loads(t, c, failing, "first", nil) // others are served what is there
			return "second", nil
		}, "second")
		want(t, c, "k", "second")
		if _, err := c.Refresh(t.Context(), "k", failing); !errors.Is(err, errSource) {
			t.Errorf("its error is lost: %v", err)
		}
		want(t, c, "k", "second")
		_, err := c.Refresh(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) { return "", tiered.ErrNotFound })
		if !errors.Is(err, tiered.ErrNotFound) {
			t.Errorf("not found: %v", err)
		}
		wantErr(t, c, "k", tiered.ErrNotFound)
		refreshes(t, c, func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
			l.Set(tiered.TTL(0))
			return "not to be stored", nil
		}, "not to be stored")
		wantErr(t, c, "k", tiered.ErrMiss)
	})
}

func TestOthersHearOfARefresh(t *testing.T) {
	c, other := cache[string](t, node(t, shared), "n"), cache[string](t, node(t, shared), "n")
	must(t, c.Set(t.Context(), "k", "old"))
	want(t, other, "k", "old")
	refreshes(t, c, value("new"), "new")
	eventually(t, "the other has it", func() bool {
		v, err := other.Get(t.Context(), "k")
		return v == "new" && err == nil
	})
}

func TestAWriteDuringARefreshStays(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		refreshes(t, c, func(ctx, string, *tiered.Load[string]) (string, error) {
			return "loaded", c.Set(t.Context(), "k", "set")
		}, "loaded")
		want(t, c, "k", "set")
		refreshes(t, c, func(ctx, string, *tiered.Load[string]) (string, error) {
			return "loaded", c.Delete(t.Context(), "k")
		}, "loaded")
		wantErr(t, c, "k", tiered.ErrMiss)
	})
}

// A load that began before a refresh does not undo it, here or elsewhere.
func TestALoadDuringARefreshDoesNotUndoIt(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		b := block[string]()
		loaded := make(chan error)
		go func() {
			_, err := c.GetOrLoad(t.Context(), "k", b.load)
			loaded <- err
		}()
		<-b.started
		refreshes(t, c, value("new"), "new")
		b.result <- "old"
		must(t, <-loaded)
		want(t, c, "k", "new")
	})
}

// Of many at a time one loads, and who comes while it does shares the next.
func TestRefreshesShareLoadsThatBeginAfterThem(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		b := block[string]()
		first := make(chan string)
		go func() {
			v, err := c.Refresh(t.Context(), "k", b.load)
			if err != nil {
				t.Errorf("refresh: %v", err)
			}
			first <- v
		}()
		<-b.started
		var wg sync.WaitGroup
		var calls atomic.Int64
		for range 20 {
			wg.Go(func() {
				v, err := c.Refresh(t.Context(), "k", func(ctx, string, *tiered.Load[string]) (string, error) {
					calls.Add(1)
					return "second", nil
				})
				if v != "second" || err != nil {
					t.Errorf("got %q, %v", v, err)
				}
			})
		}
		eventually(t, "the others wait", func() bool { return s.Stats().Coalesced == 19 })
		b.result <- "first"
		if v := <-first; v != "first" {
			t.Errorf("the first got %q", v)
		}
		wg.Wait()
		if n := calls.Load(); n != 1 {
			t.Errorf("%d loads for 20", n)
		}
		want(t, c, "k", "second")
	})
}

func TestARefreshThatNobodyWaitsForIsCancelled(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		caller, leave := context.WithCancel(t.Context())
		ended := make(chan struct{})
		_, err := c.Refresh(caller, "k", func(ctx ctx, _ string, _ *tiered.Load[string]) (string, error) {
			leave()
			<-ctx.Done()
			close(ended)
			return "late", nil
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("refresh: %v", err)
		}
		<-ended
		refreshes(t, c, value("new"), "new")
		want(t, c, "k", "new")
	})
}

func TestRefreshWhileRedisIsAway(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	s := node(t, r, quick())
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "old"))
	r.Kill()
	refreshes(t, c, value("new"), "new")
	want(t, c, "k", "new")
	r.Restart(t)
	for range 50 {
		if v, err := c.Get(t.Context(), "k"); err == nil && v != "new" {
			t.Fatalf("it has fallen back to %q", v)
		}
	}
	healthy(t, s)
	wantErr(t, cache[string](t, node(t, r), "n"), "k", tiered.ErrMiss)
}

// site is a source that can be asked conditionally.
type site struct {
	*httptest.Server
	mu              sync.Mutex
	body, etag      string
	full, unchanged int
}

func serve(t *testing.T) *site {
	s := &site{body: "one", etag: `"1"`}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("ETag", s.etag)
		if r.Header.Get("If-None-Match") == s.etag {
			s.unchanged++
			w.WriteHeader(http.StatusNotModified)
			return
		}
		s.full++
		_, _ = w.Write([]byte(s.body))
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *site) publish(body, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.etag = body, etag
}

func (s *site) answers(t *testing.T, full, unchanged int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != full || s.unchanged != unchanged {
		t.Errorf("%d whole answers and %d of not modified, want %d and %d", s.full, s.unchanged, full, unchanged)
	}
}

func (s *site) load(ctx ctx, _ string, l *tiered.Load[string]) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL, nil)
	if err != nil {
		return "", err
	}
	if etag := l.ETag(); etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	res, err := s.Client().Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	if res.StatusCode == http.StatusNotModified {
		return l.NotModified()
	}
	l.SetETag(res.Header.Get("ETag"))
	var b strings.Builder
	_, err = io.Copy(&b, res.Body)
	return b.String(), err
}

func TestAValueThatIsNotModifiedIsKept(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
		web := serve(t)
		expired := func() {
			eventually(t, "the TTL has passed", func() bool {
				_, err := c.Get(t.Context(), "k")
				return errors.Is(err, tiered.ErrMiss)
			})
		}
		loads(t, c, web.load, "one", nil, soon)
		web.answers(t, 1, 0)
		for n := range 2 { // the etag stays with it
			expired()
			loads(t, c, web.load, "one", nil, soon)
			web.answers(t, 1, n+1)
		}
		expired()
		loads(t, c, web.load, "one", nil)
		want(t, c, "k", "one")
		refreshes(t, c, web.load, "one")
		web.answers(t, 1, 4)
		web.publish("two", `"2"`)
		refreshes(t, c, web.load, "two")
		web.answers(t, 2, 4)
		want(t, c, "k", "two")
		must(t, c.Delete(t.Context(), "k"))
		loads(t, c, web.load, "two", nil) // there is nothing to compare with
		web.answers(t, 3, 4)
	})
}

// The etag is in Redis: another process asks with it.
func TestAnotherProcessAsksWithTheETag(t *testing.T) {
	o := tiered.WithDefaults(tiered.FailSafe(time.Hour, 0))
	c, other := cache[string](t, node(t, shared), "n", o), cache[string](t, node(t, shared, tiered.WithL1(0)), "n", o)
	web := serve(t)
	loads(t, c, web.load, "one", nil, soon)
	eventually(t, "the TTL has passed", func() bool {
		_, err := other.Get(t.Context(), "k")
		return errors.Is(err, tiered.ErrMiss)
	})
	loads(t, other, web.load, "one", nil)
	web.answers(t, 1, 1)
	want(t, c, "k", "one")
	if v, err := c.Refresh(t.Context(), "k", web.load); v != "one" || err != nil {
		t.Errorf("refresh: %q, %v", v, err)
	}
	web.answers(t, 1, 2)
}

func TestAnEarlyRefreshAsksWithTheETag(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := open(t, tiered.WithClock(clock))
	c := cache[string](t, s, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.EagerRefresh(0.5, 1)))
	web := serve(t)
	load := func(ctx ctx, k string, l *tiered.Load[string]) (string, error) {
		clock.Advance(10 * time.Second)
		return web.load(ctx, k, l)
	}
	loads(t, c, load, "one", nil)
	clock.Advance(c.RefreshAfter("k"))
	loads(t, c, load, "one", nil)
	eventually(t, "it has been renewed", func() bool { return s.Flights() == 0 && c.RefreshAfter("k") > 0 })
	web.answers(t, 1, 1)
	want(t, c, "k", "one")
}

func TestNotModifiedNeedsAValue(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		loads(t, c, func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
			if v, ok := l.Stale(); ok || v != "" || l.ETag() != "" {
				t.Errorf("stale %q, etag %q", v, l.ETag())
			}
			return l.NotModified()
		}, "", tiered.ErrNoStale)
	})
}

// An etag that is too long is not kept, nor is the value lost for it.
func TestALongETagIsNotStored(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n")
		for _, n := range []int{1024, 1025} {
			refreshes(t, c, func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				l.SetETag(strings.Repeat("e", n))
				return "v", nil
			}, "v")
			refreshes(t, c, func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
				if got := len(l.ETag()); got != n%1025 {
					t.Errorf("of %d bytes %d were kept", n, got)
				}
				return "w", nil
			}, "w")
		}
	})
}

// What is not modified is fenced like anything that is loaded.
func TestAWriteDuringAConditionalLoadStays(t *testing.T) {
	both(t, func(t *testing.T, s *tiered.Store) {
		c := cache[string](t, s, "n", tiered.WithDefaults(tiered.FailSafe(time.Hour, 0)))
		aged(t, c, "k", "old")
		loads(t, c, func(_ ctx, _ string, l *tiered.Load[string]) (string, error) {
			must(t, c.Set(t.Context(), "k", "set"))
			return l.NotModified()
		}, "old", nil)
		want(t, c, "k", "set")
	})
}
