// Package httpapi is the HTTP face of the API: which addresses there are, who
// may call them, and how answers and problems look on the wire.
package httpapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/crewbeat/crewbeat/services/api/internal/account"
	"github.com/crewbeat/crewbeat/services/api/internal/admin"
	"github.com/crewbeat/crewbeat/services/api/internal/habit"
	"github.com/crewbeat/crewbeat/services/api/internal/team"
	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/internal/ratelimit"
	"github.com/crewbeat/crewbeat/services/internal/session"
)

// maxBody bounds what a request may carry.
const maxBody = 64 << 10

const prefix = "/api/v1"

// Config is what the API is made of. All but the functions is required.
type Config struct {
	Accounts *account.Accounts
	Habits   *habit.Habits
	Teams    *team.Teams
	Admin    *admin.Panel
	Sessions *session.Sessions

	// Position tells where a channel of events stands; nil, or an error, and
	// answers carry no position.
	Position func(ctx context.Context, channel string) (string, error)
	// Emit publishes events that go with no other change.
	Emit func(ctx context.Context, events ...event.Event) error
	// Health tells how the parts are.
	Health func() Health
	// RedisHealth answers GET /api/health/redis.
	RedisHealth http.Handler

	// Limiter counts how often somebody asks; Limits are how often they may.
	Limiter *ratelimit.Limits
	Limits  Limits

	PublicURL      string   // the page's address, for links
	Origins        []string // further origins that may send changes
	TrustedProxies []string // whose X-Forwarded-For counts; none by default
	Version        string
	Log            *slog.Logger
}

// Health is how the parts are.
type Health struct {
	Status  string `json:"status" enum:"ok,degraded" doc:"degraded: slower, and nothing lost."`
	Redis   string `json:"redis" enum:"up,down,off" doc:"off: this installation needs none."`
	Version string `json:"version"`
	Traces  bool   `json:"traces" doc:"Whether this server takes the page's spans and shows traces under /traces."`
}

// server holds what the operations share.
type server struct {
	Config
	api    huma.API
	limits limiters
}

// huma keeps these as globals; they are the same for every API of a process.
var setHuma = sync.OnceFunc(func() {
	huma.NewError = humaError
	huma.NewErrorWithContext = func(c huma.Context, status int, msg string, errs ...error) huma.StatusError {
		err := humaError(status, msg, errs...)
		if p, ok := errors.AsType[*Problem](err); ok {
			p.TraceID = traceID(c.Context())
		}
		return err
	}
	huma.DefaultArrayNullable = false
	huma.ValidateStrictCasing = true
	gin.SetMode(gin.ReleaseMode)
})

// New returns the handler of the API.
func New(c Config) (http.Handler, error) {
	s, engine, err := build(c)
	if err != nil {
		return nil, err
	}
	if s.limits, err = newLimiters(c.Limiter, c.Limits); err != nil {
		return nil, err
	}
	spec, err := s.spec()
	if err != nil {
		return nil, err
	}
	docs, err := newDocs(s.api.OpenAPI(), spec)
	if err != nil {
		return nil, err
	}
	docs.mount(engine)
	if c.RedisHealth != nil {
		engine.GET("/api/health/redis", gin.WrapH(c.RedisHealth))
	}
	engine.NoRoute(func(g *gin.Context) { ofStatus(http.StatusNotFound, "").write(g.Writer, g.Request) })
	engine.NoMethod(func(g *gin.Context) { ofStatus(http.StatusMethodNotAllowed, "").write(g.Writer, g.Request) })

	origins, err := s.crossOrigin()
	if err != nil {
		return nil, err
	}
	return s.recovered(secured(origins.Handler(engine))), nil
}

// Spec returns the OpenAPI 3.1 document of the API, indented.
func Spec() ([]byte, error) {
	s, _, err := build(Config{Version: "1"})
	if err != nil {
		return nil, err
	}
	return s.spec()
}

func build(c Config) (*server, *gin.Engine, error) {
	setHuma()
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false
	if err := engine.SetTrustedProxies(c.TrustedProxies); err != nil {
		return nil, nil, fmt.Errorf("read TRUSTED_PROXIES %q: %w", c.TrustedProxies, err)
	}
	s := &server{Config: c}
	engine.Use(arrived)
	s.api = humagin.New(engine, s.document())
	s.api.UseMiddleware(s.opened, s.signedIn)
	s.accounts()
	s.habits()
	s.records()
	s.teams()
	s.invites()
	s.admin()
	s.health()
	documentRealtime(s.api.OpenAPI())
	return s, engine, nil
}

func (s *server) document() huma.Config {
	c := huma.DefaultConfig("Crewbeat", "1")
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", nameSchema)
	c.CreateHooks = nil // no $schema links made of the Host header
	c.OpenAPIPath, c.DocsPath, c.SchemasPath = "", "", ""
	c.RejectUnknownQueryParameters = true
	c.Info.Description = "Habits, teams and what happens in them. Errors are RFC 9457 problems with a stable `code`. " +
		"Instants are RFC 3339 in UTC, days are `YYYY-MM-DD` in the user's zone, amounts are thousandths of their unit. " +
		"How often you may ask is told by `RateLimit-Policy` and `RateLimit`, or by `X-RateLimit-Limit`, `-Remaining` and `-Reset`; " +
		"who asks too often is answered 429, and by `Retry-After` how many seconds to wait."
	c.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "apiKey", In: "cookie", Name: "crewbeat.sid", Description: "Set by POST /api/v1/auth/login and /auth/register; `__Host-crewbeat.sid` over HTTPS."},
	}
	c.Tags = []*huma.Tag{
		{Name: "account", Description: "Registration, sign-in, and one's own account."},
		{Name: "habits", Description: "Habits and what is recorded for them."},
		{Name: "teams", Description: "Teams, their members and their feed."},
		{Name: "events", Description: "What happens, as it happens: answered by the realtime service."},
		{Name: "admin", Description: "Redis, the cache, alerts and the audit log, for those who run the installation."},
		{Name: "health", Description: "How the parts are."},
	}
	return c
}

// nameSchema names the schema of a type: as the type, behind the name of its
// package if that is not this one.
func nameSchema(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	pkg := path.Base(t.PkgPath())
	if pkg == "." || pkg == "httpapi" {
		return name
	}
	return strings.ToUpper(pkg[:1]) + pkg[1:] + name
}

func (s *server) spec() ([]byte, error) {
	raw, err := s.api.OpenAPI().MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("write OpenAPI document: %w", err)
	}
	return indent(raw)
}

// signedIn marks an operation that needs a session.
var signedIn = []map[string][]string{{"session": {}}}

// op describes an operation. Those with a summary only need a session.
type op struct {
	id      string // "listHabits"
	route   string // "GET /habits"
	tag     string
	summary string
	doc     string
	status  int   // of success; 0 is 200
	open    bool  // needs no session
	admin   bool  // for those who run the installation only
	limit   limit // what a call counts as
	errors  []int // statuses beyond the ones that every operation has
}

// register adds an operation. What the handler returns as an error is turned
// into a problem here, and logged here if it is our fault.
func register[I, O any](s *server, o op, handle func(context.Context, *I) (*O, error)) {
	method, path, _ := strings.Cut(o.route, " ")
	if !strings.HasPrefix(path, "/api/") {
		path = prefix + path
	}
	h := huma.Operation{
		OperationID: o.id, Method: method, Path: path,
		Summary: o.summary, Description: o.doc, Tags: []string{o.tag},
		DefaultStatus: o.status, MaxBodyBytes: maxBody, Errors: o.errors,
		Metadata: map[string]any{"limit": o.limit, "admin": o.admin},
	}
	if o.admin && method == http.MethodGet {
		h.Errors = append(h.Errors, http.StatusForbidden)
	}
	if !o.open {
		h.Security = signedIn
		h.Errors = append(h.Errors, http.StatusUnauthorized)
	}
	if method != http.MethodGet {
		h.Errors = append(h.Errors, http.StatusBadRequest, http.StatusForbidden, http.StatusRequestEntityTooLarge)
	}
	h.Errors = append(h.Errors, http.StatusUnprocessableEntity)
	if o.limit != unlimited {
		h.Errors = append(h.Errors, http.StatusTooManyRequests)
	}
	huma.Register(s.api, h, func(ctx context.Context, in *I) (*O, error) {
		out, err := handle(ctx, in)
		if err == nil {
			return out, nil
		}
		p := *problem(err)
		p.TraceID = traceID(ctx)
		if p.Status >= 500 {
			s.Log.ErrorContext(ctx, "request failed", "operation", o.id, "code", p.Code, "error", err)
		}
		return nil, &p
	})
}

// Condition is what must hold for a change: the version that the asker has read.
type Condition struct {
	IfMatch string `header:"If-Match" maxLength:"64" doc:"The ETag of what you read, or * for whatever there is. Required." example:"\"3\""`
}

// version returns the version asked for; 0 is any.
func (m Condition) version() (int64, error) {
	v := strings.TrimSpace(m.IfMatch)
	switch v {
	case "":
		return 0, errIfMatch
	case "*":
		return 0, nil
	}
	if n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(v, "W/"), `"`), 10, 64); err == nil && n >= 1 {
		return n, nil
	}
	return -1, nil // some other tag: it matches nothing
}

func etag(version int64) string { return `"` + strconv.FormatInt(version, 10) + `"` }

// none is an answer or a request without a body.
type none struct{}
