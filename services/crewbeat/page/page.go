// Package page serves the built web page out of the binary.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
)

// dist holds what `npm run build` in web/ wrote. It is empty, but for .keep,
// in a checkout that has not been built yet.
//
//go:embed all:dist
var dist embed.FS

// policy lets the page load nothing but itself. The page's own origin also
// covers its WebSocket.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; " +
	"font-src 'self'; connect-src 'self'; manifest-src 'self'; worker-src 'self'; " +
	"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"

// ErrNotBuilt reports that the binary was compiled before the page was built.
var ErrNotBuilt = errors.New("the web page is not in this binary; build it first: make build")

// file is one embedded file with its encodings, which are made when first
// asked for: a server that nobody visits spends nothing on them.
type file struct {
	body      []byte
	mime      string
	etag      string
	immutable bool
	br, gz    func() []byte
}

// Page serves the web page: hashed assets for ever, index.html for every
// address that is the page's own to route.
type Page struct {
	files map[string]*file
	index *file
}

// New returns the page; ErrNotBuilt if there is none in the binary.
func New() (*Page, error) {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, err
	}
	return load(sub)
}

// Missing is served in place of the page by a binary that has none.
func Missing() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, ErrNotBuilt.Error(), http.StatusServiceUnavailable)
	})
}

func load(root fs.FS) (*Page, error) {
	p := &Page{files: map[string]*file{}}
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path.Base(name) == ".keep" {
			return err
		}
		body, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		p.files["/"+name] = newFile(name, body)
		return nil
	})
	if err != nil {
		return nil, err
	}
	p.index = p.files["/index.html"]
	if p.index == nil {
		return nil, ErrNotBuilt
	}
	return p, nil
}

// digest names a body by its content.
func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:12])
}

func newFile(name string, body []byte) *file {
	f := &file{
		body:      body,
		mime:      mime.TypeByExtension(path.Ext(name)),
		etag:      `"` + digest(body) + `"`,
		immutable: strings.HasPrefix(name, "assets/"),
	}
	if f.mime == "" {
		f.mime = "application/octet-stream"
	}
	if path.Ext(name) == ".webmanifest" {
		f.mime = "application/manifest+json"
	}
	f.br = sync.OnceValue(func() []byte {
		return smaller(body, func(w io.Writer) io.WriteCloser { return brotli.NewWriterLevel(w, 6) })
	})
	f.gz = sync.OnceValue(func() []byte {
		return smaller(body, func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) })
	})
	return f
}

// smaller returns the encoded body, or nil if that saves nothing worth while.
func smaller(body []byte, encoder func(io.Writer) io.WriteCloser) []byte {
	if len(body) < 512 {
		return nil
	}
	var b bytes.Buffer
	w := encoder(&b)
	if _, err := w.Write(body); err != nil || w.Close() != nil || b.Len() > len(body)*9/10 {
		return nil
	}
	return bytes.Clone(b.Bytes())
}

// ServeHTTP implements [http.Handler].
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	name := path.Clean(r.URL.Path)
	f := p.files[name]
	switch {
	case f != nil:
	case strings.HasPrefix(name, "/assets/"), path.Ext(name) != "":
		// A page from before an upgrade asks for files that are gone: it must
		// not get index.html in place of a script.
		http.NotFound(w, r)
		return
	default:
		f = p.index
	}
	f.serve(w, r)
}

func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.mime)
	h.Set("ETag", f.etag)
	h.Set("Vary", "Accept-Encoding")
	if f.immutable {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if r.Header.Get("If-None-Match") == f.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	body := f.body
	for _, e := range []struct {
		name string
		make func() []byte
	}{{"br", f.br}, {"gzip", f.gz}} {
		if accepts(r.Header.Get("Accept-Encoding"), e.name) {
			if b := e.make(); b != nil {
				h.Set("Content-Encoding", e.name)
				body = b
				break
			}
		}
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodHead {
		return
	}
	_, _ = w.Write(body) // the client has gone: nobody is left to tell
}

// accepts reports whether an Accept-Encoding header takes a coding (RFC 9110,
// section 12.5.3), without the wildcard.
func accepts(header, coding string) bool {
	for part := range strings.SplitSeq(header, ",") {
		name, params, _ := strings.Cut(strings.TrimSpace(part), ";")
		if !strings.EqualFold(strings.TrimSpace(name), coding) {
			continue
		}
		q, found := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
		if !found {
			return true
		}
		v, err := strconv.ParseFloat(q, 64)
		return err == nil && v > 0
	}
	return false
}
