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
	// cursor has an entry for each channel that is followed, or about to be:
	// the zero position while nobody knows where it begins.
	cursor cursor
	named  []channelRef // by the client, and not yet begun
	before stood        // where the client stood in channels that are not yet begun
}

// begin returns what is to be followed, first of all what the client has
// named, each from where it stood. What is named is so once: a channel that
// ends is not begun again because of that.
func (s *stream) begin(own []string, most int) []channelRef {
	refs := s.named
	for _, ch := range own {
		if !slices.ContainsFunc(refs, func(r channelRef) bool { return r.Ch == ch }) {
			refs = append(refs, channelRef{Ch: ch, Since: s.before.since(ch, "")})
		}
	}
	s.named, s.before = nil, stood{}
	for i, ref := range refs[:min(len(refs), most)] {
		s.stands(ref)
		// Not what was just said: somebody else may have begun with it.
		at, _ := s.cursor.get(keyOf(ref.Ch))
		refs[i].Since = at.String()
	}
	return refs
}

// stands makes an entry for a channel in the cursor, unless there is one.
func (s *stream) stands(ref channelRef) {
	if k := keyOf(ref.Ch); !s.cursor.has(k) {
		s.cursor.set(k, since(ref.Since))
	}
}

// stood is where a client says that it stands, in channels whose names it need
// not say.
type stood struct {
	cursor cursor
	lost   bool // it was somewhere, and nobody knows where: that is a reset
	wins   bool // over offsets: what the cursor does not have is new to the client
}

// since returns from where a channel is to be followed; given is the offset
// that came with its name.
func (p stood) since(channel, given string) string {
	at, ok := p.cursor.get(keyOf(channel))
	switch {
	case p.lost:
		return "unknown"
	case ok:
		return at.String()
	case p.wins:
		return ""
	}
	return given
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
		// An answer may have waited longer than the channel is followed.
		if k := keyOf(q.channel); s.cursor.has(k) {
			b = s.move(b, k, q.at)
		}
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
	channels []channelRef // each with where the client stands
	own      bool         // beside channels, all of one's own
	stood    stood
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
	var in streamRequest
	switch own := q.Get("own"); own {
	case "1":
		in.own = true
	case "":
	default:
		return streamRequest{}, fmt.Errorf("own=%s: say own=1 to follow all that is yours, or leave it out", strconv.Quote(clip(own)))
	}
	names := strings.SplitSeq(strings.Join(q["channels"], ","), ",")
	if in.own && len(q["channels"]) == 0 {
		names = func(func(string) bool) {}
	}
	for name := range names {
		name, since, _ := strings.Cut(name, "@")
		switch {
		case name == "":
			return streamRequest{}, errors.New("channels is missing or has an empty name: give names joined by commas, as in ?channels=user:ID:habits,team:ID:activity, or own=1")
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
	if id != "" {
		at, err := parseCursor(id, most)
		in.stood = stood{cursor: at, lost: err != nil, wins: in.resumed}
	}
	for i, ref := range in.channels {
		in.channels[i].Since = in.stood.since(ref.Ch, ref.Since)
	}
	return in, nil
}

// ServeEvents answers with server-sent events. On HTTP/1.1 the connection lives
// on; on others wait is not nil, and has to be called: it returns at the end of
// the stream.
func (s *Server) ServeEvents(w http.ResponseWriter, r *http.Request) (wait func()) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		Problem(w, http.StatusMethodNotAllowed, "method-not-allowed", "Events are read with GET", "Send a GET request.")
		return nil
	}
	if !s.enter() {
		s.comeAgain(w, closeDrain)
		return nil
	}
	defer func() {
		if wait == nil {
			s.wg.Done()
		}
	}()
	if !s.readable(w, r) {
		return nil
	}
	in, err := parseStreamRequest(r, s.c.StreamMax)
	if err != nil {
		Problem(w, http.StatusBadRequest, "bad-request", "The request is not understood", err.Error())
		return nil
	}
	who, err := s.identify(r)
	switch {
	case errors.Is(err, ErrReplaced):
		s.comeAgain(w, closeAuthExpired)
		return nil
	case errors.Is(err, ErrUnauthenticated) && in.resumed:
		// To an EventSource this means: do not come again.
		s.metrics.denied("unauthenticated")
		w.WriteHeader(http.StatusNoContent)
		return nil
	case errors.Is(err, ErrUnauthenticated):
		s.metrics.denied("unauthenticated")
		Problem(w, http.StatusUnauthorized, "unauthenticated", "Nobody is signed in", "Sign in, then connect again.")
		return nil
	case err != nil:
		s.c.Log.WarnContext(r.Context(), "stream refused: nobody can tell who it is", slog.Any("error", err))
		s.comeAgain(w, closeServer)
		return nil
	case s.isDraining():
		s.comeAgain(w, closeDrain)
		return nil
	}
	taken, ok := s.admit(r, who)
	if !ok {
		w.Header().Set("Retry-After", "30")
		Problem(w, http.StatusTooManyRequests, "too-many-connections", "You have too many connections", "Close some, then connect again.")
		return nil
	}
	return s.open(w, r, in, who, taken)
}

func (in streamRequest) stream() *stream {
	return &stream{named: in.channels, before: in.stood}
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

// open begins a stream, for which taken are given back at its end.
func (s *Server) open(w http.ResponseWriter, r *http.Request, in streamRequest, who Identity, taken places) (wait func()) {
	streamHeader(w.Header())
	first := fmt.Appendf(nil, "retry: %d\n\n", retry())
	control := http.NewResponseController(w)
	if r.ProtoMajor == 1 {
		nc, rw, err := control.Hijack()
		if err == nil {
			_ = nc.SetDeadline(time.Time{}) // the server's own are for requests
			s.adopt(arrival{nc: nc, rw: rw, who: who, places: taken, stream: in.stream(), own: in.own, first: append(head(w.Header()), first...)})
			return nil
		}
		if !errors.Is(err, http.ErrNotSupported) {
			s.giveBack(taken) // it is gone
			return nil
		}
	}
	a := &answer{r: r, w: w, control: control, done: make(chan struct{})}
	_ = control.SetReadDeadline(time.Time{})
	w.WriteHeader(http.StatusOK)
	s.adopt(arrival{nc: a, who: who, places: taken, stream: in.stream(), own: in.own, first: first})
	return func() {
		defer s.wg.Done()
		a.wait()
	}
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
