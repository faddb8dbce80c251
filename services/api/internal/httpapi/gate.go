package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/crewbeat/crewbeat/services/internal/telemetry"
)

// caller is where a request came from.
type caller struct{ ip, agent, cookie string }

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, _ := ctx.Value(callerKey{}).(caller)
	return c
}

// arrived notes the caller, and tells traces and metrics which address was
// asked for, without the ids in it. Only here is gin asked, because only gin
// knows which proxies are trusted.
func arrived(g *gin.Context) {
	agent := g.Request.UserAgent()
	agent = strings.ToValidUTF8(agent[:min(len(agent), 200)], "") // databases take no other bytes
	ctx := context.WithValue(g.Request.Context(), callerKey{}, caller{g.ClientIP(), agent, g.GetHeader("Cookie")})
	g.Request = g.Request.WithContext(ctx)
	telemetry.SetRoute(ctx, templateOf(g.FullPath()))
}

// templateOf writes a path of gin as the document does.
func templateOf(path string) string {
	parts := strings.Split(path, "/")
	for i, part := range parts {
		if strings.HasPrefix(part, ":") {
			parts[i] = "{" + part[1:] + "}"
		}
	}
	return strings.Join(parts, "/")
}

// source names how a change got here: through the page or through a program.
func source(ctx context.Context) string {
	if strings.HasPrefix(callerOf(ctx).agent, "Mozilla/") {
		return "web"
	}
	return "api"
}

// crossOrigin refuses changes that a browser sends on behalf of other sites.
func (s *server) crossOrigin() (*http.CrossOriginProtection, error) {
	c := http.NewCrossOriginProtection()
	origins := s.Origins
	if s.PublicURL != "" {
		u, err := url.Parse(s.PublicURL)
		if err != nil {
			return nil, fmt.Errorf("read PUBLIC_URL %q: %w", s.PublicURL, err)
		}
		origins = append([]string{u.Scheme + "://" + u.Host}, origins...)
	}
	for _, origin := range origins {
		if err := c.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("read ALLOWED_ORIGINS %q: %w", origin, err)
		}
	}
	c.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		problem(errOrigin).write(w, r)
	}))
	return c, nil
}

// secured sets the headers that every answer of the API carries.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		next.ServeHTTP(w, r)
	})
}

// recovered answers 500 where a handler panicked, and logs where.
func (s *server) recovered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler { //nolint:errorlint // the very value, by net/http's contract
				panic(v)
			}
			s.Log.ErrorContext(r.Context(), "handler panicked", "method", r.Method, "path", r.URL.Path, "panic", v, "stack", string(debug.Stack()))
			ofStatus(http.StatusInternalServerError, "").write(w, r)
		}()
		next.ServeHTTP(w, r)
	})
}

func indent(raw []byte) ([]byte, error) {
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return nil, fmt.Errorf("indent JSON: %w", err)
	}
	out.WriteByte('\n')
	return out.Bytes(), nil
}
