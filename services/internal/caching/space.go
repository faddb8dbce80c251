package caching

import (
	"fmt"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
)

// Class is how long a value may be kept at most. Entries live up to a tenth
// less, by chance, so that what was cached together does not expire together;
// never more, as a class is a bound.
type Class time.Duration

// The classes.
const (
	Flash   = Class(time.Minute)
	Short   = Class(5 * time.Minute)
	Medium  = Class(30 * time.Minute)
	Long    = Class(time.Hour)
	Daily   = Class(24 * time.Hour)
	Weekly  = Class(7 * 24 * time.Hour)
	Monthly = Class(30 * 24 * time.Hour)
)

// Options are the class as options of an entry or of a cache's defaults.
func (c Class) Options() []tiered.EntryOption {
	return []tiered.EntryOption{tiered.TTL(time.Duration(c)), tiered.Jitter(0.1)}
}

// Space is a cache of the programs: a namespace of the tiered store.
type Space struct {
	Name  string // of the namespace; part of its keys
	Key   string // what a key names
	Holds string
	Ends  string // what makes an entry go before its time
	Class Class  // 0: Options say it
	// Options are beyond the class.
	Options []tiered.EntryOption
}

// The caches.
var (
	Users = Space{
		Name: "user", Key: "user id", Holds: "an account without its password", Class: Long,
		Ends: "a change of the account",
	}
	Habits = Space{
		Name: "habits", Key: "user id", Holds: "a person's habits", Class: Medium,
		Ends: "the tag habits:USER, at every change of a habit",
	}
	Weeks = Space{
		Name: "dashboard", Key: "user id:first day:today", Holds: "a week of habits with its records and streaks", Class: Long,
		Ends: "the tag habits:USER, at every tick and change of a habit",
	}
	Teams = Space{
		Name: "team", Key: "team id", Holds: "a team and its members", Class: Short,
		Ends: "the tag team:TEAM, at every change of the team",
	}
	// Sessions must be gone everywhere a second after they were revoked, also
	// when messages are lost.
	Sessions = Space{
		Name: "session", Key: "HMAC of the token", Holds: "a session",
		Ends:    "its being revoked, touched or replaced",
		Options: []tiered.EntryOption{tiered.TTL(10 * time.Second), tiered.L1TTL(time.Second), tiered.NegativeTTL(10 * time.Second)},
	}
)

// Spaces are all caches.
var Spaces = []Space{Users, Habits, Weeks, Teams, Sessions}

// Open makes a space's cache, or says what of V may not be cached.
func Open[V any](store *tiered.Store, s Space, options ...tiered.CacheOption) (*tiered.Cache[string, V], error) {
	if err := vet[V](); err != nil {
		return nil, fmt.Errorf("open cache %s: %w", s.Name, err)
	}
	defaults := s.Options
	if s.Class > 0 {
		defaults = append(s.Class.Options(), s.Options...)
	}
	c, err := tiered.New[string, V](store, s.Name, append([]tiered.CacheOption{tiered.WithDefaults(defaults...)}, options...)...)
	if err != nil {
		return nil, fmt.Errorf("open cache %s: %w", s.Name, err)
	}
	return c, nil
}

// Prefix begins the keys of the caches and limits.
const Prefix = "cb"

// Family is a pattern of keys in Redis. Pattern is a regular expression.
type Family struct {
	Pattern string
	Holds   string
}

// Families are all keys that Crewbeat writes.
func Families() []Family {
	const id = `[0-9a-f-]{36}`
	list := []Family{
		{`cb:n:[a-z-]+`, "the version of a cache, which Clear raises"},
		{`cb:t:[a-z]+:` + id, "the version of a tag"},
		{`cb:rl:[a-z-]+:(fixed|sliding|gcra):[A-Za-z0-9_-]{22}`, "how often somebody has asked; the asker is a keyed hash"},
		{`rt:\{(user|team):` + id + `:[a-z]+\}:(s|m)`, "the last events of a channel, and where it stands"},
		{`rt:\{(user|team):` + id + `:[a-z]+\}:o:[0-9A-Z]{26}`, "that an event was published"},
		{`rt:q:\{[A-Za-z0-9_-]{22}\}`, "who is connected, as leases; the person or address is a keyed hash"},
		{`rt:p:\{team:` + id + `\}`, "who of a team is connected, as leases of nodes"},
		{`rt:t:\{[A-Za-z0-9_-]{22}\}`, "what a ticket stands for, sealed by the ticket"},
		{`crewbeat[a-z-]*:health:[A-Z2-7]{26}`, "a health check"},
	}
	for _, s := range Spaces {
		list = append(list, Family{`cb:\{` + s.Name + `:[^{}]+\}(:l)?`, s.Holds}, Family{`cb:l:\{` + s.Name + `:[^{}]+\}`, "who loads it"})
	}
	return list
}
