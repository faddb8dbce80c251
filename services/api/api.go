// Package api is the part of Crewbeat that people and pages ask: accounts,
// habits, teams, over HTTP. What happens is written to an outbox with the
// change that made it happen, and published from there.
//
//	httpapi → account | habit | team → tiered → store
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/api/internal/fault"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/httpapi"
	"github.com/crewbeat/crewbeat/services/api/internal/store"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/telemetry"
)

// sweepEvery is how often what is over is removed; each process starts at a
// random point of it, so that they do not all sweep at once.
const sweepEvery = 10 * time.Minute

// API is a running part of Crewbeat. Make one with [New].
type API struct {
	c       Config
	store   *store.Store
	handler http.Handler
	relay   *event.Relay
	panel   *admin.Panel
}

// New returns the API on what c holds. The database's schema must be up to
// date: see [Migrate].
func New(c Config) (*API, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	a := &API{c: c, store: store.New(c.DB, store.Options{Now: c.Now})}
	accounts, err := account.New(account.Config{Store: a.store.Accounts(), Cache: c.Cache, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("make accounts: %w", err)
	}
	habits, err := habit.New(habit.Config{Store: a.store.Habits(), Cache: c.Cache, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("make habits: %w", err)
	}
	teams, err := team.New(team.Config{Store: a.store.Teams(), Cache: c.Cache, Now: c.Now})
	if err != nil {
		return nil, fmt.Errorf("make teams: %w", err)
	}
	a.relay, err = event.NewRelay(event.RelayOptions{
		Outbox: a.store.Outbox(), Broker: c.Broker, Now: c.Now, Log: c.Log, Tracer: c.Tracer, Meter: c.Meter,
	})
	if err != nil {
		return nil, fmt.Errorf("make relay: %w", err)
	}
	a.panel, err = admin.New(admin.Config{
		Cache: c.Cache, Redis: c.Redis, Monitor: c.Monitor, Alerts: c.Alerts, Audit: a.store.Audit(), Node: c.Node, Now: c.Now,
	})
	if err != nil {
		return nil, fmt.Errorf("make the admin's panel: %w", err)
	}
	limiter, err := c.limiter()
	if err != nil {
		return nil, fmt.Errorf("make limits: %w", err)
	}
	handler, err := httpapi.New(httpapi.Config{
		Accounts: accounts, Habits: habits, Teams: teams, Admin: a.panel, Sessions: c.Sessions,
		Position: a.position, Emit: a.emit, Health: a.health, RedisHealth: c.redisHandler(),
		Limiter: limiter, Limits: c.Limits,
		PublicURL: c.PublicURL, Origins: c.AllowedOrigins, TrustedProxies: c.TrustedProxies, Log: c.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("make HTTP API: %w", err)
	}
	a.handler = telemetry.HTTP(handler, nil)
	return a, nil
}

// Handler serves /api/…, /openapi.json and /docs.
func (a *API) Handler() http.Handler { return a.handler }

// Run publishes what the outbox holds and removes what is over, until ctx
// ends; then it returns nil.
func (a *API) Run(ctx context.Context) error {
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { a.sweep(ctx) })
	tasks.Go(func() { a.panel.Run(ctx) })
	if err := a.relay.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("relay events: %w", err)
	}
	return nil
}

// sweep removes what is over, now and then. A sweep that fails is made up for
// by the next.
func (a *API) sweep(ctx context.Context) {
	wait := rand.N(sweepEvery)
	for {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if _, err := a.store.Sweep(ctx); err != nil && ctx.Err() == nil {
			a.c.Log.WarnContext(ctx, "sweep failed", slog.Any("error", err))
		}
		if _, err := a.c.Sessions.Sweep(ctx); err != nil && ctx.Err() == nil {
			a.c.Log.WarnContext(ctx, "sweep of sessions failed", slog.Any("error", err))
		}
		wait = sweepEvery
	}
}

// position tells where a channel stands. While Redis is known to be away it
// does not wait for it.
func (a *API) position(ctx context.Context, channel string) (string, error) {
	if a.c.redisState() == "down" {
		return "", errors.New("redis is down")
	}
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	p, err := a.c.Broker.Position(ctx, channel)
	if err != nil {
		return "", fmt.Errorf("read position of %s: %w", channel, err)
	}
	return p.String(), nil
}

// emit writes events that go with no other change to the outbox.
func (a *API) emit(ctx context.Context, events ...event.Event) error {
	err := a.store.Habits().Change(ctx, func(ctx context.Context, tx habit.Tx) error {
		for _, e := range events {
			if err := tx.Emit(ctx, e); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("emit %d events: %w", len(events), err)
	}
	return nil
}

func (a *API) health() httpapi.Health {
	h := httpapi.Health{Status: "ok", Redis: a.c.redisState(), Version: a.c.Version, Traces: a.c.Traces}
	if h.Redis == "down" {
		h.Status = "degraded"
	}
	return h
}

// Migrate brings the schema of a database up to date and returns the versions
// it had and has. It may run in many processes at once.
func Migrate(ctx context.Context, d *db.DB) (from, to int64, err error) { return store.Migrate(ctx, d) }

// SetAdmin says whether the account of an e-mail address may run the
// installation, ends its sessions, and reports whether there is such an
// account.
func SetAdmin(ctx context.Context, d *db.DB, email string, isAdmin bool) (found bool, err error) {
	accounts := store.New(d, store.Options{}).Accounts()
	u, _, err := accounts.UserByEmail(ctx, email)
	if errors.Is(err, fault.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, accounts.SetAdmin(ctx, u.ID, isAdmin)
}

// OpenAPI returns the OpenAPI 3.1 document of the API.
func OpenAPI() ([]byte, error) { return httpapi.Spec() }
