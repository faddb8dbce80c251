package slack_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crewbeat/crewbeat/services/realtime/internal/slack"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// day is a process whose looks are half a second apart.
type day struct {
	slack.Slack
	now  slack.Look
	gave int
	took time.Duration
}

// pass lets n looks pass, each after change; it returns how often memory was
// given back.
func (d *day) pass(n int, change func(l *slack.Look)) int {
	before := d.gave
	for range n {
		d.now.At = d.now.At.Add(time.Second / 2)
		change(&d.now)
		if d.Worth(d.now) {
			d.gave++
			d.Given(d.now, d.took)
			d.now.Heap, d.now.Free = d.now.Live, 0
		}
	}
	return d.gave - before
}

func still(*slack.Look) {}

const mb = 1 << 20

func TestMemoryIsGivenBackOnceABurstIsOver(t *testing.T) {
	d := &day{now: slack.Look{At: time.Unix(1, 0), Live: 10 * mb, Heap: 11 * mb}}
	if n := d.pass(100, still); n != 0 {
		t.Errorf("given back %d times for a megabyte", n)
	}
	burst := func(l *slack.Look) {
		l.Connections += 500
		l.Heap += mb
	}
	if n := d.pass(20, func(l *slack.Look) { l.Connections += 20; l.Heap += mb }); n != 0 {
		t.Errorf("given back %d times while a few come at a time", n)
	}
	if n := d.pass(20, burst); n != 0 {
		t.Errorf("given back %d times while thousands come", n)
	}
	d.now.Live, d.now.Free = 16*mb, 10*mb
	if n := d.pass(4, still); n != 1 {
		t.Errorf("given back %d times in the two seconds after, want once", n)
	}
	if n := d.pass(1000, still); n != 0 {
		t.Errorf("given back %d times with nothing to give", n)
	}
	// What a collection amid the burst has found counts for nothing.
	d.pass(4, burst)
	d.now.Live, d.now.Heap, d.now.Free = 30*mb, 30*mb, 0
	if n := d.pass(4, still); n != 1 {
		t.Errorf("given back %d times after a burst whose garbage was in use, want once", n)
	}
	// Another burst need not wait.
	d.pass(4, burst)
	d.now.Free = 20 * mb
	if n := d.pass(4, still); n != 1 {
		t.Errorf("given back %d times after the second burst, want once", n)
	}
}

func TestMemoryIsNotGivenBackWhileItIsUsed(t *testing.T) {
	d := &day{now: slack.Look{At: time.Unix(1, 0), Connections: 1000, Live: 100 * mb, Heap: 180 * mb}}
	if n := d.pass(1000, func(l *slack.Look) { l.Collections++ }); n != 0 {
		t.Errorf("given back %d times although the runtime collects by itself", n)
	}
}

func TestGivingMemoryBackTakesAtMostAHundredthOfTheTime(t *testing.T) {
	waste := func(l *slack.Look) { l.Heap += 50 * mb }
	for took, want := range map[time.Duration]int{time.Millisecond: 60, time.Second: 6} { // of ten minutes
		d := &day{now: slack.Look{At: time.Unix(1, 0), Connections: 1000, Live: 100 * mb, Heap: 100 * mb}, took: took}
		if n := d.pass(1200, waste); n < want-1 || n > want+1 {
			t.Errorf("given back %d times in ten minutes, of %v each, want about %d", n, took, want)
		}
	}
}
