package monitor

import (
	"time"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

// State says what became of asking for a part.
type State string

// The states.
const (
	OK           State = "ok"
	NotPermitted State = "not_permitted" // the Redis user may not ask
	Unknown      State = "unknown"       // the server does not have it
	Failed       State = "failed"        // see the error
	NotYet       State = "not_yet"       // nobody has looked yet
)

// Part says whether what stands beside it was seen. If not, all of that is zero.
type Part struct {
	State State  `json:"state" enum:"ok,not_permitted,unknown,failed,not_yet"`
	Error string `json:"error,omitempty"` // a [redisconn.Cause], if it failed
}

// Snapshot is what was seen at the last look.
type Snapshot struct {
	At     time.Time         `json:"at"` // zero before the first look
	TookMs float64           `json:"took_ms"`
	Mode   redisconn.Mode    `json:"mode"`
	Pool   redisconn.Metrics `json:"pool"`  // of this process
	Nodes  []Node            `json:"nodes"` // by address; one, if it is not a Cluster
}

// Node is one server. Its parts up to persistence come from INFO, and have the
// state of that.
type Node struct {
	Part
	Addr          string      `json:"addr"`
	Role          string      `json:"role"` // master or slave, as Redis says
	Version       string      `json:"version"`
	UptimeSeconds int64       `json:"uptime_seconds"`
	Clients       Clients     `json:"clients"`
	Memory        Memory      `json:"memory"`
	Commands      Commands    `json:"commands"`
	Keyspace      Keyspace    `json:"keyspace"`
	Replication   Replication `json:"replication"`
	Persistence   Persistence `json:"persistence"`
	SlowLog       SlowLog     `json:"slow_log"`
	Latency       Latency     `json:"latency"`
	Sample        Sample      `json:"sample"`
}

// Clients are the connections that the server has, of everyone.
type Clients struct {
	Connected int64 `json:"connected"`
	Blocked   int64 `json:"blocked"`
	Max       int64 `json:"max"`      // 0: an old server does not say
	Received  int64 `json:"received"` // ever
	Rejected  int64 `json:"rejected"` // ever, for being too many
}

// Memory is in bytes.
type Memory struct {
	Used          int64    `json:"used_bytes"`
	Peak          int64    `json:"peak_bytes"`
	RSS           int64    `json:"rss_bytes"` // as the operating system sees it
	Dataset       int64    `json:"dataset_bytes"`
	Max           int64    `json:"max_bytes"`  // 0 means no limit
	UsedRatio     *float64 `json:"used_ratio"` // null without a limit
	Policy        string   `json:"policy"`     // maxmemory-policy
	Fragmentation float64  `json:"fragmentation_ratio"`
}

// Commands are those of everyone.
type Commands struct {
	Processed    int64   `json:"processed"` // ever
	PerSecond    int64   `json:"per_second"`
	ErrorReplies int64   `json:"error_replies"` // ever
	InKbps       float64 `json:"in_kbps"`
	OutKbps      float64 `json:"out_kbps"`
}

// Keyspace is what the server holds, and what became of it.
type Keyspace struct {
	Databases        []Database `json:"databases"`
	Hits             int64      `json:"hits"` // ever, of everyone
	Misses           int64      `json:"misses"`
	HitRatio         *float64   `json:"hit_ratio"` // null if nobody has asked
	Expired          int64      `json:"expired"`
	Evicted          int64      `json:"evicted"`            // for want of memory, ever
	EvictedPerSecond float64    `json:"evicted_per_second"` // since the look before
}

// Database is one that is not empty.
type Database struct {
	Number       int     `json:"number"`
	Keys         int64   `json:"keys"`
	Expiring     int64   `json:"expiring"` // of those, with a time to live
	AverageTTLMs float64 `json:"average_ttl_ms"`
}

// Replication tells how far copies are behind.
type Replication struct {
	Master     string    `json:"master"`      // address; of a replica
	LinkUp     bool      `json:"link_up"`     // to the master; of a replica
	LagSeconds int64     `json:"lag_seconds"` // since the master was heard; of a replica
	Replicas   []Replica `json:"replicas"`    // of a master
}

// Replica is a copy as its master sees it.
type Replica struct {
	Addr        string `json:"addr"`
	State       string `json:"state"` // online, or what comes before
	LagSeconds  int64  `json:"lag_seconds"`
	BehindBytes int64  `json:"behind_bytes"`
}

// Persistence tells whether a restart would lose what.
type Persistence struct {
	Loading          bool       `json:"loading"`
	Changes          int64      `json:"changes_since_save"`
	LastSave         *time.Time `json:"last_save"` // null: never
	LastSaveOK       bool       `json:"last_save_ok"`
	AOF              bool       `json:"aof"` // whether there is an append-only file, which the following is about
	LastAOFWriteOK   bool       `json:"last_aof_write_ok"`
	LastAOFRewriteOK bool       `json:"last_aof_rewrite_ok"`
	LastForkMs       float64    `json:"last_fork_ms"`
}

// SlowLog are the commands that took longest, newest first.
type SlowLog struct {
	Part
	Length  int64         `json:"length"`
	Entries []SlowCommand `json:"entries"`
}

// SlowCommand is a command that took long, without what it was about.
type SlowCommand struct {
	ID        int64     `json:"id"`
	At        time.Time `json:"at"`
	TookMs    float64   `json:"took_ms"`
	Command   string    `json:"command"`
	Arguments int       `json:"arguments"` // how many; Redis keeps 31 at most
	Client    string    `json:"client"`    // its address
	Name      string    `json:"name"`      // its name, if it has one
}

// Latency are the spikes that the server noticed itself, if
// latency-monitor-threshold is set.
type Latency struct {
	Part
	Events []Spike `json:"events"`
}

// Spike is a kind of them.
type Spike struct {
	Event    string    `json:"event"` // fork, expire-cycle, aof-write, …
	At       time.Time `json:"at"`
	LatestMs float64   `json:"latest_ms"`
	MaxMs    float64   `json:"max_ms"`
}

// Sample is of keys of the connection's database, of a master. Every sample
// goes on where the last one ended.
type Sample struct {
	Part
	At         *time.Time     `json:"at"`
	Keys       int            `json:"keys"`
	Eternal    int            `json:"eternal"`     // of those, without a time to live
	Forbidden  int            `json:"forbidden"`   // of those, the user may not look at
	ByPrefix   map[string]int `json:"by_prefix"`   // of the eternal ones
	WholeRound bool           `json:"whole_round"` // the sample was all there is
}
