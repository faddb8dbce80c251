package presence_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crewbeat/crewbeat/services/realtime/internal/presence"
)

// world is several nodes on one board, in the bubble of a test.
type world struct {
	t     *testing.T
	board *presence.Memory
	empty atomic.Bool  // the board has come back without its data
	away  atomic.Bool  // the board does not answer anybody
	deaf  atomic.Bool  // what nodes tell each other is lost
	pace  atomic.Int64 // ns that the board takes for a lease, and for a team

	mu      sync.Mutex
	teams   map[string][]string // of a user
	listens map[*func(string)]string
}

func newWorld(t *testing.T) *world {
	return &world{t: t, board: presence.NewMemory(nil), teams: map[string][]string{}, listens: map[*func(string)]string{}}
}

var errAway = errors.New("the board is away")

// link is a node's way to the board.
type link struct {
	w    *world
	cut  atomic.Bool
	late atomic.Int64 // ns that the answer of a read is on its way
}

// take is what the board takes for n leases or teams.
func (l *link) take(ctx context.Context, n int) error {
	if l.cut.Load() || l.w.away.Load() {
		return errAway
	}
	t := time.NewTimer(time.Duration(n) * time.Duration(l.w.pace.Load()))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

func (l *link) Write(ctx context.Context, node string, leases []presence.Lease) error {
	if err := l.take(ctx, len(leases)); err != nil {
		return err
	}
	return l.w.current().Write(ctx, node, leases)
}

func (l *link) Read(ctx context.Context, teams []string) ([]presence.Sheet, error) {
	if err := l.take(ctx, len(teams)); err != nil {
		return nil, err
	}
	sheets, err := l.w.current().Read(ctx, teams)
	way := time.NewTimer(time.Duration(l.late.Load()))
	<-way.C
	return sheets, err
}

func (w *world) current() *presence.Memory {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.empty.Swap(false) {
		w.board = presence.NewMemory(nil)
	}
	return w.board
}

func (w *world) tell(_ context.Context, node string, teams []string) error {
	if w.deaf.Load() {
		return nil
	}
	w.mu.Lock()
	var told []func(string)
	for f, team := range w.listens {
		if slices.Contains(teams, team) {
			told = append(told, *f)
		}
	}
	w.mu.Unlock()
	for _, f := range told {
		f(node)
	}
	return nil
}

func (w *world) listen(_ context.Context, team string, changed func(string)) (stop func(), err error) {
	w.mu.Lock()
	w.listens[&changed] = team
	w.mu.Unlock()
	changed("")
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.listens, &changed)
	}, nil
}

func (w *world) node() (*presence.Presence, *link) {
	w.t.Helper()
	l := &link{w: w}
	p, err := presence.New(w.t.Context(), presence.Options{
		Board: l, Tell: w.tell, Listen: w.listen,
		Teams: func(_ context.Context, user string) ([]string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			if teams, ok := w.teams[user]; ok {
				return teams, nil
			}
			return []string{harbor}, nil
		},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Close(context.WithoutCancel(w.t.Context())) })
	return p, l
}

// witness writes down what is seen of a team, and checks that differences add
// up to views.
type witness struct {
	t     *testing.T
	watch *presence.Observed
	mu    sync.Mutex
	users map[string]bool
	rev   uint64
	count int
	views int
	leave []string
	at    []time.Time
}

func watch(t *testing.T, p *presence.Presence, team string) *witness {
	wt := &witness{t: t, users: map[string]bool{}}
	ready := make(chan struct{})
	wt.watch = p.Observe(team, func() { <-ready; wt.see() })
	close(ready)
	return wt
}

func (wt *witness) see() {
	wt.mu.Lock()
	defer wt.mu.Unlock()
	v := wt.watch.View()
	if v.Rev != wt.rev+1 && wt.rev != 0 {
		wt.t.Errorf("view %d after %d", v.Rev, wt.rev)
	}
	for _, u := range v.Joined {
		wt.users[u] = true
	}
	for _, u := range v.Left {
		delete(wt.users, u)
		wt.leave = append(wt.leave, u)
	}
	if !slices.Equal(slices.Sorted(maps.Keys(wt.users)), v.Users) {
		wt.t.Errorf("differences add up to %v, the view is %v", wt.users, v.Users)
	}
	wt.rev, wt.count = v.Rev, v.Count
	wt.views++
	wt.at = append(wt.at, time.Now())
}

// expect waits d, and checks who is here then.
func (wt *witness) expect(d time.Duration, want ...string) {
	wt.t.Helper()
	pass(d)
	wt.mu.Lock()
	defer wt.mu.Unlock()
	if got := slices.Sorted(maps.Keys(wt.users)); !slices.Equal(got, want) {
		wt.t.Errorf("%v are here, want %v", got, want)
	}
}

func (wt *witness) nobodyLeft() {
	wt.t.Helper()
	wt.mu.Lock()
	defer wt.mu.Unlock()
	if len(wt.leave) > 0 {
		wt.t.Errorf("%v have left", wt.leave)
	}
}

// pass lets time pass in the bubble.
func pass(d time.Duration) {
	t := time.NewTimer(d)
	<-t.C
	synctest.Wait()
}

func TestWhoConnectsIsSeenByAllNodesWithinTwoSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		here, there := watch(t, a, harbor), watch(t, b, harbor)
		other := watch(t, b, lock)
		here.expect(0)
		a.Visit("mira")
		here.expect(2*time.Second, "mira")
		there.expect(0, "mira")
		b.Visit("jonas")
		here.expect(2*time.Second, "jonas", "mira")
		there.expect(0, "jonas", "mira")
		other.expect(0)
		here.nobodyLeft()
	})
}

// An answer that was on its way when somebody came does not name them.
func TestWhoComesWhileTheBoardIsReadIsSeenToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, far := w.node()
		b, _ := w.node()
		seen := watch(t, a, harbor)
		seen.expect(5 * time.Second)
		far.late.Store(int64(time.Second))
		b.Visit("jonas")
		seen.expect(500 * time.Millisecond)
		b.Visit("mira")
		seen.expect(3*time.Second, "jonas", "mira")
	})
}

func TestSomebodyLeavesOnceTenSecondsAfterTheLastConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		seen := watch(t, b, harbor)
		one, two := a.Visit("mira"), a.Visit("mira")
		three := b.Visit("mira")
		seen.expect(2*time.Second, "mira")
		one()
		one() // once is enough
		seen.expect(15*time.Second, "mira")
		two()
		seen.expect(15*time.Second, "mira")
		three()
		seen.expect(9*time.Second, "mira")
		seen.expect(3 * time.Second)
		if len(seen.leave) != 1 {
			t.Errorf("%v have left, want mira once", seen.leave)
		}
	})
}

func TestAReloadIsNotNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		seen, own := watch(t, a, harbor), watch(t, b, harbor)
		leave := b.Visit("mira")
		seen.expect(2*time.Second, "mira")
		for i := range 10 {
			leave()
			seen.expect(8*time.Second, "mira")
			leave = []*presence.Presence{a, b}[i%2].Visit("mira")
			seen.expect(time.Duration(i)*7*time.Second, "mira")
		}
		seen.nobodyLeft()
		own.nobodyLeft()
	})
}

func TestARestartOfEveryNodeInTurnIsNotNoticed(t *testing.T) {
	for _, tt := range []struct {
		name string
		off  time.Duration // between the old connection and the new
	}{{"clients are on the next node before they leave", 0}, {"clients come back after 5 s", 5 * time.Second}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				var nodes [3]*presence.Presence
				leaves := [3]map[string]func(){{}, {}, {}}
				for i := range nodes {
					nodes[i], _ = w.node()
				}
				witness0, _ := w.node()
				seen := watch(t, witness0, harbor)
				var crew []string
				for i := range 60 {
					user := fmt.Sprintf("u%02d", i)
					crew = append(crew, user)
					leaves[i%3][user] = nodes[i%3].Visit(user)
				}
				seen.expect(3*time.Second, crew...)
				for i := range nodes {
					next := (i + 1) % 3
					moving := leaves[i]
					leaves[i] = map[string]func(){}
					if tt.off > 0 {
						for _, leave := range moving {
							leave()
						}
						nodes[i].Close(t.Context())
						pass(tt.off)
					}
					for user, leave := range moving {
						leaves[next][user] = nodes[next].Visit(user)
						leave()
					}
					nodes[i].Close(t.Context())
					nodes[i], _ = w.node()
					pass(3 * time.Second)
				}
				seen.expect(2*time.Minute, crew...)
				seen.nobodyLeft()
			})
		})
	}
}

// A board that is asked for thousands takes longer than anybody waits for one
// answer.
func TestABoardThatIsSlowIsWrittenAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		w.pace.Store(int64(7 * time.Millisecond)) // 10 s for all
		var crew []string
		for i := range 1500 {
			user, team := fmt.Sprintf("u%04d", i), fmt.Sprintf("team%d", i/5)
			w.mu.Lock()
			w.teams[user] = []string{team}
			w.mu.Unlock()
			a.Visit(user)
			if team == "team0" {
				crew = append(crew, user)
			}
		}
		var watches []*witness
		for i := range 300 {
			watches = append(watches, watch(t, b, fmt.Sprintf("team%d", i)))
		}
		pass(30 * time.Second)
		watches[0].expect(2*time.Minute, crew...)
		for _, seen := range watches {
			seen.nobodyLeft()
			if seen.count != 5 {
				t.Fatalf("%d of a team of five are here", seen.count)
			}
		}
	})
}

// The node that takes thousands over from one that drains may be too busy to
// say so in time.
func TestWhoLeavesANodeThatDrainsHasTimeToComeToAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		c, _ := w.node()
		seen := watch(t, c, harbor)
		leave := map[string]func(){"jonas": a.Visit("jonas"), "lena": a.Visit("lena"), "mira": a.Visit("mira")}
		a.Visit("nino") // stays until the end
		seen.expect(3*time.Second, "jonas", "lena", "mira", "nino")
		leave["lena"]() // of her own accord, before
		a.Drain()
		leave["jonas"]()
		leave["mira"]()
		seen.expect(13*time.Second, "jonas", "mira", "nino")
		a.Close(t.Context())
		seen.expect(27*time.Second, "jonas", "mira", "nino")
		b.Visit("jonas")
		b.Visit("nino")
		seen.expect(25*time.Second, "jonas", "nino")
		seen.expect(2*time.Minute, "jonas", "nino")
		if want := []string{"lena", "mira"}; !slices.Equal(seen.leave, want) {
			t.Errorf("%v have left, want %v once each", seen.leave, want)
		}
	})
}

func TestPeopleOfAKilledNodeLeaveWhenTheirLeasesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, killed := w.node()
		seen := watch(t, a, harbor)
		a.Visit("mira")
		b.Visit("mira")
		b.Visit("jonas")
		seen.expect(40*time.Second, "jonas", "mira")
		killed.cut.Store(true)
		seen.expect(30*time.Second, "jonas", "mira")
		seen.expect(32*time.Second, "mira")
		if len(seen.leave) != 1 {
			t.Errorf("%v have left, want jonas once", seen.leave)
		}
	})
}

func TestNobodyLeavesBecauseTheBoardWasAway(t *testing.T) {
	for _, tt := range []struct {
		name  string
		empty bool
	}{{"and came back as it was", false}, {"and came back empty", true}} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				a, _ := w.node()
				b, _ := w.node()
				seen, there := watch(t, a, harbor), watch(t, b, harbor)
				a.Visit("mira")
				leave := b.Visit("jonas")
				seen.expect(3*time.Second, "jonas", "mira")
				for _, gone := range []time.Duration{10 * time.Second, 5 * time.Minute} {
					w.away.Store(true)
					pass(gone)
					if w.away.Store(false); tt.empty {
						w.empty.Store(true)
					}
					seen.expect(3*time.Minute, "jonas", "mira")
				}
				// Who came meanwhile is seen here at once, and there afterwards.
				w.away.Store(true)
				pass(3 * time.Minute)
				a.Visit("lena")
				seen.expect(3*time.Second, "jonas", "lena", "mira")
				w.away.Store(false)
				there.expect(time.Minute, "jonas", "lena", "mira")
				seen.nobodyLeft()
				there.nobodyLeft()
				leave()
				seen.expect(12*time.Second, "lena", "mira")
				there.expect(0, "lena", "mira")
			})
		})
	}
}

func TestNobodyLeavesWhenTheBoardLosesEverythingUnnoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		seen := watch(t, a, harbor)
		a.Visit("mira")
		b.Visit("jonas")
		for range 20 {
			pass(7 * time.Second)
			w.empty.Store(true)
			pass(53 * time.Second)
			// A change has the board read, at its emptiest.
			w.empty.Store(true)
			a.Visit("lena")()
			pass(time.Minute)
		}
		if slices.ContainsFunc(seen.leave, func(u string) bool { return u != "lena" }) {
			t.Errorf("%v have left", seen.leave)
		}
	})
}

func TestWhatTheBoardHasLostIsWrittenAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		seen := watch(t, a, harbor)
		a.Visit("mira")
		seen.expect(3*time.Second, "mira")
		w.empty.Store(true)
		a.Visit("lena") // has it noticed
		seen.expect(2*time.Second, "lena", "mira")
		b, _ := w.node() // knows only what is on the board
		watch(t, b, harbor).expect(2*time.Second, "lena", "mira")
	})
}

func TestAViewChangesOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		b, _ := w.node()
		here, there := watch(t, a, harbor), watch(t, b, harbor)
		here.expect(2 * time.Second)
		for i := range 600 {
			a.Visit(fmt.Sprintf("u%03d", i))
			pass(10 * time.Millisecond)
		}
		pass(3 * time.Second)
		for name, wt := range map[string]*witness{"here": here, "there": there} {
			if len(wt.users) != presence.Most || wt.count != 600 {
				t.Errorf("%s: %d people of %d, want the first %d of 600", name, len(wt.users), wt.count, presence.Most)
			}
			for i := 1; i < len(wt.at); i++ {
				if d := wt.at[i].Sub(wt.at[i-1]); d < time.Second {
					t.Errorf("%s: a view %v after another", name, d)
				}
			}
		}
	})
}

func TestWhoIsRemovedFromATeamIsNoLongerSeenThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.teams["mira"] = []string{harbor, lock}
		a, _ := w.node()
		b, _ := w.node()
		here, there, other := watch(t, a, harbor), watch(t, b, harbor), watch(t, b, lock)
		a.Visit("mira")
		there.expect(3*time.Second, "mira")
		c, _ := w.node() // does not hear of anything
		c.Visit("mira")
		pass(time.Second)
		a.Part("mira", harbor)
		b.Part("mira", harbor)
		w.mu.Lock()
		w.teams["mira"] = []string{lock}
		w.mu.Unlock()
		here.expect(2 * time.Second)
		there.expect(30 * time.Second)
		c.Ask("mira") // as it does every five minutes
		here.expect(2 * time.Second)
		there.expect(0)
		there.expect(2 * time.Minute)
		other.expect(0, "mira")
		a.Join("mira", harbor)
		here.expect(2*time.Second, "mira")
		// What the database says, a node that has heard of nothing does too.
		w.mu.Lock()
		w.teams["mira"] = []string{lock}
		w.mu.Unlock()
		a.Ask("mira")
		here.expect(2 * time.Second)
		there.expect(2 * time.Second)
	})
}

func TestWhatNodesTellEachOtherMayBeLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.deaf.Store(true)
		a, _ := w.node()
		b, _ := w.node()
		seen := watch(t, a, harbor)
		leave := b.Visit("mira")
		seen.expect(27*time.Second, "mira")
		// The lease looks over here, but was put off.
		leave()
		pass(5 * time.Second)
		w.deaf.Store(false)
		b.Visit("jonas") // has it read
		pass(2 * time.Second)
		w.deaf.Store(true)
		b.Visit("mira")
		seen.expect(time.Minute, "jonas", "mira")
		seen.nobodyLeft()
	})
}

func TestNobodyIsWatchedAfterTheLastWatcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, _ := w.node()
		one, two := watch(t, a, harbor), watch(t, a, harbor)
		pass(time.Second)
		one.watch.Stop()
		a.Visit("mira")
		two.expect(2*time.Second, "mira")
		if one.views > 1 {
			t.Error("who has stopped is told")
		}
		two.watch.Stop()
		synctest.Wait()
		if w.mu.Lock(); len(w.listens) != 0 {
			t.Error("what other nodes say is still listened to")
		}
		w.mu.Unlock()
		three := watch(t, a, harbor)
		three.expect(2*time.Second, "mira")
	})
}
