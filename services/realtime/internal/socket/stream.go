package socket

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
	"github.com/crewbeat/crewbeat/services/realtime/internal/hub"
)

var comment = []byte(":\n\n")

// stream is what a connection of server-sent events has beside that of a
// WebSocket. conn.mu guards it.
type stream struct {
	cursor cursor
}

// render appends q as one event. Its id is where the client stands once it has
// got it: positions move when an event is sent, not when it begins to wait,
// since what waits may be forgotten and read again behind others.
func (s *stream) render(b []byte, q queued) []byte {
	switch {
	case q.raw != nil:
		return append(b, q.raw...)
	case q.frame != nil:
		return s.event(b, q.frame, keyOf(q.frame.Channel))
	case q.channel != "":
		b = s.move(b, keyOf(q.channel), q.at)
	}
	return appendData(b, q.body)
}

// event appends f, which is of the channel k.
func (s *stream) event(b []byte, f *hub.Frame, k channelKey) []byte {
	if f.Stored() {
		b = s.move(b, k, f.At)
	}
	return appendData(b, f.Body)
}

// move appends the id of an event behind which the client stands at at.
func (s *stream) move(b []byte, k channelKey, at event.Position) []byte {
	s.cursor.set(k, at)
	b = append(b, "id: "...)
	return append(s.cursor.append(b), '\n')
}

// appendData appends body as the data of an event, which ends with it. A line
// break would end the field; within JSON it is only space.
func appendData(b, body []byte) []byte {
	for len(body) > 0 {
		line := body
		if i := bytes.IndexAny(body, "\r\n"); i < 0 {
			body = nil
		} else {
			line, body = body[:i], body[i+1:]
		}
		if len(line) > 0 {
			b = append(b, "data: "...)
			b = append(b, line...)
			b = append(b, '\n')
		}
	}
	return append(b, '\n')
}

// streamRequest is what a client asks a stream for.
type streamRequest struct {
	channels []channelRef
	cursor   cursor
	resumed  bool // it has been connected before
}

// parseStreamRequest reads the query and the Last-Event-ID of r. Errors say
// what to change.
func parseStreamRequest(r *http.Request, most int) (streamRequest, error) {
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return streamRequest{}, errors.New("the query is not well-formed: escape what it holds")
	}
	if v := q.Get("v"); v != "" && v != "1" {
		return streamRequest{}, fmt.Errorf("v=%s: this server speaks version 1", strconv.Quote(clip(v)))
	}
	in := streamRequest{}
	for name := range strings.SplitSeq(strings.Join(q["channels"], ","), ",") {
		name, since, _ := strings.Cut(name, "@")
		switch {
		case name == "":
			return streamRequest{}, errors.New("channels is missing or has an empty name: give names joined by commas, as in ?channels=user:ID:habits,team:ID:activity")
		case !event.ValidChannel(name):
			return streamRequest{}, fmt.Errorf("%s is not the name of a channel", strconv.Quote(clip(name)))
		case slices.ContainsFunc(in.channels, func(c channelRef) bool { return c.Ch == name }):
			continue
		case len(in.channels) == most:
			return streamRequest{}, fmt.Errorf("at most %d channels are allowed on a stream: use another stream, or a WebSocket", most)
		}
		in.channels = append(in.channels, channelRef{Ch: name, Since: since})
	}
	id := r.Header.Get("Last-Event-ID")
	in.resumed = id != ""
	if id == "" {
		id = q.Get("cursor")
	}
	if id == "" {
		for _, ref := range in.channels {
			if ref.Since != "" {
				in.cursor.set(keyOf(ref.Ch), since(ref.Since))
			}
		}
		return in, nil
	}
	old, err := parseCursor(id, most)
	for i := range in.channels {
		ref := &in.channels[i]
		at, ok := old.get(keyOf(ref.Ch))
		switch {
		case err != nil:
			// It was somewhere, and nobody knows where: that is a reset.
			ref.Since = "unknown"
		case ok:
			ref.Since = at.String()
			in.cursor.set(keyOf(ref.Ch), at)
		case in.resumed:
			ref.Since = "" // it is new to this client
		}
	}
	return in, nil
}

// ServeEvents answers with server-sent events. It returns at once on HTTP/1.1,
// where the connection lives on, and at the end of the stream on others.
func (s *Server) ServeEvents(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		Problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "Events are read with GET", "Send a GET request.")
		return
	}
	if !s.enter() {
		s.comeAgain(w, closeDrain)
		return
	}
	defer s.wg.Done()
	if !s.readable(w, r) {
		return
	}
	in, err := parseStreamRequest(r, s.c.StreamMax)
	if err != nil {
		Problem(w, http.StatusBadRequest, "bad-request", "The request is not understood", err.Error())
		return
	}
	who, err := s.identify(r)
	switch {
	case errors.Is(err, ErrReplaced):
		s.comeAgain(w, closeAuthExpired)
		return
	case errors.Is(err, ErrUnauthenticated) && in.resumed:
		// To an EventSource this means: do not come again.
		s.metrics.denied("unauthenticated")
		w.WriteHeader(http.StatusNoContent)
		return
	case errors.Is(err, ErrUnauthenticated):
		s.metrics.denied("unauthenticated")
		Problem(w, http.StatusUnauthorized, "unauthenticated", "Nobody is signed in", "Sign in, then connect again.")
		return
	case err != nil:
		s.c.Log.WarnContext(r.Context(), "stream refused: nobody can tell who it is", slog.Any("error", err))
		s.comeAgain(w, closeServer)
		return
	case s.isDraining():
		s.comeAgain(w, closeDrain)
		return
	}
	give, ok := s.admit(r, who)
	if !ok {
		w.Header().Set("Retry-After", "30")
		Problem(w, http.StatusTooManyRequests, "too-many-connections", "You have too many connections", "Close some, then connect again.")
		return
	}
	s.open(w, r, in, who, give)
}

// readable reports whether a page that sends r may read the answer, and
// answers if not. Browsers send no Origin with a GET to the page's own host.
func (s *Server) readable(w http.ResponseWriter, r *http.Request) bool {
	w.Header().Add("Vary", "Origin")
	site := r.Header.Get("Sec-Fetch-Site")
	if len(r.Header.Values("Origin")) == 0 {
		if site == "" || site == "same-origin" || site == "none" {
			return true
		}
	} else if s.Owns(r) {
		w.Header().Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		return true
	}
	s.metrics.denied("origin")
	Problem(w, http.StatusForbidden, "origin-refused", "This origin may not connect",
		"Ask from a page of this server, or of one of ALLOWED_ORIGINS.")
	return false
}

// retry is how long a client waits before it comes again, in ms.
func retry() int { return 1000 + rand.IntN(4000) }

func streamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
	h.Set("X-Content-Type-Options", "nosniff")
}

// comeAgain answers with a stream that ends at once. An EventSource never
// comes again after any other answer, 503 included.
func (s *Server) comeAgain(w http.ResponseWriter, code int) {
	streamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	last := encode(closeMessage{Type: "close", Code: code, Reason: reasons[code], Reconnect: code < closeBadRequest})
	_, _ = fmt.Fprintf(w, "retry: %d\ndata: %s\n\n", retry(), last)
}

// ComeLater answers a request for a stream that comes too often: its client
// connects again after some seconds.
func (s *Server) ComeLater(w http.ResponseWriter) {
	s.metrics.denied("attempts")
	s.comeAgain(w, closeRateLimited)
}

// open begins a stream; give is called at its end.
func (s *Server) open(w http.ResponseWriter, r *http.Request, in streamRequest, who Identity, give func()) {
	streamHeader(w.Header())
	first := fmt.Appendf(nil, "retry: %d\n\n", retry())
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		nc, rw, err := control.Hijack()
		if err == nil {
			_ = nc.SetDeadline(time.Time{}) // the server's own are for requests
			s.adopt(arrival{nc: nc, rw: rw, who: who, give: give, stream: &stream{cursor: in.cursor}, first: append(head(w.Header()), first...), channels: in.channels})
			return
		}
		if !errors.Is(err, http.ErrNotSupported) {
			give() // it is gone
			return
		}
	}
	a := &answer{r: r, w: w, control: control, done: make(chan struct{})}
	_ = control.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	s.adopt(arrival{nc: a, who: who, give: give, stream: &stream{cursor: in.cursor}, first: first, channels: in.channels})
	a.wait()
}

// head is the beginning of an HTTP/1.1 answer that lasts as long as the
// connection (RFC 9112, section 6.3, rule 8).
func head(h http.Header) []byte {
	h.Set("Connection", "close")
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	b := bytes.NewBufferString("HTTP/1.1 200 OK\r\n")
	_ = h.Write(b) // a buffer takes everything
	b.WriteString("\r\n")
	return b.Bytes()
}
