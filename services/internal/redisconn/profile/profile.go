package profile

import (
	"sync"
	"time"
)

const (
	mostCommands = 64
	mostErrors   = 16 // kinds of errors told apart, by command
	lastCommands = 100
	other        = "OTHER"
)

// Recorder records commands. It is safe for concurrent use; see [New].
type Recorder struct {
	mu       sync.RWMutex
	since    time.Time
	commands map[string]*Command
}

// New returns a recorder that begins at now, which must be from time.Now or
// lie before whatever is recorded.
func New(now time.Time) *Recorder {
	return &Recorder{since: now, commands: map[string]*Command{}}
}

// Command returns the record of a command by its name, which stays valid after
// a reset. The caller may keep it, and saves looking it up each time.
func (r *Recorder) Command(name string) *Command {
	r.mu.RLock()
	c := r.commands[name]
	r.mu.RUnlock()
	if c != nil {
		return c
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.commands) >= mostCommands-1 && r.commands[name] == nil {
		name = other
	}
	if c = r.commands[name]; c == nil {
		c = &Command{name: name, epoch: r.since, errors: map[string]int64{}, well: Timing{Command: name}, failures: map[string]*Timing{}}
		r.commands[name] = c
	}
	return c
}

// Reset forgets everything, as if recording began at now.
func (r *Recorder) Reset(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.since = now
	for _, c := range r.commands {
		c.reset()
	}
}

// Command is the record of one command.
type Command struct {
	name  string
	epoch time.Time // the slots are counted from here

	mu     sync.Mutex
	count  int64
	failed int64
	errors map[string]int64 // by kind
	timed  int64            // of count, those whose time is known
	total  time.Duration    // of those
	last   [lastCommands]time.Duration
	ring   [slots]*slot // made when first needed

	well     Timing
	failures map[string]*Timing // by kind
}

func (c *Command) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.count, c.failed, c.timed, c.total = 0, 0, 0, 0
	clear(c.errors)
	c.ring = [slots]*slot{}
}

// Took records a command that ended at a time and took so long. The failure is
// a word that tells its kind, or "".
func (c *Command) Took(at time.Time, took time.Duration, failure string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.tally(at, failure)
	c.last[c.timed%lastCommands] = took
	c.timed++
	c.total += took
	c.timing(failure).add(took)
	if s != nil {
		s.took.add(took)
	}
}

// Count records a command of which the time says nothing: it waited for
// something to happen, or travelled with others.
func (c *Command) Count(at time.Time, failure string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally(at, failure)
}

// tally counts, and returns the slot of the time; nil if it is long gone. It
// needs mu.
func (c *Command) tally(at time.Time, failure string) *slot {
	c.count++
	s := c.slot(at)
	if s != nil {
		s.count++
	}
	if failure == "" {
		return s
	}
	c.failed++
	if s != nil {
		s.failed++
	}
	if _, known := c.errors[failure]; !known && len(c.errors) >= mostErrors-1 {
		failure = other
	}
	c.errors[failure]++
	return s
}
