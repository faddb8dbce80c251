package tiered_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// patient is a server whose clients wait for a held command for as long as a
// test holds it.
type patient struct{ r *tieredtest.Redis }

func (p patient) Connect(t testing.TB, dial tieredtest.DialFunc) redis.UniversalClient {
	o := p.r.Options()
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Minute, time.Minute, time.Minute
	o.Dialer = dial
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// dataOfK is where a trackingNode's cache has the key "k".
const dataOfK = "tc:{n:k}"

// trackingNode is a node whose memory is believed for an hour, so that only
// reports can end that, and another program.
func trackingNode(t *testing.T) (*tieredtest.Node, *tiered.Cache[string, string], *redis.Client) {
	t.Helper()
	r := tieredtest.StartRedis(t)
	nodes := tieredtest.Nodes(t, 1, patient{r}, tieredtest.WithStore(
		tiered.WithPrefix("tc"), tiered.WithL2Timeout(time.Minute), tiered.WithBackplane(tiered.Tracking)))
	healthy(t, nodes[0].Store)
	c := tieredtest.Caches[string, string](t, nodes, "n", tiered.WithDefaults(tiered.TTL(time.Hour), tiered.L1TTL(time.Hour)))
	return nodes[0], c[0], r.Client(t)
}

// reported does something to Redis and waits until it has been reported.
func reported(t *testing.T, n *tieredtest.Node, do func() error) {
	t.Helper()
	before := n.Stats().Tracked
	must(t, do())
	eventually(t, "it is reported", func() bool { return n.Stats().Tracked > before })
}

// An own write's report was taken for its own, and then the check that was to
// tell did not get through; or the version of a tag could not be read.
func TestTrackingAsksAboutWhatItCouldNotCheck(t *testing.T) {
	n, c, foreign := trackingNode(t)
	t.Run("own writes", func(t *testing.T) {
		check := n.Net.HoldCommand(tieredtest.Command("GETRANGE"))
		must(t, c.Set(t.Context(), "k", "v"))
		must(t, foreign.Del(t.Context(), dataOfK).Err())
		check.Await(t)
		check.Drop()
		gone(t, "Redis is asked", c, "k")
	})
	t.Run("tags", func(t *testing.T) {
		must(t, c.Set(t.Context(), "k", "v", tiered.Tags("tag")))
		tag := "tc:t:tag"
		check := n.Net.HoldCommand(func(command []string) bool {
			return strings.HasPrefix(strings.ToUpper(command[0]), "EVAL") && strings.Contains(strings.Join(command, " "), tag)
		})
		must(t, foreign.Del(t.Context(), tag).Err())
		check.Await(t)
		check.Drop()
		gone(t, "the tag is read again", c, "k")
	})
}

// So many own writes wait to be checked that one more cannot. The report of a
// foreign change was there before memory had what was written.
func TestTrackingAsksAboutMoreOwnWritesThanCanWait(t *testing.T) {
	n, c, foreign := trackingNode(t)
	check := n.Net.HoldCommand(tieredtest.Command("GETRANGE"))
	defer check.Release()
	must(t, c.Set(t.Context(), "first", "v"))
	check.Await(t) // whose answer the others wait for
	many := make(map[string]string, tiered.MaxChecks)
	for i := range tiered.MaxChecks {
		many[strconv.Itoa(i)] = "v"
	}
	must(t, c.SetMany(t.Context(), many))
	reply := n.Net.HoldReply(scriptOn("k"))
	set := make(chan error, 1)
	go func() { set <- c.Set(t.Context(), "k", "v") }()
	reply.Await(t)
	eventually(t, "Redis has it", func() bool { return foreign.Exists(t.Context(), dataOfK).Val() == 1 })
	reported(t, n, func() error { return foreign.Del(t.Context(), dataOfK).Err() })
	reply.Release()
	must(t, <-set)
	check.Release()
	gone(t, "Redis is asked", c, "k")
}

func TestTrackingAReportDuringAReadKeepsItOutOfMemory(t *testing.T) {
	n, c, foreign := trackingNode(t)
	must(t, c.Set(t.Context(), "k", "v", tiered.SkipL1()))
	eventually(t, "its report has come", func() bool { return n.Stats().Tracked > 0 })
	must(t, foreign.ConfigResetStat(t.Context()).Err())
	reply := n.Net.HoldReply(tieredtest.Command("GET", dataOfK))
	got := make(chan string, 1)
	go func() {
		v, _ := c.Get(t.Context(), "k")
		got <- v
	}()
	reply.Await(t)
	eventually(t, "Redis has answered", func() bool {
		return strings.Contains(foreign.Info(t.Context(), "commandstats").Val(), "cmdstat_get:calls=")
	})
	reported(t, n, func() error { return foreign.Del(t.Context(), dataOfK).Err() })
	reply.Release()
	if v := <-got; v != "v" { // it was there when the call began
		t.Errorf("got %q", v)
	}
	wantErr(t, c, "k", tiered.ErrMiss)
}

// A load finds that another process has stored the value meanwhile, and before
// that answer comes the value is gone again: its report is there already.
func TestTrackingAReportBeforeALoadGetsAnothersValueHasItAskedAbout(t *testing.T) {
	n, c, foreign := trackingNode(t)
	load := func(key string) (string, error) { return c.GetOrLoad(t.Context(), key, value("loaded")) }
	_, err := load("warm") // Redis has the script
	must(t, err)
	must(t, c.Set(t.Context(), "k", "another's"))
	raw, err := foreign.Get(t.Context(), dataOfK).Bytes()
	must(t, err)
	must(t, foreign.Del(t.Context(), dataOfK).Err())
	gone(t, "it is not there", c, "k")

	question, answer := n.Net.HoldCommand(scriptOn("k")), n.Net.HoldReply(scriptOn("k"))
	got := make(chan string, 1)
	go func() {
		v, _ := load("k")
		got <- v
	}()
	question.Await(t)
	must(t, foreign.Set(t.Context(), dataOfK, raw, time.Hour).Err())
	must(t, foreign.ConfigResetStat(t.Context()).Err())
	question.Release()
	eventually(t, "Redis has answered", func() bool {
		return strings.Contains(foreign.Info(t.Context(), "commandstats").Val(), "cmdstat_evalsha:calls=")
	})
	reported(t, n, func() error { return foreign.Del(t.Context(), dataOfK).Err() })
	answer.Release()
	if v := <-got; v != "another's" {
		t.Fatalf("got %q: the test has lost its ground", v)
	}
	wantErr(t, c, "k", tiered.ErrMiss)
}
