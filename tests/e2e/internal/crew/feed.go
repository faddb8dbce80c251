package crew

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"
	"github.com/coder/websocket/wsjson"
)

// Frame is one message of the server: an event if Event is set, else a control
// message of Type.
type Frame struct {
	Type string `json:"type"`

	Event   string          `json:"event"`
	ID      string          `json:"id"`
	Channel string          `json:"channel"`
	Offset  string          `json:"offset"`
	Data    json.RawMessage `json:"data"`

	Ch     string `json:"ch"`     // of subscribed, reset and error
	Reason string `json:"reason"` // of reset
	Status string `json:"status"` // of status
	Code   string `json:"code"`   // of error

	Users  []string `json:"users"`  // of presence: all who are here, or
	Joined []string `json:"joined"` // what is different
	Left   []string `json:"left"`

	At time.Time `json:"-"` // when it arrived here
}

// Feed is one open socket. It answers pings and keeps every frame it got, also
// doubled ones.
type Feed struct {
	conn *websocket.Conn
	stop context.CancelFunc
	done chan struct{}

	mu      sync.Mutex
	frames  []Frame
	err     error
	changed chan struct{} // closed and replaced on every frame
}

// Listen opens a socket and subscribes to the channels. It returns when all
// are subscribed.
func (p *Person) Listen(ctx context.Context, channels ...string) (*Feed, error) {
	return p.ListenSince(ctx, nil, channels...)
}

// ListenSince is Listen from known positions on, by channel.
func (p *Person) ListenSince(ctx context.Context, since map[string]string, channels ...string) (*Feed, error) {
	f, err := p.Dial(ctx)
	if err != nil {
		return nil, err
	}
	if err = f.Subscribe(ctx, since, channels...); err == nil {
		err = f.AwaitSubscribed(ctx, channels...)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Dial opens a socket that follows no channel yet.
func (p *Person) Dial(ctx context.Context) (*Feed, error) {
	header := http.Header{"Origin": {p.site.Realtime}, "Sec-Fetch-Site": {"same-origin"}}
	site, err := url.Parse(p.site.Realtime)
	if err != nil {
		return nil, fmt.Errorf("parse address: %w", err)
	}
	for _, c := range p.http.Jar.Cookies(site) {
		header.Add("Cookie", c.Name+"="+c.Value)
	}
	//nolint:bodyclose // the body of an upgrade is the socket
	conn, res, err := websocket.Dial(ctx, "ws"+strings.TrimPrefix(p.site.Realtime, "http")+"/rt/v1/ws",
		&websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		status := "no answer"
		if res != nil {
			status = res.Status
		}
		return nil, fmt.Errorf("open socket (%s): %w", status, err)
	}
	conn.SetReadLimit(1 << 20)
	reading, stop := context.WithCancel(context.WithoutCancel(ctx))
	f := &Feed{conn: conn, stop: stop, done: make(chan struct{}), changed: make(chan struct{})}
	go f.read(reading)
	return f, nil
}

// Subscribe asks for channels, each from its position in since on, if it has
// one. The answer is a frame.
func (f *Feed) Subscribe(ctx context.Context, since map[string]string, channels ...string) error {
	var list []map[string]string
	for _, ch := range channels {
		sub := map[string]string{"ch": ch}
		if at := since[ch]; at != "" {
			sub["since"] = at
		}
		list = append(list, sub)
	}
	if err := wsjson.Write(ctx, f.conn, map[string]any{"type": "subscribe", "id": "1", "channels": list}); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return nil
}

// AwaitSubscribed waits until every one of the channels is subscribed.
func (f *Feed) AwaitSubscribed(ctx context.Context, channels ...string) error {
	return f.Await(ctx, "every subscription", func(frames []Frame) (bool, error) {
		confirmed := map[string]bool{}
		for _, fr := range frames {
			switch fr.Type {
			case "subscribed":
				confirmed[fr.Ch] = true
			case "error":
				return false, fmt.Errorf("the server refused %s: %s", fr.Ch, fr.Code)
			}
		}
		return !slices.ContainsFunc(channels, func(ch string) bool { return !confirmed[ch] }), nil
	})
}

func (f *Feed) read(ctx context.Context) {
	defer close(f.done)
	for {
		var fr Frame
		_, raw, err := f.conn.Read(ctx)
		if err == nil {
			err = json.Unmarshal(raw, &fr)
		}
		fr.At = time.Now()
		f.mu.Lock()
		if err != nil {
			f.err = err
		} else {
			f.frames = append(f.frames, fr)
		}
		close(f.changed)
		f.changed = make(chan struct{})
		f.mu.Unlock()
		if err != nil {
			return
		}
		if fr.Type == "ping" {
			_ = wsjson.Write(ctx, f.conn, map[string]string{"type": "pong"}) // the next read says what is wrong
		}
	}
}

// Frames returns what has arrived so far.
func (f *Feed) Frames() []Frame {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.frames)
}

// Events returns the events among the frames, in the order they came.
func (f *Feed) Events() []Frame {
	return slices.DeleteFunc(f.Frames(), func(fr Frame) bool { return fr.Event == "" })
}

// Err says why the socket ended; nil while it is open.
func (f *Feed) Err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Await waits until the condition holds for the frames that have arrived.
func (f *Feed) Await(ctx context.Context, what string, condition func([]Frame) (bool, error)) error {
	for {
		f.mu.Lock()
		changed, ended, frames := f.changed, f.err, f.frames
		f.mu.Unlock()
		if ok, err := condition(frames); ok || err != nil {
			return err
		}
		if ended != nil {
			return fmt.Errorf("wait for %s: the socket ended: %w", what, ended)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; %d frames came", what, context.Cause(ctx), len(frames))
		}
	}
}

// AwaitEvent waits for an event and returns it.
func (f *Feed) AwaitEvent(ctx context.Context, event string, match func(Frame) bool) (Frame, error) {
	var found Frame
	err := f.Await(ctx, event, func(frames []Frame) (bool, error) {
		for _, fr := range frames {
			if fr.Event == event && (match == nil || match(fr)) {
				found = fr
				return true, nil
			}
		}
		return false, nil
	})
	return found, err
}

// Close ends the socket, as leaving the page does.
func (f *Feed) Close() {
	err := f.conn.Close(websocket.StatusNormalClosure, "")
	f.stop()
	<-f.done
	var closed websocket.CloseError
	if err != nil && !errors.As(err, &closed) {
		_ = f.conn.CloseNow()
	}
}
