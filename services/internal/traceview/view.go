package traceview

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"time"
)

//go:embed assets
var assets embed.FS

// Options bound a view. The zero value is usable.
type Options struct {
	MaxTraces int // 0 means 500
	MaxBytes  int // of all spans together, about; 0 means 16 MiB
	// MaxIntake bounds the bytes a second that are taken from outside; 0
	// means 1 MiB. Spans of this process are not counted.
	MaxIntake int
	// Admit says who may send spans from outside, beyond what Handler checks.
	// Nil admits every page of the same origin and every program.
	Admit func(*http.Request) bool
	// Now is the time; nil means time.Now.
	Now func() time.Time
}

func (o Options) withDefaults() Options {
	if o.MaxTraces <= 0 {
		o.MaxTraces = 500
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 16 << 20
	}
	if o.MaxIntake <= 0 {
		o.MaxIntake = 1 << 20
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// View is a memory of traces and the pages that show it. It is safe for
// concurrent use.
type View struct {
	opts   Options
	store  *store
	intake *intake
}

// New returns an empty view.
func New(opts Options) *View {
	opts = opts.withDefaults()
	return &View{
		opts:   opts,
		store:  newStore(opts.MaxTraces, opts.MaxBytes),
		intake: &intake{perSecond: int64(opts.MaxIntake), now: opts.Now},
	}
}

// Handler serves /v1/traces and everything below /traces. What it shows is for
// operators: whoever mounts it decides who gets there.
func (v *View) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", v.receive)
	mux.HandleFunc("GET /traces", page)
	mux.HandleFunc("GET /traces/{$}", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/traces", http.StatusMovedPermanently)
	})
	mux.HandleFunc("GET /traces/{id}", page)
	mux.HandleFunc("GET /traces/assets/{name}", asset)
	mux.HandleFunc("GET /traces/api/traces", v.list)
	mux.HandleFunc("GET /traces/api/traces/{id}", v.show)
	return mux
}

// policy lets the page load its own files and its own JSON, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func page(w http.ResponseWriter, r *http.Request) {
	if id := r.PathValue("id"); id != "" {
		if _, err := parseTraceID(id); err != nil {
			problem(w, http.StatusNotFound, "not_found", "a trace's address ends with its 32 hexadecimal digits")
			return
		}
	}
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Frame-Options", "DENY")
	serveAsset(w, r, "index.html")
}

func asset(w http.ResponseWriter, r *http.Request) { serveAsset(w, r, r.PathValue("name")) }

func serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	body, err := fs.ReadFile(assets, "assets/"+name)
	if err != nil {
		problem(w, http.StatusNotFound, "not_found", "there is no such file")
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
}

// list answers the newest traces. While nothing has changed it answers 304 to
// who asks with the ETag of the last answer.
func (v *View) list(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r)
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_query", err.Error())
		return
	}
	tag := strconv.Quote(strconv.FormatUint(v.store.changed(), 10))
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "no-cache")
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	items, services, sums := v.store.newest(q)
	writeJSON(w, http.StatusOK, struct {
		Items    []summary `json:"items"`
		Services []string  `json:"services"`
		Totals   totals    `json:"totals"`
		Now      float64   `json:"now_ms"`
	}{items, services, sums, milliseconds(v.opts.Now().UnixNano())})
}

func (v *View) show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-cache")
	id, err := parseTraceID(r.PathValue("id"))
	if err != nil {
		problem(w, http.StatusBadRequest, "bad_id", "a trace is named by 32 hexadecimal digits")
		return
	}
	d, ok := v.store.one(id)
	if !ok {
		problem(w, http.StatusNotFound, "not_found", "the trace has not come yet, or was forgotten to make room")
		return
	}
	writeJSON(w, http.StatusOK, d)
}

const maxListed = 200

func parseQuery(r *http.Request) (query, error) {
	values := r.URL.Query()
	q := query{text: strings.TrimSpace(values.Get("q")), service: values.Get("service"), limit: maxListed}
	if len(q.text) > maxName {
		return q, fmt.Errorf("q: at most %d bytes", maxName)
	}
	if s := values.Get("min_ms"); s != "" {
		ms, err := strconv.ParseFloat(s, 64)
		if err != nil || !(ms >= 0 && ms <= 1e9) {
			return q, errors.New("min_ms: a number of milliseconds, not negative")
		}
		q.minimum = int64(ms * 1e6)
	}
	for name, to := range map[string]*bool{"errors": &q.failed, "all": &q.all} {
		if s := values.Get(name); s != "" {
			b, err := strconv.ParseBool(s)
			if err != nil {
				return q, fmt.Errorf("%s: true or false", name)
			}
			*to = b
		}
	}
	if s := values.Get("limit"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxListed {
			return q, fmt.Errorf("limit: a whole number from 1 to %d", maxListed)
		}
		q.limit = n
	}
	return q, nil
}

// problem answers as RFC 9457 says.
func problem(w http.ResponseWriter, status int, code, detail string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Del("ETag")
	writeJSON(w, status, struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
		Code   string `json:"code"`
	}{"about:blank", http.StatusText(status), status, detail, code})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", "application/json")
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the asker has left
}
