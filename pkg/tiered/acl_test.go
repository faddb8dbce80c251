package tiered_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/pkg/tiered/tieredtest"
	"github.com/redis/go-redis/v9"
)

// grants are the lines of the README that operators copy: for the cache, for
// write-behind, for a Cluster.
func grants(t *testing.T) (lines [][]any, commands []map[string]bool) {
	t.Helper()
	readme, err := os.ReadFile("README.md")
	must(t, err)
	for _, line := range regexp.MustCompile(`(?m)^ACL SETUSER .*$`).FindAllString(string(readme), -1) {
		var words []any
		set := make(map[string]bool)
		for w := range strings.FieldsSeq(line) {
			words = append(words, w)
			if name, ok := strings.CutPrefix(w, "+"); ok {
				set[name] = true
			}
		}
		lines, commands = append(lines, words), append(commands, set)
	}
	if len(lines) != 3 {
		t.Fatalf("%d lines begin with ACL SETUSER in the README, want 3", len(lines))
	}
	return lines, commands
}

// asUser connects as the user of the README.
type asUser struct{ r *tieredtest.Redis }

func (u asUser) Connect(t testing.TB, dial tieredtest.DialFunc) redis.UniversalClient {
	o := u.r.Options()
	o.Username, o.Password, o.Dialer = "app", "secret", dial
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 5*time.Second, 5*time.Second, 5*time.Second
	o.DisableIdentity = true // CLIENT SETINFO, from Redis 7.2 on
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// refused is what the user tried and may not.
func refused(t *testing.T, admin *redis.Client) (all []string) {
	t.Helper()
	log, err := admin.ACLLog(t.Context(), 128).Result()
	must(t, err)
	for _, e := range log {
		all = append(all, e.Reason+" "+e.Object+" of "+e.Username)
	}
	return all
}

// called are the commands that were run, also by scripts, since RESETSTAT.
func called(t *testing.T, admin *redis.Client) map[string]bool {
	t.Helper()
	text, err := admin.Info(t.Context(), "commandstats").Result()
	must(t, err)
	all := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^cmdstat_([^:]+):calls=[1-9]`).FindAllStringSubmatch(text, -1) {
		all[m[1]] = true
	}
	return all
}

// The line for the cache is enough for all it does, and nothing in it is too
// much: each command was used by the user, so that without it that use would fail.
func TestTheUserOfTheReadmeMayDoWhatIsNeededAndNoMore(t *testing.T) {
	lines, granted := grants(t)
	for _, program := range installed() {
		t.Run(program, func(t *testing.T) {
			r := tieredtest.StartRedis(t, tieredtest.WithServer(program))
			admin := r.Client(t)
			must(t, admin.Do(t.Context(), lines[0]...).Err())
			// So many processes have updated the key "plain" that Update tidies up.
			ops := "tc:u:{n:plain}"
			for i := range 511 {
				must(t, admin.HSet(t.Context(), ops, fmt.Sprint("gone", i), "1 1").Err())
			}
			must(t, admin.PExpire(t.Context(), ops, time.Hour).Err())
			must(t, admin.ConfigResetStat(t.Context()).Err())
			nodes := tieredtest.Nodes(t, 2, asUser{r}, tieredtest.WithStore(tiered.WithPrefix("tc")))
			everything(t, nodes, func() {})
			eventually(t, "INFO is answered", nodes[0].Watched)
			used := called(t, admin)
			for _, what := range refused(t, admin) {
				t.Errorf("refused: %s", what)
			}
			for _, own := range []string{"config|resetstat", "acl|log"} { // the test's own
				delete(used, own)
			}
			for _, free := range []string{"hello", "auth", "ping", "client|setinfo", "client|maint_notifications"} { // of any connection
				delete(used, free)
			}
			for _, command := range slices.Sorted(maps.Keys(granted[0])) {
				if !used[command] {
					t.Errorf("%s is granted and not needed", command)
				}
			}
			for _, command := range slices.Sorted(maps.Keys(used)) {
				if !granted[0][command] {
					t.Errorf("%s is used and not granted", command)
				}
			}
			if text := admin.HGetAll(t.Context(), ops).Val(); len(text) > 10 {
				t.Errorf("%d fields: Update did not tidy up", len(text))
			}
			// Foreign keys and channels are not the user's.
			c := asUser{r}.Connect(t, nil)
			if err := c.Get(t.Context(), "other").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
				t.Errorf("get of another key: %v", err)
			}
			if err := c.Publish(t.Context(), "other", "x").Err(); err == nil || !strings.HasPrefix(err.Error(), "NOPERM") {
				t.Errorf("publish on another channel: %v", err)
			}
		})
	}
}

// inScripts are the commands that the scripts of write-behind name.
func inScripts(t *testing.T) map[string]bool {
	t.Helper()
	all := make(map[string]bool)
	files, err := os.ReadDir("lua")
	must(t, err)
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), "wb_") {
			continue
		}
		text, err := os.ReadFile("lua/" + f.Name())
		must(t, err)
		for _, m := range regexp.MustCompile(`(?:p?call|read)\('([A-Z]+)'(?:, '([A-Z]+)')?`).FindAllStringSubmatch(string(text), -1) {
			name := strings.ToLower(m[1])
			if m[1] == "XGROUP" || m[1] == "XINFO" {
				name += "|" + strings.ToLower(m[2])
			}
			all[name] = true
		}
	}
	return all
}

// Write-behind needs the second line as well: what its scripts name and its
// run uses, and nothing that it does not.
func TestTheUserOfTheReadmeMayWriteBehind(t *testing.T) {
	lines, granted := grants(t)
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	must(t, admin.Do(t.Context(), lines[0]...).Err())
	must(t, admin.Do(t.Context(), lines[1]...).Err())
	must(t, admin.ConfigResetStat(t.Context()).Err())
	node := tieredtest.Nodes(t, 1, asUser{r}, tieredtest.WithStore(tiered.WithPrefix("tc")))[0]
	healthy(t, node.Store)
	c := cache[string](t, node.Store, "n")
	w, err := tiered.NewWriteBehind(t.Context(), c, func(context.Context, []tiered.Item[string, string]) error {
		return nil
	}, tiered.WriteBehindOptions[string]{Interval: time.Hour})
	must(t, err)
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := w.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	for _, key := range odd {
		must(t, w.Put(t.Context(), key, "v"))
	}
	for _, err := range w.DeadLetters(t.Context()) {
		must(t, err)
	}
	_, err = c.GetOrLoad(t.Context(), "absent", w.Loader(value("v")))
	must(t, err)
	must(t, w.Flush(t.Context()))
	for _, what := range refused(t, admin) {
		t.Errorf("refused: %s", what)
	}
	used, named := called(t, admin), inScripts(t)
	for command := range named {
		if !granted[0][command] && !granted[1][command] {
			t.Errorf("%s is in a script and not granted", command)
		}
	}
	for command := range granted[1] {
		switch {
		case granted[0][command]:
			t.Errorf("%s is granted twice", command)
		case !used[command] && !named[command] && command != "wait": // with Replicas
			t.Errorf("%s is granted and not needed", command)
		}
	}
}

// asClusterUser connects to a cluster as the user of the README.
type asClusterUser struct{ c *tieredtest.Cluster }

func (u asClusterUser) Connect(t testing.TB, dial tieredtest.DialFunc) redis.UniversalClient {
	o := u.c.Options()
	o.Username, o.Password, o.Dialer = "app", "secret", dial
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = 5*time.Second, 5*time.Second, 5*time.Second
	o.DisableIdentity = true
	c := redis.NewClusterClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTheUserOfTheReadmeSufficesOnACluster(t *testing.T) {
	lines, granted := grants(t)
	cl := tieredtest.StartCluster(t, 3, 0)
	for _, r := range cl.Nodes() {
		must(t, r.Client(t).Do(t.Context(), lines[0]...).Err())
		must(t, r.Client(t).Do(t.Context(), lines[2]...).Err())
	}
	nodes := tieredtest.Nodes(t, 2, asClusterUser{cl}, tieredtest.WithStore(tiered.WithPrefix("tc")))
	everything(t, nodes, func() {})
	c := tieredtest.Caches[string, int](t, nodes, "m")
	slot := cl.Slot(t, "tc:{m:k}")
	to := cl.Nodes()[0]
	if to == cl.Owner(t, slot) {
		to = cl.Nodes()[1]
	}
	cl.MoveSlot(t, slot, to, func() { wantErr(t, c[0], "k", tiered.ErrMiss, tiered.SkipL1()) }) // ASK
	must(t, c[0].Set(t.Context(), "k", 1))                                                      // MOVED
	want(t, c[1], "k", 1)
	used := make(map[string]bool)
	for _, r := range cl.Nodes() {
		maps.Copy(used, called(t, r.Client(t)))
		for _, what := range refused(t, r.Client(t)) {
			t.Errorf("refused at %s: %s", r.Addr(), what)
		}
	}
	for command := range granted[2] {
		if !used[command] {
			t.Errorf("%s is granted and not needed", command)
		}
	}
}

// Without INFO nobody knows which master it is: each reconnect is taken for a
// failover, and what was acknowledged is repeated.
func TestWithoutINFOEachReconnectIsTakenForAFailover(t *testing.T) {
	lines, _ := grants(t)
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	must(t, admin.Do(t.Context(), append(slices.Clone(lines[0]), "-info")...).Err())
	node := tieredtest.Nodes(t, 1, asUser{r}, tieredtest.WithStore(tiered.WithPrefix("tc")))[0]
	healthy(t, node.Store)
	c := cache[string](t, node.Store, "n")
	must(t, c.Set(t.Context(), "k", "old"))
	raw, err := admin.Get(t.Context(), "tc:{n:k}").Result()
	must(t, err)
	eventually(t, "it knows that it may not ask", func() bool { return len(refused(t, admin)) > 0 })
	must(t, c.Delete(t.Context(), "k"))
	must(t, admin.Set(t.Context(), "tc:{n:k}", raw, time.Hour).Err()) // as if a failover had lost the delete
	for n := range 3 {
		must(t, admin.Do(t.Context(), "CLIENT", "KILL", "TYPE", "pubsub").Err())
		eventually(t, "it is taken for a failover", func() bool { return node.Health().Failovers == uint64(n+1) })
	}
	healthy(t, node.Store)
	wantErr(t, cache[string](t, tieredtest.Nodes(t, 1, r, tieredtest.WithStore(tiered.WithPrefix("tc")))[0].Store, "n"), "k", tiered.ErrMiss)
}

// With the backplane Off there are no reconnects either: that is said, once, by
// a beat that the user of the README may send.
func TestWithoutINFOAndTheBackplaneOffNoFailoverIsNoticed(t *testing.T) {
	lines, _ := grants(t)
	r := tieredtest.StartRedis(t)
	admin := r.Client(t)
	must(t, admin.Do(t.Context(), append(slices.Clone(lines[0]), "-info")...).Err())
	var text logText
	s := tieredtest.Nodes(t, 1, asUser{r}, tieredtest.WithStore(tiered.WithPrefix("tc"), tiered.WithBackplane(tiered.Off),
		tiered.WithLogger(slog.New(slog.NewTextHandler(&text, nil)))))[0].Store
	eventually(t, "it is said", func() bool {
		return strings.Contains(text.String(), "may not run INFO") && strings.Contains(text.String(), "failovers are not noticed")
	})
	if h := s.Health(); h.Failovers != 0 || h.Status != tiered.Healthy {
		t.Errorf("%+v", h)
	}
	for _, what := range refused(t, admin) {
		if !strings.HasPrefix(what, "command info ") {
			t.Errorf("refused: %s", what)
		}
	}
}

// logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
