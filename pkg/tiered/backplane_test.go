package tiered_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
)

func TestOthersForgetWhatIsWritten(t *testing.T) {
	a, b := node(t, shared), node(t, shared)
	ca, cb := cache[string](t, a, "n"), cache[string](t, b, "n")
	type id uint32
	ia, err := tiered.New[id, string](a, "ids")
	must(t, err)
	ib, err := tiered.New[id, string](b, "ids")
	must(t, err)
	healthy(t, a)
	healthy(t, b)
	for i := range 50 {
		v := strconv.Itoa(i)
		must(t, ca.Set(t.Context(), "k", v, tiered.Tags("tag")))
		must(t, ia.Set(t.Context(), 7, v))
		eventually(t, "the other node sees "+v, func() bool {
			got, _ := cb.Get(t.Context(), "k")
			other, _ := ib.Get(t.Context(), 7)
			return got == v && other == v
		})
	}
	must(t, b.InvalidateTags(t.Context(), "tag"))
	eventually(t, "the tag is invalid on the first node", func() bool {
		_, err := ca.Get(t.Context(), "k")
		return errors.Is(err, tiered.ErrMiss)
	})
	if g := b.Stats().Gaps; g != 0 {
		t.Errorf("%d gaps", g)
	}
}

// A message that comes late is older than what is here, and must not drop it.
func TestAReorderedMessageDoesNotDropNewerValues(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n")
	must(t, c.Set(t.Context(), "k", "v"))
	v := c.Version("k")
	if v == 0 {
		t.Fatal("not in memory")
	}
	s.Receive(fmt.Sprintf("1 k other %d n k", v-1))
	if c.Version("k") != v {
		t.Error("an older message dropped the value")
	}
	for _, bad := range []string{"", "1", "2 k other 9 n k", "1 k other x n k", "1 k other 99999999999999999999 n k", "1 k other 9 unknown k", "1 z other 9 n k", "1 k other 9 n"} {
		s.Receive(bad)
	}
	if c.Version("k") != v {
		t.Error("a bad message dropped the value")
	}
	s.Receive(fmt.Sprintf("1 k other %d n k", v+1))
	if c.Version("k") != 0 {
		t.Error("a newer message did not drop the value")
	}
}

// Killing the subscriptions makes messages get lost. Afterwards nobody may
// serve what was overwritten, and what was not must not be loaded again.
func TestLostMessagesAreRepaired(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	a, b := node(t, r), node(t, r)
	opts := tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour))
	ca, cb := cache[int](t, a, "n", opts), cache[int](t, b, "n", opts)
	const keys = 50
	for k := range keys {
		must(t, ca.Set(t.Context(), strconv.Itoa(k), 0))
		must(t, ca.Set(t.Context(), "quiet"+strconv.Itoa(k), 0))
		want(t, cb, strconv.Itoa(k), 0)
		want(t, cb, "quiet"+strconv.Itoa(k), 0)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() { // a reader keeps memory filled all the while
		for {
			select {
			case <-stop:
				return
			default:
				for k := range keys {
					_, _ = cb.Get(t.Context(), strconv.Itoa(k))
				}
			}
		}
	})
	for round := 1; round <= 20; round++ {
		must(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
		for k := range keys {
			must(t, ca.Set(t.Context(), strconv.Itoa(k), round))
		}
	}
	close(stop)
	wg.Wait()
	healthy(t, b)
	for k := range keys {
		want(t, cb, strconv.Itoa(k), 20)
	}
	before := b.Stats()
	for k := range keys {
		want(t, cb, "quiet"+strconv.Itoa(k), 0)
	}
	after := b.Stats()
	if before.Gaps == 0 {
		t.Error("no gap was noticed")
	}
	if n := after.Revalidated - before.Revalidated; n != keys || after.L2Hits != before.L2Hits {
		t.Errorf("%d of %d revalidated, %d read again", n, keys, after.L2Hits-before.L2Hits)
	}
}

// While messages may be missed, each read of memory asks first: stale values
// are served in no window at all as long as Redis answers.
func TestNothingStaleIsServedWhileTheSubscriptionIsDown(t *testing.T) {
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	a, b := node(t, r), node(t, r)
	ca, cb := cache[int](t, a, "n"), cache[int](t, b, "n")
	must(t, ca.Set(t.Context(), "k", 0))
	want(t, cb, "k", 0)
	must(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetchannels").Err())
	must(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
	eventually(t, "the loss is noticed", func() bool { return !b.Health().Coherent })
	for i := range 20 {
		// A write of a node that may publish, by its own connection.
		must(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "allchannels").Err())
		must(t, ca.Set(t.Context(), "k", i))
		must(t, admin.Do(t.Context(), "ACL", "SETUSER", "default", "resetchannels").Err())
		eventually(t, "the write is seen", func() bool {
			v, err := cb.Get(t.Context(), "k")
			return err == nil && v == i
		})
	}
}

// A stalled server neither breaks the connection nor answers: only the canary
// tells.
func TestASilentSubscriptionIsNoticed(t *testing.T) {
	r := tieredtest.StartRedis(t)
	s := node(t, r)
	healthy(t, s)
	r.Stop(t)
	eventually(t, "the silence is noticed", func() bool { return !s.Health().Coherent })
	r.Cont(t)
	healthy(t, s)
}

// The versions of tags may be evicted: then nobody knows whether the entries
// are valid, so they are not.
func TestAnEvictedTagInvalidates(t *testing.T) {
	r := shared.Client(t)
	c := cache[string](t, node(t, shared), "n")
	must(t, c.Set(t.Context(), "k", "v", tiered.Tags("tag")))
	want(t, cache[string](t, node(t, shared), "n"), "k", "v")
	must(t, r.Del(t.Context(), prefix(t)+":t:tag").Err())
	other := cache[string](t, node(t, shared), "n")
	wantErr(t, other, "k", tiered.ErrMiss)
	must(t, r.Del(t.Context(), prefix(t)+":n:n").Err())
	must(t, other.Set(t.Context(), "l", "v"))
	want(t, other, "l", "v")
	wantErr(t, cache[string](t, node(t, shared), "n"), "k", tiered.ErrMiss)
}

// A message that comes while a load is under way concerns it too, also if
// Redis stores what was loaded: it may have done so just before the write.
func TestAMessageDuringALoadKeepsItOutOfMemory(t *testing.T) {
	s := node(t, shared)
	c := cache[string](t, s, "n")
	during(t, c, "k", func() {
		s.Receive(fmt.Sprintf("1 k other %d n k", time.Now().Add(time.Minute).UnixMicro()))
	})
	if c.Version("k") != 0 {
		t.Error("the load is in memory")
	}
}
