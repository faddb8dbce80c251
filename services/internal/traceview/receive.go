package traceview

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	maxBody  = 1 << 20 // of a request, before and after it is unpacked
	maxSpans = 2000    // of a request
)

// errTooLarge reports a body over maxBody.
var errTooLarge = errors.New("too large")

// receive takes spans by OTLP/HTTP.
func (v *View) receive(w http.ResponseWriter, r *http.Request) {
	if !sameOrigin(r) {
		problem(w, http.StatusForbidden, "wrong_origin", "a page may send spans to its own origin only")
		return
	}
	if v.opts.Admit != nil && !v.opts.Admit(r) {
		problem(w, http.StatusUnauthorized, "not_admitted", "sign in to send spans")
		return
	}
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	decode, known := map[string]func([]byte) ([]*span, error){
		"application/x-protobuf": decodeProtobuf,
		"application/json":       decodeJSON,
	}[media]
	if err != nil || !known {
		w.Header().Set("Accept-Post", "application/x-protobuf, application/json")
		problem(w, http.StatusUnsupportedMediaType, "media_type", "send OTLP as application/x-protobuf or application/json")
		return
	}
	size := r.ContentLength
	if size < 0 {
		size = maxBody / 4 // not told
	}
	if wait := v.intake.take(size + 1<<10); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
		problem(w, http.StatusTooManyRequests, "too_many", "spans are being sent faster than they are taken; sample fewer")
		return
	}
	body, err := readBody(w, r)
	switch {
	case errors.Is(err, errTooLarge):
		problem(w, http.StatusRequestEntityTooLarge, "too_large", fmt.Sprintf("send at most %d bytes at once, also after unpacking", maxBody))
		return
	case errors.Is(err, errEncoding):
		w.Header().Set("Accept-Encoding", "gzip")
		problem(w, http.StatusUnsupportedMediaType, "content_encoding", "send the body plain or with Content-Encoding: gzip")
		return
	case err != nil:
		problem(w, http.StatusBadRequest, "unreadable", "the body could not be read to its end")
		return
	}
	spans, err := decode(body)
	if err != nil {
		problem(w, http.StatusBadRequest, "malformed", err.Error())
		return
	}
	v.store.add(spans)

	// An empty answer says in either encoding that everything was taken.
	w.Header().Set("Content-Type", media)
	if media == "application/json" {
		_, _ = io.WriteString(w, "{}") // the sender has left
	}
}

var errEncoding = errors.New("unknown content encoding")

// readBody reads no more than is allowed, however well it was packed.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	var from io.Reader = http.MaxBytesReader(w, r.Body, maxBody)
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unpacked, err := gzip.NewReader(from)
		if err != nil {
			return nil, tooLarge(err)
		}
		from = unpacked
	default:
		return nil, errEncoding
	}
	body, err := io.ReadAll(io.LimitReader(from, maxBody+1))
	if err != nil {
		return nil, tooLarge(err)
	}
	if len(body) > maxBody {
		return nil, errTooLarge
	}
	return body, nil
}

func tooLarge(err error) error {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return errTooLarge
	}
	return err
}

// sameOrigin reports whether a request comes from a page of this very origin
// or from no browser at all. Browsers say where from, in one header or the
// other, with every POST.
func sameOrigin(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-origin" || site == "none"
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// intake bounds the bytes taken in a second: a bucket that fills steadily.
type intake struct {
	perSecond int64
	now       func() time.Time

	mu   sync.Mutex
	room int64
	last time.Time
}

// take makes room for n bytes, or returns how long to wait for it.
func (in *intake) take(n int64) (wait time.Duration) {
	in.mu.Lock()
	defer in.mu.Unlock()
	now := in.now()
	full := max(4*in.perSecond, 2*maxBody)
	if in.last.IsZero() {
		in.room = full
	} else {
		in.room = min(full, in.room+int64(now.Sub(in.last).Seconds()*float64(in.perSecond)))
	}
	in.last = now
	n = min(n, full)
	if in.room < n {
		return time.Duration(float64(n-in.room) / float64(in.perSecond) * float64(time.Second))
	}
	in.room -= n
	return 0
}
