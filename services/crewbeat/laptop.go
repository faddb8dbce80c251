package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"time"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/internal/serve"
	"github.com/crewbeat/crewbeat/services/internal/traceview"
)

// laptop is the all-in-one: what it was asked for and what it found.
type laptop struct {
	addr, data string
	demo       demoOption
	fresh      bool // the database did not exist before
	demoAdded  bool
}

// demoOption is true, false or auto; --demo alone is true.
type demoOption string

func (d *demoOption) String() string   { return string(*d) }
func (d *demoOption) IsBoolFlag() bool { return true }
func (d *demoOption) Set(s string) error {
	*d = demoOption(s)
	return nil
}

// serveAll is everything in one process.
func serveAll(ctx context.Context, in invocation) error {
	lap := laptop{demo: "auto"}
	err := in.parse("serve", func(f *flag.FlagSet) {
		f.StringVar(&lap.addr, "addr", "127.0.0.1:8080", "listen on `HOST:PORT`")
		f.StringVar(&lap.data, "data", "data", "keep the database in `FOLDER`")
		f.Var(&lap.demo, "demo", "add a demo team: `=true`, =false, or =auto, which adds it to a new database that only this machine reaches")
	})
	if err != nil {
		return err
	}
	if !slices.Contains([]demoOption{"auto", "true", "false"}, lap.demo) {
		return fmt.Errorf("--demo=%s: expected true, false or auto", lap.demo)
	}
	c, err := readConfig(in.getenv, program{})
	if err != nil {
		return err
	}
	l, err := serve.Listen(ctx, lap.addr, `--addr HOST:PORT (as in make run ARGS="--addr 127.0.0.1:8081")`)
	if err != nil {
		return err
	}
	defer l.Close() // its server has closed it, unless opening the rest failed
	address, err := localURL(l.Addr().String())
	if err != nil {
		return err
	}
	if c.PublicURL == "" {
		c.PublicURL = address
	}
	if err := lap.prepare(&c); err != nil {
		return err
	}
	s, err := newStack(ctx, "serve", c, in, traceview.New(traceview.Options{}))
	if err != nil {
		return err
	}
	handler, err := lap.open(ctx, s)
	if err != nil {
		return s.abandon(ctx, err)
	}
	s.parts = append(s.parts, serve.HTTP("http", lap.addr, handler, serve.HTTPOptions{Log: s.log, Listener: l}))
	s.closer("sockets", s.drain)
	return s.run(ctx, func(map[string]string) {
		fmt.Fprintf(in.stdout, "listening on %s\n", address)
		if lap.demoAdded || !lap.fresh && lap.demo != "false" && loopback(lap.addr) && api.HasDemo(ctx, s.db) {
			fmt.Fprintf(in.stdout, "demo sign-in: %s, password: %s\n", api.DemoEmail, api.DemoPassword)
		}
		in.announce(l.Addr().String())
	})
}

// prepare makes the data folder and fills in what a laptop's environment does
// not say.
func (lap *laptop) prepare(c *config) error {
	var err error
	if lap.fresh, err = prepareData(lap.data); err != nil {
		return err
	}
	if len(c.SessionSecrets) == 0 {
		secret, err := localSecret(lap.data)
		if err != nil {
			return err
		}
		c.SessionSecrets = []string{secret}
	}
	if c.DatabaseURL == "" {
		c.DatabaseURL = "sqlite:" + filepath.Join(lap.data, databaseFile)
	}
	// No load balancer looks at a laptop, and there is no other server that
	// its pages could turn to.
	c.DrainDelay, c.Shutdown = 0, min(c.Shutdown, 3*time.Second)
	return c.checkSecrets()
}

func (lap *laptop) open(ctx context.Context, s *stack) (http.Handler, error) {
	site, err := s.openPage(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.openDatabase(ctx, s.DatabaseURL); err != nil {
		return nil, err
	}
	if _, _, err := api.Migrate(ctx, s.db); err != nil {
		return nil, err
	}
	if err := s.openRedis(ctx); err != nil {
		return nil, err
	}
	if err := s.openAlerts(); err != nil {
		return nil, err
	}
	if err := s.openSessions(s.SessionSecrets); err != nil {
		return nil, err
	}
	a, err := s.openAPI()
	if err != nil {
		return nil, err
	}
	if lap.demo == "true" || lap.demo == "auto" && lap.fresh && loopback(lap.addr) {
		if lap.demoAdded, err = api.Seed(ctx, s.db, api.SeedOptions{}); err != nil {
			return nil, err
		}
		debug.FreeOSMemory() // hashing passwords took much that is not needed again
	}
	rt, err := s.openRealtime(ctx)
	if err != nil {
		return nil, err
	}
	s.drain = rt.Drain
	traces, err := s.tracesHandler()
	if err != nil {
		return nil, err
	}
	return routes{
		api: a.Handler(), realtime: rt.Handler(), traces: traces, metrics: s.telemetry.MetricsHandler(), page: site,
	}.handler(s.probes), nil
}
