package presence

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/metric/noop"
)

// Options build a Presence. Board and Teams are required.
type Options struct {
	Board Board
	// Teams returns the teams of a user.
	Teams func(ctx context.Context, user string) ([]string, error)
	// Tell tells all nodes that leases of teams have changed on node, and
	// Listen calls changed when one has said so of team, until stop is called,
	// and once with "" when it begins to hear, which it waits for until ctx
	// ends. Without them changes are seen when leases end or are put off.
	Tell   func(ctx context.Context, node string, teams []string) error
	Listen func(ctx context.Context, team string, changed func(node string)) (stop func(), err error)

	TTL    time.Duration // of a lease that is not put off; 60 s
	Every  time.Duration // between puttings off; 25 s
	Linger time.Duration // how long somebody stays who has left; 10 s
	Batch  time.Duration // between changes of a view; 1 s
	Grace  time.Duration // for all nodes to write again, after the board was away; Every + 5 s
	Wait   time.Duration // for the board to answer, of a few hundred leases; 2 s
	Log    *slog.Logger
	Meter  metric.MeterProvider
}

const teamsMost = 64 // of a person

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		is        *time.Duration
		otherwise time.Duration
	}{{&o.TTL, time.Minute}, {&o.Every, 25 * time.Second}, {&o.Linger, 10 * time.Second}, {&o.Batch, time.Second}, {&o.Wait, 2 * time.Second}} {
		if *d.is <= 0 {
			*d.is = d.otherwise
		}
	}
	if o.Grace <= 0 {
		o.Grace = o.Every + 5*time.Second
	}
	if o.Tell == nil {
		o.Tell = func(context.Context, string, []string) error { return nil }
	}
	if o.Listen == nil {
		o.Listen = func(context.Context, string, func(string)) (func(), error) { return func() {}, nil }
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Meter == nil {
		o.Meter = noop.NewMeterProvider()
	}
	return o
}

// Presence is that of one node. It is safe for concurrent use.
type Presence struct {
	o       Options
	node    string
	ctx     context.Context //nolint:containedctx // the life of the node; ended by Close
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	wake    chan struct{}
	began   time.Time
	changes metric.Int64Counter
	failed  metric.Int64Counter

	mu     sync.Mutex
	drains bool // who leaves now is on the way to another node
	people map[string]*person
	ask    []string           // people whose teams are to be looked up
	askers int                // goroutines that do
	leases map[string]*roster // of this node, by team
	dirty  map[pair]struct{}  // of these, not on the board as they are
	teams  map[string]*team   // that somebody watches

	loop
}

type pair struct{ team, user string }

// person is somebody who is connected to this node.
type person struct {
	conns  int32
	asking bool // for the teams
	again  bool // and once more
	teams  []string
}

// roster is the leases of this node in a team.
type roster struct {
	team string
	ends map[string]moment // by user; zero: not while the user is connected
}

// moment is nanoseconds since a Presence began: there is one for each person
// in each team.
type moment int64

func (p *Presence) moment(t time.Time) moment { return moment(t.Sub(p.began)) }

// time returns when m is; zero, if it is never.
func (p *Presence) time(m moment) time.Time {
	if m == 0 {
		return time.Time{}
	}
	return p.began.Add(time.Duration(m))
}

// New returns the presence of a node that lives until Close.
func New(ctx context.Context, o Options) (*Presence, error) {
	if o.Board == nil || o.Teams == nil {
		return nil, errors.New("presence: Options.Board and Options.Teams are needed")
	}
	p := &Presence{
		o: o.withDefaults(), node: rand.Text()[:12], wake: make(chan struct{}, 1), began: time.Now().Add(-time.Nanosecond),
		people: map[string]*person{}, leases: map[string]*roster{}, dirty: map[pair]struct{}{}, teams: map[string]*team{},
	}
	m := p.o.Meter.Meter("github.com/crewbeat/crewbeat/services/realtime/internal/presence")
	var err error
	if p.changes, err = m.Int64Counter("realtime.presence.changes", metric.WithDescription("People who came to a team or left it, as this node saw it, by which.")); err != nil {
		return nil, fmt.Errorf("create instrument: %w", err)
	}
	if p.failed, err = m.Int64Counter("realtime.presence.failures", metric.WithDescription("Times the board of who is here was not reached.")); err != nil {
		return nil, fmt.Errorf("create instrument: %w", err)
	}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.wg.Go(func() { p.run(p.ctx) })
	return p, nil
}

// Drain says that this node is about to end: who leaves it is on the way to
// another. Until that one has said so, and it has many to say it of, they stay
// for as long as the lease that they had.
func (p *Presence) Drain() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drains = true
}

// linger is how long who leaves now stays; p.mu is held.
func (p *Presence) linger() time.Duration {
	if p.drains {
		return p.o.TTL
	}
	return p.o.Linger
}

// Close says on the board that everybody has left this node. They stay for
// Linger, or what Drain says, to come back to another.
func (p *Presence) Close(ctx context.Context) {
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	var ignored []func()
	for _, t := range p.teams {
		ignored = append(ignored, t.ignore)
	}
	clear(p.teams)
	var left []Lease
	var teams []string
	for team, list := range p.leases {
		for user, ends := range list.ends {
			left = append(left, Lease{Team: team, User: user, For: rest(p.time(ends), p.linger())})
		}
		teams = append(teams, team)
	}
	p.mu.Unlock()
	for _, ignore := range ignored {
		ignore()
	}
	if len(left) == 0 {
		return
	}
	err := p.o.Board.Write(ctx, p.node, left)
	if err == nil {
		err = p.o.Tell(ctx, p.node, teams)
	}
	if err != nil {
		p.o.Log.WarnContext(ctx, "people of this node leave only when their leases end", slog.Any("error", err))
	}
}

// Enter says that a user has connected. Leave says that this has ended.
func (p *Presence) Enter(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who := p.people[user]
	if who == nil {
		who = &person{}
		p.people[user] = who
	}
	if who.conns++; who.conns == 1 {
		p.lookUp(user, who)
	}
}

// Leave says that a connection of a user has ended, once for each Enter.
func (p *Presence) Leave(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	who := p.people[user]
	if who.conns--; who.conns > 0 {
		return
	}
	delete(p.people, user)
	ends := time.Now().Add(p.linger())
	for _, team := range who.teams {
		p.lease(team, user, ends)
	}
}

// Ask has the teams of a user looked up again, if they are connected.
func (p *Presence) Ask(user string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who := p.people[user]; who != nil {
		p.lookUp(user, who)
	}
}

// setTeams makes teams the ones that a user is here in; p.mu is held.
func (p *Presence) setTeams(user string, who *person, teams []string) {
	teams = teams[:min(len(teams), teamsMost)]
	for _, team := range teams {
		p.join(user, who, team)
	}
	for _, team := range slices.Clone(who.teams) {
		if !slices.Contains(teams, team) {
			p.part(user, who, team)
		}
	}
}

func (p *Presence) join(user string, who *person, team string) {
	if !slices.Contains(who.teams, team) && len(who.teams) < teamsMost {
		who.teams = append(who.teams, p.lease(team, user, time.Time{}).team)
	}
	if t := p.teams[team]; t != nil {
		delete(t.gone, user)
	}
}

// part ends a user's being in a team at once.
func (p *Presence) part(user string, who *person, team string) {
	who.teams = slices.DeleteFunc(who.teams, func(t string) bool { return t == team })
	p.lease(team, user, time.Now())
	p.hide(user, team)
}

// hide keeps a user out of the view of a team for as long as another node may
// put off a lease, not knowing better; p.mu is held.
func (p *Presence) hide(user, team string) {
	if t := p.teams[team]; t != nil {
		t.gone[user] = time.Now().Add(p.o.TTL)
		p.poke()
	}
}

// Join says that a connected user is a member of a team, perhaps since now.
func (p *Presence) Join(user, team string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who := p.people[user]; who != nil {
		p.join(user, who, team)
	}
}

// Part says that a user is no longer a member of a team.
func (p *Presence) Part(user, team string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if who := p.people[user]; who != nil {
		p.part(user, who, team)
	} else {
		p.hide(user, team)
	}
}

// lease sets the end of a lease of this node; zero is none. p.mu is held. It
// returns the roster, whose name of the team serves everybody.
func (p *Presence) lease(team, user string, ends time.Time) *roster {
	list := p.leases[team]
	if list == nil {
		list = &roster{team: team, ends: map[string]moment{}}
		p.leases[team] = list
	}
	list.ends[user] = 0
	if !ends.IsZero() {
		list.ends[user] = p.moment(ends)
	}
	p.dirty[pair{list.team, user}] = struct{}{}
	p.poke()
	return list
}

// poke has the loop look at what has changed.
func (p *Presence) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *Presence) count(kind string, n int) {
	if n > 0 {
		p.changes.Add(p.ctx, int64(n), metric.WithAttributes(attribute.String("kind", kind)))
	}
}
