package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/oklog/ulid/v2"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/internal/caching"
	"github.com/crewbeat/crewbeat/services/internal/civil"
	"github.com/crewbeat/crewbeat/services/internal/event"
)

// Channel is where the sessions and the account of a user are told about.
func Channel(userID string) string { return "user:" + userID + ":session" }

// Config is what accounts need.
type Config struct {
	Store Store
	Cache *tiered.Store
	Now   func() time.Time // time.Now if nil
	// Hashing bounds how many passwords are hashed at once; each takes 19 MiB
	// and a core for some 20 ms. 2 if zero.
	Hashing int
}

// Accounts are the people who use Crewbeat.
type Accounts struct {
	store  Store
	cache  *tiered.Cache[string, User]
	now    func() time.Time
	hasher *hasher
}

// New returns the accounts of a store.
func New(c Config) (*Accounts, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	cache, err := caching.Open[User](c.Cache, caching.Users)
	if err != nil {
		return nil, err
	}
	h, err := newHasher(max(c.Hashing, 0))
	if err != nil {
		return nil, err
	}
	return &Accounts{c.Store, cache, c.Now, h}, nil
}

// Registration is what a new account needs.
type Registration struct {
	Email    string
	Name     string
	Password string
	TZ       string
	ID       string // chosen by seeds; made if empty
}

// Register makes an account; the first of an installation is its admin. An address that is taken is reported as
// [ErrEmailTaken].
func (as *Accounts) Register(ctx context.Context, r Registration) (User, error) {
	email, err := cleanEmail(r.Email)
	if err != nil {
		return User{}, err
	}
	name, err := cleanName(r.Name)
	if err != nil {
		return User{}, err
	}
	if err := checkPassword("password", r.Password); err != nil {
		return User{}, err
	}
	if err := checkZone(r.TZ); err != nil {
		return User{}, err
	}
	hash, err := as.hasher.hash(ctx, r.Password)
	if err != nil {
		return User{}, fmt.Errorf("hash password: %w", err)
	}
	if r.ID == "" {
		r.ID = uuid.Must(uuid.NewV7()).String()
	}
	now := as.now().Truncate(time.Millisecond)
	u := User{
		ID: r.ID, Email: email, Name: name, TZ: r.TZ, WeekStart: time.Monday, Locale: "en",
		Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	if u, err = as.store.RegisterUser(ctx, u, hash); err != nil {
		return User{}, fmt.Errorf("create user: %w", err)
	}
	return u, nil
}

// Authenticate returns the user whose address and password these are, else
// [ErrCredentials]; it takes the same work whether the address is known or
// not. [ErrBusy] means that too many are signing in at once.
func (as *Accounts) Authenticate(ctx context.Context, email, password string) (User, error) {
	email, err := cleanEmail(email)
	if err != nil {
		email = "" // nobody's
	}
	u, hash, err := as.store.UserByEmail(ctx, email)
	unknown := errors.Is(err, fault.ErrNotFound)
	if err != nil && !unknown {
		return User{}, fmt.Errorf("find user: %w", err)
	}
	if unknown || hash == "" {
		hash = as.hasher.decoy
		unknown = true
	}
	ok, err := as.hasher.verify(ctx, password, hash)
	if err != nil {
		return User{}, fmt.Errorf("verify password: %w", err)
	}
	if unknown || !ok {
		return User{}, ErrCredentials
	}
	// What was changed by a command, which cannot reach this process's memory,
	// is seen from the next sign-in on.
	_ = as.cache.Delete(ctx, u.ID)
	return u, nil
}

// Admin reports whether a user may run the installation; not by the cache,
// since a right that was taken must not live on in it.
func (as *Accounts) Admin(ctx context.Context, id string) (bool, error) {
	u, err := as.store.User(ctx, id)
	if err != nil {
		return false, fmt.Errorf("read rights of user %s: %w", id, err)
	}
	return u.IsAdmin, nil
}

// User returns a user, perhaps from the cache.
func (as *Accounts) User(ctx context.Context, id string) (User, error) {
	u, err := as.cache.GetOrLoad(ctx, id, func(ctx context.Context, id string, _ *tiered.Load[User]) (User, error) {
		u, err := as.store.User(ctx, id)
		if errors.Is(err, fault.ErrNotFound) {
			return User{}, fmt.Errorf("user %s: %w", id, tiered.ErrNotFound)
		}
		return u, err
	})
	if errors.Is(err, tiered.ErrNotFound) {
		return User{}, fmt.Errorf("read user %s: %w", id, fault.ErrNotFound)
	}
	if err != nil {
		return User{}, fmt.Errorf("read user %s: %w", id, err)
	}
	return u, nil
}

// Change is what is to be changed of a user; nil stays.
type Change struct {
	Name        *string
	TZ          *string
	DayStartMin *int
	WeekStart   *time.Weekday
}

// Update changes a user that was read with a version; 0 is any version, and a
// change made elsewhere in between is reported as [fault.ErrStale].
func (as *Accounts) Update(ctx context.Context, id string, version int64, c Change) (User, error) {
	u, err := as.store.User(ctx, id) // not the cache: a rule needs the truth
	if err != nil {
		return User{}, fmt.Errorf("update user %s: %w", id, err)
	}
	if version != 0 && version != u.Version {
		return User{}, fmt.Errorf("update user %s: %w", id, fault.ErrStale)
	}
	if c.Name != nil {
		if u.Name, err = cleanName(*c.Name); err != nil {
			return User{}, err
		}
	}
	if c.TZ != nil {
		if err := checkZone(*c.TZ); err != nil {
			return User{}, err
		}
		u.TZ = *c.TZ
	}
	if c.DayStartMin != nil {
		if *c.DayStartMin < 0 || *c.DayStartMin > 720 {
			return User{}, fault.Invalidf("day_start_min", "%d is not between 0 and 720: send minutes after midnight, up to noon", *c.DayStartMin)
		}
		u.DayStartMin = *c.DayStartMin
	}
	if c.WeekStart != nil {
		if *c.WeekStart < time.Sunday || *c.WeekStart > time.Saturday {
			return User{}, fault.Invalidf("week_start", "%d is not a day of the week: send 0 (Sunday) to 6 (Saturday)", *c.WeekStart)
		}
		u.WeekStart = *c.WeekStart
	}
	return as.save(ctx, u)
}

// SetPassword replaces the password of a user who knows the current one.
func (as *Accounts) SetPassword(ctx context.Context, id, current, next string) error {
	if err := checkPassword("new", next); err != nil {
		return err
	}
	u, err := as.store.User(ctx, id)
	if err != nil {
		return fmt.Errorf("change password of %s: %w", id, err)
	}
	_, hash, err := as.store.UserByEmail(ctx, u.Email)
	if err != nil {
		return fmt.Errorf("change password of %s: %w", id, err)
	}
	ok, err := as.hasher.verify(ctx, current, hash)
	if err != nil {
		return fmt.Errorf("verify password: %w", err)
	}
	if !ok {
		return fault.Invalidf("current", "this is not the present password: send the one you sign in with")
	}
	if hash, err = as.hasher.hash(ctx, next); err != nil {
		return fmt.Errorf("hash password: %w", err)
	}
	if err := as.store.SetPasswordHash(ctx, id, hash); err != nil {
		return fmt.Errorf("change password of %s: %w", id, err)
	}
	return nil
}

// Today returns the day it is for u.
func (as *Accounts) Today(u User) civil.Day { return u.DayAt(as.now()) }

// DayAt returns the day it is for u at an instant.
func (u User) DayAt(t time.Time) civil.Day {
	loc, err := civil.LoadZone(u.TZ)
	if err != nil {
		loc = time.UTC // a zone that this system no longer knows
	}
	return civil.LocalDay(t, loc, u.DayStartMin)
}

func (as *Accounts) save(ctx context.Context, u User) (User, error) {
	u.Version++
	u.UpdatedAt = as.now().Truncate(time.Millisecond)
	data, err := json.Marshal(map[string]int64{"version": u.Version})
	if err != nil {
		return User{}, fmt.Errorf("write event: %w", err)
	}
	err = as.store.SaveUser(ctx, u, event.Event{
		ID: ulid.Make().String(), Channel: Channel(u.ID), Name: "user_updated", Class: event.Latest,
		Data: data, At: u.UpdatedAt,
	})
	if err != nil {
		return User{}, fmt.Errorf("save user %s: %w", u.ID, err)
	}
	// Committed. If forgetting the old value fails, readers see it until its
	// TTL; that is no reason to report a failed change.
	_ = as.cache.Delete(ctx, u.ID)
	return u, nil
}

// NormalizeEmail returns the form of an address by which accounts are found.
func NormalizeEmail(s string) string { return strings.ToLower(strings.TrimSpace(s)) }

func cleanEmail(s string) (string, error) {
	s = NormalizeEmail(s)
	a, err := mail.ParseAddress(s)
	if err != nil || a.Address != s || len(s) > 254 || strings.ContainsFunc(s, unicode.IsControl) {
		return "", fault.Invalidf("email", "this is not an e-mail address: send one like mira@example.org")
	}
	if at := strings.LastIndexByte(s, '@'); at > 64 || !strings.Contains(s[at:], ".") {
		return "", fault.Invalidf("email", "this is not a full e-mail address: send one like mira@example.org")
	}
	return s, nil
}

func cleanName(s string) (string, error) {
	s = strings.TrimSpace(s)
	switch n := utf8.RuneCountInString(s); {
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return "", fault.Invalidf("name", "it holds characters that cannot be shown: send plain text")
	case n < 1 || n > 80:
		return "", fault.Invalidf("name", "it has %d characters: send 1 to 80", n)
	}
	return s, nil
}

func checkPassword(field, s string) error {
	if n := utf8.RuneCountInString(s); n < 10 || len(s) > 1024 {
		return fault.Invalidf(field, "it has %d characters: send 10 to 200", n)
	}
	return nil
}

func checkZone(name string) error {
	if _, err := civil.LoadZone(name); err != nil {
		return fault.Invalidf("tz", "%q is not a zone that is known here: send an IANA name like Europe/Berlin", name)
	}
	return nil
}
