package diagnose

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/redisconn"
)

const (
	mostSkew  = 2 * time.Second
	slowPing  = 20 * time.Millisecond // the median of several; a cache in the same data centre takes less than one
	pings     = 7
	doctorTTL = 10 * time.Second
)

// use does what the program does, and explains what fails.
func (e *examination) use(ctx context.Context, client redis.UniversalClient) {
	var denied []string
	failed := map[redisconn.Cause]bool{}
	try := func(what string, f func() error) {
		err := f()
		switch cause := redisconn.CauseOf(orNil(err)); {
		case err == nil:
		case errors.Is(err, redis.Nil) && len(failed) > 0: // what could not be written cannot be read: the cause is known
		case cause == redisconn.CausePermission:
			denied = append(denied, what)
		default:
			failed[cause] = true
		}
	}
	for _, prefix := range e.opts.Prefixes {
		key := prefix + "doctor:" + rand.Text()
		try("SET on "+prefix+"*", func() error { return client.Set(ctx, key, "1", doctorTTL).Err() })
		try("GET on "+prefix+"*", func() error { return client.Get(ctx, key).Err() })
		try("PEXPIRE on "+prefix+"*", func() error { return client.PExpire(ctx, key, doctorTTL).Err() })
		try("EVAL on "+prefix+"*", func() error { return client.Eval(ctx, "return redis.call('EXISTS', KEYS[1])", []string{key}).Err() })
		try("DEL on "+prefix+"*", func() error { return client.Del(ctx, key).Err() })
		stream := prefix + "doctor:" + rand.Text()
		try("XADD on "+prefix+"*", func() error {
			// Not a transaction: of one that fails, nobody says why (EXECABORT).
			_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.XAdd(ctx, &redis.XAddArgs{Stream: stream, Values: []string{"doctor", "1"}})
				p.PExpire(ctx, stream, doctorTTL)
				return nil
			})
			return err
		})
		try("XRANGE on "+prefix+"*", func() error { return client.XRange(ctx, stream, "-", "+").Err() })
		try("UNLINK on "+prefix+"*", func() error { return client.Unlink(ctx, stream).Err() })
	}
	for _, prefix := range e.opts.Channels {
		channel := prefix + "doctor:" + rand.Text()
		try("PUBLISH to "+prefix+"*", func() error { return client.Publish(ctx, channel, "1").Err() })
		try("SUBSCRIBE to "+prefix+"*", func() error {
			sub := client.Subscribe(ctx, channel)
			defer func() { _ = sub.Close() }()
			_, err := sub.ReceiveTimeout(ctx, commandTimeout)
			return err
		})
	}
	e.clock(ctx, client, try)
	if len(denied) > 0 {
		slices.Sort(denied)
		e.found(Finding{
			ID: "connection.acl", Area: Connection, Severity: Critical,
			Seen:   "The Redis user may not do what Crewbeat does: " + strings.Join(slices.Compact(denied), ", ") + ".",
			Causes: []string{"The user's ACL lacks these commands, or the keys and channels."},
			Next:   []string{"Give the user the ACL of docs/operations.md (ACL SETUSER); ACL LOG on the server tells what was denied."},
		})
	}
	for cause := range failed {
		e.unusable(cause)
	}
	if e.wants(Performance) {
		e.distance(ctx, client)
	}
}

func orNil(err error) error {
	if err == nil {
		return redis.Nil
	}
	return err
}

// unusable explains why Redis answers but does not do what it is told.
func (e *examination) unusable(cause redisconn.Cause) {
	f := Finding{
		ID: "connection.failing", Area: Connection, Severity: Critical,
		Seen:   "Redis answers, but does not do what Crewbeat needs: " + string(cause) + ".",
		Causes: []string{"The log of the server knows more."}, Next: []string{"Check " + cause.Hint() + "."},
	}
	switch cause { //nolint:exhaustive // the others have no more to say
	case redisconn.CauseReadOnly:
		f.ID, f.Seen = "connection.read_only", "The server refuses writes: it is a replica."
		f.Causes = []string{"REDIS_URL names a replica instead of the master.", "After a failover the old master came back as a replica, and the address was not changed."}
		f.Next = []string{"Name the master, or use Sentinel (redis+sentinel://HOST:26379/0?master=NAME), which follows it."}
	case redisconn.CauseOutOfMemory:
		f.ID, f.Area, f.Seen = "memory.full", Memory, "The server refuses writes: its memory is full, and its policy evicts nothing that it could."
		f.Causes = []string{"maxmemory is too small for what is kept.", "maxmemory-policy is noeviction, or evicts only keys that expire and there are none.", "Somebody else fills the same server."}
		f.Next = []string{"Raise maxmemory, or set maxmemory-policy volatile-lru: CONFIG SET takes effect at once."}
	case redisconn.CauseNotSaving:
		f.ID, f.Area, f.Seen = "persistence.refusing", Performance, "The server refuses writes (MISCONF): its last snapshot failed."
		f.Causes = []string{"The disk is full, or the folder may not be written.", "There was not enough memory to fork (vm.overcommit_memory)."}
		f.Next = []string{"See the server's log; mend the cause and run BGSAVE.", "Until then, CONFIG SET stop-writes-on-bgsave-error no makes it accept writes that a restart may lose."}
	}
	e.found(f)
}

// clock compares the server's clock with this machine's, in the middle of the
// round trip.
func (e *examination) clock(ctx context.Context, client redis.UniversalClient, try func(string, func() error)) {
	try("TIME", func() error {
		begin, here := time.Now(), e.opts.Now()
		there, err := client.Time(ctx).Result()
		if err != nil {
			return err
		}
		trip := time.Since(begin)
		skew := there.Sub(here.Add(trip / 2))
		if skew.Abs() <= mostSkew+trip/2 {
			return nil
		}
		which := "ahead of"
		if skew < 0 {
			which = "behind"
		}
		e.found(Finding{
			ID: "connection.clock", Area: Connection, Severity: Warning,
			Seen:   fmt.Sprintf("The server's clock is %s %s this machine's.", skew.Abs().Round(time.Second), which),
			Causes: []string{"One of the two machines has no NTP.", "A virtual machine was paused."},
			Next:   []string{"Set both clocks by NTP (chronyc tracking, timedatectl): times to live and limits go by the server's, sessions and certificates by this machine's."},
		})
		return nil
	})
}

// distance measures how long the shortest command takes.
func (e *examination) distance(ctx context.Context, client redis.UniversalClient) {
	var took []time.Duration
	for range pings {
		begin := time.Now()
		if client.Ping(ctx).Err() == nil {
			took = append(took, time.Since(begin))
		}
	}
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	median := took[len(took)/2]
	if median < slowPing {
		return
	}
	e.found(Finding{
		ID: "performance.far", Area: Performance, Severity: Warning,
		Seen:   fmt.Sprintf("PING takes %s (the median of %d).", median.Round(time.Millisecond), len(took)),
		Causes: []string{"The server is far away, or the network slow.", "The server is busy with long commands: see its slow log.", "Its machine swaps or has no processor to spare."},
		Next:   []string{"Run redis-cli --latency from this machine, and --intrinsic-latency on the server's.", "Keep Redis in the same data centre as Crewbeat."},
	})
}
