// Package session knows who is signed in.
//
// The database is the truth; a cache in front of it saves most of the reading
// and may disappear at any time without signing anybody out.
//
// # Guarantees
//
//   - A token is 32 random bytes. The database and the cache hold only its
//     HMAC under the application's secret: neither lets a reader in.
//   - A session that was revoked is dead on the node that did it when Revoke
//     returns, and on all others within a second: with Redis, without, and if
//     only the node that revoked has lost it. Redis is told, but nobody relies
//     on it: each node in use asks the database twice a second for what was
//     revoked since, which an index answers, and remembers it for a minute.
//   - A sign-in has a new token, always: one that was planted in the browser
//     before is worth nothing after, and a session that the browser had ends.
//     So is the token of a session new after its user's rights have changed.
//   - Of many nodes that see a session only one notes it, once a minute.
//   - No session is longer than a week, however often it is used or rotated.
//   - A session holds who, since when and from where, and nothing else: no
//     data of callers that could be mistaken for the user, raced for or lost.
//     Crewbeat needs none; what pages remember belongs to the account. The user
//     is written once, by Create or Replace, and no method changes it.
//
// # Not guaranteed
//
// The second is of nodes whose clocks agree to fifteen seconds, and can reach
// the database. A node that cannot reach it signs nobody out: what it has
// cached counts for up to ten seconds more, unless Redis brings the news.
package session

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/internal/caching"
)

// ErrNone reports that there is no session that is alive: the token is absent,
// forged, expired or revoked.
var ErrNone = errors.New("not signed in")

// ErrReplaced is an [ErrNone] of a token in whose place there is a new one: the
// browser has it, or is about to get it with another answer. It must not be
// made to forget its cookie; asked again, it sends the new one.
var ErrReplaced = fmt.Errorf("session was replaced: %w", ErrNone)

// Session is somebody's being signed in, in one browser.
type Session struct {
	ID            string    `json:"id"`
	UserID        string    `json:"user_id"`
	CreatedAt     time.Time `json:"created_at"`
	LastSeenAt    time.Time `json:"last_seen_at"`
	IdleExpiresAt time.Time `json:"idle_expires_at"` // moves with use; never after AbsExpiresAt
	AbsExpiresAt  time.Time `json:"abs_expires_at"`
	IP            string    `json:"ip"`         // of the sign-in
	UserAgent     string    `json:"user_agent"` // of the sign-in
	// Renew asks for [Sessions.Rotate] before the session is used again.
	Renew bool `json:"renew,omitempty"`

	hash string // under which it is stored
}

// ExpiresAt returns when the session ends if it is not used any more.
func (s Session) ExpiresAt() time.Time { return s.IdleExpiresAt }

// Config fits [Sessions]. DB and Secrets are needed.
type Config struct {
	DB *sql.DB
	// Cache is put in front of the database; nil means none.
	Cache *tiered.Store
	// Secrets sign tokens: the first the new ones, and any of them the old
	// ones, so that a secret can be replaced without signing people out.
	Secrets []string
	// CookieName is that of the profile unless given, and used as it is. Names
	// that begin with "__Host-" or "__Secure-" need Secure.
	CookieName string
	// CacheName is that of the profile unless given: the first part of keys in
	// Redis, after the prefix of all.
	CacheName string
	// Profile is what the names are; [Crewbeat] unless given.
	Profile Profile
	// Secure is for HTTPS, that is for production.
	Secure bool
	// Idle ends a session that is not used, Absolute every session; zero means
	// what the profile says.
	Idle, Absolute time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log hears when the cache could not be told of a revocation; nil discards.
	Log *slog.Logger
}

const (
	touchEvery = time.Minute
	keepEnded  = 7 * 24 * time.Hour
	minSecret  = 32
)

func (c Config) withDefaults() Config {
	if c.Profile == (Profile{}) {
		c.Profile = Crewbeat
	}
	if c.CookieName == "" {
		c.CookieName = c.Profile.Cookie
		if c.Secure && c.Profile.Host {
			c.CookieName = hostPrefix + c.CookieName
		}
	}
	if c.CacheName == "" {
		c.CacheName = c.Profile.Cache
	}
	if c.Idle <= 0 {
		c.Idle = c.Profile.Idle
	}
	if c.Absolute <= 0 {
		c.Absolute = c.Profile.Absolute
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c Config) validate() error {
	if c.DB == nil {
		return errors.New("sessions need a database")
	}
	if len(c.Secrets) == 0 {
		return errors.New("SESSION_SECRET is empty: set it to the output of `openssl rand -base64 32`")
	}
	for i, s := range c.Secrets {
		if s == "" || c.Secure && len(s) < minSecret {
			return fmt.Errorf("SESSION_SECRET: secret %d of %d has %d characters, at least %d are needed: use the output of `openssl rand -base64 32`",
				i+1, len(c.Secrets), len(s), minSecret)
		}
	}
	if !cookieName.MatchString(c.CookieName) {
		return fmt.Errorf("the cookie name %q: expected at most 64 letters, digits and - . _", c.CookieName)
	}
	if !cacheName.MatchString(c.CacheName) {
		return fmt.Errorf("the name %q of sessions in the cache: expected at most 32 lower-case letters, digits and hyphens", c.CacheName)
	}
	if !c.Secure && (strings.HasPrefix(c.CookieName, hostPrefix) || strings.HasPrefix(c.CookieName, "__Secure-")) {
		return fmt.Errorf("the cookie name %s is only for HTTPS", c.CookieName)
	}
	return nil
}

// Sessions are those of all users. It is safe for concurrent use.
type Sessions struct {
	config Config
	cache  *tiered.Cache[string, Session] // nil without a cache; by hash
	ended  ended
}

// New returns the sessions in c.DB.
func New(c Config) (*Sessions, error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	s := &Sessions{config: c, ended: ended{dead: map[string]death{}, watch: map[int]func(Ended){}}}
	if c.Cache == nil {
		return s, nil
	}
	space := caching.Sessions
	space.Name = c.CacheName
	cache, err := caching.Open[Session](c.Cache, space)
	if err != nil {
		return nil, err
	}
	s.cache = cache
	return s, nil
}

// Create signs a user in and returns the token, which is nowhere else, and the
// session. The ip and ua are shown to the user in the list of sessions.
func (s *Sessions) Create(ctx context.Context, userID, ip, ua string) (token string, _ Session, err error) {
	token, row, err := s.draft()
	if err != nil {
		return "", Session{}, fmt.Errorf("create session: %w", err)
	}
	s.begin(&row, userID, ip, ua)
	if err := s.insert(ctx, s.config.DB, row); err != nil {
		return "", Session{}, fmt.Errorf("create session of user %s: %w", userID, err)
	}
	return token, row, nil
}

// draft returns a session that is nobody's yet, and its token.
func (s *Sessions) draft() (token string, _ Session, err error) {
	id, err := uuid.NewV7()
	if err != nil {
		return "", Session{}, fmt.Errorf("make an id: %w", err)
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // never fails
	token = base64.RawURLEncoding.EncodeToString(random)
	now := s.clock()
	return token, Session{
		ID: id.String(), CreatedAt: now, LastSeenAt: now, AbsExpiresAt: now.Add(s.config.Absolute),
		hash: digest(s.config.Secrets[0], token),
	}, nil
}

// begin makes a draft the session of a user who signs in.
func (s *Sessions) begin(row *Session, userID, ip, ua string) {
	row.UserID, row.IP, row.UserAgent = userID, printable(ip, 64), printable(ua, 256)
	row.IdleExpiresAt = s.idleEnd(*row, row.CreatedAt)
}

// Lookup returns the session of a token; [ErrNone] if it has none that is
// alive, which is [ErrReplaced] if it was given another token. Any other error means that nobody can tell, and signs nobody out.
func (s *Sessions) Lookup(ctx context.Context, token string) (Session, error) {
	if !wellFormed(token) {
		return Session{}, ErrNone
	}
	if s.cache != nil {
		s.current(ctx) // what is cached may have ended elsewhere
	}
	for _, secret := range s.config.Secrets {
		row, err := s.byHash(ctx, digest(secret, token))
		if errors.Is(err, ErrNone) && !errors.Is(err, ErrReplaced) {
			continue
		}
		if err != nil {
			return Session{}, fmt.Errorf("look up session: %w", err)
		}
		return row, nil
	}
	return Session{}, ErrNone
}

func (s *Sessions) byHash(ctx context.Context, hash string) (Session, error) {
	if s.cache == nil {
		return s.read(ctx, hash)
	}
	if err := s.ended.of(hash); err != nil {
		return Session{}, err
	}
	row, err := s.cache.GetOrLoad(ctx, hash, func(ctx context.Context, hash string, _ *tiered.Load[Session]) (Session, error) {
		row, err := s.read(ctx, hash)
		if errors.Is(err, ErrReplaced) {
			// The cache remembers only that there is none.
			s.ended.add(s.config.Now(), Ended{hash: hash, SessionID: row.ID, UserID: row.UserID, Replaced: true})
		}
		if errors.Is(err, ErrNone) {
			err = tiered.ErrNotFound
		}
		return row, err
	})
	if err := s.ended.of(hash); err != nil {
		return Session{}, err // heard of meanwhile
	}
	switch {
	case errors.Is(err, tiered.ErrNotFound):
		return Session{}, ErrNone
	case err != nil:
		return Session{}, err
	case !s.clock().Before(row.IdleExpiresAt):
		// Another node may have seen it since it was cached.
		return s.read(ctx, hash)
	}
	row.hash = hash
	return row, nil
}

// Touch notes that a session is in use and puts its end off, at most once a
// minute. It returns the session as it now is; touched says that the browser
// has to be sent the cookie again, whose end has moved too.
func (s *Sessions) Touch(ctx context.Context, row Session) (_ Session, touched bool, err error) {
	now := s.clock()
	if now.Before(row.LastSeenAt.Add(touchEvery)) {
		return row, false, nil
	}
	seen := row
	seen.LastSeenAt, seen.IdleExpiresAt = now, s.idleEnd(row, now)
	if touched, err = s.updateSeen(ctx, seen); err != nil {
		return row, false, fmt.Errorf("touch session %s: %w", row.ID, err)
	}
	// Forgotten, not replaced: what is written here could bring back a session
	// that has just been revoked. It is forgotten as well if another node was
	// faster, so that the next look-up sees what that one wrote.
	s.forget(ctx, row.hash)
	if !touched {
		return row, false, nil
	}
	return seen, true, nil
}

// Revoke ends a session of a user; [ErrNone] if the user has no such session.
// Revoking it again does nothing.
func (s *Sessions) Revoke(ctx context.Context, userID, sessionID string) error {
	gone, err := s.end(ctx, revoke+"user_id = $2 AND id = $3"+returning, userID, sessionID)
	if err != nil {
		return fmt.Errorf("revoke session %s: %w", sessionID, err)
	}
	if len(gone) == 0 {
		return ErrNone
	}
	s.bury(ctx, gone)
	return nil
}

// RevokeAll ends all sessions of a user but the one with the id exceptID,
// which may be empty, and returns the ids of those it has ended.
func (s *Sessions) RevokeAll(ctx context.Context, userID, exceptID string) (ids []string, err error) {
	gone, err := s.end(ctx, revoke+"user_id = $2 AND id <> $3 AND revoked_at IS NULL"+returning, userID, exceptID)
	if err != nil {
		return nil, fmt.Errorf("revoke sessions of user %s: %w", userID, err)
	}
	s.bury(ctx, gone)
	for _, one := range gone {
		ids = append(ids, one.SessionID)
	}
	return ids, nil
}

// bury makes this node, and the cache, forget sessions that have ended.
func (s *Sessions) bury(ctx context.Context, gone []Ended) {
	s.ended.add(s.config.Now(), gone...)
	hashes := make([]string, len(gone))
	for i, one := range gone {
		hashes[i] = one.hash
	}
	s.forget(ctx, hashes...)
}

// List returns the sessions of a user that are alive, the newest first.
func (s *Sessions) List(ctx context.Context, userID string) ([]Session, error) {
	list, err := s.query(ctx, alive+"user_id = $2 ORDER BY created_at DESC, id DESC", userID)
	if err != nil {
		return nil, fmt.Errorf("list sessions of user %s: %w", userID, err)
	}
	return list, nil
}

// Sweep removes sessions that ended a week ago, and returns how many. It may
// run in many processes at once.
func (s *Sessions) Sweep(ctx context.Context) (removed int64, err error) {
	if removed, err = s.remove(ctx, s.clock().Add(-keepEnded)); err != nil {
		return 0, fmt.Errorf("sweep sessions: %w", err)
	}
	return removed, nil
}

// forget takes sessions out of the cache, after they were committed. If that
// fails, other nodes learn it from the database a moment later.
func (s *Sessions) forget(ctx context.Context, hashes ...string) {
	if s.cache == nil {
		return
	}
	// The caller may have gone; what was revoked must die all the same.
	ctx = context.WithoutCancel(ctx)
	for _, hash := range hashes {
		if err := s.cache.Delete(ctx, hash); err != nil {
			s.config.Log.WarnContext(ctx, "redis was not told that a session has changed", slog.Any("cause", err))
		}
	}
}

func (s *Sessions) idleEnd(row Session, now time.Time) time.Time {
	end := now.Add(s.config.Idle)
	if end.After(row.AbsExpiresAt) {
		return row.AbsExpiresAt
	}
	return end
}

// clock returns the time in the resolution in which it is stored.
func (s *Sessions) clock() time.Time { return s.config.Now().UTC().Truncate(time.Millisecond) }

// digest is what is stored of a token. The label keeps it apart from whatever
// else the secret may sign.
func digest(secret, token string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("session\x00" + token)) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// successor is the token in place of one with that hash, for a session. It takes
// the secret to know it.
func successor(secret, hash, sessionID string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte("successor\x00" + hash + "\x00" + sessionID)) // never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// wellFormed keeps what cannot be a token away from database and cache.
func wellFormed(token string) bool {
	if len(token) != base64.RawURLEncoding.EncodedLen(32) {
		return false
	}
	_, err := base64.RawURLEncoding.DecodeString(token)
	return err == nil
}

// printable returns at most limit characters of what a client sent, without
// those that a database or a terminal would stumble over.
func printable(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	if r := []rune(s); len(r) > limit {
		return string(r[:limit])
	}
	return s
}
