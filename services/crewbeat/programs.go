package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"

	"github.com/crewbeat/crewbeat/services/api"
	"github.com/crewbeat/crewbeat/services/crewbeat/page"
	"github.com/crewbeat/crewbeat/services/internal/serve"
	"github.com/crewbeat/crewbeat/services/internal/traceview"
	"github.com/crewbeat/crewbeat/services/realtime"
)

// openAPI makes the API on the stack, with a part for its background work.
func (s *stack) openAPI() (*api.API, error) {
	a, err := api.New(api.Config{
		DB: s.db, Cache: s.cache, Sessions: s.sessions, Broker: s.broker, Redis: s.redis, Monitor: s.monitor,
		PublicURL: s.PublicURL, AllowedOrigins: s.Origins, TrustedProxies: s.TrustedProxies,
		Alerts: s.alerts, Node: s.node(),
		Limits: s.Limits, Secret: s.limitSecret(), Traces: s.traces != nil,
		Log: s.log, Tracer: s.telemetry.TracerProvider(), Meter: s.telemetry.MeterProvider(), Version: versionText(),
	})
	if err != nil {
		return nil, fmt.Errorf("set up the API: %w", err)
	}
	s.parts = append(s.parts, serve.Task("api", a.Run))
	return a, nil
}

// openRealtime makes the realtime server on the stack. Its sockets are
// hijacked from HTTP, so that they are drained by a part of their own, which
// the caller adds after its HTTP part.
func (s *stack) openRealtime(ctx context.Context) (*realtime.Server, error) {
	rt, err := realtime.New(ctx, realtime.Config{
		// Clients that are half a window late are cut off, and all of that
		// has to fit into the time to stop, with some left for the others.
		DrainWindow: s.Shutdown / 2,
		DB:          s.db, Sessions: s.sessions, Broker: s.broker, Origins: s.allowedOrigins(),
		Redis: s.redis.Client(), Secret: s.limitSecret(), TrustedProxies: s.TrustedProxies,
		Log: s.log, Tracer: s.telemetry.TracerProvider(), Meter: s.telemetry.MeterProvider(), Version: versionText(),
	})
	if err != nil {
		return nil, fmt.Errorf("set up realtime: %w", err)
	}
	s.closer("realtime", func(context.Context) error { return rt.Close() })
	return rt, nil
}

// passOn hands requests, and the WebSockets they become, to another server.
// The request keeps its host, so that the origin check there stays exact.
func passOn(to string, log *slog.Logger) (http.Handler, error) {
	target, err := url.Parse(to)
	if err != nil {
		return nil, fmt.Errorf("REALTIME_URL: %w", err)
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		ErrorLog: slog.NewLogLogger(log.With("upstream", "realtime").Handler(), slog.LevelWarn),
	}, nil
}

// openPage returns the web page, or what is said in its place by a binary
// that was compiled without it.
func (s *stack) openPage(ctx context.Context) (http.Handler, error) {
	site, err := page.New()
	if errors.Is(err, page.ErrNotBuilt) {
		s.log.WarnContext(ctx, "there is no page to serve", "reason", err.Error())
		return page.Missing(), nil
	}
	return site, err
}

// allowedOrigins are the page's own, where it is known, and what the operator
// added.
func (s *stack) allowedOrigins() []string {
	if s.PublicURL == "" {
		return s.Origins
	}
	return append([]string{origin(s.PublicURL)}, s.Origins...)
}

// routes says who answers what. A nil handler is not served.
type routes struct {
	api, realtime, traces, metrics, page http.Handler
}

func (r routes) handler(probes *serve.Probes) http.Handler {
	mux := http.NewServeMux()
	add := func(h http.Handler, patterns ...string) {
		for _, p := range patterns {
			if h != nil {
				mux.Handle(p, h)
			}
		}
	}
	add(probes.Handler(), "/livez", "/readyz", "/startupz")
	add(r.api, "/api/", "/openapi.json", "/docs", "/docs/")
	add(r.realtime, "/rt/")
	add(r.traces, "/traces", "/traces/", "/v1/traces")
	add(r.metrics, "/metrics")
	add(r.page, "/")
	return mux
}

// serveAPI is the HTTP API and the page.
func serveAPI(ctx context.Context, in invocation) error {
	return serveService(ctx, in, "api", func(ctx context.Context, s *stack) (routes, error) {
		site, err := s.openPage(ctx)
		if err != nil {
			return routes{}, err
		}
		a, err := s.openAPI()
		if err != nil {
			return routes{}, err
		}
		r := routes{api: a.Handler(), page: site}
		if s.RealtimeURL != "" {
			if r.realtime, err = passOn(s.RealtimeURL, s.log); err != nil {
				return routes{}, err
			}
		}
		if s.traces != nil {
			if r.traces, err = s.tracesHandler(); err != nil {
				return routes{}, err
			}
		}
		return r, nil
	})
}

// serveRealtime is the WebSockets.
func serveRealtime(ctx context.Context, in invocation) error {
	return serveService(ctx, in, "realtime", func(ctx context.Context, s *stack) (routes, error) {
		rt, err := s.openRealtime(ctx)
		if err != nil {
			return routes{}, err
		}
		s.drain = rt.Drain
		return routes{realtime: rt.Handler()}, nil
	})
}

// serveService serves one of the two services, with its metrics on a port of
// their own.
func serveService(ctx context.Context, in invocation, name string, open func(context.Context, *stack) (routes, error)) error {
	addr, err := in.parseAddr(name, ":8080")
	if err != nil {
		return err
	}
	c, err := readConfig(in.getenv, program{database: true, sessions: true, redis: true})
	if err != nil {
		return err
	}
	if c.PublicURL == "" { // not in production: that was checked
		if c.PublicURL, err = localURL(addr); err != nil {
			return err
		}
	}
	var traces *traceview.View
	if c.TraceView {
		traces = traceview.New(traceview.Options{})
	}
	s, err := newStack(ctx, name, c, in, traces)
	if err != nil {
		return err
	}
	handler, err := s.openService(ctx, open)
	if err != nil {
		return s.abandon(ctx, err)
	}
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", s.telemetry.MetricsHandler())
	s.parts = append(s.parts,
		serve.HTTP("metrics", c.MetricsAddr, metrics, serve.HTTPOptions{Log: s.log, Change: "METRICS_ADDR"}),
		serve.HTTP(name, addr, handler, serve.HTTPOptions{Log: s.log}))
	if s.drain != nil {
		s.closer("sockets", s.drain)
	}
	return s.run(ctx, func(addrs map[string]string) {
		s.log.InfoContext(ctx, "listening", "addr", addrs[name], "metrics", addrs["metrics"], "version", versionText())
		in.announce(addrs[name])
	})
}

func (s *stack) openService(ctx context.Context, open func(context.Context, *stack) (routes, error)) (http.Handler, error) {
	if err := s.openDatabase(ctx, s.DatabaseURL); err != nil {
		return nil, err
	}
	if err := api.CheckSchema(ctx, s.db); err != nil {
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
	r, err := open(ctx, s)
	if err != nil {
		return nil, err
	}
	return r.handler(s.probes), nil
}

// serveTraces shows the traces that other programs send over OTLP/HTTP.
func serveTraces(ctx context.Context, in invocation) error {
	addr, err := in.parseAddr("traceview", "127.0.0.1:4318")
	if err != nil {
		return err
	}
	c, err := readConfig(in.getenv, program{})
	if err != nil {
		return err
	}
	s := &stack{config: c, log: newLog(c, in.stderr), probes: serve.NewProbes(), traces: traceview.New(traceview.Options{})}
	s.parts = []serve.Part{
		serve.HTTP("traceview", addr, routes{traces: s.traces.Handler()}.handler(s.probes), serve.HTTPOptions{Log: s.log}),
	}
	return s.run(ctx, func(addrs map[string]string) {
		s.log.InfoContext(ctx, "listening", slog.String("addr", addrs["traceview"]))
		in.announce(addrs["traceview"])
	})
}
