package presence

import (
	"context"
	"strings"
	"time"
)

// Lease says that a user of a team is connected to a node.
type Lease struct {
	Team, User string
	For        time.Duration // from now; 0: it ends now
}

// Sheet is what a board holds of one team.
type Sheet struct {
	// Epoch is another one after the board has lost what it held, and empty
	// if it holds nothing.
	Epoch string
	// Ends are when the last leases of users end, from the moment of reading.
	// Of those that have ended, it may still say since when: at most zero.
	Ends map[string]time.Duration
}

// Board is where nodes write down who is connected to them. Its clock is one
// for all nodes.
type Board interface {
	// Write begins, puts off and ends leases of a node.
	Write(ctx context.Context, node string, leases []Lease) error
	// Read returns a sheet for each of teams.
	Read(ctx context.Context, teams []string) ([]Sheet, error)
}

const (
	// keep is how long ended leases stay on a board, so that an end can be
	// told from a loss.
	keep = time.Minute
	// leasesMost is how many leases a board holds of a team; others are not
	// written.
	leasesMost = 10_000
)

// member is the name of a lease on a board.
func member(user, node string) string { return user + "@" + node }

// add puts a lease by its name on a sheet, where the last of a user counts.
func (s *Sheet) add(member string, ends time.Duration) {
	if user, _, ok := strings.Cut(member, "@"); ok {
		s.addUser(user, ends)
	}
}

func (s *Sheet) addUser(user string, ends time.Duration) {
	if s.Ends == nil {
		s.Ends = map[string]time.Duration{}
	}
	if before, ok := s.Ends[user]; !ok || ends > before {
		s.Ends[user] = ends
	}
}
