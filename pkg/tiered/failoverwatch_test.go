package tiered_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// What was acknowledged is remembered for half a minute, in order, also when
// the ring has to grow in the middle of it.
func TestWhatWasAcknowledgedIsRememberedForTheWindow(t *testing.T) {
	clock := tieredtest.NewClock(time.Time{})
	s := node(t, shared, tiered.WithClock(clock))
	last := 0
	acknowledge := func(n int) {
		for range n {
			last++
			s.Acknowledge("n", strconv.Itoa(last), uint64(last))
		}
	}
	remembered := func(want int) {
		t.Helper()
		eventually(t, strconv.Itoa(want)+" are remembered", func() bool { n, _ := s.Acknowledged(); return n == want })
	}
	acknowledge(32)
	clock.Advance(20 * time.Second)
	acknowledge(32)
	remembered(64)
	clock.Advance(11 * time.Second)
	remembered(32)
	acknowledge(64)
	clock.Advance(20 * time.Second)
	remembered(64)
	clock.Advance(11 * time.Second)
	remembered(0)
}

// lostDelete deletes "k" and returns what brings the deleted value back, as a
// master would that has not heard of it.
func lostDelete(t *testing.T, c *tiered.Cache[string, string], admin *redis.Client) (undo func()) {
	t.Helper()
	key := prefix(t) + ":{n:k}"
	must(t, c.Set(t.Context(), "k", "old"))
	raw, err := admin.Get(t.Context(), key).Bytes()
	must(t, err)
	must(t, c.Delete(t.Context(), "k"))
	return func() { must(t, admin.Set(t.Context(), key, raw, time.Hour).Err()) }
}

// An old master acknowledges for some seconds more what will be lost: all is
// said again after them.
func TestAllIsSaidOnceMoreWhenAFailoverHasSettled(t *testing.T) {
	r := tieredtest.StartRedis(t, tieredtest.WithPersistence())
	admin := r.Client(t)
	clock := tieredtest.NewClock(time.Time{})
	s := node(t, r, quick(), tiered.WithClock(clock))
	other := cache[string](t, node(t, r, quick()), "n", tiered.WithDefaults(tiered.SkipL1()))
	undo := lostDelete(t, cache[string](t, s, "n"), admin)
	eventually(t, "it knows the server", s.Watched)
	r.Restart(t)
	eventually(t, "another is noticed", func() bool { return s.Health().Failovers == 1 })
	healthy(t, s)
	undo()
	want(t, other, "k", "old")
	clock.Advance(15 * time.Second)
	gone(t, "it is said once more", other, "k")
	if n := s.Health().Failovers; n != 1 {
		t.Errorf("%d failovers", n)
	}
}

// untold is a node whose delete of "k" Redis has lost, and is about to be told of
// again: once replay is released.
func untold(t *testing.T) (node *tieredtest.Node, c *tiered.Cache[string, string], replay *tieredtest.Hold) {
	t.Helper()
	r := tieredtest.StartRedis(t)
	nodes := tieredtest.Nodes(t, 1, r, tieredtest.WithStore(tiered.WithPrefix(prefix(t)), tiered.WithL2Timeout(time.Minute)))
	node, c = nodes[0], tieredtest.Caches[string, string](t, nodes, "n")[0]
	healthy(t, node.Store)
	undo := lostDelete(t, c, r.Client(t))
	replay = node.Net.HoldCommand(scriptOn("k"))
	node.Repeat()
	replay.Await(t)
	undo()
	return node, c, replay
}

// Between a failover's being noticed and the new master's having been told, it
// is not believed.
func TestTheNewMasterIsNotBelievedBeforeItHasBeenTold(t *testing.T) {
	node, c, replay := untold(t)
	wantErr(t, c, "k", tiered.ErrMiss)
	many, err := c.GetMany(t.Context(), []string{"k"})
	if len(many) > 0 || err != nil {
		t.Errorf("get many: %v, %v", many, err)
	}
	replay.Release()
	healthy(t, node.Store)
	wantErr(t, c, "k", tiered.ErrMiss)
}

// Nor is what it said before it was told, to who hears it only afterwards.
func TestAnAnswerFromBeforeARepetitionIsNotBelievedAfterIt(t *testing.T) {
	reads := map[string]func(c *tiered.Cache[string, string]) (string, error){
		"get": func(c *tiered.Cache[string, string]) (string, error) { return c.Get(t.Context(), "k") },
		"mget": func(c *tiered.Cache[string, string]) (string, error) {
			many, err := c.GetMany(t.Context(), []string{"k", "other"})
			if _, ok := many["k"]; !ok && err == nil {
				err = tiered.ErrMiss
			}
			return many["k"], err
		},
	}
	for command, read := range reads {
		t.Run(command, func(t *testing.T) {
			node, c, replay := untold(t)
			answer, done := node.Net.HoldReply(tieredtest.Command(command)), make(chan struct{})
			go func() {
				defer close(done)
				if v, err := read(c); !errors.Is(err, tiered.ErrMiss) {
					t.Errorf("got %q, %v of what was deleted before", v, err)
				}
			}()
			answer.Await(t)
			replay.Release()
			healthy(t, node.Store)
			answer.Release()
			<-done
		})
	}
}

// otherMaster is a server that says at some time that it is another process,
// and breaks no connection meanwhile.
type otherMaster struct {
	*tieredtest.Redis
	is *atomic.Bool
}

func (o otherMaster) Connect(t testing.TB, dial tieredtest.DialFunc) redis.UniversalClient {
	c := o.Redis.Connect(t, dial)
	c.AddHook(o)
	return c
}

func (otherMaster) DialHook(next redis.DialHook) redis.DialHook { return next }

func (otherMaster) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (o otherMaster) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if info, ok := cmd.(*redis.StringCmd); ok && cmd.Name() == "info" && o.is.Load() {
			info.SetVal(strings.Replace(info.Val(), "run_id:", "run_id:another", 1))
		}
		return err
	}
}

// The subscription to the new master may be up before the failover is noticed:
// then memory has taken what it read there for current.
func TestWhatMemoryTookFromTheNewMasterIsAskedAbout(t *testing.T) {
	r := otherMaster{tieredtest.StartRedis(t), new(atomic.Bool)}
	nodes := tieredtest.Nodes(t, 1, r, tieredtest.WithStore(tiered.WithPrefix(prefix(t)), tiered.WithL2Timeout(time.Minute)))
	s := nodes[0]
	c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))[0]
	healthy(t, s.Store)
	eventually(t, "it knows the server", s.Watched)
	undo := lostDelete(t, c, r.Client(t))
	undo()
	want(t, c, "k", "old")
	replay := s.Net.HoldCommand(scriptOn("k"))
	r.is.Store(true)
	replay.Await(t)
	wantErr(t, c, "k", tiered.ErrMiss)
	replay.Release()
	healthy(t, s.Store)
	wantErr(t, c, "k", tiered.ErrMiss)
	if st := s.Stats(); st.Failovers != 1 || st.Gaps != 0 {
		t.Errorf("%d failovers, %d gaps", st.Failovers, st.Gaps)
	}
}

// One master of a Cluster is silent for a while, and nobody takes over. The
// others are watched as ever, what it acknowledged is remembered however long
// that takes, and when it is back it is no other.
func TestAClusterWithASilentMasterIsNotAway(t *testing.T) {
	cl := tieredtest.StartCluster(t, 3, 0, tieredtest.WithPersistence(), tieredtest.WithArgs("--cluster-node-timeout", "120000"))
	clock := tieredtest.NewClock(time.Time{})
	n := tieredtest.Nodes(t, 1, cl, tieredtest.WithStore(tiered.WithPrefix("tc"), quick(), tiered.WithL2Timeout(500*time.Millisecond), tiered.WithClock(clock)))[0]
	c := cache[string](t, n.Store, "n")
	healthy(t, n.Store)
	eventually(t, "it knows the masters", n.Watched)
	must(t, c.Set(t.Context(), "k", "v"))
	// Not the one that the subscription is on: its silence is a gap, no failover.
	var others []*tieredtest.Redis
	for _, r := range cl.Nodes() {
		if r != cl.Owner(t, cl.Slot(t, "tc:inv")) {
			others = append(others, r)
		}
	}
	// beats waits until the store has asked who the masters are: after the
	// first beat from now on, and before the second.
	beats := func() {
		t.Helper()
		admin := others[1].Client(t)
		sent := func() (n int) {
			_, text, _ := strings.Cut(admin.Info(t.Context(), "commandstats").Val(), "cmdstat_publish:calls=")
			text, _, _ = strings.Cut(text, ",")
			n, _ = strconv.Atoi(text)
			return n
		}
		before := sent()
		eventually(t, "beats are sent", func() bool { return sent() >= before+2 })
	}
	others[0].Stop(t)
	clock.Advance(time.Minute)
	beats()
	if all, _ := n.Acknowledged(); all == 0 || n.Health().Failovers != 0 {
		t.Errorf("while a master is silent %d acknowledgements are remembered; %+v", all, n.Health())
	}
	others[1].Restart(t)
	eventually(t, "another's restart is noticed", func() bool { return n.Health().Failovers == 1 })
	others[0].Cont(t)
	healthy(t, n.Store)
	beats()
	if h := n.Health(); h.Failovers != 1 {
		t.Errorf("the silent master's return is a failover: %+v", h)
	}
}
