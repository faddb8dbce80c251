package api

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/crewbeat/crewbeat/pkg/tiered"
	"github.com/crewbeat/crewbeat/services/api/internal/httpapi"
	"github.com/crewbeat/crewbeat/services/internal/alert"
	"github.com/crewbeat/crewbeat/services/internal/db"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/internal/redisconn"
	"github.com/crewbeat/crewbeat/services/internal/redisconn/monitor"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// Limits are how often one asker may ask. Zero means the default.
type Limits = httpapi.Limits

// Config is what an API is made of. The caller owns what it passes in, and
// closes it after the API has stopped.
type Config struct {
	DB       *db.DB            // required
	Cache    *tiered.Store     // required
	Sessions *session.Sessions // required
	Broker   event.Broker      // required
	// Redis is asked how it is; nil where there is none.
	Redis *redisconn.Conn
	// Monitor has looked at the servers of Redis, for admins; nil where nobody does.
	Monitor *monitor.Monitor
	// Alerts are shown to admins; nil where nobody watches.
	Alerts *alert.Engine
	// Node names this process to admins; "this process" if empty.
	Node string

	// PublicURL is where people find the page: links are made with it, and
	// its origin may send changes. Required.
	PublicURL string
	// AllowedOrigins may send changes too: "https://app.example.org".
	AllowedOrigins []string
	// TrustedProxies are the addresses, or networks, whose X-Forwarded-For
	// counts. None by default.
	TrustedProxies []string

	// Traces says that the server of this API shows traces under /traces.
	Traces bool
	// Limits are how often one asker may ask; its zero value is the usual.
	Limits Limits
	// Secret keys the hashes by which Redis counts who asks how often. All
	// replicas need the same one.
	Secret string

	Version string
	Log     *slog.Logger         // none if nil
	Tracer  trace.TracerProvider // none if nil
	Meter   metric.MeterProvider // none if nil
	Now     func() time.Time     // time.Now if nil
}

// withDefaults returns c complete, or all that is wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	for _, part := range []struct {
		name    string
		missing bool
	}{{"DB", c.DB == nil}, {"Cache", c.Cache == nil}, {"Sessions", c.Sessions == nil}, {"Broker", c.Broker == nil}} {
		if part.missing {
			errs = append(errs, fmt.Errorf("api: Config.%s is required", part.name))
		}
	}
	if u, err := url.Parse(c.PublicURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, fmt.Errorf("PUBLIC_URL is %q: expected the page's address, like https://crew.example.org", c.PublicURL))
	}
	for _, p := range c.TrustedProxies {
		_, notNet := netip.ParsePrefix(p)
		_, notAddr := netip.ParseAddr(p)
		if notNet != nil && notAddr != nil {
			errs = append(errs, fmt.Errorf("TRUSTED_PROXIES holds %q: expected an address or a network, like 10.0.0.0/8", p))
		}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.Node = cmp.Or(c.Node, "this process")
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, errors.Join(errs...)
}

// redisState is "up", "down", or "off" where there is none to be used.
func (c Config) redisState() string {
	if c.Redis == nil {
		return "off"
	}
	return c.Redis.Status().State()
}

// limiter counts in Redis where there is one, and in this process otherwise.
func (c Config) limiter() (*ratelimit.Limits, error) {
	o := ratelimit.Options{Secret: c.Secret, Now: c.Now, Log: c.Log, Meter: c.Meter}
	if c.Redis != nil {
		o.Client = c.Redis.Client()
	}
	return ratelimit.New(o)
}

func (c Config) redisHandler() http.Handler {
	if c.Redis == nil {
		return nil
	}
	return c.Redis.Handler()
}
