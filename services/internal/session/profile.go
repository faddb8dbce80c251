package session

import (
	"regexp"
	"time"
)

// Profile is how sessions are named, and how long they last.
type Profile struct {
	Cookie string
	// Host puts "__Host-" before the cookie's name over HTTPS, which makes
	// browsers refuse a cookie that was set by a sibling domain.
	Host  bool
	Cache string // the name of the sessions in keys: cb:{NAME:HMAC}
	Idle  time.Duration
	// Absolute ends also sessions that are used.
	Absolute time.Duration
}

// The profiles.
var (
	Crewbeat = Profile{Cookie: "crewbeat.sid", Host: true, Cache: "session", Idle: 24 * time.Hour, Absolute: 7 * 24 * time.Hour}

	// Crew is that of the crew scheduling app which Crewbeat replaces, so that
	// what is set up around it goes on to work: cookie "crewplots.sid", and
	// "crewplots:" in keys; a day, put off by use; HttpOnly, Secure, SameSite=Lax.
	// Its cookie has no "__Host-", so that a sibling domain can set one: it gets
	// nobody in, but can get people out. Sessions of that app itself cannot be
	// taken over, as it kept them under their raw ids; and use does not put
	// their end off for ever.
	Crew = Profile{Cookie: "crewplots.sid", Cache: "crewplots", Idle: 24 * time.Hour, Absolute: 7 * 24 * time.Hour}
)

var (
	cookieName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	cacheName  = regexp.MustCompile(`^[a-z][a-z0-9-]{0,31}$`)
)
