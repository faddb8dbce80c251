package bench

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/internal/telemetry"
	"github.com/crewbeat/crewbeat/services/realtime"
)

const secret = "only for benchmarks, on this machine"

// stores are what a node of Crewbeat stands on, as the programs open them.
type stores struct {
	db        *db.DB
	sessions  *session.Sessions
	redis     redis.UniversalClient // nil: the broker is this process's memory
	broker    event.Broker
	telemetry *telemetry.Telemetry
	log       *slog.Logger
}

// storeFlags are the arguments of processes that use the stores.
type storeFlags struct {
	database string
	redis    string // addresses; "" means memory
	cluster  bool
	window   time.Duration
	perUser  int
	sending  int // bytes that the kernel keeps of what a client does not read; 0: as it likes, up to megabytes
}

func parseStores(args []string) (f storeFlags, err error) {
	set := flag.NewFlagSet("stores", flag.ContinueOnError)
	set.StringVar(&f.database, "db", "", "")
	set.StringVar(&f.redis, "redis", "", "")
	set.BoolVar(&f.cluster, "cluster", false, "")
	set.DurationVar(&f.window, "window", 0, "")
	set.IntVar(&f.perUser, "peruser", 0, "")
	set.IntVar(&f.sending, "sending", 0, "")
	return f, set.Parse(args)
}

func (f storeFlags) args() []string {
	return []string{"-db", f.database, "-redis", f.redis, "-cluster=" + strconv.FormatBool(f.cluster), "-window", f.window.String(), "-peruser", strconv.Itoa(f.perUser), "-sending", strconv.Itoa(f.sending)}
}

func (f storeFlags) open(ctx context.Context) (s *stores, err error) {
	s = &stores{log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	if s.telemetry, err = telemetry.Setup(ctx, telemetry.Options{Service: "bench", Log: s.log}); err != nil {
		return nil, err
	}
	if s.db, err = db.Open(ctx, db.Config{URL: "sqlite:" + f.database}); err != nil {
		return nil, err
	}
	if s.sessions, err = session.New(session.Config{DB: s.db.SQL(), Secrets: []string{secret}}); err != nil {
		return nil, err
	}
	o := event.Options{Log: s.log, Tracer: s.telemetry.TracerProvider(), Meter: s.telemetry.MeterProvider()}
	switch {
	case f.redis == "":
		s.broker, err = event.NewMemory(o)
		return s, err
	case f.cluster:
		s.redis = redis.NewClusterClient(&redis.ClusterOptions{Addrs: strings.Split(f.redis, ",")})
	default:
		s.redis = redis.NewClient(&redis.Options{Addr: f.redis})
	}
	s.broker, err = event.NewRedis(ctx, s.redis, o)
	return s, err
}

func (s *stores) close(ctx context.Context) error {
	err := s.broker.Close()
	if s.redis != nil {
		err = errors.Join(err, s.redis.Close())
	}
	return errors.Join(err, s.db.Close(), s.telemetry.Shutdown(ctx))
}

// openCrewbeat is one node: the server of services/realtime on its stores, with
// metrics as in production. It drains when it ends.
func openCrewbeat(ctx context.Context, args []string) (*duties, error) {
	f, err := parseStores(args)
	if err != nil {
		return nil, err
	}
	s, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	rt, err := realtime.New(ctx, realtime.Config{
		DB: s.db, Sessions: s.sessions, Broker: s.broker, Redis: s.redis, Secret: secret,
		DrainWindow: f.window, Limits: realtime.Limits{PerUser: f.perUser},
		Log: s.log, Tracer: s.telemetry.TracerProvider(), Meter: s.telemetry.MeterProvider(),
	})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", rt.Handler())
	mux.Handle("/metrics", s.telemetry.MetricsHandler())
	addr, web, err := listen(ctx, mux, f.sending)
	if err != nil {
		return nil, err
	}
	commands := s.commands()
	commands["count"] = func(context.Context, []string) (string, error) { return strconv.Itoa(rt.Connections()), nil }
	commands["channels"] = func(context.Context, []string) (string, error) { return strconv.Itoa(rt.Channels()), nil }
	return &duties{addr: addr, commands: commands, close: func(ctx context.Context) error {
		if f.window > 0 {
			if err := rt.Drain(ctx); err != nil {
				return err
			}
		}
		return errors.Join(web.Close(), rt.Close(), s.close(ctx))
	}}, nil
}

// openPublisher is a process that only publishes, and signs people in.
func openPublisher(ctx context.Context, args []string) (*duties, error) {
	f, err := parseStores(args)
	if err != nil {
		return nil, err
	}
	s, err := f.open(ctx)
	if err != nil {
		return nil, err
	}
	return &duties{commands: s.commands(), close: s.close}, nil
}

// commands of whoever has stores.
func (s *stores) commands() map[string]func(context.Context, []string) (string, error) {
	p := &publishing{stores: s, pad: strings.Repeat("x", Payload-framing)}
	return map[string]func(context.Context, []string) (string, error){
		"people": func(ctx context.Context, args []string) (string, error) {
			n, err := number(args, 0)
			if err != nil {
				return "", err
			}
			tokens, err := s.people(ctx, n)
			return strings.Join(tokens, " "), err
		},
		// everybody N puts that many of them into the team "all".
		"everybody": func(ctx context.Context, args []string) (string, error) {
			n, err := number(args, 0)
			if err != nil {
				return "", err
			}
			return "", inTx(ctx, s.db.SQL(), func(tx *sql.Tx) error {
				for i := range n {
					if _, err := tx.ExecContext(ctx, `INSERT INTO memberships VALUES ('all', $1, 'member')`, "u"+strconv.Itoa(i)); err != nil {
						return err
					}
				}
				return nil
			})
		},
		"burst":  p.burst,
		"stream": p.stream,
		"stop":   p.stop,
	}
}

// schema is what realtime reads of the database.
const schema = `
CREATE TABLE IF NOT EXISTS sessions (
	id TEXT NOT NULL PRIMARY KEY, token_hash TEXT NOT NULL UNIQUE, user_id TEXT NOT NULL,
	created_at BIGINT NOT NULL, last_seen_at BIGINT NOT NULL, idle_expires_at BIGINT NOT NULL,
	abs_expires_at BIGINT NOT NULL, ip TEXT NOT NULL DEFAULT '', ua TEXT NOT NULL DEFAULT '', revoked_at BIGINT,
	replaced_by TEXT, renew BIGINT NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS memberships (team_id TEXT NOT NULL, user_id TEXT NOT NULL, role TEXT NOT NULL, PRIMARY KEY (team_id, user_id));
`

// teamSize is how many people a team has, besides the team of everybody.
const teamSize = 8

// people signs in n of them, named u0, u1, … Each is a member of one team of
// eight: t0, t1, …
func (s *stores) people(ctx context.Context, n int) (tokens []string, err error) {
	d := s.db.SQL()
	if _, err := d.ExecContext(ctx, schema); err != nil {
		return nil, err
	}
	err = inTx(ctx, d, func(tx *sql.Tx) error {
		for i := range n {
			u := "u" + strconv.Itoa(i)
			if _, err := tx.ExecContext(ctx, `INSERT INTO memberships VALUES ($2, $1, 'member')`, u, "t"+strconv.Itoa(i/teamSize)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range n {
		t, _, err := s.sessions.Create(ctx, "u"+strconv.Itoa(i), "127.0.0.1", "bench")
		if err != nil {
			return nil, err
		}
		tokens = append(tokens, t)
	}
	return tokens, nil
}

func inTx(ctx context.Context, d *sql.DB, f func(*sql.Tx) error) error {
	tx, err := d.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing once committed
	if err := f(tx); err != nil {
		return err
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}
