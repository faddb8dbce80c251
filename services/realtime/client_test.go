package realtime_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crewbeat/crewbeat/services/realtime"
)

// TestTheClientOfTheDocsGetsEverythingOnce runs docs/events-client.mjs against
// a server that ends its connection several times a second.
func TestTheClientOfTheDocsGetsEverythingOnce(t *testing.T) {
	t.Run("of channels", func(t *testing.T) { runTheClientOfTheDocs(t, team, habits) })
	t.Run("of all that is one's own", func(t *testing.T) { runTheClientOfTheDocs(t) })
}

func runTheClientOfTheDocs(t *testing.T, channels ...string) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("this test runs the client of docs/events.md: install Node 20 or later: %v", err)
	}
	n := start(t, nil, func(c *realtime.Config) {
		c.Limits.MaxAge, c.Limits.Comment, c.Limits.Tick = 300*time.Millisecond, 20*time.Millisecond, 5*time.Millisecond
	})
	token, session := n.signIn("jonas")
	script, err := filepath.Abs("../../docs/events-client.mjs")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), node, append([]string{script}, channels...)...)
	cmd.Env = append(os.Environ(), "CREWBEAT_URL="+n.http.URL, "CREWBEAT_COOKIE=crewbeat.sid="+token)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	hellos := 0
	joined := map[string]bool{}
	got := map[string][]string{}
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var m message
			if err := json.Unmarshal(lines.Bytes(), &m); err != nil {
				t.Errorf("%q: %v", lines.Text(), err)
				continue
			}
			mu.Lock()
			switch {
			case m.Type == "hello":
				hellos++
			case m.Type == "subscribed":
				joined[m.Ch] = true
			case m.Event != "":
				got[m.Channel] = append(got[m.Channel], fmt.Sprint(m.ID))
			}
			mu.Unlock()
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	seen := func(ok func() bool) func() bool {
		return func() bool { mu.Lock(); defer mu.Unlock(); return ok() }
	}
	until(t, "it follows both channels", seen(func() bool { return joined[team] && joined[habits] }))
	var want [2][]string
	i := 0
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	until(t, "it has connected three times", func() bool {
		<-tick.C
		i++
		want[i%2] = append(want[i%2], fmt.Sprint("e", i))
		n.publish([]string{team, habits}[i%2], i, i)
		mu.Lock()
		defer mu.Unlock()
		return hellos >= 3
	})
	until(t, "it has everything", seen(func() bool { return len(got[team])+len(got[habits]) >= i }))
	mu.Lock()
	if !slices.Equal(got[team], want[0]) || !slices.Equal(got[habits], want[1]) {
		t.Errorf("got %v, want %v", got, want)
	}
	mu.Unlock()
	// It ends by itself when it is no longer welcome.
	if err := n.sessions.Revoke(t.Context(), "jonas", session); err != nil {
		t.Fatal(err)
	}
	<-read
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
}
