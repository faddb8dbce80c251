package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
	"github.com/crewbeat/crewbeat/services/internal/serve"
	"github.com/crewbeat/crewbeat/services/internal/session"
	"github.com/crewbeat/crewbeat/services/internal/telemetry"
	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

// stack is what the services stand on, opened in order. Each thing that is
// opened leaves a part that closes it, so that the parts stop in reverse.
type stack struct {
	config
	name      string
	log       *slog.Logger
	probes    *serve.Probes
	telemetry *telemetry.Telemetry
	traces    *traceview.View // nil: traces go elsewhere
	db        *db.DB
	redis     *redisconn.Conn
	monitor   *monitor.Monitor // of redis
	cache     *tiered.Store
	sessions  *session.Sessions
	broker    event.Broker
	alerts    *alert.Engine               // nil without Redis
	drain     func(context.Context) error // of the sockets; nil: there are none
	parts     []serve.Part
}

// newStack starts logging and telemetry.
func newStack(ctx context.Context, name string, c config, in invocation, traces *traceview.View) (*stack, error) {
	s := &stack{config: c, name: name, log: newLog(c, in.stderr), probes: serve.NewProbes(), traces: traces}
	t, err := telemetry.Setup(ctx, telemetry.Options{
		Service: "crewbeat-" + name, Version: versionText(), Getenv: in.getenv, Log: s.log, TraceView: traces,
	})
	if err != nil {
		return nil, fmt.Errorf("set up telemetry: %w", err)
	}
	s.telemetry = t
	s.closer("telemetry", t.Shutdown)
	return s, nil
}

// openDatabase opens the database and watches it.
func (s *stack) openDatabase(ctx context.Context, url string) error {
	d, err := db.Open(ctx, db.Config{
		URL: url, Wait: s.DatabaseWait, Log: s.log, Tracer: s.telemetry.TracerProvider(), Meter: s.telemetry.MeterProvider(),
	})
	if err != nil {
		return err
	}
	s.db = d
	s.closer("database", func(context.Context) error { return d.Close() })
	watch, check := serve.Watch("database", 2*time.Second, d.Check, nil)
	s.parts = append(s.parts, watch)
	s.probes.Add("database", true, check)
	return nil
}

// openRedis opens Redis, the cache over it, and the broker. Without settings
// for Redis, cache and broker live in this process.
func (s *stack) openRedis(ctx context.Context) error {
	r, err := redisconn.Open(ctx, s.Redis, redisconn.Options{
		Log: s.log, Tracer: s.telemetry.Tracer(), Meter: s.telemetry.Meter(),
	})
	if err != nil {
		return err
	}
	s.redis = r
	s.telemetry.AddHistogram(commandTimes(r))
	s.closer("redis", func(context.Context) error { return r.Close() })
	if s.monitor, err = monitor.New(r, monitor.Options{Log: s.log, Meter: s.telemetry.Meter()}); err != nil {
		return fmt.Errorf("set up the monitor of redis: %w", err)
	}
	s.closer("redis monitor", func(context.Context) error { return s.monitor.Close() })
	s.parts = append(s.parts, serve.Task("redis watch", s.monitor.Run))
	if s.Redis.Enabled() {
		s.probes.Add("redis", s.Redis.Required, func() serve.Check {
			st := r.Status()
			return serve.Check{Up: st.Up, Failures: st.Failures, Since: st.Since, Cause: string(st.Cause)}
		})
	}
	opts := []tiered.Option{
		tiered.WithL1(s.CacheBytes), tiered.WithPrefix("cb"), tiered.WithLogger(s.log),
		tiered.WithTracerProvider(s.telemetry.TracerProvider()), tiered.WithMeterProvider(s.telemetry.MeterProvider()),
	}
	if s.Redis.Enabled() {
		opts = append(opts, tiered.WithRedis(r.Client()), tiered.WithRedisRequired(s.Redis.Required))
	}
	if s.cache, err = tiered.Open(ctx, opts...); err != nil {
		return fmt.Errorf("open the cache: %w", err)
	}
	s.closer("cache", s.cache.Close)
	events := event.Options{Log: s.log, Tracer: s.telemetry.TracerProvider(), Meter: s.telemetry.MeterProvider()}
	if s.Redis.Enabled() {
		s.broker, err = event.NewRedis(context.WithoutCancel(ctx), r.Client(), events)
	} else {
		s.broker, err = event.NewMemory(events)
	}
	if err != nil {
		return fmt.Errorf("open the broker: %w", err)
	}
	s.closer("broker", func(context.Context) error { return s.broker.Close() })
	return nil
}

func (s *stack) openSessions(secrets []string) error {
	var err error
	s.sessions, err = session.New(session.Config{
		DB: s.db.SQL(), Cache: s.cache, Secrets: secrets, Secure: s.secure(), Log: s.log,
		Profile: s.SessionProfile, CookieName: s.SessionCookie, CacheName: s.SessionPrefix,
	})
	if err != nil {
		return fmt.Errorf("set up sessions: %w", err)
	}
	return nil
}

func (s *stack) closer(name string, stop func(context.Context) error) {
	s.parts = append(s.parts, serve.Closer(name, stop))
}

// abandon closes what was opened when opening the rest has failed.
func (s *stack) abandon(ctx context.Context, reason error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	problems := []error{reason}
	for _, part := range slices.Backward(s.parts) {
		if part.Stop != nil {
			problems = append(problems, part.Stop(ctx))
		}
	}
	return errors.Join(problems...)
}

// run serves until the context or a signal ends it.
func (s *stack) run(ctx context.Context, ready func(addrs map[string]string)) error {
	return serve.Run(ctx, serve.Options{
		Log: s.log, Probes: s.probes, DrainDelay: s.DrainDelay, ShutdownTimeout: s.Shutdown, Ready: ready,
	}, s.parts...)
}

// newLog returns the program's log: text for a terminal, JSON for machines.
func newLog(c config, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.LogLevel)) // one of four words: it was checked
	opts := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" || c.LogFormat == "auto" && !terminal(w) {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func terminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
