package page

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/andybalholm/brotli"
)

var script = strings.Repeat("console.log('a habit a day');\n", 100)

func site(t *testing.T) *Page {
	t.Helper()
	p, err := load(fstest.MapFS{
		".keep":              {},
		"index.html":         {Data: []byte("<!doctype html><title>Crewbeat</title>")},
		"assets/main-abc.js": {Data: []byte(script)},
		"icon.svg":           {Data: []byte("<svg/>")},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(p *Page, method, target, encoding string) *http.Response {
	r := httptest.NewRequest(method, target, nil)
	r.Header.Set("Accept-Encoding", encoding)
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result()
}

func TestPageRoutes(t *testing.T) {
	p := site(t)
	for _, tt := range []struct {
		name, method, path string
		status             int
		mime, cache        string
	}{
		{"the page", "GET", "/", 200, "text/html", "no-cache"},
		{"a route of the page", "GET", "/teams/42", 200, "text/html", "no-cache"},
		{"an asset", "GET", "/assets/main-abc.js", 200, "text/javascript", "immutable"},
		{"an asset of an older page", "GET", "/assets/main-old.js", 404, "text/plain", ""},
		{"a file that is not there", "GET", "/favicon.ico", 404, "text/plain", ""},
		{"out of the folder", "GET", "/../page.go", 404, "text/plain", ""},
		{"keep is not a page", "GET", "/.keep", 404, "text/plain", ""},
		{"a write", "POST", "/", 405, "text/plain", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			res := get(p, tt.method, tt.path, "")
			if res.StatusCode != tt.status {
				t.Errorf("status %d, want %d", res.StatusCode, tt.status)
			}
			if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, tt.mime) {
				t.Errorf("type %q, want %q", got, tt.mime)
			}
			if got := res.Header.Get("Cache-Control"); !strings.Contains(got, tt.cache) {
				t.Errorf("cache %q, want %q in it", got, tt.cache)
			}
			if csp := res.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || strings.Contains(csp, "unsafe") {
				t.Errorf("policy %q", csp)
			}
		})
	}
}

func TestPageIsSentInTheBestEncodingTheBrowserTakes(t *testing.T) {
	p := site(t)
	for _, tt := range []struct {
		accept, want string
		decode       func(io.Reader) (io.Reader, error)
	}{
		{"gzip, deflate, br", "br", func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }},
		{"gzip", "gzip", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"br;q=0, gzip;q=0.5", "gzip", func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) }},
		{"", "", func(r io.Reader) (io.Reader, error) { return r, nil }},
		{"zstd", "", func(r io.Reader) (io.Reader, error) { return r, nil }},
	} {
		t.Run(tt.accept, func(t *testing.T) {
			res := get(p, "GET", "/assets/main-abc.js", tt.accept)
			if got := res.Header.Get("Content-Encoding"); got != tt.want {
				t.Fatalf("encoding %q, want %q", got, tt.want)
			}
			r, err := tt.decode(res.Body)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(r)
			if err != nil || !bytes.Equal(body, []byte(script)) {
				t.Errorf("body differs (%v)", err)
			}
		})
	}
}

func TestPageIsNotSentTwice(t *testing.T) {
	p := site(t)
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("If-None-Match", get(p, "GET", "/", "").Header.Get("ETag"))
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	if w.Code != http.StatusNotModified || w.Body.Len() > 0 {
		t.Errorf("status %d with %d bytes, want 304 with none", w.Code, w.Body.Len())
	}
}

func TestBinaryWithoutPageSaysSo(t *testing.T) {
	if _, err := load(fstest.MapFS{".keep": {}}); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("error %v, want ErrNotBuilt", err)
	}
}
