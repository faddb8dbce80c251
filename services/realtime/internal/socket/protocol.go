package socket

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/crewbeat/crewbeat/services/internal/event"
)

// inbound is any message of a client.
type inbound struct {
	Type     string          `json:"type"`
	ID       json.RawMessage `json:"id"` // a string or a number, sent back as it is
	Channels []channelRef    `json:"channels"`
	Ticket   string          `json:"ticket"`
	Own      bool            `json:"own"` // beside Channels, all of one's own
}

// channelRef is {"ch":…,"since":…}, or just the name.
type channelRef struct {
	Ch    string `json:"ch"`
	Since string `json:"since"`

	unless bool // it is followed already
}

// UnmarshalJSON implements json.Unmarshaler.
func (c *channelRef) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &c.Ch)
	}
	type plain channelRef
	return json.Unmarshal(b, (*plain)(c))
}

// parseInbound reads a message; an error is the client's fault.
func parseInbound(b []byte) (inbound, error) {
	var in inbound
	if err := json.Unmarshal(b, &in); err != nil {
		return inbound{}, err
	}
	if in.Type == "" {
		return inbound{}, errors.New("no type")
	}
	if len(in.ID) > 64 || len(in.ID) > 0 && in.ID[0] != '"' && (in.ID[0] < '0' || in.ID[0] > '9') {
		in.ID = nil
	}
	return in, nil
}

// The control messages of the server. None has a member "event".
type (
	helloMessage struct {
		Type   string      `json:"type"`
		Conn   string      `json:"conn"`
		PingMs int64       `json:"ping_ms"`
		NowMs  int64       `json:"now_ms"` // Unix, by the server's clock
		Limits limitsShown `json:"limits"`
	}
	limitsShown struct {
		Channels     int `json:"channels"`
		MessageBytes int `json:"message_bytes"`
		PerSecond    int `json:"messages_per_second"`
	}
	subscribedMessage struct {
		Type      string          `json:"type"`
		ID        json.RawMessage `json:"id,omitempty"`
		Ch        string          `json:"ch"`
		Offset    string          `json:"offset"`
		Epoch     string          `json:"epoch"`
		Recovered bool            `json:"recovered"`
		Replayed  int             `json:"replayed"`
	}
	refreshedMessage struct {
		Type string          `json:"type"`
		ID   json.RawMessage `json:"id,omitempty"`
	}
	unsubscribedMessage struct {
		Type string          `json:"type"`
		ID   json.RawMessage `json:"id,omitempty"`
		Ch   string          `json:"ch"`
	}
	resetMessage struct {
		Type   string `json:"type"`
		Ch     string `json:"ch"`
		Reason string `json:"reason"`
		Offset string `json:"offset"`
	}
	statusMessage struct {
		Type   string `json:"type"`
		Status string `json:"status"`
	}
	drainMessage struct {
		Type           string `json:"type"`
		ReconnectAfter int64  `json:"reconnect_after_ms"`
		Deadline       int64  `json:"deadline_ms"`
	}
	// closeMessage is the last of a stream of server-sent events, which has no
	// close frames.
	closeMessage struct {
		Type      string `json:"type"`
		Code      int    `json:"code"`
		Reason    string `json:"reason"`
		Reconnect bool   `json:"reconnect"`
	}
	errorMessage struct {
		Type       string          `json:"type"`
		ID         json.RawMessage `json:"id,omitempty"`
		Ch         string          `json:"ch,omitempty"`
		Code       string          `json:"code"`
		RetryAfter int64           `json:"retry_after_ms,omitempty"`
	}
)

// The codes of error messages.
const (
	codeBadChannel  = "bad_channel"       // no such kind of channel
	codeForbidden   = "forbidden"         // not (any more) allowed to follow it
	codeTooMany     = "too_many_channels" // unsubscribe from others first
	codeUnavailable = "unavailable"       // try again later
	codeUnknownType = "unknown_type"
	codeNotFollowed = "not_followed" // subscribe first
	codeBadTicket   = "bad_ticket"   // used, expired or made up
)

// status returns the status message of a broker that is reachable or not.
func status(up bool) []byte {
	s := "degraded"
	if up {
		s = "ok"
	}
	return encode(statusMessage{Type: "status", Status: s})
}

var pingMessage = encode(struct {
	Type string `json:"type"`
}{"ping"})

// since reads a client's position. One that is none of ours is of a history
// that nobody has, and leads to a reset.
func since(s string) event.Position {
	p, err := event.ParsePosition(s)
	if err != nil {
		return event.Position{Epoch: "unknown"}
	}
	return p
}

// encode returns v as JSON. v is one of the messages above.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("socket: encode message: " + err.Error()) // a type of this package that is no JSON
	}
	return b
}

// appendText appends an unmasked text frame around body.
func appendText(b, body []byte) []byte { return appendFrame(b, 0x1, body) }

func frame(opcode byte, body []byte) []byte {
	return appendFrame(make([]byte, 0, len(body)+10), opcode, body)
}

func appendFrame(b []byte, opcode byte, body []byte) []byte {
	b = append(b, 0x80|opcode)
	switch n := len(body); {
	case n < 126:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = append(b, 126, byte(n>>8), byte(n))
	default:
		b = append(b, 127, 0, 0, 0, 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	}
	return append(b, body...)
}

// closeFrame returns a close frame with a code and its reason.
func closeFrame(code int) []byte {
	return frame(0x8, append([]byte{byte(code >> 8), byte(code)}, reasons[code]...))
}

// bucket allows rate of something a second, and most at once: it is when it
// will be full again, in nanoseconds of the clock.
type bucket int64

// take takes one of most, of which rate are refilled each second.
func (b *bucket) take(now time.Time, rate, most int) bool {
	each := bucket(time.Second) / bucket(rate)
	full := max(*b, bucket(now.UnixNano()))
	if full-bucket(now.UnixNano()) > each*bucket(most-1) {
		return false
	}
	*b = full + each
	return true
}
