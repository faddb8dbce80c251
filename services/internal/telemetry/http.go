package telemetry

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// HTTP makes a span and a measurement of each request to next, named by its
// method and its route, such as "PUT /api/v1/habits/{id}". The route is what
// routeOf tells beforehand, if it is not nil; or what next tells with
// [SetRoute]; or the pattern of an http.ServeMux.
//
// The trace that a request claims to belong to is continued if the request
// comes from a page of the same origin. From anywhere else it is only linked to:
// strangers do not choose what is traced.
//
// Probes, metrics, sockets and the trace view itself are left out.
func HTTP(next http.Handler, routeOf func(*http.Request) string) http.Handler {
	inner := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		named := &route{}
		if routeOf != nil {
			named.name = routeOf(r)
		}
		sub := r.WithContext(context.WithValue(r.Context(), routeKey{}, named))
		answered := false
		defer func() {
			r.Pattern = sub.Pattern // from here otelhttp names the span and labels the metric
			if named.name != "" {
				r.Pattern = named.name
			}
			span := trace.SpanFromContext(r.Context())
			if name := pathOf(r.Pattern); name != "" {
				span.SetAttributes(attribute.String("http.route", name))
				span.SetName(r.Method + " " + name)
			}
			if !answered {
				span.SetStatus(codes.Error, "panic")
			}
		}()
		next.ServeHTTP(w, sub)
		answered = true
	})
	return otelhttp.NewHandler(inner, "",
		otelhttp.WithFilter(traced),
		otelhttp.WithPublicEndpointFn(func(r *http.Request) bool { return !sameOrigin(r) }),
	)
}

type routeKey struct{}

type route struct{ name string }

// SetRoute names the route of the request that ctx belongs to, as in
// "/api/v1/habits/{id}". A router that is not an http.ServeMux calls it once it
// knows; "" says that there is no such route.
func SetRoute(ctx context.Context, name string) {
	if r, ok := ctx.Value(routeKey{}).(*route); ok {
		r.name = name
	}
}

// pathOf drops the method and the host from a pattern.
func pathOf(pattern string) string {
	if i := strings.IndexByte(pattern, '/'); i >= 0 {
		return pattern[i:]
	}
	return ""
}

// traced leaves out what would be noise.
func traced(r *http.Request) bool {
	path := r.URL.Path
	switch path {
	case "/livez", "/readyz", "/startupz", "/metrics", "/favicon.ico":
		return false
	}
	for _, prefix := range [...]string{"/api/health", "/rt/", "/traces", "/v1/traces", "/assets/"} {
		if strings.HasPrefix(path, prefix) {
			return false
		}
	}
	return true
}

// sameOrigin reports whether a request comes from a page of this origin. Over
// plain HTTP from another machine, browsers say so with the Referer only.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin"
	}
	from := r.Header.Get("Origin")
	if from == "" {
		from = r.Header.Get("Referer")
	}
	if from == "" {
		return false
	}
	u, err := url.Parse(from)
	return err == nil && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}
