// Package account holds the people who use Crewbeat.
package account

import (
	"context"
	"errors"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

var (
	// ErrEmailTaken reports that another account has the address.
	ErrEmailTaken = errors.New("an account with this e-mail address exists")
	// ErrCredentials reports that address and password do not fit; it never
	// says which of them.
	ErrCredentials = errors.New("e-mail address or password is wrong")
)

// User is a person with an account. It never holds the password's hash, so
// that none can reach a cache or a log with it.
type User struct {
	ID          string
	Email       string
	Name        string
	TZ          string // IANA zone
	DayStartMin int    // minutes after midnight at which the person's day begins, 0..720
	WeekStart   time.Weekday
	Locale      string
	IsAdmin     bool
	Version     int64
	CreatedAt   time.Time
	UpdatedAt   time.Time
}

// Store keeps accounts. Errors are the package's, or wrap fault's.
type Store interface {
	// CreateUser adds u with the hash of its password; ErrEmailTaken if
	// another account has the address (compared without case).
	CreateUser(ctx context.Context, u User, passwordHash string) error
	// RegisterUser is CreateUser, and makes the first account of an
	// installation its admin: of any number at once exactly one. It returns u
	// as stored.
	RegisterUser(ctx context.Context, u User, passwordHash string) (User, error)
	// SetAdmin says whether a user may run the installation, notes it in the
	// audit log, and ends all sessions of the user.
	SetAdmin(ctx context.Context, id string, isAdmin bool) error
	User(ctx context.Context, id string) (User, error)
	// UserByEmail returns the user and the hash of the password.
	UserByEmail(ctx context.Context, email string) (User, string, error)
	// SaveUser stores u if its stored version is u.Version-1, else fault.ErrStale.
	SaveUser(ctx context.Context, u User, events ...event.Event) error
	// SetPasswordHash stores a new hash.
	SetPasswordHash(ctx context.Context, id, passwordHash string) error
}
